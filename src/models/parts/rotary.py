"""The rotary position embedding of DINOv3, in a form that can be exported for images of any size."""

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from torch import Tensor, nn


def free_rotary_embedding(network: nn.Module) -> None:
    """Makes the position embedding of a network follow the size of the image in an exported file, too."""
    for module in network.modules():
        if type(module) is RotaryEmbeddingDinoV3 and module.normalize_coords == "separate":
            module.__class__ = FreeRotaryEmbedding


class FreeRotaryEmbedding(RotaryEmbeddingDinoV3):
    """DINOv3's, with the same result; timm's turns the numbers of rows and columns into constants of the file."""

    def _create_embed(self, feat_shape: list[int], no_aug: bool = False) -> Tensor:
        if not torch.compiler.is_exporting():
            return super()._create_embed(feat_shape, no_aug)
        # Centres of cells in 0..1, then in -1..1.
        axes = [(torch.arange(side, dtype=torch.float32) + 0.5 + self.grid_offset) / side for side in feat_shape]
        grid = 2 * torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) - 1
        if self.grid_indexing == "xy":
            grid = grid.flip(-1)
        return torch.cat(self._get_pos_embed_from_coords(grid.flatten(0, -2)), dim=-1)
