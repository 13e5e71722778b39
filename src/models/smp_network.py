"""The architectures of segmentation_models_pytorch that are faithful to their papers, one yaml each."""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Architecture
from src.models.encoder import build_encoder

# smp refuses these with MiT; the other families of conf/backbone work (except ViTs, which only DPT takes).
WITHOUT_MIT = ("UnetPlusPlus", "Linknet")


class SMPNetwork(Architecture):
    """A decoder of smp on an encoder of `build_encoder`; logits at the decoder's own stride.

    Args:
        arch: class name in smp, e.g. "Unet" (Ronneberger et al. 2015, with a pretrained encoder).
        output_stride: of the encoder, for decoders that need a dilated one.
        divisor: of the sides that the decoder takes.
        dropout: of whole maps before the classifier, where smp has none.

    Raises:
        UserError: smp does not take this backbone with this architecture.
    """

    def __init__(
        self,
        arch: str,
        backbone: dict,
        num_classes: int,
        output_stride: int = 32,
        divisor: int = 32,
        dropout: float = 0.0,
        **options: object,
    ) -> None:
        name = backbone["name"]
        if arch in WITHOUT_MIT and name.startswith("mit_"):
            raise UserError(
                f"smp's {arch} does not take backbone.name={name}; it works with ResNet, ResNeXt, RegNet, MobileNet, "
                "EfficientNet, ConvNeXt and Swin backbones"
            )
        super().__init__(build_encoder(backbone, output_stride))
        self.divisor = divisor
        if output_stride != 32:
            options["encoder_output_stride"] = output_stride
        # Only its decoder is used, and its head's convolution without the upsampling.
        model = getattr(smp, arch)(name, encoder_weights=None, classes=num_classes, **options)
        self.decoder = model.decoder
        self.dropout = nn.Dropout2d(dropout)
        self.head = model.segmentation_head[0]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by `divisor`, to `((B, K, H / s, W / s),)`."""
        return (self.head(self.dropout(self.decoder(self.encoder(image)))),)
