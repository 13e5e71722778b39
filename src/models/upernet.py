"""UPerNet (Xiao et al. 2018, Unified Perceptual Parsing; report R4): pyramid pooling on top of a feature pyramid."""

from collections.abc import Sequence

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.layers import FCNHead, PyramidPooling, conv_bn_relu, resize


class UPerNet(Architecture):
    """An undilated encoder, pyramid pooling on its deepest map, a cumulative top-down pathway, fusion at stride 4.

    Args:
        backbone: ResNets, ConvNeXt, Swin and others.
        channels: of every level of the pyramid (512 in the paper).
        aux_channels: of the auxiliary head on the map of stride 16.
        dropout: before each classifier.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        channels: int = 512,
        aux_channels: int = 256,
        dropout: float = 0.1,
        aux: bool = True,
    ) -> None:
        super().__init__(build_encoder(backbone))
        widths = self.encoder.out_channels[2:]  # strides 4, 8, 16, 32
        # The maps of patch-based encoders are sums over residual branches. Each is normalised before use, as in the
        # segmentation code of Swin and ConvNeXt.
        is_patch_based = self.encoder.out_channels[1] == 0
        self.norms = nn.ModuleList(LayerNorm2d(width) if is_patch_based else nn.Identity() for width in widths)
        self.ppm = PyramidPooling(widths[-1], channels, bins)
        self.bottleneck = conv_bn_relu(widths[-1] + len(bins) * channels, channels)
        self.laterals = nn.ModuleList(conv_bn_relu(width, channels, kernel_size=1) for width in widths[:-1])
        self.smooth = nn.ModuleList(conv_bn_relu(channels, channels) for _ in self.laterals)
        self.fuse = conv_bn_relu(len(widths) * channels, channels)
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, kernel_size=1))
        self.aux_head = FCNHead(widths[-2], aux_channels, num_classes, dropout) if aux else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, H / 4, W / 4)`, sides rounded up; auxiliary logits at stride 16."""
        features = [norm(x) for norm, x in zip(self.norms, self.encoder(image)[2:], strict=True)]
        top = self.bottleneck(self.ppm(features[-1]))
        levels = [top]
        for lateral, x in zip(reversed(self.laterals), reversed(features[:-1]), strict=True):
            # The merged level is passed downwards, not only the lateral.
            top = lateral(x) + resize(top, x.shape[-2:])
            levels.append(top)
        *smoothed, finest = [
            level if index == 0 else self.smooth[-index](level) for index, level in enumerate(levels)
        ]  # strides 32, 16, 8, then 4
        maps = [finest, *(resize(level, finest.shape[-2:]) for level in reversed(smoothed))]
        logits = self.head(self.fuse(torch.cat(maps, dim=1)))
        return self.with_aux(logits, features[-2])
