"""Any architecture of segmentation_models_pytorch that is faithful to its paper, by one yaml."""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from src.models.encoder import build_encoder


class SMPNetwork(nn.Module):
    """smp's decoder on our encoder, its logits at the decoder's own stride.

    Args:
        arch: class name in smp, e.g. "Unet" (Ronneberger et al. 2015, with a pretrained encoder).
        backbone: `name` and `weights`, see `build_encoder`.
        num_classes: K.
        options: passed on to smp's class.

    Raises:
        ValueError: smp does not take this backbone with this architecture.
    """

    align_corners = False
    divisor = 32

    def __init__(self, arch: str, backbone: dict, num_classes: int, **options: object) -> None:
        super().__init__()
        self.encoder = build_encoder(backbone)
        try:
            model = getattr(smp, arch)(backbone["name"], encoder_weights=None, classes=num_classes, **options)
        except (ValueError, KeyError) as error:
            raise ValueError(f"smp's {arch} does not take backbone.name={backbone['name']}: {error}") from error
        self.decoder = model.decoder
        # The head's convolution alone: its upsampling is left to whoever needs another size.
        self.head = model.segmentation_head[0]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 32, to `((B, K, H / s, W / s),)`."""
        return (self.head(self.decoder(self.encoder(image))),)
