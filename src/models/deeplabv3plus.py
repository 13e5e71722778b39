"""DeepLabV3+ (Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution), through smp's decoder."""

from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from src.models.encoder import build_encoder

# The paper's rates at stride 16; half the stride, double the rates, for the same field of view.
ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


class DeepLabV3Plus(nn.Module):
    """Dilated encoder, ASPP with rates by output stride, skip at stride 4; logits at stride 4.

    Args:
        backbone: `name` and `weights`, see `build_encoder`.
        num_classes: K.
        output_stride: 8 or 16, of the encoder.
        decoder_channels: of the ASPP and the decoder.
        aspp_separable: depthwise separable 3x3 convolutions in the ASPP.
        dropout: after the ASPP's projection.

    Raises:
        ValueError: another output stride, or a backbone that cannot be dilated to it.
    """

    align_corners = False
    divisor = 32

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        output_stride: int = 16,
        decoder_channels: int = 256,
        aspp_separable: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if output_stride not in ATROUS_RATES:
            raise ValueError(f"model.output_stride={output_stride}: must be one of {', '.join(map(str, ATROUS_RATES))}")
        self.encoder = build_encoder(backbone, output_stride)
        self.decoder = DeepLabV3PlusDecoder(
            encoder_channels=self.encoder.out_channels,
            encoder_depth=5,
            out_channels=decoder_channels,
            atrous_rates=ATROUS_RATES[output_stride],
            output_stride=output_stride,
            aspp_separable=aspp_separable,
            aspp_dropout=dropout,
        )
        self.head = nn.Conv2d(decoder_channels, num_classes, kernel_size=1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 32, to `((B, K, H / 4, W / 4),)`."""
        features = self.encoder(image)  # strides 1, 2, 4, 8, output_stride, output_stride
        return (self.head(self.decoder(features)),)
