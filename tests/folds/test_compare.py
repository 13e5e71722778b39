"""Comparing averages: the weights that are loaded, counts, ranks and the choice; against naive formulas."""

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.data.datamodule import SegmentationDataModule
from src.data.source import Sample
from src.data.streets.source import Streets
from src.evaluation.measure import count
from src.folds.compare import AverageComparison, Member, Part
from src.folds.soup import mean_state
from src.metrics.figures import figures
from src.models.network import Network
from src.runs.records import Checkpoint, Leakage, Taint
from src.training.batchnorm import remeasure
from tests.support.small import Small, adamw, differing, fit, small_data, small_task, small_trainer


def network_of(state: dict) -> Network:
    network = Network(Small(), None, None)
    network.load_state_dict(state)
    return network


def comparison_of(
    states: list[dict], folder: Path, data: SegmentationDataModule | None = None, images: int = 4
) -> AverageComparison:
    data, task = data or small_data(), small_task()
    part = Part(data, "val")
    members = [
        Member(str(n), network_of(state), Checkpoint("best", 1, n), Leakage(), part) for n, state in enumerate(states)
    ]
    return AverageComparison(small_trainer(folder), task, members, data, images, [part], None)


def test_only_a_mean_of_several_has_batchnorm_measured_again(tmp_path: Path) -> None:
    states = [small_task().network.state_dict() for _ in range(2)]
    for name, value in states[1].items():
        value += value.abs().mean() if name.endswith("weight") else 0
    comparison = comparison_of(states, tmp_path)
    comparison.load((0, 1))
    expected = small_task().network
    expected.load_state_dict(mean_state(states))
    remeasure(expected, [b["image"] for b in itertools.islice(small_data().train_dataloader(), 2)])
    assert not differing(dict(comparison.task.network.state_dict()), dict(expected.state_dict()))
    assert differing(dict(expected.state_dict()), mean_state(states))
    comparison.load((1,))
    assert not differing(dict(comparison.task.network.state_dict()), dict(states[1]))


class Exposed(Streets):
    """Scenes by a camera that lets in a share of the light."""

    def __init__(self, light: float) -> None:
        super().__init__(size=(64, 64), num_train=16, num_val=8)
        self.light = light

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image, mask = super().read(sample)
        return (image * self.light).astype(np.uint8), mask


def test_measured_batchnorm_beats_averaged_statistics(tmp_path: Path) -> None:
    """The mean of two networks, trained on from one start by day and by night, has the statistics of neither."""

    def trained(light: float, epochs: int, start: dict | None = None) -> dict:
        task = small_task(architecture=partial(Small, dropout=0.0), optimizer=partial(adamw, lr=0.003))
        if start is not None:
            task.network.load_state_dict(start)
        data = SegmentationDataModule(Exposed(light), None, 2, 1, 0, seed=0)
        fit(
            tmp_path / f"{light}_{epochs}",
            task,
            data=data,
            epochs=epochs,
            limit_val_batches=1,
            check_val_every_n_epoch=epochs,
        )
        return {name: value.clone() for name, value in task.network.state_dict().items()}

    start = trained(1.0, 20)
    states = [trained(light, 6, start) for light in (1.0, 0.1)]
    layer = "architecture.encoder.1.running_var"
    assert (states[0][layer] / states[1][layer]).median() > 20, "by night, differences are a tenth"
    averaged = mean_state(states)
    day = SegmentationDataModule(Exposed(1.0), None, 2, 1, 0, seed=0)
    comparison = comparison_of(states, tmp_path, day, images=16)
    again = comparison.score((0, 1))
    assert (comparison.task.network.state_dict()[layer] / averaged[layer]).median() > 1.5
    comparison.task.network.load_state_dict(averaged)
    unmeasured = figures(count(comparison.trainer, comparison.task, day, "val")).miou
    assert unmeasured + 0.05 < again, (unmeasured, again)


def random_states(count: int) -> list[dict]:
    found = []
    for seed in range(count):
        task = small_task()
        generator = torch.Generator().manual_seed(seed)
        for parameter in task.network.parameters():
            parameter.data.normal_(generator=generator)
        found.append({name: value.clone() for name, value in task.network.state_dict().items()})
    return found


def test_an_ensemble_is_the_mean_of_probabilities(tmp_path: Path) -> None:
    """Not of weights, whatever was counted before."""
    states = random_states(3)
    comparison, data = comparison_of(states, tmp_path), small_data()
    (part,) = comparison.selection
    of_weights = comparison.count(part, (0, 1, 2))
    of_one = comparison.count(part, (1,))
    found = comparison.count(part, (0, 1, 2), True)
    expected = {1: 0, 3: 0}
    for batch in data.eval_dataloader("val"):
        probabilities = []
        for state in states:
            network = small_task().network.eval()
            network.load_state_dict(state)
            with torch.no_grad():
                logits = network(batch["image"])[0]
            full = F.interpolate(logits, batch["mask"].shape[-2:], mode="bilinear", align_corners=False)
            probabilities.append(full.softmax(1))
        truth = batch["mask"].numpy()
        for members, mean in ((3, torch.stack(probabilities).mean(0)), (1, probabilities[1])):
            there = truth != 255
            pairs = np.stack([truth[there], mean.argmax(1).numpy()[there]])
            matrix = np.zeros_like(found)
            np.add.at(matrix, tuple(pairs), 1)
            expected[members] = expected[members] + matrix
    for matrix, members in ((of_one, 1), (found, 3)):
        assert np.abs(matrix - expected[members]).sum() <= 8, "but for ties by rounding"
    assert np.abs(found - of_weights).sum() > 1000
    np.testing.assert_array_equal(comparison.count(part, (0, 1, 2)), of_weights)


class Table(AverageComparison):
    """Looks counts up: how many of 100 pixels of each of two classes are right, by part, members and kind."""

    def __init__(self, folder: Path, shares: Mapping[tuple, int], on_folds: bool) -> None:
        data, states = small_data(), random_states(1) * 3
        self.parts = [Part(data, "val") for _ in range(4)]
        members = [
            Member(str(index), network_of(state), Checkpoint("best", 1, 5 - index), Leakage(), self.parts[index])
            for index, state in enumerate(states)
        ]
        selection = self.parts[:3] if on_folds else self.parts[3:]
        super().__init__(small_trainer(folder), small_task(), members, data, 1, selection, None)
        self.shares, self.task.classes = shares, ["a", "b"]

    def count(self, part: Part, members: tuple[int, ...], is_ensemble: bool = False) -> np.ndarray:
        index = next(index for index, other in enumerate(self.parts) if other is part)
        right = self.shares.get((index, members, is_ensemble), 10)
        return np.array([[right, 100 - right], [100 - right, right]])


def test_if_folds_decide_each_member_is_ranked_by_its_own(tmp_path: Path) -> None:
    own = {(0, (0,), False): 40, (1, (1,), False): 60, (2, (2,), False): 50}
    others = {(1, (0,), False): 99, (2, (0,), False): 99}  # it was trained on them
    assert Table(tmp_path, own | others, on_folds=True).rank_members() == [1, 2, 0]


def test_if_val_decides_members_are_ranked_by_val(tmp_path: Path) -> None:
    shares = {(0, (0,), False): 90, (3, (0,), False): 40, (3, (1,), False): 60, (3, (2,), False): 70}
    comparison = Table(tmp_path, shares, on_folds=False)
    assert comparison.rank_members() == [2, 1, 0]
    assert [candidate.members for candidate in comparison.candidates(2)] == [(2,), (0, 1, 2), (1, 2), (2,), (0, 1, 2)]


def test_the_best_single_network_wins(tmp_path: Path) -> None:
    """The ensemble is better, and no network; of equal ones the first wins."""
    shares = {(3, (2,), False): 70, (3, (0, 1, 2), False): 80, (3, (1, 2), False): 80, (3, (0, 1, 2), True): 95}
    winner, records = Table(tmp_path, shares, on_folds=False).compare(2)
    assert winner.name == "mean of all"
    assert [each.is_winner for each in records] == [False, True, False, False, False]
    assert records[-1].selection.miou == pytest.approx(95 / 105)
    taints = [each.selection.protocol.taints for each in records]
    chosen = (Taint("chosen", 2),)
    assert taints == [chosen, chosen, chosen, chosen, ()], "the winner was chosen too; the ensemble was not"
    assert records[1].selection.checkpoint == Checkpoint("mean of all", 1, 5)


def test_figures_of_parts_are_of_all_their_images_together(tmp_path: Path) -> None:
    shares = {(part, (0,), False): right for part, right in enumerate((100, 50, 0))}
    comparison = Table(tmp_path, shares, on_folds=True)
    assert comparison.score((0,)) == pytest.approx(150 / 450), "not the mean of 1, 1/3 and 0"
    described = comparison.describe(comparison.candidates(3)[0], comparison.selection, is_chosen=True)
    assert described.protocol.images == 6
    assert described.protocol.taints == (Taint("chosen", 2),)
