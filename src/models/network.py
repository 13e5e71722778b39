"""The shell around every architecture: from uint8 pixels of any size to logits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.init import initialise


class Network(nn.Module):
    """Normalises, pads to what the architecture can take, and crops its logits.

    Mean and standard deviation are buffers beside the weights, so that training, evaluation, prediction and an exported
    file cannot disagree.

    Args:
        architecture: `forward(image) -> tuple` of logits at its own strides, main first, for a normalised float
            `(B, 3, H, W)` whose sides are multiples of its attribute `divisor`. Its attribute `align_corners` says how
            the logits are brought up to the image; `encoder` is what `backbone=` chose, or None.
        mean, std: of the training images, RGB, in 0..1.
        channels_last: memory format; faster on CPU and with bf16 on GPU.
        init: of all weights but a pretrained encoder's: "xavier", "kaiming", or "default", what the architecture's own
            constructors chose.

    Raises:
        UserError: unknown init.
    """

    def __init__(
        self,
        architecture: nn.Module,
        mean: list[float],
        std: list[float],
        channels_last: bool = True,
        init: str = "default",
    ) -> None:
        super().__init__()
        initialise(architecture, init)
        self.architecture = architecture
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)
        if channels_last:
            self.to(memory_format=torch.channels_last)

    @property
    def align_corners(self) -> bool:
        return self.architecture.align_corners

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image `(B, 3, H, W)`, uint8 or float in 0..255, to logits `(B, K, ceil(H / s), ceil(W / s))` each.

        Main logits come first; auxiliary ones follow in training mode only. A network that is aligned with a teacher
        gives `sctnet_alignment.Outputs` in training.
        """
        height, width = image.shape[-2:]
        x = (image - self.mean) / self.std
        divisor = self.architecture.divisor
        if divisor > 1:
            # No floor division of negative numbers, here and below: ONNX rounds it towards zero.
            x = F.pad(x, (0, (divisor - width % divisor) % divisor, 0, (divisor - height % divisor) % divisor))
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        outputs = self.architecture(x)
        if divisor == 1:
            return outputs
        # What an aligned network gives beside its logits is compared with a teacher's maps of the same padded image.
        logits = getattr(outputs, "logits", outputs)
        cropped = tuple(self._crop(output, x, height, width) for output in logits)
        return outputs._replace(logits=cropped) if hasattr(outputs, "logits") else cropped

    @staticmethod
    def _crop(logits: Tensor, padded: Tensor, height: int, width: int) -> Tensor:
        stride_h, stride_w = padded.shape[-2] // logits.shape[-2], padded.shape[-1] // logits.shape[-1]
        return logits[..., : (height + stride_h - 1) // stride_h, : (width + stride_w - 1) // stride_w]
