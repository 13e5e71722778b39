"""Parameter groups; clipping and accumulation."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from src.errors import UserError
from src.models.dpt import DPT
from src.models.encoder import build_encoder
from src.models.network import Network
from src.models.sctnet import SCTNet
from src.training.optim import build_optimizer
from tests.support.small import Small, fit, small_data, small_task


def build(architecture: nn.Module, **options: Any) -> torch.optim.Optimizer:
    network = Network(architecture, [0.5] * 3, [0.5] * 3)
    return build_optimizer(network, partial(torch.optim.SGD, momentum=0.9), lr=0.1, weight_decay=0.01, **options)


def groups(architecture: nn.Module, **options: Any) -> dict[str, dict]:
    return {group["name"]: group for group in build(architecture, **options).param_groups}


def test_groups_have_their_rates_and_decays() -> None:
    """R0's backbone has a tenth of the rate, R1's heads have ten times the rate."""
    found = groups(Small(), backbone_lr_scale=0.1, head_lr_scale=10)
    assert set(found) == {"backbone", "backbone/no_decay", "head", "head/no_decay"}
    assert {name: g["lr"] for name, g in found.items()} == pytest.approx(
        {"backbone": 0.01, "backbone/no_decay": 0.01, "head": 1.0, "head/no_decay": 1.0}
    )
    assert {name: g["weight_decay"] for name, g in found.items()} == {
        "backbone": 0.01,
        "backbone/no_decay": 0.0,
        "head": 0.01,
        "head/no_decay": 0.0,
    }
    assert [p.ndim for g in found.values() if g["weight_decay"] for p in g["params"]] == [4, 4, 4]
    assert sum(len(g["params"]) for g in found.values()) == 10


def test_everything_decays_if_asked() -> None:
    assert set(groups(Small(), decay_norm_and_bias=True)) == {"backbone", "head"}


@pytest.mark.parametrize("key", ["backbone_lr_scale", "head_lr_scale"])
def test_a_rate_of_its_own_without_a_backbone_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"optimizer.{key}=10: this network has no backbone, so it is all one group"):
        build(nn.Sequential(nn.Conv2d(3, 2, 1)), **{key: 10})


@pytest.mark.parametrize("key", ["backbone_lr_scale", "head_lr_scale"])
def test_a_negative_rate_is_refused(key: str) -> None:
    """torch looks only at the rate that is the default of all groups, and would climb the loss."""
    with pytest.raises(UserError, match=rf"^optimizer.{key}=-0.1: must not be negative"):
        build(Small(), **{key: -0.1})


def test_an_option_that_torch_refuses_is_one_line() -> None:
    network = Network(Small(), [0.5] * 3, [0.5] * 3)
    with pytest.raises(UserError, match=r"^optimizer\.optimizer: Invalid momentum value: -1; give another value"):
        build_optimizer(network, partial(torch.optim.SGD, momentum=-1), lr=0.1, weight_decay=0.0)


def test_sctnets_heads_are_those_of_its_authors() -> None:
    """Their factor ten is for names with "head": decode_head and auxiliary_head, which holds the alignment too."""
    teacher = {"backbone": {"name": "mit_b0", "weights": None}, "weights": None}
    network = SCTNet(5, base_channels=8, spp_channels=8, teacher=teacher)
    found = groups(network, head_lr_scale=10, decay_norm_and_bias=True)
    heads = {id(parameter) for parameter in found["head"]["params"]}
    named = {name.split(".")[0] for name, parameter in network.named_parameters() if id(parameter) in heads}
    assert named == {"head", "aux_head", "alignment"}
    assert found["head"]["lr"] == pytest.approx(10 * found["backbone"]["lr"])


def test_layer_decay_of_a_vit_is_timms() -> None:
    """The rates are those of timm for the whole classifier, whose head takes the decoder's place."""
    architecture = DPT({"name": "tu-test_vit", "weights": None}, 5, 16, [8, 8, 8, 8])
    found = groups(architecture, layer_decay=0.75)
    whole = timm.create_model("test_vit")
    reference = param_groups_layer_decay(whole, 0.01, whole.no_weight_decay(), layer_decay=0.75)
    names = {id(parameter): name for name, parameter in whole.named_parameters()}
    expected = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in reference
        for parameter in group["params"]
    }
    # timm's norm before its head has no place in ours, and shares the last block's layer or the head's.
    ours = {id(parameter): name for name, parameter in architecture.encoder.model.named_parameters()}
    depth_of_head = max(scale for scale, _ in expected.values())
    assert depth_of_head == 1
    checked = 0
    for name, group in found.items():
        for parameter in group["params"]:
            if name.startswith("head"):
                assert group["lr"] == pytest.approx(0.1)
                continue
            scale, decay = expected[ours[id(parameter)]]
            assert group["lr"] == pytest.approx(0.1 * scale), ours[id(parameter)]
            assert group["weight_decay"] == decay, ours[id(parameter)]
            checked += 1
    assert checked == len(ours)


def test_layer_decay_by_hand_and_with_the_scales() -> None:
    """test_vit: stem, 6 blocks, then the decoder."""
    architecture = DPT({"name": "tu-test_vit", "weights": None}, 5, 16, [8, 8, 8, 8])
    found = groups(architecture, layer_decay=0.5, backbone_lr_scale=2.0, head_lr_scale=10.0)
    rates = {name.removesuffix("/no_decay"): group["lr"] for name, group in found.items()}
    blocks = len(architecture.encoder.model.blocks)
    expected = {f"backbone/layer_{i:02d}": 0.2 * 0.5 ** (blocks + 1 - i) for i in range(blocks + 1)}
    assert rates == pytest.approx(expected | {"head": 1.0})
    stem = found["backbone/layer_00/no_decay"]["params"]
    positions = architecture.encoder.model.pos_embed
    assert any(parameter is positions for parameter in stem), "a ViT's positions do not decay"


@pytest.mark.parametrize(("name", "num_layers"), [("test_convnext", 10), ("test_resnet", 5), ("test_efficientnet", 6)])
def test_layer_decay_of_features_that_timm_renames(name: str, num_layers: int) -> None:
    architecture = Small()
    architecture.encoder = build_encoder({"name": f"tu-{name}", "weights": None})
    found = groups(architecture, layer_decay=0.9, decay_norm_and_bias=True)
    layers = sorted(name for name in found if name.startswith("backbone"))
    assert layers == [f"backbone/layer_{i:02d}" for i in range(num_layers)]
    assert [found[name]["lr"] for name in layers] == pytest.approx(
        [0.1 * 0.9 ** (num_layers - i) for i in range(num_layers)]
    )
    stem = {id(parameter) for parameter in found["backbone/layer_00"]["params"]}
    first = next(architecture.encoder.parameters())
    assert id(first) in stem


@pytest.mark.parametrize(
    ("encoder", "factor", "message"),
    [
        (None, 0.9, r"optimizer.layer_decay=0.9: this network has no backbone; set it to null"),
        ("resnet18", 0.9, r"optimizer.layer_decay=0.9: the layers of this backbone are unknown; set it to null"),
        ("tu-test_resnet", 1.5, r"optimizer.layer_decay=1.5: must be above 0 and at most 1"),
    ],
)
def test_layer_decay_without_layers_is_refused(encoder: str | None, factor: float, message: str) -> None:
    architecture = Small()
    del architecture.encoder
    if encoder:
        architecture.encoder = build_encoder({"name": encoder, "weights": None})
    with pytest.raises(ValueError, match=message):
        build(architecture, layer_decay=factor)


class Steps(L.Callback):
    """Records the weights before each batch, as one vector, and after the last."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, *args: Any) -> None:
        self.weights.append(torch.cat([p.detach().flatten() for p in task.network.parameters()]))

    on_train_end = on_train_batch_start


plain = partial(build_optimizer, optimizer=torch.optim.SGD, lr=1.0, weight_decay=0.0)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """With plain SGD at rate 1 a step is as long as its gradient."""

    def lengths(**options: Any) -> list[float]:
        steps = Steps()
        folder = tmp_path / str(options)
        fit(folder, small_task(partial(plain, lr=1.0)), [steps], epochs=1, **options)
        return [float((b - a).norm()) for a, b in zip(steps.weights, steps.weights[1:], strict=False)]

    free = lengths()
    assert len(free) == 3
    assert min(free) > 0.1
    assert lengths(gradient_clip_val=0.05) == pytest.approx([0.05] * 3, rel=1e-3)


def test_an_epochs_last_step_is_the_mean_of_its_batches(tmp_path: Path) -> None:
    """Though fewer are left than are to be accumulated; by plain SGD, whose step follows the gradient."""

    def weights(accumulate: int) -> list[torch.Tensor]:
        steps = Steps()
        task = small_task(partial(plain, lr=0.1), architecture=partial(Small, batchnorm=False, dropout=0))
        options = {"epochs": 1, "accumulate_grad_batches": accumulate}
        fit(tmp_path / str(accumulate), task, [steps], small_data(6, 2), **options)
        return steps.weights

    (first, *_, full), (*_, fewer), single, two = weights(3), weights(8), weights(1), weights(2)
    torch.testing.assert_close(fewer, full, rtol=0, atol=1e-6)
    assert (full - first).norm() > 0.05
    # The step of one batch is not half as long as those of two; from other weights, its length is not just the same.
    assert float((two[3] - two[2]).norm() / (single[3] - single[2]).norm()) > 0.75


def test_accumulated_batches_are_one(tmp_path: Path) -> None:
    """Without BatchNorm and dropout, 2 batches of 2 make the step of 1 batch of 4."""

    def weights(batch_size: int, accumulate: int) -> list[torch.Tensor]:
        steps = Steps()
        task = small_task(partial(plain, lr=0.1), architecture=partial(Small, batchnorm=False, dropout=0))
        data = small_data(8, batch_size)
        fit(tmp_path / str(batch_size), task, [steps], data, epochs=1, accumulate_grad_batches=accumulate)
        return steps.weights

    large, small = weights(4, 1), weights(2, 2)
    assert (len(large), len(small)) == (3, 5)
    assert torch.equal(small[0], small[1]), "no step after half of the batches"
    # Almost: the mean over a batch's labelled pixels, of which images have nearly the same number.
    for a, b in zip(large, small[::2], strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
    assert (large[0] - large[2]).norm() > 0.05
