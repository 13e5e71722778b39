"""The end of a network that is exported: its logits, or probabilities or labels at the size of the image."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.network import Network
from src.upsampling import stride_of

EXAMPLE = 96  # pixels of an image by which the stride is found


class Head(nn.Module):
    """A network and its head, in evaluation mode.

    `forward(image)` takes `(B, C, H, W)` in 0..255 and returns one tensor: `logits` float32 `(B, K, h, w)` at the
    network's own stride, `probabilities` float32 `(B, K, H, W)`, or `labels` uint8 `(B, H, W)`.

    Attributes:
        stride: of the logits.
    """

    def __init__(self, network: Network, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network.eval(), kind
        with torch.no_grad():
            logits = network(
                torch.zeros(1, network.channels, EXAMPLE, EXAMPLE, dtype=torch.uint8, device=network.mean.device)
            )[0]
        self.has_corners = getattr(network.architecture, "corner_stride", None) is not None
        self.stride = stride_of(EXAMPLE, logits.shape[-2] - self.has_corners)

    @property
    def channels(self) -> int:
        """Number of channels of an image: 3, or 4."""
        return self.network.channels

    def forward(self, image: Tensor) -> Tensor:
        logits = cast(Tensor, self.network(image)[0])
        if self.kind == "logits":
            return logits
        full = self._upsample(logits, image.shape[-2], image.shape[-1])
        return full.argmax(dim=1).to(torch.uint8) if self.kind == "labels" else full.softmax(dim=1)

    def _upsample(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Brings logits up as `src.upsampling.upsample` does, without a question about the sizes, which are free."""
        network = self.network
        rows, columns = logits.shape[-2], logits.shape[-1]
        if not network.align_corners:
            covered = (rows * self.stride, columns * self.stride)
        elif self.has_corners:
            covered = ((rows - 1) * self.stride + 1, (columns - 1) * self.stride + 1)
        else:
            covered = (height, width)
        full = F.interpolate(logits, size=covered, mode="bilinear", align_corners=network.align_corners)
        return full[..., :height, :width]
