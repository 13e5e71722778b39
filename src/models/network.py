"""The shell around every architecture: from uint8 pixels of any size to logits."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import AlignedLogits, Architecture, Encoder
from src.models.init import initialise
from src.models.parts.channels import widen_input
from src.models.statistics import IMAGENET, Statistics


class Network(nn.Module):
    """Normalises an image, pads it to a size that the architecture takes, and crops the logits.

    Mean and standard deviation are buffers beside the weights, so that training, evaluation, prediction and an exported
    file cannot disagree.

    Args:
        mean: by which images are normalised, RGB, in 0..1; `std` likewise. None: those that the encoder was pretrained
            with; ImageNet's if it was not, or if there is no encoder. A mean of other than three channels widens the
            architecture's first convolution.
        channels_last: memory format; faster on a CPU, and with bf16 on a GPU.
        init: "xavier" or "kaiming" draws all weights anew, except those of a pretrained encoder; "default" keeps what
            the architecture's constructor drew.

    Raises:
        UserError: unknown init, or an architecture that takes only RGB.
    """

    architecture: Architecture
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: Architecture,
        mean: list[float] | None,
        std: list[float] | None,
        channels_last: bool = True,
        init: str = "default",
    ) -> None:
        super().__init__()
        initialise(architecture, init)
        self.architecture = architecture
        self.channels_last = channels_last
        usual: Statistics = getattr(self.encoder, "statistics", IMAGENET)
        self.register_buffer("mean", torch.tensor(mean or usual.mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std or usual.std).view(1, -1, 1, 1) * 255)
        if self.channels != 3:
            widen_input(architecture, self.channels)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return int(self.mean.shape[1])

    @property
    def align_corners(self) -> bool:
        return self.architecture.align_corners

    @property
    def encoder(self) -> Encoder | None:
        """The backbone that `backbone=` chose; None if the architecture has none."""
        return cast(Encoder | None, getattr(self.architecture, "encoder", None))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Computes the logits of `Architecture`, `(B, K, ceil(H / s), ceil(W / s))` each, s the stride of its own.

        Those of a network with `corner_stride` have ceil((H - 1) / s) + 1 rows, and columns likewise.

        Args:
            image: `(B, C, H, W)`, uint8 or float in 0..255.
        """
        height, width = image.shape[-2:]
        x = (image - self.mean) / self.std
        divisor = self.architecture.divisor
        corner_stride: int | None = getattr(self.architecture, "corner_stride", None)
        if divisor > 1:
            # No floor division of negative numbers, here and below: ONNX rounds it towards zero.
            beyond = 0 if corner_stride is None else 1
            right, down = ((divisor - (side - beyond) % divisor) % divisor for side in (width, height))
            x = F.pad(x, (0, right, 0, down))
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        logits: tuple[Tensor, ...] = self.architecture(x)
        if divisor == 1:
            return logits
        if corner_stride is not None:
            rows, columns = ((side + corner_stride - 2) // corner_stride + 1 for side in (height, width))
            return tuple(output[..., :rows, :columns] for output in logits)
        cropped = tuple(self._crop(output, x, height, width) for output in logits)
        # The maps of an aligned network are compared with a teacher's maps of the same padded image.
        return AlignedLogits(cropped, logits.pairs) if isinstance(logits, AlignedLogits) else cropped

    @staticmethod
    def _crop(logits: Tensor, padded: Tensor, height: int, width: int) -> Tensor:
        stride_h, stride_w = padded.shape[-2] // logits.shape[-2], padded.shape[-1] // logits.shape[-1]
        return logits[..., : (height + stride_h - 1) // stride_h, : (width + stride_w - 1) // stride_w]


def finite_logits(network: Network, image: Tensor) -> Tensor:
    """Returns the logits of images that a figure or a prediction is made of.

    Raises:
        UserError: one is not a finite number. argmax would take NaN for the first class, without a word.
    """
    logits = network(image)[0]
    if not logits.isfinite().all():
        raise UserError(
            "the network's scores are not finite numbers, so that no class follows from them. If it is in training, "
            "lower optimizer.lr or set trainer.gradient_clip_val=1; in 16 bits, try trainer.precision=32-true; "
            "checkpoint=best|before may still be good"
        )
    return logits
