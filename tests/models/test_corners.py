"""Networks whose maps have their corners on those of the image, at any size; DeepLabV3+ against its authors' form."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.deeplabv3plus import DeepLabV3Plus
from src.models.encoder import build_encoder
from src.models.network import Network
from src.models.pspnet import PSPNet
from src.upsampling import RowUpsampling, upsample
from tests.models.test_models_reference import naive_bn_relu, naive_conv, naive_upsample, randomise

RESNET18 = {"name": "resnet18", "weights": None}
SIZES = [(65, 97), (64, 96), (66, 103), (72, 90), (80, 105)]


class Corners(Architecture):
    """Reads the pixels at multiples of its stride."""

    align_corners = True

    def __init__(self, stride: int, divisor: int) -> None:
        super().__init__()
        self.divisor, self.corner_stride = divisor, stride

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        assert all(side % self.divisor == 1 for side in image.shape[-2:])
        return (image[..., :: self.corner_stride, :: self.corner_stride],)


def shell(architecture: nn.Module) -> Network:
    return Network(architecture, mean=[0.0, 0.0, 0.0], std=[1 / 255] * 3).eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("stride", "divisor"), [(4, 16), (8, 8), (16, 16)])
def test_a_ramp_comes_back_where_it_was(stride: int, divisor: int, size: tuple[int, int]) -> None:
    """A map stretched to the image would move its pixels by up to one stride less one."""
    height, width = size
    rows, columns = torch.arange(height).float()[:, None], torch.arange(width).float()[None, :]
    image = (rows + 2 * columns).expand(1, 3, *size)
    (logits,) = shell(Corners(stride, divisor))(image)
    assert logits.shape[-2:] == tuple(-(-(side - 1) // stride) + 1 for side in size)
    result = upsample(logits, size, align_corners=True)
    assert result.shape == image.shape
    # Beyond the last cell within the image the padding takes part.
    inner = tuple((side - 1) // stride * stride + 1 for side in size)
    torch.testing.assert_close(result[..., : inner[0], : inner[1]], image[..., : inner[0], : inner[1]])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_rows_of_corner_maps_are_those_of_the_full_upsampling(stride: int, size: tuple[int, int]) -> None:
    source = tuple(-(-(side - 1) // stride) + 1 for side in size)
    logits = torch.randn(2, 3, *source)
    full = upsample(logits, size, align_corners=True)
    upsampling = RowUpsampling(source, size, align_corners=True)
    for start in range(0, size[0], 5):
        stop = min(start + 5, size[0])
        part = logits[:, :, upsampling.needed(start, stop)]
        torch.testing.assert_close(upsampling.rows(part, start, stop), full[:, :, start:stop], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (60, 75), (65, 97)])
@torch.no_grad()
def test_pspnet_is_padded_to_8n_plus_1_and_cropped(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = PSPNet(RESNET18, 3, channels=8).eval()
    randomise(model)
    image = torch.rand(1, 3, *size)
    right, down = (-(side - 1) % 8 for side in reversed(size))
    padded = F.pad(image, (0, right, 0, down))
    full = F.interpolate(model(padded)[0], padded.shape[-2:], mode="bilinear", align_corners=True)
    result = upsample(shell(model)(image)[0], size, align_corners=True)
    torch.testing.assert_close(result, full[..., : size[0], : size[1]], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("no_random_weights")
def test_maps_of_patches_are_not_aligned_by_their_corners() -> None:
    backbone = {"name": "tu-test_convnext", "weights": None}
    for model in (PSPNet(backbone, 3), DeepLabV3Plus(backbone, 3)):
        assert (model.align_corners, model.corner_stride) == (False, None)


def authors_separable(x: Tensor, block: nn.Sequential, dilation: int) -> Tensor:
    """`split_separable_conv2d` of the authors' code: each convolution with BatchNorm and ReLU of its own."""
    weights = [m.weight for m in block.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    depthwise = F.conv2d(x, weights[0], padding=dilation, dilation=dilation, groups=x.shape[1])
    return naive_bn_relu(naive_conv(naive_bn_relu(depthwise, norms[0]), weights[1]), norms[1])


def point(x: Tensor, block: nn.Sequential) -> Tensor:
    return naive_bn_relu(naive_conv(x, block[0].weight), block[1])


@torch.no_grad()
def test_deeplabv3plus_is_its_authors() -> None:
    torch.manual_seed(0)
    model = DeepLabV3Plus(RESNET18, 3, channels=6, low_level_channels=4, atrous_rates=[1, 2, 3]).double().eval()
    randomise(model)
    _, _, low, _, _, deep = maps = [torch.randn(1, c, 1, 1, dtype=torch.float64) for c in (3, 64, 64, 128, 256, 512)]
    low, deep = torch.randn(1, 64, 9, 13, dtype=torch.float64), torch.randn(1, 512, 3, 4, dtype=torch.float64)
    maps[2], maps[5] = low, deep
    model.encoder.forward = lambda image: maps
    aspp = model.aspp
    branches = [point(deep, aspp.branches[0])]
    branches += [authors_separable(deep, aspp.branches[rate], rate) for rate in (1, 2, 3)]
    branches.append(point(deep.mean((2, 3), keepdim=True), aspp.pooled).expand(-1, -1, 3, 4))
    context = naive_upsample(point(torch.cat(branches, dim=1), aspp.project), 9, 13, align_corners=True)
    x = torch.cat([point(low, model.low_level), context], dim=1)
    for block in model.decoder:
        x = authors_separable(x, block, 1)
    classifier = model.head[-1]
    expected = naive_conv(x, classifier.weight) + classifier.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(model(torch.zeros(1, 3, 33, 49))[0], expected)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.0], "after the ASPP alone"


@pytest.mark.usefixtures("no_random_weights")
def test_the_other_form_of_deeplabv3plus() -> None:
    model = DeepLabV3Plus(RESNET18, 3, separable_norm=False, align_corners=False)
    kinds = [type(layer) for layer in model.decoder[0]]
    assert kinds == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in model.aspp.branches[1]] == kinds
    assert (model.align_corners, model.divisor) == (False, 1)


@pytest.mark.usefixtures("no_random_weights")
@pytest.mark.parametrize("contracted", [True, False])
def test_all_branches_of_res2net_are_dilated(contracted: bool) -> None:
    encoder = build_encoder({"name": "tu-res2net50_26w_4s", "weights": None}, 8, contracted)
    for stage, rate in ((encoder.model.layer3, 2), (encoder.model.layer4, 4)):
        for index, block in enumerate(stage):
            wanted = (rate // 2 if contracted and index == 0 else rate,) * 2
            assert [(m.dilation, m.padding, m.stride) for m in block.convs] == [(wanted, wanted, (1, 1))] * 3
