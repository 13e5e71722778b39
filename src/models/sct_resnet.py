"""SCT-ResNet, which report R0 calls SCTNet: a dilated ResNet with channel and spatial attention (systems.md 2.1b)."""

import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.layers import FCNHead


class SCTResNet(Architecture):
    """PSPNet's encoder and heads with attention in place of its pooling pyramid; logits at stride 8.

    It shares only its name with the SCTNet of the AAAI paper (`sctnet.py`).

    Args:
        num_heads: of the spatial attention.
        reduction: of the channels inside the channel attention.
        aux: an auxiliary head, with attention of its own, on the stage before the last.
        aux_channels: of its 3x3 convolution.
        dropout: of the auxiliary head; R0's main head has none.

    Raises:
        UserError: a backbone that cannot be dilated, or whose channels do not divide by `num_heads` and 4.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        num_heads: int = 4,
        reduction: int = 8,
        aux: bool = True,
        aux_channels: int = 512,
        dropout: float = 0.1,
        contract_dilation: bool = False,
    ) -> None:
        super().__init__(build_encoder(backbone, 8, contract_dilation))
        *_, middle, deep = self.encoder.out_channels
        self.attention = _attention(deep, num_heads, reduction)
        self.head = FCNHead(deep, deep // 4, num_classes, dropout=0)
        self.aux_head = None
        if aux:
            attention = _attention(middle, num_heads, reduction)
            self.aux_head = nn.Sequential(attention, FCNHead(middle, aux_channels, num_classes, dropout))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, H / 8, W / 8)` each, sides rounded up."""
        *_, middle, deep = self.encoder(image)
        return self.with_aux(self.head(self.attention(deep)), middle)


def _attention(channels: int, num_heads: int, reduction: int) -> nn.Sequential:
    """Channel attention followed by spatial attention."""
    if channels % num_heads or channels < reduction:
        raise UserError(
            f"model.num_heads={num_heads}, model.reduction={reduction}: the backbone's map has {channels} channels, "
            "which must divide by the heads and be no fewer than the reduction; lower them, or choose a wider backbone"
        )
    return nn.Sequential(ChannelAttention(channels, reduction), SpatialAttention(channels, num_heads))


class ChannelAttention(nn.Module):
    """A gate per channel, computed from its mean and its maximum by shared layers (Woo et al. 2018, CBAM)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to the same."""
        mean, maximum = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        return x * (self.shared(mean) + self.shared(maximum)).sigmoid()


class SpatialAttention(nn.Module):
    """Attention of every position to all positions, added to the input (Vaswani et al. 2017).

    The matrix of positions by positions is never made. For a 512x1024 image (64x128 positions, 2048 channels, 4 heads)
    the process peaks at 1.33 GiB, 0.92 of them in use before the call; with softmax(Q K^T) V written out it peaks at
    3.07 GiB. (ru_maxrss of one process each, float32 inference of only this module, 2-core CPU, 2026-11-21.)
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to the same."""
        # Contiguous: if the channels of a position lie apart, torch makes the whole matrix after all.
        query, key, value = (
            projection(x).flatten(2).unflatten(1, (self.num_heads, -1)).mT.contiguous()  # (B, heads, h w, C / heads)
            for projection in (self.query, self.key, self.value)
        )
        found = F.scaled_dot_product_attention(query, key, value)  # scale 1 / sqrt(C / heads)
        return x + self.out(found.mT.reshape(x.shape))
