"""Weights that other programs saved: their containers, prefixes and names, and files that hold no weights."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from src.errors import UserError
from src.models.encoder import build_encoder
from src.models.names import rename
from src.models.weight_files import read_states
from src.models.weights import read_weights
from src.runs.origin import Origin, find_origin
from src.training.transfer import copy_weights, describe, plan_transfer
from tests.support.architectures import build
from tests.support.small import Small

State = dict[str, Tensor]


class Block(nn.Module):
    """A bottleneck block as semseg names it; its first 3x3 has the stride."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        has_shortcut = stride > 1 or channels != 4 * width
        shortcut = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
        self.downsample = shortcut if has_shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class DeepResNet(nn.Module):
    """ResNet-50 with the names of semseg: a stem conv1 to conv3, bn1 to bn3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128)
        channels = 128
        for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
            strides = [1 if stage == 1 else 2] + [1] * (blocks - 1)
            layers = [Block(channels if i == 0 else 4 * width, width, stride) for i, stride in enumerate(strides)]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
            channels = 4 * width

    def forward(self, x: Tensor) -> list[Tensor]:
        for number in (1, 2, 3):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
        features, x = [x], nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in (1, 2, 3, 4):
            features.append(x := getattr(self, f"layer{stage}")(x))
        return features


@pytest.fixture(scope="module")
def semseg() -> DeepResNet:
    network = DeepResNet().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # each its own, so that none can stand for another
            for values, low in ((module.weight, 0.3), (module.bias, -0.2), (module.running_var, 0.5)):
                nn.init.uniform_(values, low, low + 0.5)
    return network


def as_pspnet(state: State) -> State:
    """The names that semseg's PSPNet gives to the same tensors: its stem is `layer0`."""
    stem = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
    return {
        f"layer0.{stem[name.split('.')[0]]}.{name.split('.')[1]}" if name.split(".")[0] in stem else name: value
        for name, value in state.items()
    }


@pytest.mark.parametrize(("layout", "prefix"), [(dict, "module."), (as_pspnet, ""), (as_pspnet, "model.backbone.")])
def test_semsegs_names_give_the_same_features(
    semseg: DeepResNet, layout: Callable[[State], State], prefix: str, tmp_path: Path
) -> None:
    encoder = build_encoder({"name": "tu-resnet50s", "weights": None}).eval()
    network = nn.Module()
    network.encoder = encoder
    renamed = {f"{prefix}{name}": value for name, value in layout(semseg.state_dict()).items()}
    torch.save({"epoch": 200, "state_dict": renamed, "optimizer": {}}, tmp_path / "train_epoch_200.pth")
    transfer = plan_transfer(network, Origin(str(tmp_path / "train_epoch_200.pth"), "", None), set())
    assert transfer.has_encoder
    assert "semseg's names" in transfer.names
    copy_weights(network, transfer)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(encoder(image)[1:], semseg(image), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_semsegs_names_as_weights_of_a_backbone(semseg: DeepResNet, tmp_path: Path) -> None:
    path = tmp_path / "resnet50_v2.pth"
    torch.save({**semseg.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    encoder = build_encoder({"name": "tu-resnet50s", "weights": str(path)}).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(image)[-1], semseg(image)[-1])
    assert not encoder.model.pretrained_cfg.get("state_dict")


def test_a_pspnet_of_semseg_is_taken_whole() -> None:
    ours = build("pspnet", 3, "backbone=resnet50s").architecture.state_dict()
    theirs = {}
    for name, value in ours.items():
        name = name.removeprefix("encoder.model.")
        for new, old in (("head.", "cls."), ("aux_head.", "aux."), ("bn1.", "layer0.7.")):
            name = f"{old}{name.removeprefix(new)}" if name.startswith(new) else name
        if name.startswith("conv1."):
            name = f"layer0.{name.removeprefix('conv1.')}"
        if name.startswith("ppm.branches."):
            _, _, branch, layer, rest = name.split(".")
            name = f"ppm.features.{branch}.{int(layer) + 1}.{rest}"
        theirs[f"module.{name}"] = value
    renamed, renaming = rename(theirs, ours)
    assert {name: id(value) for name, value in renamed.items()} == {name: id(value) for name, value in ours.items()}
    assert str(renaming) == "semseg's names, without the prefix module., as those of the encoder"


def test_a_fcn_of_torchvision_is_taken_whole() -> None:
    ours = build("fcn_resnet", 3, "backbone=resnet50").architecture.state_dict()
    words = {"encoder": "backbone", "head": "classifier", "aux_head": "aux_classifier"}
    theirs = {f"{words[name.split('.')[0]]}.{name.partition('.')[2]}": value for name, value in ours.items()}
    renamed, renaming = rename(theirs, ours)
    assert renaming.dialect == "torchvision"
    assert {name: id(value) for name, value in renamed.items()} == {name: id(value) for name, value in ours.items()}


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


OLD_PATH = ("path", True)  # refused, see below
CONTAINERS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "tutorial": lambda state: {"model_state_dict": state, "epoch": 3, "optimizer_state_dict": {"state": {}}},
    "net": lambda state: {"net": prefixed(state, "module."), "acc": 0.5},
    "deep": lambda state: {"checkpoint": {"generator": prefixed(state, "a.b.c.")}},
    "lightning": lambda state: {"state_dict": {**prefixed(state, "model."), "model.mean": torch.ones(1, 3, 1, 1)}},
    "scalars": lambda state: {"state_dict": state, "best": np.float64(0.5), "args": argparse.Namespace(lr=1)},
    "path": lambda state: {"model": prefixed(state, "network."), "file": Path("x"), "type": np.dtype("int8")},
    "average": lambda state: {
        "model": {key: value * 2 for key, value in state.items() if "head" not in key},
        "ema": state,
    },
    "two": lambda state: {**prefixed(state, "student."), **prefixed({"head.1.weight": torch.ones(2)}, "teacher.")},
    "text": lambda state: {**state, "epoch": 3, "name": "x"},
}


# The older format does not say which objects it has, so that those beside the weights cannot be replaced by stand-ins.
@pytest.mark.parametrize(
    ("kind", "legacy"),
    [(kind, legacy) for kind in CONTAINERS for legacy in (False, True) if (kind, legacy) != OLD_PATH],
)
def test_containers_and_prefixes(kind: str, legacy: bool, tmp_path: Path) -> None:
    source, target = Small(), Small()
    path = tmp_path / "other.pth.tar"
    torch.save(CONTAINERS[kind](source.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    transfer = plan_transfer(target, find_origin(str(path)), set())
    assert not transfer.missing
    copy_weights(target, transfer)
    learnt = source.state_dict()
    assert all(torch.equal(value, learnt[name]) for name, value in target.state_dict().items())


def test_paths_in_a_file_of_the_older_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth.tar"
    torch.save(CONTAINERS[OLD_PATH[0]](Small().state_dict()), path, _use_new_zipfile_serialization=False)
    message = (
        r"other\.pth\.tar: not a weights file \(UnpicklingError\).*save model\.state_dict\(\) with the program that"
    )
    with pytest.raises(UserError, match=message):
        plan_transfer(Small(), find_origin(str(path)), set())


def test_the_log_names_container_and_prefix(tmp_path: Path) -> None:
    source, path = Small(), tmp_path / "a.pth"
    torch.save({"model_state_dict": prefixed(source.state_dict(), "model.")}, path)
    origin = find_origin(str(path))
    mean = torch.zeros(1, 3, 1, 1)
    text = describe(plan_transfer(Small(), origin, set()), origin, ["a"], mean, mean)
    assert text.startswith(f"init_from {path} (model_state_dict of the file, without the prefix model.)")


def test_means_of_the_unit_interval_are_compared_in_bytes(tmp_path: Path) -> None:
    state = prefixed(Small().state_dict(), "model.")
    for scale in (1, 255):
        for parent in ("", "model."):
            std, mean = (torch.full((1, 3, 1, 1), value * scale) for value in (0.25, 0.5))
            torch.save({**state, f"{parent}mean": mean, f"{parent}std": std}, tmp_path / "a.pth")
            found = plan_transfer(Small(), Origin(str(tmp_path / "a.pth"), "", None), set()).normalisation
            assert found is not None
            assert [round(float(each.mean()), 2) for each in found] == [127.5, 63.75]


def test_only_an_encoder(tmp_path: Path) -> None:
    source, target = Small(), Small()
    save_file(source.encoder.state_dict(), tmp_path / "a.safetensors")
    transfer = plan_transfer(target, find_origin(str(tmp_path / "a.safetensors")), set())
    assert transfer.has_encoder
    assert set(transfer.missing) == {name for name in target.state_dict() if name.startswith("head.")}


TEXTS = {
    b"": "is empty",
    b"<html>404</html>": "is a text, perhaps the page of an error",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n": r"is a pointer of Git LFS .* git lfs pull",
    b"\x00\x01\x02": "is cut off, or holds code, which is not run",
}


@pytest.mark.parametrize("content", TEXTS)
def test_files_without_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.pth: .*{TEXTS[content]}"):
        read_weights(tmp_path / "a.pth")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import pathlib; pathlib.Path('harm').touch()",)


def test_no_object_of_a_file_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = {"a": torch.ones(2)}
    for number, content in enumerate((Harmful(), nn.ReLU(), {"state_dict": state, "x": Harmful()})):
        torch.save(content, tmp_path / f"{number}.pth")
    for number in (0, 1):
        with pytest.raises(UserError, match=r"state_dict\(\)"):
            read_states(tmp_path / f"{number}.pth")
    assert not (tmp_path / "harm").exists()
    assert read_states(tmp_path / "2.pth").keys() == {"state_dict"}


def test_names_that_timm_passes_over_are_refused(tmp_path: Path) -> None:
    """timm would leave such a network random, and print nothing."""
    path = tmp_path / "other.pth"
    source = build_encoder({"name": "tu-test_resnet", "weights": None})
    torch.save(prefixed(source.model.state_dict(), "unknown."), path)
    with pytest.raises(UserError, match=r"other\.pth: weights of another network than tu-test_resnet"):
        build_encoder({"name": "tu-test_resnet", "weights": str(path)})
    torch.save({"model_state_dict": prefixed(source.model.state_dict(), "module.backbone.")}, path)
    again = build_encoder({"name": "tu-test_resnet", "weights": str(path)})
    ours, theirs = again.state_dict(), source.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
