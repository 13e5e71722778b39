"""Networks against independent ones with the same weights: torchvision's, and naive formulations of their blocks."""

import math

import pytest
import torch
import torchvision.models.segmentation as reference
from torch import Tensor, nn
from torchvision.models.segmentation.lraspp import LRASPPHead

from src.errors import UserError
from src.models.deeplabv3 import DeepLabV3
from src.models.deeplabv3plus import DeepLabV3Plus
from src.models.encoder import build_encoder
from src.models.fcn_resnet import FCNResNet
from src.models.lraspp import LRASPP
from src.models.parts.aspp import ASPP, ASPPR3
from src.models.parts.layers import PyramidPooling
from src.models.pspnet import PSPNet
from src.models.upernet import UPerNet

RESNET50, RESNET101 = {"name": "resnet50", "weights": None}, {"name": "resnet101", "weights": None}
MOBILENETV3 = {"name": "tu-mobilenetv3_large_100", "weights": None}
MOBILE = {"output_stride": 16, "atrous_rates": [12, 24, 36]}


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copies by order of definition, since names differ; the shapes must be equal."""
    given, wanted = source.state_dict(), target.state_dict()
    assert [v.shape for v in given.values()] == [v.shape for v in wanted.values()]
    target.load_state_dict(dict(zip(wanted, given.values(), strict=True)))


def randomise(module: nn.Module) -> None:
    """Draws statistics and affine parameters: with 0 and 1 a missing BatchNorm would not be noticed."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in [
                (layer.weight, 0.5, 1),
                (layer.bias, -0.2, 0.2),
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.5, 2),
            ]:
                tensor.data.uniform_(low, high, generator=generator)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: FCNResNet(RESNET50, 19), reference.fcn_resnet50),
        (lambda: FCNResNet(RESNET101, 19), reference.fcn_resnet101),
        (lambda: DeepLabV3(RESNET50, 19), reference.deeplabv3_resnet50),
        (lambda: DeepLabV3(RESNET101, 19), reference.deeplabv3_resnet101),
        (lambda: DeepLabV3(MOBILENETV3, 19, **MOBILE), reference.deeplabv3_mobilenet_v3_large),
    ],
    ids=["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"],
)
@torch.no_grad()
def test_logits_are_torchvisions(ours, theirs) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = ours()
    model = model.to_empty(device="cpu").eval()  # every tensor is copied below
    expected = theirs(weights=None, weights_backbone=None, num_classes=19, aux_loss=True).eval()
    randomise(expected)
    # timm's MobileNetV3 has the epsilon of its training, torchvision's has 1e-3.
    for mine, other in zip(_norms(model), _norms(expected), strict=True):
        mine.eps = other.eps
    copy_weights(expected.backbone, model.encoder)
    copy_weights(expected.classifier, model.head)
    copy_weights(expected.aux_classifier, model.aux_head)
    image = torch.randn(2, 3, 65, 97)
    maps = expected.backbone(image)
    wanted = expected.classifier(maps["out"]), expected.aux_classifier(maps["aux"])
    # In training mode for the auxiliary logits, its layers in evaluation mode for their statistics.
    model.training = True
    logits = model(image)
    assert len(logits) == 2
    for mine, other in zip(logits, wanted, strict=True):
        assert other.abs().max() > 0.01
        torch.testing.assert_close(mine, other, atol=1e-4 * max(1.0, float(other.abs().max())), rtol=0)
    model.training = False
    torch.testing.assert_close(model(image), (logits[0],))


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    order = ("encoder", "backbone"), ("head", "classifier"), ("aux_head", "aux_classifier")
    parts = [getattr(module, own, None) or getattr(module, other) for own, other in order]
    return [layer for part in parts for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]


def naive_conv(x: Tensor, weight: Tensor, dilation: int = 1) -> Tensor:
    """Sums the shifted maps over the kernel's taps, without F.conv2d's padding or dilation."""
    batch, _, height, width = x.shape
    out = x.new_zeros(batch, weight.shape[0], height, width)
    centre = weight.shape[-1] // 2
    for i in range(weight.shape[-2]):
        for j in range(weight.shape[-1]):
            down, right = (i - centre) * dilation, (j - centre) * dilation
            for y in range(height):
                for column in range(width):
                    if 0 <= y + down < height and 0 <= column + right < width:
                        out[:, :, y, column] += x[:, :, y + down, column + right] @ weight[:, :, i, j].T
    return out


def naive_bn_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    shape = (1, -1, 1, 1)
    scaled = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return (scaled * norm.weight.view(shape) + norm.bias.view(shape)).clamp(min=0)


def naive_block(x: Tensor, block: nn.Sequential, dilation: int = 1) -> Tensor:
    return naive_bn_relu(naive_conv(x, block[0].weight, dilation), block[1])


@torch.no_grad()
def test_aspp_is_five_branches() -> None:
    aspp = ASPP(6, 4, rates=(2, 3, 5)).double().eval()
    randomise(aspp)
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    branches = [naive_block(x, aspp.branches[0])]
    branches += [naive_block(x, aspp.branches[1 + i], rate) for i, rate in enumerate((2, 3, 5))]
    mean = torch.tensor([[[[channel.sum() / 99]] for channel in image] for image in x], dtype=torch.float64)
    branches.append(naive_block(mean, aspp.pooled) * torch.ones(1, 1, 9, 11))
    expected = naive_block(torch.cat(branches, dim=1), aspp.project)
    torch.testing.assert_close(aspp(x), expected)


@torch.no_grad()
def test_aspp_of_r3_has_a_plain_branch_and_signed_logits() -> None:
    aspp = ASPPR3(6, 3, 4, rates=(2, 3, 5), final_activation=False).double().eval()
    randomise(aspp)
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    branches = [naive_conv(x, aspp.point.weight) + aspp.point.bias.view(1, -1, 1, 1)]
    branches += [naive_block(x, aspp.atrous[i], rate) for i, rate in enumerate((2, 3, 5))]
    branches.append(naive_block(x.mean((2, 3), keepdim=True), aspp.pooled) * torch.ones(1, 1, 9, 11))
    expected = naive_conv(torch.cat(branches, dim=1), aspp.project[0].weight) + aspp.project[0].bias.view(1, -1, 1, 1)
    torch.testing.assert_close(aspp(x), expected)
    assert aspp(x).min() < 0
    assert ASPPR3(6, 3, 4, final_activation=True).eval()(x.float()).min() >= 0


def naive_upsample(x: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    out = x.new_zeros(*x.shape[:2], height, width)
    for y in range(height):
        for column in range(width):
            source = []
            for position, size, full in ((y, x.shape[2], height), (column, x.shape[3], width)):
                place = position * (size - 1) / (full - 1) if align_corners else (position + 0.5) * size / full - 0.5
                place = max(place, 0.0)
                low = min(int(place), size - 1)
                source.append((low, min(low + 1, size - 1), place - low))
            (top, bottom, v), (left, right, u) = source
            above = (1 - u) * x[:, :, top, left] + u * x[:, :, top, right]
            below = (1 - u) * x[:, :, bottom, left] + u * x[:, :, bottom, right]
            out[:, :, y, column] = (1 - v) * above + v * below
    return out


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(7, 13), (12, 6), (5, 8)])
@torch.no_grad()
def test_pyramid_pooling_by_cells(size: tuple[int, int], align_corners: bool) -> None:
    height, width = size
    ppm = PyramidPooling(4, 3, align_corners=align_corners).double().eval()
    randomise(ppm)
    x = torch.randn(2, 4, height, width, dtype=torch.float64)
    maps = [x]
    for bins, branch in zip((1, 2, 3, 6), ppm.branches, strict=True):
        pooled = x.new_zeros(2, 4, bins, bins)
        for i in range(bins):
            for j in range(bins):
                rows = slice(math.floor(i * height / bins), math.ceil((i + 1) * height / bins))
                columns = slice(math.floor(j * width / bins), math.ceil((j + 1) * width / bins))
                pooled[:, :, i, j] = x[:, :, rows, columns].mean(dim=(2, 3))
        torch.testing.assert_close(pooled, nn.functional.adaptive_avg_pool2d(x, bins))
        maps.append(naive_upsample(naive_block(pooled, branch), height, width, align_corners))
    torch.testing.assert_close(ppm(x), torch.cat(maps, dim=1))


def impulse_spacing(convolution: nn.Conv2d) -> tuple[int, int]:
    """Measures (dilation, stride) of a 3x3 convolution from its answer to a single lit pixel."""
    side = 33
    image = torch.zeros(1, convolution.in_channels, side, side)
    image[..., side // 2, side // 2] = 1
    with torch.no_grad():
        answer = nn.functional.conv2d(
            image,
            torch.ones_like(convolution.weight),
            padding=convolution.padding,
            dilation=convolution.dilation,
            groups=convolution.groups,
        )[0, 0]
        rows = answer.sum(dim=1).nonzero().flatten()
        size = convolution(torch.zeros(1, convolution.in_channels, 32, 32)).shape[-1]
    assert answer.shape[-1] == side, "padding follows dilation"
    return int(rows[1] - rows[0]), 32 // size


@pytest.mark.usefixtures("no_random_weights")
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "tu-resnet50s", "tu-resnet18d"])
@pytest.mark.parametrize("contracted", [True, False])
def test_dilation_measured(name: str, contracted: bool) -> None:
    encoder = build_encoder({"name": name, "weights": None}, 8, contracted)
    model = getattr(encoder, "model", encoder)
    for stage, rate in ((model.layer2, 1), (model.layer3, 2), (model.layer4, 4)):
        for index, block in enumerate(stage):
            spatial = [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
            spacings = [impulse_spacing(m) for m in spatial]
            first = rate // 2 if contracted and index == 0 and rate > 1 else rate
            assert [dilation for dilation, _ in spacings] == [first, rate][: len(spacings)]
            if rate > 1:
                assert all(stride == 1 for _, stride in spacings)


@pytest.mark.usefixtures("no_random_weights")
def test_pspnet_dilates_and_r101_costs_more_than_r50() -> None:
    """smp's network stops at layer2, so that both cost the same; a student's copy of semseg was never dilated."""
    sizes = {}
    for name, backbone in {"resnet50": RESNET50, "resnet101": RESNET101}.items():
        model = PSPNet(backbone, 19)
        sizes[name] = sum(p.numel() for p in model.parameters())
        last = [impulse_spacing(block.conv2) for block in model.encoder.layer4]
        assert last == [(4, 1)] * 3
        assert len(model.encoder.layer3) == {"resnet50": 6, "resnet101": 23}[name]
    # 17 more bottlenecks of layer3, each with weights and 2 x (256 + 256 + 1024) values of BatchNorm.
    assert sizes["resnet101"] - sizes["resnet50"] == 17 * (1024 * 256 + 256 * 256 * 9 + 256 * 1024 + 2 * 1536)


@pytest.mark.usefixtures("no_random_weights")
def test_pspnet_without_ppm_differs_in_nothing_else() -> None:
    backbone = {"name": "resnet18", "weights": None}
    with_ppm, without = PSPNet(backbone, 19), PSPNet(backbone, 19, use_ppm=False)
    names = set(with_ppm.state_dict()) - set(without.state_dict())
    assert names
    assert all(name.startswith("ppm.") for name in names)
    assert without.head[0].in_channels == 512
    assert with_ppm.head[0].in_channels == 1024


@pytest.mark.usefixtures("no_random_weights")
@pytest.mark.parametrize(("output_stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_deeplab_rates_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    for build in (DeepLabV3Plus, DeepLabV3):
        model = build({"name": "resnet18", "weights": None}, 3, output_stride)
        aspp = model.aspp if build is DeepLabV3Plus else model.head[0]
        assert [branch[0].dilation[0] for branch in aspp.branches[1:]] == rates
        assert build({"name": "resnet18", "weights": None}, 3, output_stride, [1, 2, 3]) is not None
    with pytest.raises(ValueError, match=r"model.output_stride=32: must be one of 16, 8"):
        DeepLabV3Plus({"name": "resnet18", "weights": None}, 3, 32)


@pytest.mark.usefixtures("no_random_weights")
def test_deeplabv3plus_switches() -> None:
    backbone = {"name": "resnet18", "weights": None}

    def convolutions(**options: object) -> list[tuple[int, int]]:
        model = DeepLabV3Plus(backbone, 3, **options)
        return [(m.kernel_size[0], m.groups) for m in model.decoder.modules() if isinstance(m, nn.Conv2d)]

    assert convolutions() == [(3, 304), (1, 1), (3, 256), (1, 1)]
    assert convolutions(decoder_separable=False) == [(3, 1), (3, 1)]
    assert convolutions(decoder_separable=False, num_decoder_convs=1) == [(3, 1)]
    plain = DeepLabV3Plus(backbone, 3, aspp_separable=False).aspp.branches[1]
    assert [m.groups for m in plain if isinstance(m, nn.Conv2d)] == [1]
    with pytest.raises(ValueError, match="num_decoder_convs=3: must be 1 or 2"):
        DeepLabV3Plus(backbone, 3, num_decoder_convs=3)


@torch.no_grad()
def test_upernet_top_down_is_cumulative() -> None:
    """The finest level reads the pooled context through both levels between; yassouali's code added the raw lateral."""
    model = UPerNet({"name": "resnet18", "weights": None}, 3, channels=8, aux=False).eval()
    randomise(model)
    maps = [torch.randn(1, c, 16 >> i, 16 >> i) for i, c in enumerate((64, 128, 256, 512))]
    model.encoder.forward = lambda image: [image, image, *maps]
    top = model.bottleneck(model.ppm(maps[3]))
    up = lambda x, side: naive_upsample(x, side, side, align_corners=False)  # noqa: E731
    p4 = model.laterals[2](maps[2]) + up(top, 4)
    p3 = model.laterals[1](maps[1]) + up(p4, 8)
    p2 = model.laterals[0](maps[0]) + up(p3, 16)
    levels = [model.smooth[0](p2), up(model.smooth[1](p3), 16), up(model.smooth[2](p4), 16), up(top, 16)]
    expected = model.head(model.fuse(torch.cat(levels, dim=1)))
    (logits,) = model(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("no_random_weights")
def test_networks_with_batch_statistics_of_one_pixel_refuse_a_batch_of_one() -> None:
    for model in (
        DeepLabV3({"name": "resnet18", "weights": None}, 3),
        PSPNet({"name": "resnet18", "weights": None}, 3),
    ):
        with pytest.raises(ValueError, match=r"cannot be trained on one image per device; set data\.batch_size to 2"):
            model.train()(torch.zeros(1, 3, 64, 64))


@torch.no_grad()
def test_lraspp_is_torchvisions() -> None:
    """The head's copied weights give torchvision's logits of the same maps."""
    model = LRASPP(MOBILENETV3, 19).eval()
    low, high = model.encoder.out_channels[3], model.encoder.out_channels[-1]
    expected = LRASPPHead(low, high, 19, 128).eval()
    randomise(expected)
    for mine, other in [
        (model.project, expected.cbr),
        (model.gate, expected.scale),
        (model.low_head, expected.low_classifier),
        (model.high_head, expected.high_classifier),
    ]:
        copy_weights(other, mine)
    image = torch.randn(2, 3, 65, 97)
    maps = model.encoder(image)
    assert [tuple(maps[index].shape[-2:]) for index in (3, -1)] == [(9, 13), (5, 7)]
    (logits,) = model(image)
    torch.testing.assert_close(logits, expected({"low": maps[3], "high": maps[-1]}), atol=1e-5, rtol=1e-4)


BACKBONES = ["tu-tf_efficientnet_lite0", "efficientnet-b0", "mobilenet_v2", "resnet18", "mit_b0", "tu-convnext_tiny"]


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_encoders_of_four_stages_give_the_same_maps_with_fewer_layers(name) -> None:
    """With the weights of all five stages in both, and each of the smaller one's tensors takes part."""
    five = build_encoder({"name": name, "weights": None}).eval()
    four = build_encoder({"name": name, "weights": None}, depth=4).eval()
    weights = five.state_dict()
    assert four.state_dict().keys() < weights.keys()
    four.load_state_dict({key: weights[key] for key in four.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(four(image), five(image)[:5], rtol=0, atol=0)
    assert four.out_channels == five.out_channels[:5]
    with torch.enable_grad():
        four.train()
        sum(one.sum() for one in four(image)[1:]).backward()
    assert [key for key, parameter in four.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low_stride": 16}, "model.low_stride=16: must be 2, 4 or 8"),
        ({"depth": 3}, "model.depth=3: must be 4 or 5"),
        ({"low_stride": 2}, "mit_b0 has no map of this stride; give 4 or 8"),
    ],
)
def test_lraspp_refuses(options, message) -> None:
    with pytest.raises(UserError, match=message):
        LRASPP({"name": "mit_b0", "weights": None}, 11, **{"depth": 4} | options)
