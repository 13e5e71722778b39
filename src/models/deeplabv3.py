"""DeepLabV3 (Chen et al. 2017, Rethinking Atrous Convolution; reports R2, R4)."""

from collections.abc import Sequence
from typing import Any, cast

from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.aspp import ASPP, default_rates
from src.models.parts.layers import FCNHead, conv_bn_relu


class DeepLabV3(Architecture):
    """A dilated encoder, ASPP, 3x3 convolution and classifier; an auxiliary head on the stage before the last.

    It equals torchvision's networks, as tests prove: `deeplabv3_resnet50` and `_resnet101` are ResNets at stride 8,
    `deeplabv3_mobilenet_v3_large` is backbone=mobilenetv3 at stride 16 with atrous_rates=[12,24,36].

    Args:
        output_stride: of the encoder and of the logits, 8 or 16.
        atrous_rates: of the ASPP; None for 6, 12, 18 at stride 16 and twice that at 8.
        channels: of the ASPP and the convolution after it.
        dropout: after the ASPP's projection.

    Raises:
        UserError: another output stride, or a backbone that cannot be dilated to it.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        output_stride: int = 8,
        atrous_rates: Sequence[int] | None = None,
        channels: int = 256,
        dropout: float = 0.5,
        aux: bool = True,
    ) -> None:
        rates = default_rates(output_stride) if atrous_rates is None else atrous_rates
        super().__init__(build_encoder(backbone, output_stride))
        *_, middle, deep = self.encoder.out_channels
        self.head = nn.Sequential(
            ASPP(deep, channels, rates, dropout=dropout),
            *conv_bn_relu(channels, channels),
            nn.Conv2d(channels, num_classes, 1),
        )
        self.is_mobilenetv3 = type(getattr(self.encoder, "model", None)) is MobileNetV3Features
        aux_channels = self.encoder.out_channels[3] if self.is_mobilenetv3 else middle
        self.aux_head = FCNHead(aux_channels, aux_channels // 4, num_classes) if aux else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, H / s, W / s)`, sides rounded up, s the output stride; then auxiliary logits."""
        if self.is_mobilenetv3 and self.training:
            middle, deep = self._mobilenetv3_maps(image)
        else:
            *_, middle, deep = self.encoder(image)
        return self.with_aux(self.head(deep), middle)

    def _mobilenetv3_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the first map of stride 8, on which torchvision has MobileNetV3's auxiliary head, and the last map.

        The former lies within a stage; the encoder gives only ends of stages.
        """
        model = cast(Any, self.encoder).model
        x = model.act1(model.bn1(model.conv_stem(image)))
        maps = []
        for stage in model.blocks:
            for block in stage:
                x = block(x)
                maps.append(x)
        first_of_stride_8 = len(model.blocks[0]) + len(model.blocks[1])
        return maps[first_of_stride_8], maps[-1]
