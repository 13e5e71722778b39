"""`Network`, encoders and their weights, U-Net and UPerNet."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import normalize

from src.models.deeplabv3plus import DeepLabV3Plus
from src.models.dpt import DPT
from src.models.encoder import build_encoder
from src.models.network import Network
from src.models.smp_network import SMPNetwork
from src.models.upernet import UPerNet
from src.models.weights import read_weights
from src.task import SegmentationTask

SWIN = {
    "name": "tu-swin_tiny_patch4_window7_224",
    "weights": None,
    "options": {"strict_img_size": False, "always_partition": True},
}
TINY = {"name": "tu-test_resnet", "weights": None}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def unet(backbone: dict = TINY, num_classes: int = 5) -> SMPNetwork:
    return SMPNetwork("Unet", backbone, num_classes, decoder_channels=[16, 16, 8, 8, 8])


def test_normalisation_is_by_the_buffers() -> None:
    class Keep(nn.Module):
        divisor, align_corners = 1, False

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (x,)

    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    (x,) = Network(Keep(), MEAN, STD)(image)
    expected = normalize(image / 255, MEAN, STD)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
    assert {"mean", "std"} <= set(Network(Keep(), MEAN, STD).state_dict())


def test_unet_is_smps_own() -> None:
    reference = smp.Unet("resnet18", encoder_weights=None, classes=11).eval()
    assert sum(p.numel() for p in reference.parameters()) == 14_329_659
    network = Network(
        SMPNetwork("Unet", {"name": "resnet18", "weights": None}, 11), MEAN, STD, channels_last=False
    ).eval()
    ours = network.architecture
    ours.encoder.load_state_dict(reference.encoder.state_dict())
    ours.decoder.load_state_dict(reference.decoder.state_dict())
    ours.head.load_state_dict(reference.segmentation_head[0].state_dict())
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    normalised = normalize(image / 255, MEAN, STD)
    torch.testing.assert_close(network(image)[0], reference(normalised), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_built_is_refused() -> None:
    for output_stride in (16, 8):
        with pytest.raises(ValueError, match=rf"mit_b0 cannot be dilated to output stride {output_stride}"):
            DeepLabV3Plus({"name": "mit_b0", "weights": None}, 3, output_stride)
    for arch in ("Linknet", "UnetPlusPlus"):
        with pytest.raises(ValueError, match=rf"smp's {arch} does not take backbone.name=mit_b0; it works with ResNet"):
            SMPNetwork(arch, {"name": "mit_b0", "weights": None}, 3)
    with pytest.raises(ValueError, match=r"swin.* cannot be dilated to output stride 16; use a ResNet"):
        SMPNetwork("PAN", SWIN, 3, output_stride=16)
    for name in ("resnet18", "tu-test_resnet"):
        with pytest.raises(ValueError, match=rf"{name}: this model takes only plain vision transformers"):
            DPT({"name": name, "weights": None}, 3)
    with pytest.raises(ValueError, match=r"vit.*downsampling|does not fit|cannot be built"):
        SMPNetwork("Unet", {"name": "tu-test_vit", "weights": None}, 3)


@pytest.mark.parametrize(("name", "build"), [("tu-test_convnext", UPerNet), ("swin", UPerNet)])
def test_upernet_on_patches_takes_any_size(name: str, build) -> None:
    """Odd rows of an image that fill no patch are padded, not dropped."""
    backbone = SWIN if name == "swin" else {"name": name, "weights": None}
    network = Network(build(backbone, 3, channels=16), MEAN, STD).eval()
    image = torch.randint(0, 256, (1, 3, 65, 97), dtype=torch.uint8)
    changed = image.clone()
    changed[..., -1, :] = 255 - changed[..., -1, :]
    with torch.no_grad():
        (logits,), (others,) = network(image), network(changed)
    assert logits.shape == (1, 3, 17, 25)
    assert not torch.equal(logits, others)


@pytest.mark.parametrize("scheme", ["xavier", "kaiming"])
def test_initialisation(scheme: str) -> None:
    backbone = {"name": "resnet18", "weights": None}
    drawn = Network(DeepLabV3Plus(backbone, 3, decoder_separable=False), MEAN, STD, init=scheme).architecture
    weight = drawn.decoder[0][0].weight.detach()  # 304 -> 256, 3x3
    fan_in, fan_out = 304 * 9, 256 * 9
    variance = 2 / (fan_in + fan_out) if scheme == "xavier" else 2 / fan_out
    assert float(weight.var()) == pytest.approx(variance, rel=0.02)
    assert float(weight.mean()) == pytest.approx(0, abs=1e-3)
    assert not drawn.head[-1].bias.any()
    kept = DeepLabV3Plus(backbone, 3)
    kept.encoder.pretrained = True
    before = kept.encoder.layer1[0].conv1.weight.clone()
    Network(kept, MEAN, STD, init=scheme)
    assert torch.equal(kept.encoder.layer1[0].conv1.weight, before)
    with pytest.raises(ValueError, match="init=he: must be one of default, xavier, kaiming"):
        Network(kept, MEAN, STD, init="he")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    """smp's encoder loads torchvision's classifier of the same name, head included."""
    source = torchvision.models.resnet18(weights=None)
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    else:
        save_file(source.state_dict(), path)
    encoder = build_encoder({"name": "resnet18", "weights": str(path)}).eval()
    source.eval()
    image = torch.rand(1, 3, 64, 64)
    x = source.maxpool(source.relu(source.bn1(source.conv1(image))))
    expected = source.layer4(source.layer3(source.layer2(source.layer1(x))))
    torch.testing.assert_close(encoder(image)[-1], expected)


def test_weights_from_a_file_for_timm(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("test_resnet", pretrained=False)
    path = tmp_path / "timm.pth"
    torch.save(source.state_dict(), path)
    encoder = build_encoder({"name": "tu-test_resnet", "weights": str(path)}).eval()
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(encoder(image)[-1], source.eval().forward_features(image))
    other = tmp_path / "other.pth"
    torch.save(torchvision.models.resnet18().state_dict(), other)
    with pytest.raises(ValueError, match=r"other.pth: does not fit tu-test_resnet"):
        build_encoder({"name": "tu-test_resnet", "weights": str(other)})


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(nn.Linear(1, 1), path)
    with pytest.raises(ValueError, match=r"model.pth: holds no state dict"):
        read_weights(path)


def test_a_compiled_network_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiled(nn.Module):
        """A wrapper as torch.compile makes one, in no time; the slow tests compile every network."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self._orig_mod = module

    monkeypatch.setattr(torch, "compile", Compiled)
    options = {"optimizer": None, "scheduler": None, "inference": {}, "classes": ["a", "b"], "seed": 0}
    network = Network(unet(), MEAN, STD)
    task = SegmentationTask(network, loss=nn.Identity(), compile=True, **options)
    assert len(list(task.parameters())) == len(list(network.parameters()))
    assert not [key for key in task.state_dict() if "_orig_mod" in key]
