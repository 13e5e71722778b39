"""PSPNet (Zhao et al. 2017, Pyramid Scene Parsing Network; reports R0, R1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.layers import FCNHead, PyramidPooling


class PSPNet(Architecture):
    """An encoder dilated to stride 8, pyramid pooling, 3x3 convolution, classifier; an auxiliary head on layer3.

    The deep stem of the paper's own code (semseg; 3x3 convolutions of 64, 64 and 128 channels) is that of timm's
    backbones: backbone=resnet50s, resnet101s, resnet152s. backbone=resnet50 has the plain 7x7 stem.

    An image is padded to 8n + 1 pixels a side, for which semseg is written: bilinear maps then have their corners on
    those of the image. With a backbone of patches (ConvNeXt), whose cells have no such centres, it is not.

    Args:
        output_stride: of the encoder and of the logits, 8, 16 or 32.
        bins: sides of the pooled maps; each map has the encoder's channels divided by the number of bins.
        use_ppm: False leaves out pyramid pooling and nothing else (R1's ablation).
        channels: of the 3x3 convolution of the head; `aux_channels` of that of the auxiliary head.
        dropout: before each classifier.

    Raises:
        UserError: a backbone that cannot be dilated to the output stride.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        output_stride: int = 8,
        bins: Sequence[int] = (1, 2, 3, 6),
        use_ppm: bool = True,
        channels: int = 512,
        aux_channels: int = 256,
        dropout: float = 0.1,
        aux: bool = True,
    ) -> None:
        # Every 3x3 of a dilated stage has the full rate, as in semseg.
        super().__init__(build_encoder(backbone, output_stride, contract_dilation=False))
        *_, middle, deep = self.encoder.out_channels
        if self.encoder.divisor == 1:
            self.align_corners, self.divisor, self.corner_stride = True, output_stride, output_stride
        self.ppm = PyramidPooling(deep, deep // len(bins), bins, self.align_corners) if use_ppm else nn.Identity()
        pooled = deep + deep // len(bins) * len(bins) if use_ppm else deep
        self.head = FCNHead(pooled, channels, num_classes, dropout)
        self.aux_head = FCNHead(middle, aux_channels, num_classes, dropout) if aux else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides s n + 1, to `(B, K, n + 1, m + 1)` each, s the output stride."""
        *_, middle, deep = self.encoder(image)
        return self.with_aux(self.head(self.ppm(deep)), middle)
