"""SAME padding by parity against timm's own, and the export of a network that has it."""

from pathlib import Path

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.export import Dim, export

from src.evaluation.export import export_onnx
from src.models.encoder import build_encoder
from src.models.parts.same import ParityConv2d, pad_by_parity
from tests.support.architectures import build


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 4), (2, 2)])
@pytest.mark.parametrize("size", [(16, 17), (31, 20)])
def test_convolution_equals_timms(kernel: int, stride: int, dilation: int, size: tuple[int, int]) -> None:
    convolution = Conv2dSame(3, 4, kernel, stride, dilation=dilation)
    image = torch.randn(2, 3, *size)
    expected = convolution(image)
    pad_by_parity(nn.Sequential(convolution))
    assert type(convolution) is ParityConv2d
    assert torch.equal(convolution(image), expected)


@pytest.mark.slow
def test_encoder_exports_for_any_size_in_seconds() -> None:
    encoder = build_encoder({"name": "tu-tf_efficientnet_lite0", "weights": None}).eval()
    model = encoder.model
    first = nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:3])
    assert sum(type(module) is ParityConv2d for module in first.modules()) == 3
    sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        exported = export(first, (torch.zeros(1, 3, 150, 203),), dynamic_shapes=sizes).module()
    image = torch.randn(1, 3, 97, 64)
    torch.testing.assert_close(exported(image), first(image))


@pytest.mark.slow
def test_onnx_at_another_size(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = build("unet", 3, "backbone=efficientnet_lite0").eval()
    path = export_onnx(network, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in [(96, 128), (65, 98)]:
        image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        (logits,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), network(image)[0], atol=1e-3, rtol=1e-3)
