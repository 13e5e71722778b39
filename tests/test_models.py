"""The shell around architectures, encoders and their weights, and the two networks."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import normalize

from src.models.deeplabv3plus import DeepLabV3Plus
from src.models.encoder import build_encoder, read_weights
from src.models.network import Network
from src.models.smp_network import SMPNetwork

TINY = {"name": "tu-test_resnet", "weights": None}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def unet(backbone: dict = TINY, num_classes: int = 5) -> SMPNetwork:
    return SMPNetwork("Unet", backbone, num_classes, decoder_channels=[16, 16, 8, 8, 8])


@pytest.mark.parametrize("build", [unet, lambda: DeepLabV3Plus(TINY, 5), lambda: DeepLabV3Plus(TINY, 5, 8)])
@pytest.mark.parametrize("size", [(65, 97), (94, 310), (64, 64)])
def test_any_size(build, size: tuple[int, int]) -> None:
    network = Network(build(), MEAN, STD).eval()
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    (logits,) = network(image)
    stride = 1 if isinstance(network.architecture, SMPNetwork) else 4
    assert logits.shape == (2, 5, -(-size[0] // stride), -(-size[1] // stride))
    torch.testing.assert_close(network(image[:1])[0], logits[:1], atol=1e-4, rtol=1e-4)


def test_every_parameter_has_a_gradient() -> None:
    """So that plain DDP, which waits for all of them, works."""
    for architecture in (unet(), DeepLabV3Plus(TINY, 5)):
        network = Network(architecture, MEAN, STD)
        sum(logits.square().mean() for logits in network(torch.randint(0, 256, (2, 3, 64, 96)))).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


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


@pytest.mark.parametrize(("output_stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_deeplab_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    model = DeepLabV3Plus({"name": "resnet18", "weights": None}, 3, output_stride)
    branches = model.decoder.aspp[0].convs[1:4]
    assert [branch[0][0].dilation[0] for branch in branches] == rates
    features = model.encoder(torch.zeros(1, 3, 128, 64))
    assert features[-1].shape[-2:] == (128 // output_stride, 64 // output_stride)
    # Measured, not assumed: the decoder meets its skip at stride 4.
    assert model(torch.zeros(2, 3, 128, 64))[0].shape == (2, 3, 32, 16)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.output_stride=32: must be one of 16, 8"):
        DeepLabV3Plus(TINY, 3, 32)
    for output_stride in (16, 8):
        with pytest.raises(ValueError, match=rf"mit_b0 cannot be dilated to output stride {output_stride}"):
            DeepLabV3Plus({"name": "mit_b0", "weights": None}, 3, output_stride)
    with pytest.raises(ValueError, match=r"smp's Linknet does not take backbone.name=mit_b0"):
        SMPNetwork("Linknet", {"name": "mit_b0", "weights": None}, 3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    """torchvision's classifier, head included, is taken by smp's encoder of the same name."""
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
    with pytest.raises(ValueError, match=r"model.pth: not a weights file \(Weights only load failed"):
        read_weights(path)


def test_compiles_and_keeps_its_parameters_once() -> None:
    from src.task import SegmentationTask

    options = {"optimizer": None, "scheduler": None, "inference": {}, "classes": ["a", "b"], "seed": 0}
    network = Network(unet(), MEAN, STD)
    task = SegmentationTask(network, loss=nn.Identity(), compile=True, **options)
    assert len(list(task.parameters())) == len(list(network.parameters()))
    assert not [key for key in task.state_dict() if "_orig_mod" in key]
