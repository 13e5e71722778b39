"""Swin at sizes that are no multiple of a window: against the authors' formulation, written without a shift."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from src.models.encoder import build_encoder

OPTIONS = {
    "strict_img_size": False, "always_partition": True, "embed_dim": 8, "depths": (2, 2, 2, 2),
    "num_heads": (1, 2, 2, 4), "drop_path_rate": 0.0,
}  # fmt: skip
SWIN = {"name": "tu-swin_tiny_patch4_window7_224", "weights": None, "options": OPTIONS}
V2 = {"name": "tu-swinv2_tiny_window8_256", "weights": None, "options": OPTIONS}
V2_CR = {"name": "tu-swinv2_cr_tiny_224", "weights": None, "options": {**OPTIONS, "window_size": 7}}


@pytest.fixture
def encoder() -> nn.Module:
    torch.manual_seed(0)
    encoder = build_encoder(SWIN).eval()
    for name, parameter in encoder.named_parameters():
        if "relative_position_bias_table" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.5)
    return encoder


def authors_attention(x: Tensor, block: SwinTransformerBlock) -> Tensor:
    """Attention of all positions of the padded map to all, but that only those of one window see each other.

    A window of a block with shift s holds the rows whose floor((row - s) / 7) is the same, and the columns likewise.
    Padded positions are zeros after the norm and take part, as in the authors' `SwinTransformerBlock` for segmentation.
    """
    size, shift, heads = 7, block.shift_size[0], block.attn.num_heads
    _, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    rows, columns = (torch.arange(side) for side in x.shape[1:3])
    row, column = (grid.flatten() for grid in torch.meshgrid(rows, columns, indexing="ij"))
    windows = torch.stack([(place - shift).div(size, rounding_mode="floor") for place in (row, column)])
    is_together = (windows[:, :, None] == windows[:, None, :]).all(dim=0)
    down, right = (place[:, None] - place[None, :] for place in (row, column))
    index = ((down + size - 1) * (2 * size - 1) + right + size - 1).where(is_together, 0)
    bias = block.attn.relative_position_bias_table[index].permute(2, 0, 1)
    query, key, value = block.attn.qkv(x).flatten(1, 2).chunk(3, dim=-1)
    split = lambda t: t.unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    scores = split(query) @ split(key).mT / (channels // heads) ** 0.5 + bias
    found = scores.masked_fill(~is_together, -torch.inf).softmax(dim=-1) @ split(value)
    return block.attn.proj(found.transpose(1, 2).flatten(2)).view(x.shape)[:, :height, :width]


@torch.no_grad()
def test_maps_are_those_of_the_authors_formulation(encoder: nn.Module) -> None:
    image = torch.randn(1, 3, 96, 160)
    maps = [x for x in encoder(image) if x.shape[1] and x.shape[2] < 96]
    model = encoder.model
    x = model.patch_embed.norm(model.patch_embed.proj(image).permute(0, 2, 3, 1))
    for index, wanted in enumerate(maps):
        stage = model[f"layers_{index}"]
        if index:
            merged = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=-1)
            x = stage.downsample.reduction(stage.downsample.norm(merged))
        for block in stage.blocks:
            x = x + authors_attention(block.norm1(x), block)
            x = x + block.mlp(block.norm2(x))
        torch.testing.assert_close(wanted, x.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)
    assert len(maps) == 4


@pytest.mark.parametrize(("backbone", "height"), [(SWIN, 144), (V2, 152), (V2_CR, 144)], ids=["v1", "v2", "v2_cr"])
@torch.no_grad()
def test_the_top_of_an_image_does_not_reach_the_bottom(backbone: dict, height: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(backbone).eval()
    for name, parameter in encoder.named_parameters():
        if "norm" in name and name.endswith("weight"):
            nn.init.ones_(parameter)  # the second versions begin with zeros, and so without attention
    image = torch.randn(1, 3, height, 80)
    changed = image.clone()
    changed[:, :, :4] += 1
    difference = (encoder(changed)[2] - encoder(image)[2]).abs().amax(dim=(0, 1, 3))
    assert difference[0] > 0.01
    assert difference[16:].max() < 1e-5, "two windows of eight rows are all that two blocks can cross"


def test_a_copy_of_the_network_has_its_own_blocks(encoder: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64)
    copy = deepcopy(encoder)
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    assert copy(image)[-1].std() > 0
