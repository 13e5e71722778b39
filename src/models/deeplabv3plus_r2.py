"""DeepLabV3+ of report R2: a ResNet of basic blocks, from scratch, at stride 8."""

from src.models.deeplabv3plus import DeepLabV3Plus
from src.models.init import initialise


class DeepLabV3PlusR2(DeepLabV3Plus):
    """R2's own network: basic blocks 3-4-6-3 (ResNet-34's layout), every 3x3 of the last two stages dilated.

    ASPP with rates 12, 24, 36, a skip of 48 channels, two plain 3x3 convolutions; Kaiming-normal (fan_out) weights.
    26.72 M parameters with 19 classes, 21.28 M of them the backbone's.

    Args:
        weights: of the backbone: None for random ones (R2), or those of a ResNet-34: "imagenet", or a file.
    """

    def __init__(self, num_classes: int, weights: str | None = None, dropout: float = 0.5) -> None:
        super().__init__(
            {"name": "resnet34", "weights": weights},
            num_classes,
            output_stride=8,
            aspp_separable=False,
            decoder_separable=False,
            dropout=dropout,
            decoder_dropout=0.0,
            align_corners=False,
            contract_dilation=False,
        )
        initialise(self, "kaiming")
