"""ENet (Paszke et al. 2016, ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Architecture

Activation = Callable[[int], nn.Module]  # made for a number of channels

# Bottlenecks 2.1 to 2.8, and again 3.1 to 3.8.
ASYMMETRIC = {"asymmetric": True}
CONTEXT: tuple[dict, ...] = (
    *({}, {"dilation": 2}, ASYMMETRIC, {"dilation": 4}),
    *({}, {"dilation": 8}, ASYMMETRIC, {"dilation": 16}),
)


class ENet(Architecture):
    """Bottlenecks at stride 8, max-unpooling by the encoder's indices on the way back; logits at stride 1.

    The encoder has PReLU and the decoder ReLU, as in the authors' code. If the paper leaves a choice, it is made as in
    that code: a bottleneck is a quarter as wide as its output, nothing stands between the two asymmetric convolutions,
    the last deconvolution is 2x2. Dropout is in the decoder too, as in the paper's text but not in the code.

    Parameters with 19 classes: 363,618. Cost at 375x1242, padded to 376x1248: 3.51 GMAC, 7.02 GFLOPs (2 per MAC).
    Report R4 has 6.64. Its counter probably left out the three deconvolutions: without them 6.69 remain, which is 6.64
    for only the pixels of 375x1242.

    Args:
        dropout: two probabilities of Dropout2d, before bottleneck 2.0 and from it on.

    Raises:
        UserError: `dropout` is not two numbers.
    """

    divisor = 8

    def __init__(self, num_classes: int, dropout: Sequence[float] = (0.01, 0.1)) -> None:
        super().__init__()
        if not isinstance(dropout, Sequence) or len(dropout) != 2:
            raise UserError(f"model.dropout={dropout}: must be [BEFORE,FROM] bottleneck 2.0, e.g. [0.01,0.1]")
        early, late = dropout
        self.initial = InitialBlock(16)
        self.down1 = DownsamplingBottleneck(16, 64, early)
        self.stage1 = nn.Sequential(*(Bottleneck(64, early) for _ in range(4)))
        self.down2 = DownsamplingBottleneck(64, 128, late)
        self.stage2 = nn.Sequential(*(Bottleneck(128, late, **options) for options in CONTEXT))
        self.stage3 = nn.Sequential(*(Bottleneck(128, late, **options) for options in CONTEXT))
        self.up4 = UpsamplingBottleneck(128, 64, late)
        self.stage4 = nn.Sequential(*(Bottleneck(64, late, activation=_relu) for _ in range(2)))
        self.up5 = UpsamplingBottleneck(64, 16, late)
        self.stage5 = Bottleneck(16, late, activation=_relu)
        self.head = nn.ConvTranspose2d(16, num_classes, kernel_size=2, stride=2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)`, sides divisible by 8, to `((B, K, H, W),)`."""
        x = self.initial(image)  # (B, 16, H / 2, W / 2)
        x, indices1 = self.down1(x)
        x, indices2 = self.down2(self.stage1(x))  # (B, 64, H / 4, W / 4) on its way in
        x = self.stage3(self.stage2(x))  # (B, 128, H / 8, W / 8)
        x = self.stage4(self.up4(x, indices2))  # (B, 64, H / 4, W / 4)
        x = self.stage5(self.up5(x, indices1))  # (B, 16, H / 2, W / 2)
        return (self.head(x),)


class InitialBlock(nn.Module):
    """A convolution of stride 2 beside the pooled image (figure 2a)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels - 3, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.PReLU(channels)

    def forward(self, image: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, channels, H / 2, W / 2)`."""
        x = torch.cat([self.conv(image), F.max_pool2d(image, 2)], dim=1)
        return self.activation(self.norm(x))


class Bottleneck(nn.Module):
    """A bottleneck that keeps size and channels (figure 2b).

    Args:
        dilation: of its 3x3 convolution.
        asymmetric: whether a 5x1 and a 1x5 replace the 3x3.
        activation: PReLU in the encoder, ReLU in the decoder.
    """

    def __init__(
        self,
        channels: int,
        dropout: float,
        dilation: int = 1,
        asymmetric: bool = False,
        activation: Activation = nn.PReLU,
    ) -> None:
        super().__init__()
        inner = channels // 4
        reduce = nn.Conv2d(channels, inner, 1, bias=False)
        conv: nn.Module = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
        if asymmetric:
            conv = nn.Sequential(
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            )
        self.branch = _branch(reduce, conv, channels, dropout, activation)
        self.activation = activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to the same."""
        return self.activation(x + self.branch(x))


class DownsamplingBottleneck(nn.Module):
    """A bottleneck that halves the size; channels of zeros fill up the pooled input."""

    def __init__(self, in_channels: int, channels: int, dropout: float) -> None:
        super().__init__()
        inner = channels // 4
        reduce = nn.Conv2d(in_channels, inner, 2, stride=2, bias=False)
        conv = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.lacking = channels - in_channels
        self.branch = _branch(reduce, conv, channels, dropout, nn.PReLU)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, h, w)` to `(B, channels, h / 2, w / 2)` and the positions of the maxima, `(B, C, h / 2, w / 2)`."""
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        main = F.pad(pooled, (0, 0, 0, 0, 0, self.lacking))
        return self.activation(main + self.branch(x)), indices


class UpsamplingBottleneck(nn.Module):
    """A bottleneck that doubles the size: a 1x1 convolution and max-unpooling beside a deconvolution."""

    def __init__(self, in_channels: int, channels: int, dropout: float) -> None:
        super().__init__()
        inner = channels // 4
        reduce = nn.Conv2d(in_channels, inner, 1, bias=False)
        deconv = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.main = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.branch = _branch(reduce, deconv, channels, dropout, _relu)
        self.activation = _relu(channels)

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B, channels, 2 h, 2 w)`, by the `indices` `(B, channels, h, w)` of a pooling."""
        return self.activation(max_unpool(self.main(x), indices) + self.branch(x))


def max_unpool(x: Tensor, indices: Tensor) -> Tensor:
    """Computes `F.max_unpool2d(x, indices, 2)` in a deterministic form, which torch does not have."""
    batch, channels, height, width = x.shape
    flat = x.new_zeros(batch, channels, 4 * height * width).scatter(2, indices.flatten(2), x.flatten(2))
    return flat.view(batch, channels, 2 * height, 2 * width)


def _branch(reduce: nn.Conv2d, conv: nn.Module, channels: int, dropout: float, activation: Activation) -> nn.Sequential:
    inner = reduce.out_channels
    return nn.Sequential(
        reduce,
        nn.BatchNorm2d(inner),
        activation(inner),
        conv,
        nn.BatchNorm2d(inner),
        activation(inner),
        nn.Conv2d(inner, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.Dropout2d(dropout),
    )


def _relu(channels: int) -> nn.Module:
    return nn.ReLU(inplace=True)
