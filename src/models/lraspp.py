"""LR-ASPP (Howard et al. 2019, "Searching for MobileNetV3", section 6.4): the light decoder of MobileNetV3."""

from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Architecture
from src.models.encoder import build_encoder
from src.models.parts.layers import conv_bn_relu, resize


class LRASPP(Architecture):
    """Gates the deepest map by its global mean, and adds the classes of a map of higher resolution.

    As torchvision's, with any backbone. The authors pool over windows of 49x49 at stride (16, 20); here, as in
    torchvision, the pool is over the whole image.

    Args:
        backbone: as of `build_encoder`.
        num_classes: K.
        depth: of the encoder. 5 with `output_stride` 16 is the authors' form; 4 leaves the last stage away, which is
            most of the parameters of an EfficientNet or a MobileNet.
        output_stride: of the encoder's deepest stage, 16 or 32.
        channels: of the deep branch.
        low_stride: of the map of higher resolution, and of the logits: 2, 4 or 8.

    Raises:
        UserError: a stride or a depth that there is not, or a backbone without a map of `low_stride`.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        depth: int = 5,
        output_stride: int = 16,
        channels: int = 128,
        low_stride: int = 8,
    ) -> None:
        if low_stride not in (2, 4, 8):
            raise UserError(f"model.low_stride={low_stride}: must be 2, 4 or 8")
        if depth not in (4, 5):
            raise UserError(f"model.depth={depth}: must be 4 or 5")
        super().__init__(build_encoder(backbone, 32 if depth == 4 else output_stride, depth=depth))
        self.low = {2: 1, 4: 2, 8: 3}[low_stride]
        low_channels, high_channels = self.encoder.out_channels[self.low], self.encoder.out_channels[-1]
        if low_channels == 0:
            raise UserError(f"model.low_stride={low_stride}: {backbone['name']} has no map of this stride; give 4 or 8")
        self.project = nn.Sequential(*conv_bn_relu(high_channels, channels, kernel_size=1))
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high_channels, channels, 1, bias=False), nn.Sigmoid()
        )
        self.low_head = nn.Conv2d(low_channels, num_classes, 1)
        self.high_head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `((B, K, H / low_stride, W / low_stride),)`, sides rounded up."""
        maps = self.encoder(image)
        low, high = maps[self.low], maps[-1]
        # The classifier has no nonlinearity before it: to classify, then enlarge, costs less and is the same.
        deep = self.high_head(self.project(high) * self.gate(high))
        return (self.low_head(low) + resize(deep, low.shape[-2:]),)
