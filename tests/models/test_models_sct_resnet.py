"""SCT-ResNet (R0's SCTNet): its attention against explicit formulations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from src.models.sct_resnet import ChannelAttention, SCTResNet, SpatialAttention

MIT = {"name": "mit_b0", "weights": None}
TINY = {"name": "tu-test_resnet", "weights": None}
K = 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_spatial_attention_equals_explicit_softmax() -> None:
    module = SpatialAttention(8, num_heads=4).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    found = torch.zeros_like(x)
    for head in range(4):
        part = slice(2 * head, 2 * head + 2)
        q, k, v = (projection(x)[:, part].flatten(2) for projection in (module.query, module.key, module.value))
        weights = (torch.einsum("bcn,bcm->bnm", q, k) / 2**0.5).softmax(dim=-1)
        found[:, part] = torch.einsum("bnm,bcm->bcn", weights, v).view(2, 2, 3, 5)
    torch.testing.assert_close(module(x), x + module.out(found))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_spatial_attention_never_makes_the_whole_matrix(memory_format: torch.memory_format) -> None:
    module, x = SpatialAttention(64, num_heads=4), torch.randn(1, 64, 6, 8)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # RuntimeError if it does not take the strides
        module.to(memory_format=memory_format)(x.contiguous(memory_format=memory_format))


def test_channel_attention_by_hand() -> None:
    module = ChannelAttention(8, reduction=8)
    x = torch.randn(2, 8, 3, 5)
    down, up = module.shared[0].weight[..., 0, 0], module.shared[2].weight[..., 0, 0]
    gate: Callable[[Tensor], Tensor] = lambda v: (v @ down.T).relu() @ up.T  # noqa: E731
    scale = (gate(x.mean(dim=(2, 3))) + gate(x.flatten(2).max(dim=2).values)).sigmoid()
    torch.testing.assert_close(module(x), x * scale[..., None, None])


def test_sct_resnet_is_dilated_and_has_two_heads_in_training() -> None:
    model = SCTResNet({"name": "resnet18", "weights": None}, K)
    image = torch.randn(2, 3, 64, 96)
    assert [tuple(logits.shape) for logits in model.train()(image)] == [(2, K, 8, 12)] * 2
    assert [tuple(logits.shape) for logits in model.eval()(image)] == [(2, K, 8, 12)]
    assert model.aux_head[1][0].out_channels == 512
    assert model.head[0].out_channels == 128
    # Every block of a dilated stage has its rate, as in R0.
    rates = [[block.conv1.dilation[0] for block in stage] for stage in (model.encoder.layer3, model.encoder.layer4)]
    assert rates == [[2, 2], [4, 4]]


def test_sct_resnet_refuses_channels_that_do_not_divide() -> None:
    for options in ({"num_heads": 5}, {"reduction": 128}):
        with pytest.raises(ValueError, match=r"has 96 channels, which must divide by the heads .* or choose a wider"):
            SCTResNet(TINY, K, **options)
    with pytest.raises(ValueError, match=r"mit_b0 cannot be dilated to output stride 8"):
        SCTResNet(MIT, K)
