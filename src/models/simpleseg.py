"""SimpleSegmentationNet of report R1: the first step of its ablation."""

from torch import Tensor, nn

from src.models.architecture import Architecture
from src.models.encoder import build_encoder


class SimpleSegmentationNet(Architecture):
    """An encoder of stride 32 and one 1x1 convolution; R1's encoder has the deep stem, backbone=resnet50s."""

    align_corners = True  # as in R1's code

    def __init__(self, backbone: dict, num_classes: int) -> None:
        super().__init__(build_encoder(backbone))
        self.head = nn.Conv2d(self.encoder.out_channels[-1], num_classes, kernel_size=1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `((B, K, H / 32, W / 32),)`, sides rounded up."""
        return (self.head(self.encoder(image)[-1]),)
