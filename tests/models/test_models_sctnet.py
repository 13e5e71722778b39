"""SCTNet and its DAPPM against naive formulations in numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.parts.dappm import DAPPM, bilinear_matrix
from src.models.sctnet import CFBlock, ConvolutionalAttention, SCTNet

K = 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def count(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module is not None else 0


def small(**options: object) -> SCTNet:
    return SCTNet(K, base_channels=8, spp_channels=8, **options)


def shaken(module: nn.Module) -> nn.Module:
    """Evaluation mode, with normalisation that does something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module.double().eval()


# The naive formulations: numpy, float64, `(C, h, w)`, loops over positions of the kernel.


def conv(x: np.ndarray, weight: Tensor, bias: Tensor | None = None) -> np.ndarray:
    """Zero-padded so that the size stays."""
    kernel = weight.detach().numpy()
    height, width = kernel.shape[2:]
    padded = np.pad(x, ((0, 0), (height // 2,) * 2, (width // 2,) * 2))
    out = np.zeros((len(kernel), *x.shape[1:]))
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += np.einsum("oc,chw->ohw", kernel[:, :, i, j], window)
    return out if bias is None else out + bias.detach().numpy()[:, None, None]


def norm(x: np.ndarray, bn: nn.BatchNorm2d) -> np.ndarray:
    mean, var, weight, bias = (
        t.detach().numpy()[:, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return (x - mean) / np.sqrt(var + bn.eps) * weight + bias


def bn_relu_conv(x: np.ndarray, layers: nn.Sequential) -> np.ndarray:
    bn, _, convolution = layers[-3:]
    return conv(np.maximum(norm(x, bn), 0), convolution.weight, convolution.bias)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + torch.erf(torch.from_numpy(x / np.sqrt(2))).numpy()) / 2


def attention(x: np.ndarray, module: ConvolutionalAttention) -> np.ndarray:
    x = norm(x, module.norm)
    total = np.zeros_like(x)
    for kernel in (module.kv, module.kv3):
        scores = conv(x, kernel)  # (tokens, h, w)
        for token in scores:
            token[:] = np.exp(token - token.max())
            token /= token.sum()
        for head in np.split(scores, module.num_heads):
            head /= head.sum(axis=0) + 1e-6
        total += conv(scores, kernel.transpose(0, 1))
    return total


def bilinear(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixel centres at halves, as align_corners=False."""
    out = np.zeros((len(x), *size))
    for i in range(size[0]):
        for j in range(size[1]):
            at = [
                min(max((k + 0.5) * cells / side - 0.5, 0), cells - 1)
                for k, cells, side in zip((i, j), x.shape[1:], size, strict=True)
            ]
            for row in {int(at[0]), min(int(at[0]) + 1, x.shape[1] - 1)}:
                for column in {int(at[1]), min(int(at[1]) + 1, x.shape[2] - 1)}:
                    weight = (1 - abs(at[0] - row)) * (1 - abs(at[1] - column))
                    out[:, i, j] += weight * x[:, row, column]
    return out


def average(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Every window counts kernel^2 cells, those beyond the border as zeros."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    windows = [
        [padded[:, i : i + kernel, j : j + kernel].sum(axis=(1, 2)) for j in range(0, width, stride)]
        for i in range(0, height, stride)
    ]
    return np.array(windows).transpose(2, 0, 1) / kernel**2


@pytest.mark.parametrize(
    ("base", "spp", "millions", "exact", "aux"),
    [(32, 64, 4.65, 4_654_643, 38_419), (64, 128, 17.44, 17_437_779, 150_547)],
)
def test_parameters_are_the_papers(base: int, spp: int, millions: float, exact: int, aux: int) -> None:
    model = SCTNet(19, base, spp)
    assert count(model) - count(model.aux_head) == exact
    assert round(exact / 1e6, 2) == millions
    assert count(model.aux_head) == aux
    assert count(SCTNet(19, base, spp, aux=False)) == exact


def test_convolutional_attention_equals_the_naive_one() -> None:
    module = shaken(ConvolutionalAttention(6, num_tokens=12, num_heads=3))
    nn.init.normal_(module.kv, std=0.3)
    nn.init.normal_(module.kv3, std=0.3)
    x = torch.randn(2, 6, 5, 9, dtype=torch.float64)
    expected = np.stack([attention(image, module) for image in x.numpy()])
    # Its softmax is in float32.
    torch.testing.assert_close(module(x), torch.from_numpy(expected), atol=1e-5, rtol=1e-4)


def test_cfblock_equals_the_naive_one() -> None:
    module = shaken(CFBlock(6, drop_path=0.5))
    nn.init.normal_(module.attn_l.kv, std=0.3)
    nn.init.normal_(module.attn_l.kv3, std=0.3)
    x = torch.randn(1, 6, 4, 7, dtype=torch.float64)
    after = x[0].numpy() + attention(x[0].numpy(), module.attn_l)
    mlp = module.mlp_l
    hidden = gelu(conv(norm(after, mlp.norm), mlp.conv1.weight, mlp.conv1.bias))
    expected = after + conv(hidden, mlp.conv2.weight, mlp.conv2.bias)
    torch.testing.assert_close(module(x)[0], torch.from_numpy(expected), atol=1e-5, rtol=1e-4)
    assert (mlp.norm.eps, module.attn_l.norm.eps) == (1e-6, 1e-5)


def test_kernels_start_near_zero_but_not_at_it() -> None:
    block = small().encoder.layer5
    for kernel in (block.attn_l.kv, block.attn_l.kv3):
        assert kernel.std().item() == pytest.approx(0.001, rel=0.1)


def test_drop_path_is_active_in_training_only() -> None:
    block = CFBlock(4, drop_path=0.5)
    x = torch.randn(64, 4, 2, 2)
    block.train()
    attended = block.attn_l(x)
    torch.manual_seed(0)
    dropped = block.drop_path(attended)
    kept = dropped.flatten(1).abs().sum(dim=1) > 0
    assert 16 < kept.sum() < 48
    torch.testing.assert_close(dropped[kept], 2 * attended[kept])  # the expectation stays
    block.eval()
    assert block.drop_path(attended) is attended
    assert torch.equal(block(x), block(x))


@pytest.mark.parametrize("size", [(5, 11), (16, 8), (1, 3)])
def test_dappm_equals_the_naive_one(size: tuple[int, int]) -> None:
    module = shaken(DAPPM(4, 3, 6))
    x = torch.randn(1, 4, *size, dtype=torch.float64)
    image = x[0].numpy()
    maps = [bn_relu_conv(image, module.scale0)]
    for index, (kernel, stride) in enumerate([(5, 2), (9, 4), (17, 8), (None, None)], start=1):
        pooled = image.mean(axis=(1, 2), keepdims=True) if kernel is None else average(image, kernel, stride)
        up = bilinear(bn_relu_conv(pooled, getattr(module, f"scale{index}")), size)
        maps.append(bn_relu_conv(up + maps[-1], getattr(module, f"process{index}")))
    expected = bn_relu_conv(np.concatenate(maps), module.compression) + bn_relu_conv(image, module.shortcut)
    torch.testing.assert_close(module(x)[0], torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_dappm_is_the_same_function_in_training_and_evaluation() -> None:
    """Its spare cells change neither the maps nor BatchNorm's statistics."""
    module = DAPPM(4, 3, 6)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    x = torch.randn(8, 4, 9, 12)
    trained = module.train()(x)
    pooled = F.avg_pool2d(x, 17, 8, 8)
    torch.testing.assert_close(module.scale3[1].running_mean, pooled.mean(dim=(0, 2, 3)))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-12
    # Training divides by the biased variance, evaluation by the unbiased one: n / (n - 1) of the smallest map.
    torch.testing.assert_close(module.eval()(x), trained, atol=0.1, rtol=0.1)
    with pytest.raises(ValueError, match="DAPPM's global mean normalises over the batch"):
        module.train()(x[:1])


@pytest.mark.parametrize("spare", [0, 1])
def test_bilinear_matrix_is_interpolation(spare: int) -> None:
    for cells, size in [(1, 1), (1, 2), (3, 5), (2, 16), (5, 33)]:
        x = torch.randn(1, 1, cells, 1)
        matrix = bilinear_matrix(cells, size, spare, x)
        expected = F.interpolate(x, (size, 1), mode="bilinear", align_corners=False)
        torch.testing.assert_close(matrix @ F.pad(x, (0, 0, 0, spare), value=9.0), expected)


def test_maps_have_their_strides_and_context_reaches_everywhere() -> None:
    model = small().eval()
    image = torch.randn(1, 3, 97, 130, requires_grad=True)
    x2, x3, x5, x_out = model.encoder(image)
    assert [tuple(x.shape[1:]) for x in (x2, x3, x5, x_out)] == [
        (16, 13, 17), (32, 7, 9), (64, 4, 5), (32, 13, 17),
    ]  # fmt: skip
    assert (x2 < 0).any(), "the last block of a stage has no ReLU"
    model(image)[0][0, 0, 0, 0].backward()
    assert (image.grad[0, :, -1, -1] != 0).any()


def test_parts_are_wired_as_in_the_paper() -> None:
    model = small().train()
    read, made = {}, {}
    parts = dict(model.encoder.named_children()) | {"head": model.head, "aux_head": model.aux_head}
    for name, part in parts.items():
        part.register_forward_pre_hook(lambda _, given, name=name: read.update({name: given[0]}))
        part.register_forward_hook(lambda _, given, out, name=name: made.update({name: out}))
    x2, x3, x5, x_out = model.encoder(torch.randn(2, 3, 64, 96))
    # A ReLU between stages, for their last blocks have none; the map that goes to stride 32 is not cut again.
    for name, source in {"layer2": "layer1", "layer3": "layer2", "layer3_2": "layer3", "layer5": "layer4"}.items():
        assert torch.equal(read[name], made[source].relu()), name
    for name, source in {"layer1": "conv1", "convdown4": "layer3_2", "layer4": "convdown4", "spp": "layer5"}.items():
        assert read[name] is made[source], name
    assert (made["layer1"] < 0).any()
    assert (x2 is made["layer2"], x3 is made["layer3_2"], x5 is made["layer5"]) == (True, True, True)
    up = F.interpolate(made["spp"], x2.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(x_out, torch.cat([x2, up], dim=1))
    model(torch.randn(2, 3, 64, 96))
    assert read["aux_head"] is made["layer2"]
    assert torch.equal(read["head"][:, :16], made["layer2"])


# Weights of the encoder


def test_encoder_weights_from_a_file(tmp_path: Path) -> None:
    source = small()
    weights = {
        key: torch.randn_like(value) if value.ndim else value for key, value in source.encoder.state_dict().items()
    }
    path = tmp_path / "classifier.pth"
    without = {key: value for key, value in weights.items() if not key.startswith("spp.")}
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in without.items()} | {"module.fc.bias": torch.zeros(3)}}, path
    )
    loaded = small(weights=str(path)).encoder
    assert loaded.pretrained
    assert not small().encoder.pretrained
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, weights[key]) == (not key.startswith("spp.") or not value.ndim), key
    for prefix in ("backbone.", "network.architecture.encoder."):  # mmsegmentation's and ours, DAPPM included
        torch.save({f"{prefix}{key}": value for key, value in weights.items()}, path)
        loaded = small(weights=str(path)).encoder.state_dict()
        assert all(torch.equal(loaded[key], weights[key]) for key in weights)
    with pytest.raises(ValueError, match=r"model.weights=.*than this SCTNet, which has \d+ tensors: \d+ of another"):
        SCTNet(K, 16, 8, weights=str(path))
    with pytest.raises(ValueError, match=r"model.weights=nowhere.pth: no such file"):
        small(weights="nowhere.pth")
    with pytest.raises(ValueError, match=r"model.drop_path=1: must be at least 0 and below 1"):
        small(drop_path=1)
