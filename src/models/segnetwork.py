"""Report R4's baseline: VGG's convolutions from scratch, a 1x1 score at stride 32."""

from collections.abc import Sequence

from torch import Tensor, nn

from src.errors import UserError, whole
from src.models.architecture import Architecture

NUM_STAGES = 5
ORDERS = {False: ("conv_relu",), True: ("conv_bn_relu", "conv_relu_bn")}  # by use_bn, the default first


class SegNetwork(Architecture):
    """Five stages of 3x3 convolutions, each closed by max pooling, then a 1x1 score (report R4; systems.md 2.9).

    R4's code is not public: this follows its text, on the layers of VGG (Simonyan & Zisserman 2015). Pooling rounds up,
    so that every size works without padding.

    Cost at 375x1242 with 19 classes, with 2 FLOPs per multiply-add (MAC), as torch's FlopCounterMode counts:

        convs 2-2-3-3-3, as in VGG-16 (default): 143.40 GMAC = 286.81 GFLOPs
        convs 1-1-2-2-2, as in VGG-11:            70.06 GMAC = 140.12 GFLOPs

    R4's ratios make its baseline about 143 G: VGG-16's with 1 FLOP per multiply-add, or VGG-11's with 2.

    Args:
        convs: number of 3x3 convolutions of each of the five stages.
        extra_convs: further 3x3 convolutions in every stage.
        use_bn: a BatchNorm with every 3x3 convolution.
        order: of a convolution's layers: "conv_relu" without BatchNorm, "conv_bn_relu" or "conv_relu_bn" with it; None
            takes the first that `use_bn` allows. Pooling has no place in it: max pooling before or after a ReLU is the
            same.
        dropout: probability of Dropout2d at the end of the last stage.

    Raises:
        UserError: not five stages, a count that is too small, an order that does not fit `use_bn`.
    """

    divisor = 1

    def __init__(
        self,
        num_classes: int,
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        extra_convs: int = 0,
        use_bn: bool = False,
        order: str | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value in (("convs", convs), ("channels", channels)):
            if len(value) != NUM_STAGES or not all(isinstance(count, int) and count > 0 for count in value):
                raise UserError(f"model.{name}={list(value)}: must be {NUM_STAGES} whole numbers, each at least 1")
        whole("model.extra_convs", extra_convs, 0)
        order = ORDERS[use_bn][0] if order is None else order
        if order not in ORDERS[use_bn]:
            raise UserError(
                f"model.order={order}: must be {' or '.join(ORDERS[False])} with model.use_bn=false, "
                f"{' or '.join(ORDERS[True])} with model.use_bn=true; null takes the first of these"
            )
        stages = zip((3, *channels), channels, convs, strict=False)
        self.stages = nn.Sequential(*(_stage(a, b, count + extra_convs, order) for a, b, count in stages))
        self.dropout = nn.Dropout2d(dropout)
        self.score = nn.Conv2d(channels[-1], num_classes, kernel_size=1)
        # With PyTorch's default the signal dies within 13 convolutions without BatchNorm (He et al. 2015).
        for layer in self.stages.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` to `((B, K, ceil(H / 32), ceil(W / 32)),)`."""
        return (self.score(self.dropout(self.stages(image))),)


def _stage(in_channels: int, channels: int, num_convs: int, order: str) -> nn.Sequential:
    """`(B, C, h, w)` to `(B, channels, ceil(h / 2), ceil(w / 2))`."""
    stage = nn.Sequential()
    for width in (in_channels, *(num_convs - 1) * [channels]):
        # A BatchNorm cancels the bias before it, unless a ReLU stands between them.
        convolution = nn.Conv2d(width, channels, 3, padding=1, bias=order != "conv_bn_relu")
        layers = {"conv": convolution, "bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(inplace=True)}
        stage.extend(layers[name] for name in order.split("_"))
    return stage.append(nn.MaxPool2d(2, ceil_mode=True))
