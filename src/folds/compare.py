"""Scores averages of runs' weights on the same images, and says of each figure what the weights had seen of them."""

import copy
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from src.data.datamodule import SegmentationDataModule
from src.data.folds import join_splits
from src.evaluation.measure import count, protocol
from src.folds.soup import State, check_same_tensors, greedy_soup, mean_state, rank
from src.inference import Ensemble
from src.metrics import figures
from src.runs.folder import describe_evaluation
from src.runs.leakage import Exposure, image_ids
from src.task import SegmentationTask
from src.training.batchnorm import batchnorm_layers, remeasure

log = logging.getLogger(__name__)
PREFIX = "network."
ENSEMBLE = "averaged probabilities"
MEAN = "mean of all"


@dataclass(frozen=True)
class Part:
    """Images to score on: a split of a data module."""

    data: SegmentationDataModule
    split: str


@dataclass(frozen=True)
class Member:
    """A run whose weights are averaged.

    Args:
        name: of its run folder.
        state: the network's tensors.
        progress: epoch and step of its checkpoint.
        seen: all that its weights were trained or chosen on.
        own: what its training validated on.
    """

    name: str
    state: State
    progress: dict[str, int]
    seen: Exposure
    own: Part


@dataclass(frozen=True)
class Candidate:
    """What may win: a mean of some members (places in the list), or their averaged probabilities, which may not."""

    name: str
    members: tuple[int, ...]
    is_ensemble: bool = False


class Judge:
    """Loads averages into one network, BatchNorm measured again, and counts; each set of members once a part.

    Args:
        training: what BatchNorm is measured on: its training batches, `batchnorm_images` of them.
        selection: what decides; figures are of all its images together.
        official: the dataset's val, or None.
    """

    def __init__(
        self,
        trainer: L.Trainer,
        task: SegmentationTask,
        members: Sequence[Member],
        training: SegmentationDataModule,
        batchnorm_images: int,
        selection: Sequence[Part],
        official: Part | None,
    ) -> None:
        for other in members[1:]:
            check_same_tensors((members[0].name, members[0].state), (other.name, other.state))
        self.trainer, self.task, self.members = trainer, task, list(members)
        self.training, self.batchnorm_images = training, batchnorm_images
        self.selection, self.official = list(selection), official
        self._network = task.network
        self._loaded: object = None
        self._counts: dict[tuple, np.ndarray] = {}

    def load(self, members: tuple[int, ...], is_ensemble: bool = False) -> None:
        """Puts weights into the task: one member's as they are, the mean of several, or each of an ensemble's."""
        if (members, is_ensemble) == self._loaded:
            return
        states = [self.members[place].state for place in members]
        self.task.network = self._network
        if is_ensemble:
            networks = [copy.deepcopy(self._network) for _ in states]
            for network, state in zip(networks, states, strict=True):
                network.load_state_dict(state)
            self.task.network = Ensemble(networks)
        elif len(states) == 1:
            self._network.load_state_dict(states[0])
        else:
            self._network.load_state_dict(mean_state(states))
            self.measure_batchnorm()
        self._loaded = (members, is_ensemble)

    def measure_batchnorm(self) -> None:
        """BatchNorm of the loaded network on training images."""
        if batchnorm_layers(self._network):
            self.task.to(self.trainer.strategy.root_device)
            with self.trainer.precision_plugin.val_step_context():
                remeasure(self._network, self._training_images())

    def _training_images(self) -> Iterator[Tensor]:
        loader = self.training.train_dataloader()
        for batch in itertools.islice(loader, math.ceil(self.batchnorm_images / loader.batch_size)):
            moved = {name: value.to(self.task.device) for name, value in batch.items()}
            yield self.training.on_after_batch_transfer(moved, 0)["image"]

    def count(self, part: Part, members: tuple[int, ...], is_ensemble: bool = False) -> np.ndarray:
        """Confusion matrix of these members on a part."""
        key = (id(part), members, is_ensemble)
        if key not in self._counts:
            names = " ".join(self.members[place].name for place in members)
            log.info("%s of %s on %s", "probabilities" if is_ensemble else "weights", names, _told(part))
            self.load(members, is_ensemble)
            self._counts[key] = count(self.trainer, self.task, part.data, part.split)
        return self._counts[key]

    def score(self, members: tuple[int, ...], is_ensemble: bool = False) -> float:
        """mIoU on the images that decide, all together."""
        return figures(sum(self.count(part, members, is_ensemble) for part in self.selection)).miou

    def rank_members(self) -> list[int]:
        """Places of the members, best first: each by what it validated on where that decides, else by what does."""
        if any(part is member.own for part in self.selection for member in self.members):
            scores = [figures(self.count(member.own, (place,))).miou for place, member in enumerate(self.members)]
        else:
            scores = [self.score((place,)) for place in range(len(self.members))]
        return rank(scores)

    def candidates(self, top_k: int) -> list[Candidate]:
        """Best single run, mean of all, of the best `top_k` (where that is fewer), greedy soup, ensemble of all."""
        order, everyone = self.rank_members(), tuple(range(len(self.members)))
        found = [Candidate("best run", (order[0],)), Candidate(MEAN, everyone)]
        if top_k < len(everyone):
            found.append(Candidate(f"mean of top {top_k}", tuple(sorted(order[:top_k]))))
        found.append(Candidate("greedy soup", greedy_soup(order, self.score)))
        return [*found, Candidate(ENSEMBLE, everyone, is_ensemble=True)]

    def choose(self, candidates: Sequence[Candidate]) -> Candidate:
        """The best of what is one network; of equal ones the first."""
        kept = [candidate for candidate in candidates if not candidate.is_ensemble]
        return kept[rank([self.score(candidate.members) for candidate in kept])[0]]

    def seen(self, candidate: Candidate, *, is_chosen: bool) -> Exposure:
        """What a candidate's weights were trained on, and chosen on where its figures or its members' decided."""
        seen = Exposure()
        for place in candidate.members:
            seen |= self.members[place].seen
        ids = [image for part in self.selection for image in _ids(part)]
        return seen | Exposure(chosen=frozenset(ids)) if is_chosen else seen

    def describe(self, candidate: Candidate, parts: Sequence[Part], *, is_chosen: bool) -> dict[str, Any]:
        """The evaluation of a candidate on all images of some parts together, as `results.json` has evaluations."""
        matrix = sum(self.count(part, candidate.members, candidate.is_ensemble) for part in parts)
        protocols = [protocol(self.trainer, self.task, part.data, part.split) for part in parts]
        joined = {
            **protocols[0],
            "split": join_splits([each["split"] for each in protocols]),
            "images": sum(each["images"] for each in protocols),
        }
        taints = self.seen(candidate, is_chosen=is_chosen).taints(image for part in parts for image in _ids(part))
        checkpoint = {"name": candidate.name, **self.progress(candidate)}
        return describe_evaluation(matrix, self.task.classes, joined, checkpoint, taints)

    def progress(self, candidate: Candidate) -> dict[str, int]:
        """Epoch and step of the member that went furthest."""
        return max((self.members[place].progress for place in candidate.members), key=lambda progress: progress["step"])

    def record(self, top_k: int) -> tuple[Candidate, list[dict[str, Any]]]:
        """The winner, and of every candidate its name, members and evaluations, on what decides and on val."""
        candidates = self.candidates(top_k)
        winner, records = self.choose(candidates), []
        for candidate in candidates:
            # Which members, or which of the candidates, was decided by these figures, but for those that take all.
            is_chosen = candidate == winner or candidate.name not in (MEAN, ENSEMBLE)
            official = [] if self.official is None else [self.official]
            records.append(
                {
                    "name": candidate.name,
                    "members": [self.members[place].name for place in candidate.members],
                    "is_winner": candidate == winner,
                    "selection": self.describe(candidate, self.selection, is_chosen=is_chosen),
                    "official": self.describe(candidate, official, is_chosen=is_chosen) if official else None,
                }
            )
        return winner, records


def read_member(name: str, path: object, seen: Exposure, own: Part) -> Member:
    """A member from its checkpoint, never unpickling anything but tensors."""
    content = torch.load(path, "cpu", weights_only=True)
    state = {key.removeprefix(PREFIX): value for key, value in content["state_dict"].items() if key.startswith(PREFIX)}
    progress = {"epoch": content["epoch"] + 1, "step": content["global_step"]}
    return Member(name, state, progress, seen, own)


def _told(part: Part) -> str:
    return part.data.folds.describe(part.data.source, part.split)


def _ids(part: Part) -> list[str]:
    return image_ids(part.data.source, part.data.samples(part.split))
