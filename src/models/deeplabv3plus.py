"""DeepLabV3+ (Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution; reports R0, R2, R4)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.aspp import ASPP, default_rates
from src.models.parts.layers import FCNHead, conv_bn_relu, resize, separable_conv_bn_relu


class DeepLabV3Plus(Architecture):
    """A dilated encoder, ASPP, and a decoder that joins it with the map of stride 4; logits at stride 4.

    The defaults are those of the authors' code. With `align_corners` an image is padded to 16n + 1 pixels a side, at
    stride 8 to 8n + 1, so that the corners of all maps lie on those of the image. A backbone of patches (ConvNeXt),
    whose cells have no such centres, is upsampled without.

    Args:
        output_stride: of the encoder, 8 or 16.
        atrous_rates: of the ASPP; None for 6, 12, 18 at stride 16 and twice that at 8.
        low_level_channels: to which the map of stride 4 is reduced.
        aspp_separable: depthwise separable 3x3 convolutions in the ASPP, as in the paper's best networks;
            `decoder_separable` in the decoder.
        separable_norm: BatchNorm and ReLU between depthwise and pointwise convolution, as in the authors' code; False
            for that of smp and of VainF's separable network.
        num_decoder_convs: 3x3 convolutions after the join: 2 as in the paper, or 1.
        dropout: after the ASPP's projection; `decoder_dropout` before the classifier (the authors have none).
        align_corners: of the upsampling of the ASPP's map and of the logits.
        aux: an auxiliary head on the stage before the last (mmsegmentation has one, the paper none).

    Raises:
        UserError: another output stride or number of convolutions, or a backbone that cannot be dilated.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        output_stride: int = 16,
        atrous_rates: Sequence[int] | None = None,
        channels: int = 256,
        low_level_channels: int = 48,
        aspp_separable: bool = True,
        decoder_separable: bool = True,
        num_decoder_convs: int = 2,
        separable_norm: bool = True,
        dropout: float = 0.1,
        decoder_dropout: float = 0.0,
        align_corners: bool = True,
        aux: bool = False,
        contract_dilation: bool = True,
    ) -> None:
        if num_decoder_convs not in (1, 2):
            raise UserError(f"model.num_decoder_convs={num_decoder_convs}: must be 1 or 2")
        rates = default_rates(output_stride) if atrous_rates is None else atrous_rates
        super().__init__(build_encoder(backbone, output_stride, contract_dilation))
        _, _, low, _, middle, deep = self.encoder.out_channels
        if align_corners and self.encoder.divisor == 1:
            self.align_corners, self.divisor, self.corner_stride = True, output_stride, 4
        self.aspp = ASPP(deep, channels, rates, aspp_separable, dropout, separable_norm)
        self.low_level = conv_bn_relu(low, low_level_channels, kernel_size=1)
        separable = partial(separable_conv_bn_relu, norm_between=separable_norm)
        conv = separable if decoder_separable else conv_bn_relu
        widths = [channels + low_level_channels, *[channels] * num_decoder_convs]
        self.decoder = nn.Sequential(*(conv(a, b) for a, b in pairwise(widths)))
        self.head = nn.Sequential(nn.Dropout(decoder_dropout), nn.Conv2d(channels, num_classes, kernel_size=1))
        self.aux_head = FCNHead(middle, middle // 4, num_classes) if aux else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, h, w)`, the size of the map of stride 4; auxiliary logits at the output stride."""
        _, _, low, _, middle, deep = self.encoder(image)
        context = resize(self.aspp(deep), low.shape[-2:], self.align_corners)
        logits = self.head(self.decoder(torch.cat([self.low_level(low), context], dim=1)))
        return self.with_aux(logits, middle)
