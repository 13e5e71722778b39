"""DPT against its authors' code, where smp's decoder differs from it."""

import torch
import torch.nn.functional as F

from src.models.dpt import DPT


@torch.no_grad()
def test_the_deepest_map_has_one_residual_unit() -> None:
    torch.manual_seed(0)
    model = DPT({"name": "tu-test_vit", "weights": None}, 3, fusion_channels=8).eval()
    assert [block.project_to_out_channel.out_channels for block in model.decoder.reassemble_blocks] == [
        96,
        192,
        384,
        768,
    ]
    deepest, *others = model.decoder.fusion_blocks
    x, before = torch.randn(2, 1, 8, 3, 5)

    def up(x: torch.Tensor, block: torch.nn.Module) -> torch.Tensor:
        return block.project(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))

    torch.testing.assert_close(deepest(x), up(deepest.residual_conv_block2(x), deepest))
    for block in others:
        joined = before + block.residual_conv_block1(x)
        torch.testing.assert_close(block(x, before), up(block.residual_conv_block2(joined), block))
