"""The reports' networks from scratch, and R3's deconvolutions on an encoder: layers, sizes, costs, options."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from src.errors import UserError
from src.models.enet import ENet, max_unpool
from src.models.fcn import FCN
from src.models.resnet_deconv import ResNetDeconv
from src.models.segnetwork import SegNetwork
from src.models.unet_pa3 import UNetPA3

NARROW = (8, 8, 8, 8, 8)  # channels, if their number does not matter


def flops(build: Callable[[], nn.Module], height: int, width: int) -> int:
    """Counts as torch does, 2 per multiply-add, on the meta device, where no number is computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build().eval()(torch.empty(1, 3, height, width))
    return counter.get_total_flops()


def layers(module: nn.Module) -> list[str]:
    """Lists the class names of a module's leaves in the order of their construction."""
    return [type(leaf).__name__ for leaf in module.modules() if not list(leaf.children())]


@pytest.mark.parametrize(
    ("build", "expected", "millions"),
    [
        (lambda: SegNetwork(19), 14_724_435, None),
        (lambda: FCN(19), 5_500_179, "5.50"),
        (lambda: ResNetDeconv({"name": "resnet50", "weights": None}, 19), 34_515_539, None),
        (lambda: UNetPA3(19), 34_528_083, "34.53"),
        (lambda: UNetPA3(19, aspp=True), 35_078_987, "35.08"),
        (lambda: UNetPA3(19, aspp=True, aspp_final_activation=True), 35_079_025, "35.08"),
        (lambda: ENet(19), 363_618, "0.36"),
    ],
)
def test_parameters(build: Callable[[], nn.Module], expected: int, millions: str | None) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in build().parameters())
    assert count == expected
    assert millions is None or f"{count / 1e6:.2f}" == millions, "systems.md has another number"


@pytest.mark.parametrize(
    ("convs", "gmac", "gflop"), [((2, 2, 3, 3, 3), 143.40, 286.81), ((1, 1, 2, 2, 2), 70.06, 140.12)]
)
def test_segnetwork_costs_what_its_docstring_says(convs: tuple[int, ...], gmac: float, gflop: float) -> None:
    height, width, previous, macs = 375, 1242, 3, 0
    for count, channels in zip(convs, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            macs += height * width * 9 * previous * channels
            previous = channels
        height, width = -(-height // 2), -(-width // 2)
    macs += 12 * 39 * 512 * 19
    assert flops(lambda: SegNetwork(19, convs), 375, 1242) == 2 * macs
    assert (round(macs / 1e9, 2), round(2 * macs / 1e9, 2)) == (gmac, gflop)


@pytest.mark.parametrize("extra_convs", [0, 2])
@pytest.mark.parametrize(
    ("options", "expected", "bias"),
    [
        ({}, ["Conv2d", "ReLU"], True),
        ({"order": "conv_relu"}, ["Conv2d", "ReLU"], True),
        ({"use_bn": True}, ["Conv2d", "BatchNorm2d", "ReLU"], False),
        ({"use_bn": True, "order": "conv_bn_relu"}, ["Conv2d", "BatchNorm2d", "ReLU"], False),
        ({"use_bn": True, "order": "conv_relu_bn"}, ["Conv2d", "ReLU", "BatchNorm2d"], True),
    ],
)
def test_segnetwork_options(extra_convs: int, options: dict, expected: list[str], bias: bool) -> None:
    convs = (1, 1, 2, 2, 3)
    network = SegNetwork(5, convs, NARROW, extra_convs, dropout=0.4, **options)
    for stage, count in zip(network.stages, convs, strict=True):
        assert layers(stage) == [*(count + extra_convs) * expected, "MaxPool2d"]
        assert all((conv.bias is not None) is bias for conv in stage if isinstance(conv, nn.Conv2d))
    assert layers(network)[-2:] == ["Dropout2d", "Conv2d"]
    assert network.dropout.p == 0.4


def test_segnetwork_pools_by_rounding_up_and_keeps_the_signal() -> None:
    """PyTorch's own initialisation loses it on the way through 13 convolutions."""
    torch.manual_seed(0)
    network = SegNetwork(5).eval()
    for x in (torch.randn(2, 3, 7, 10), torch.randn(2, 3, 6, 9), torch.randn(2, 3, 1, 2)):
        assert torch.equal(network.stages[0][-2:](x), F.max_pool2d(x, 2, ceil_mode=True))
    assert 0.3 < network.stages(torch.randn(1, 3, 64, 96)).std() < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convs": [2, 2, 3]}, r"model.convs=\[2, 2, 3\]: must be 5 whole numbers, each at least 1"),
        ({"convs": [2, 2, 3, 3, 0]}, r"model.convs=\[2, 2, 3, 3, 0\]: must be 5"),
        ({"channels": [8, 8, 8, 8, 1.5]}, r"model.channels=\[8, 8, 8, 8, 1.5\]: must be 5"),
        ({"extra_convs": -1}, r"model.extra_convs=-1: must be a whole number, at least 0"),
        ({"order": "conv_bn_relu"}, r"model.order=conv_bn_relu: must be conv_relu with model.use_bn=false"),
        ({"order": "conv_relu", "use_bn": True}, r"conv_bn_relu or conv_relu_bn with model.use_bn=true"),
        ({"order": "relu_conv"}, r"model.order=relu_conv: must be"),
    ],
)
def test_segnetwork_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegNetwork(5, **({"channels": NARROW} | options))


def test_fcn_has_r3s_layers() -> None:
    network = FCN(19)
    expected = 5 * ["Conv2d", "BatchNorm2d", "ReLU"] + 5 * ["ConvTranspose2d", "BatchNorm2d", "ReLU"] + ["Conv2d"]
    assert layers(network) == expected
    *convs, head = [module for module in network.modules() if hasattr(module, "stride")]
    down = [(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)]
    up = [(512, 512), (512, 256), (256, 128), (128, 64), (64, 32)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == down + up
    assert all((conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (2, 2), (1, 1)) for conv in convs)
    assert all(conv.output_padding == (1, 1) for conv in convs[5:])
    assert (head.in_channels, head.out_channels, head.kernel_size) == (32, 19, (1, 1))


def test_resnet_deconv_takes_its_channels_from_the_encoder() -> None:
    network = ResNetDeconv({"name": "mobilenet_v2", "weights": None}, 5)
    first = network.decoder.layers[0][0]
    assert (first.in_channels, first.out_channels) == (network.encoder.out_channels[-1], 512)
    assert layers(network.decoder) == layers(FCN(5).decoder)
    assert network(torch.rand(2, 3, 64, 32))[0].shape == (2, 5, 64, 32)


@pytest.mark.parametrize("aspp", [False, True])
def test_unet_levels(aspp: bool) -> None:
    with torch.device("meta"):
        network, found = UNetPA3(19, aspp), {}
        for name, module in network.named_modules():
            module.register_forward_hook(lambda m, i, output, name=name: found.update({name: tuple(output[0].shape)}))
        network(torch.empty(2, 3, 96, 160))
    sizes = [(64, 96, 160), (128, 48, 80), (256, 24, 40), (512, 12, 20), (1024, 6, 10)]
    assert [found[f"down.{level}"] for level in range(5)] == sizes
    assert [found[f"halve.{level}"] for level in range(4)] == sizes[-2::-1]
    assert [found[f"up.{level}"] for level in range(4)] == [*sizes[-2:0:-1], (19, 96, 160)]
    double = 2 * ["Conv2d", "BatchNorm2d", "ReLU"]
    assert layers(network.down[0]) == ["Conv2d", "ReLU", *double[3:]], "the very first convolution has no BatchNorm"
    assert all(layers(level) == double for level in [*network.down[1:], *network.up[:2]])
    third, fourth = network.up[2:]
    if not aspp:
        assert (layers(third), layers(fourth)) == (double, [*double, "Conv2d"])
    else:
        assert (third.point.out_channels, fourth.point.out_channels) == (128, 19), "hidden channels"
        assert all([branch[0].dilation[0] for branch in level.atrous] == [6, 12, 18] for level in (third, fourth))
        assert (layers(third.project), layers(fourth.project)) == (double[:3], ["Conv2d"]), "no ReLU on logits"


def test_unet_joins_the_skip_first_and_upsamples_by_corners() -> None:
    """The last level written out."""
    network = UNetPA3(3, channels=(8, 16, 32, 64, 128)).eval()
    deep, image = torch.randn(1, 16, 8, 16), torch.rand(1, 3, 16, 32)
    network.up[2].register_forward_hook(lambda *given: deep)
    up = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=True)
    expected = network.up[3](torch.cat([network.down[0](image), network.halve[3](up)], dim=1))
    torch.testing.assert_close(network(image)[0], expected)


def test_unets_own_final_activation_forbids_negative_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"model.aspp_final_activation=true: there is no ASPP; set model.aspp=true"):
        UNetPA3(3, aspp_final_activation=True)
    monkeypatch.setattr("src.models.unet_pa3.CHANNELS", (8, 16, 32, 64, 128))
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32)
    assert UNetPA3(3, aspp=True, aspp_final_activation=True)(image)[0].min() == 0
    assert UNetPA3(3, aspp=True)(image)[0].min() < 0


# ENet, against a second formulation straight from the paper, which takes weights from the modules and nothing else.
CONTEXT = ["regular", "dilated 2", "asymmetric", "dilated 4", "regular", "dilated 8", "asymmetric", "dilated 16"]
# The paper's table 1: module, kind, channels, and the side of its map of a 512x512 image.
TABLE = [
    ("initial", "initial", 16, 256),
    ("down1", "down", 64, 128), *((f"stage1.{index}", "regular", 64, 128) for index in range(4)),
    ("down2", "down", 128, 64), *((f"stage2.{index}", kind, 128, 64) for index, kind in enumerate(CONTEXT)),
    *((f"stage3.{index}", kind, 128, 64) for index, kind in enumerate(CONTEXT)),
    ("up4", "up", 64, 128), *((f"stage4.{index}", "regular", 64, 128) for index in range(2)),
    ("up5", "up", 16, 256), ("stage5", "regular", 16, 256),
]  # fmt: skip


def naive_norm(x: Tensor, norm: nn.BatchNorm2d, activation: nn.Module | None = None) -> Tensor:
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return x if activation is None else naive_activation(x, activation)


def naive_activation(x: Tensor, activation: nn.Module) -> Tensor:
    return F.prelu(x, activation.weight) if isinstance(activation, nn.PReLU) else F.relu(x)


def naive_unpool(x: Tensor, indices: Tensor) -> Tensor:
    out = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    for plane, values, places in zip(out.flatten(0, 1).numpy(), x.flatten(0, 1), indices.flatten(0, 1), strict=True):
        for value, place in zip(values.flatten().tolist(), places.flatten().tolist(), strict=True):
            plane[place // out.shape[3], place % out.shape[3]] = value
    return out


def naive_conv(x: Tensor, conv: nn.Module, kind: str) -> Tensor:
    """The middle convolution of a bottleneck."""
    if kind == "asymmetric":
        assert [part.weight.shape[2:] for part in conv] == [(5, 1), (1, 5)]
        return F.conv2d(F.conv2d(x, conv[0].weight, padding=(2, 0)), conv[1].weight, padding=(0, 2))
    assert conv.weight.shape[2:] == (3, 3)
    if kind == "up":
        return F.conv_transpose2d(x, conv.weight, stride=2, padding=1, output_padding=1)
    rate = int(kind.removeprefix("dilated ")) if kind.startswith("dilated") else 1
    return F.conv2d(x, conv.weight, padding=rate, dilation=rate)


def naive_bottleneck(x: Tensor, block: nn.Module, kind: str, indices: Tensor | None) -> Tensor:
    """1x1 (2x2 of stride 2 if it downsamples), the middle convolution, 1x1, beside the main branch."""
    reduce, norm1, activation1, conv, norm2, activation2, expand, norm3, _ = block.branch
    assert reduce.weight.shape[0] == expand.weight.shape[0] // 4
    branch = F.conv2d(x, reduce.weight, stride=2 if kind == "down" else 1)
    branch = naive_conv(naive_norm(branch, norm1, activation1), conv, kind)
    branch = naive_norm(F.conv2d(naive_norm(branch, norm2, activation2), expand.weight), norm3)
    if kind == "down":
        zeros = torch.zeros(x.shape[0], branch.shape[1] - x.shape[1], *branch.shape[2:])
        x = torch.cat([F.max_pool2d(x, 2), zeros], dim=1)
    elif kind == "up":
        x = naive_unpool(naive_norm(F.conv2d(x, block.main[0].weight), block.main[1]), indices)
    return naive_activation(x + branch, block.activation)


@torch.no_grad()
def test_enet_is_the_papers_table() -> None:
    """Block by block, each on the naive map before it, and as a whole; at stride 8 maps are larger than a dilation."""
    torch.manual_seed(0)
    network = ENet(4).eval()
    for value in network.state_dict().values():
        if value.dim() == 1:  # statistics, weights and biases of BatchNorm, slopes
            value.uniform_(0.4, 1)
    image = x = torch.randn(1, 3, 136, 144)
    indices: dict[str, Tensor] = {}
    for name, kind, channels, side in TABLE:
        block, given = network.get_submodule(name), x
        if kind == "initial":
            x = torch.cat([F.conv2d(x, block.conv.weight, stride=2, padding=1), F.max_pool2d(x, 2)], dim=1)
            x = naive_norm(x, block.norm, block.activation)
        else:
            x = naive_bottleneck(x, block, kind, indices.get(name))
        actual = block(given, indices[name]) if kind == "up" else block(given)
        if kind == "down":
            # 5.0 unpools by the indices of 1.0, and 4.0 by those of 2.0.
            later = {"down1": "up5", "down2": "up4"}[name]
            indices[later] = F.max_pool2d(given, 2, return_indices=True)[1]
            actual, found = actual
            assert torch.equal(found, indices[later])
        torch.testing.assert_close(actual, x, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        assert x.shape == (1, channels, 136 * side // 512, 144 * side // 512)
    expected = F.conv_transpose2d(x, network.head.weight, network.head.bias, stride=2)
    torch.testing.assert_close(network(image)[0], expected, atol=1e-5, rtol=1e-5)


def test_enet_activations_biases_dropout() -> None:
    network = ENet(4)
    convs = [module for module in network.modules() if hasattr(module, "stride")]
    assert [conv for conv in convs if conv.bias is not None] == [network.head]
    decoder = ("up4", "stage4", "up5", "stage5")
    for name, module in network.named_modules():
        assert not isinstance(module, nn.PReLU if name.startswith(decoder) else nn.ReLU), name
    probabilities = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout2d)}
    early = {name for name in probabilities if name.startswith(("down1", "stage1"))}
    assert (len(early), len(probabilities)) == (5, len(TABLE) - 1)
    assert all(p == (0.01 if name in early else 0.1) for name, p in probabilities.items())
    assert {module.p for module in ENet(4, [0, 0.3]).modules() if isinstance(module, nn.Dropout2d)} == {0, 0.3}
    with pytest.raises(ValueError, match=r"model.dropout=0.1: must be \[BEFORE,FROM\] bottleneck 2.0"):
        ENet(4, 0.1)


def test_enet_costs_what_its_docstring_says() -> None:
    total = flops(lambda: ENet(19), 376, 1248)
    # Of a deconvolution: kernel, channels in, channels out, cells of the smaller map.
    deconvs = 9 * 16 * 16 * 47 * 156 + 9 * 4 * 4 * 94 * 312 + 4 * 16 * 19 * 188 * 624
    others = total - 2 * deconvs
    assert (round(total / 2e9, 2), round(total / 1e9, 2)) == (3.51, 7.02)
    assert (round(others / 1e9, 2), round(others / 1e9 * (375 * 1242) / (376 * 1248), 2)) == (6.69, 6.64)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_max_unpool_is_torchs_and_deterministic(memory_format: torch.memory_format) -> None:
    """torch's own raises under deterministic algorithms, and warns with `trainer.deterministic=warn`."""
    pooled, indices = F.max_pool2d(torch.randn(2, 5, 8, 12).to(memory_format=memory_format), 2, return_indices=True)
    assert torch.equal(max_unpool(pooled, indices), F.max_unpool2d(pooled, indices, 2))
    torch.use_deterministic_algorithms(True)
    try:
        max_unpool(pooled.requires_grad_(), indices).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(pooled.grad, torch.ones_like(pooled))


@pytest.mark.parametrize("channels", [(8, 16, 32, 64), (8, 16, 32, 64, 0)])
def test_unet_needs_five_levels(channels: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"model.channels=\[8, 16, 32, 64.*: must be five numbers above 0"):
        UNetPA3(3, channels=channels)
