"""DeepLabV3+ (Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution; reports R0, R2, R4)."""

from collections.abc import Sequence
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

    Args:
        output_stride: of the encoder, 8 or 16.
        atrous_rates: of the ASPP; None for 6, 12, 18 at stride 16 and twice that at 8.
        low_level_channels: to which the map of stride 4 is reduced.
        aspp_separable: depthwise separable 3x3 convolutions in the ASPP, as in the paper's best networks;
            `decoder_separable` in the decoder.
        num_decoder_convs: 3x3 convolutions after the join: 2 as in the paper, or 1.
        dropout: after the ASPP's projection; `decoder_dropout` before the classifier.
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
        dropout: float = 0.5,
        decoder_dropout: float = 0.1,
        aux: bool = False,
        contract_dilation: bool = True,
    ) -> None:
        if num_decoder_convs not in (1, 2):
            raise UserError(f"model.num_decoder_convs={num_decoder_convs}: must be 1 or 2")
        rates = default_rates(output_stride) if atrous_rates is None else atrous_rates
        super().__init__(build_encoder(backbone, output_stride, contract_dilation))
        _, _, low, _, middle, deep = self.encoder.out_channels
        self.aspp = ASPP(deep, channels, rates, aspp_separable, dropout)
        self.low_level = conv_bn_relu(low, low_level_channels, kernel_size=1)
        conv = separable_conv_bn_relu if decoder_separable else conv_bn_relu
        widths = [channels + low_level_channels, *[channels] * num_decoder_convs]
        self.decoder = nn.Sequential(*(conv(a, b) for a, b in pairwise(widths)))
        self.head = nn.Sequential(nn.Dropout(decoder_dropout), nn.Conv2d(channels, num_classes, kernel_size=1))
        self.aux_head = FCNHead(middle, middle // 4, num_classes) if aux else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `(B, K, H / 4, W / 4)`, sides rounded up; auxiliary logits at the output stride."""
        _, _, low, _, middle, deep = self.encoder(image)
        context = resize(self.aspp(deep), low.shape[-2:])
        logits = self.head(self.decoder(torch.cat([self.low_level(low), context], dim=1)))
        return self.with_aux(logits, middle)
