"""The part of the augmentation that a GPU does: applying the colour matrices that workers drew."""

import torch
from torch import Tensor


def recolour(image: Tensor, matrix: Tensor) -> Tensor:
    """Multiplies colours by one matrix per image, rounds and clips to 0..255, as `cv2.transform` does in a worker.

    Args:
        image: uint8 `(B, 3, H, W)`, channels last.
        matrix: float32 `(B, 3, 4)`, acts on `(R, G, B, 1)` in 0..255.
    """
    with torch.autocast(image.device.type, enabled=False):
        pixels = image.permute(0, 2, 3, 1).flatten(1, 2).float()  # (B, H W, 3)
        result = torch.baddbmm(matrix[:, :, 3].unsqueeze(1), pixels, matrix[:, :, :3].mT)
        rounded = result.round_().clamp_(0, 255).to(torch.uint8)
    return rounded.unflatten(1, image.shape[-2:]).permute(0, 3, 1, 2)
