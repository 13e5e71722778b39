"""Lovász-softmax (Berman et al. 2018): the Jaccard loss of each class, extended to probabilities."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from src.labels import IGNORE_INDEX
from src.losses.dice import check_per
from src.upsampling import upsample


class Lovasz(nn.Module):
    """The mean over present classes of the Lovász extension of 1 - IoU, at the errors |truth - probability|.

    It sorts all pixels by their error, which sums over bands cannot replace. So it goes class by class and holds a few
    maps of one value per pixel, never K of them. The gradient is computed with the value, since a second sort would
    cost more. 0 with zero gradient if all pixels are ignored.

    Args:
        per: "batch", the authors' default, or "image": the mean over the images that have labels.

    Raises:
        UserError: an unknown `per`.
    """

    def __init__(self, per: str = "batch") -> None:
        super().__init__()
        check_per(per)
        self.per = per

    def forward(self, logits: Tensor, mask: Tensor, align_corners: bool = False) -> Tensor:
        """Logits `(B, K, h, w)` at any stride and mask `(B, H, W)`, ids 0..K-1 or 255, to a scalar in [0, 1]."""
        with torch.autocast(logits.device.type, enabled=False):
            return _LovaszSoftmax.apply(logits, mask, align_corners, self.per)  # pyright: ignore[reportReturnType]


class _LovaszSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, mask: Tensor, align_corners: bool, per: str) -> Tensor:
        size = len(logits) if per == "batch" else 1
        dtype = torch.promote_types(logits.dtype, torch.float32)
        gradient = torch.zeros(logits.shape, dtype=dtype, device=logits.device) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=dtype, device=logits.device)
        count = total.clone()
        for start in range(0, len(logits), size):
            images = slice(start, start + size)
            part = None if gradient is None else gradient[images]
            value = _score(logits[images].to(dtype), mask[images], align_corners, part)
            total += value
            count += (mask[images] != IGNORE_INDEX).any()
        count.clamp_(min=1)
        ctx.save_for_backward(None if gradient is None else gradient.div_(count))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * given, None, None, None


def _score(logits: Tensor, mask: Tensor, align_corners: bool, gradient: Tensor | None) -> Tensor:
    """Computes the mean over the present classes, and its gradient in the logits, `(B, K, h, w)`, into `gradient`."""
    size = (mask.shape[-2], mask.shape[-1])
    total, count = logits.new_zeros(()), logits.new_zeros(())
    channels = logits.split(1, dim=1)
    normaliser = upsample(channels[0], size, align_corners)  # log of the sum of exponentials, (B, 1, H, W)
    for channel in channels[1:]:
        normaliser = torch.logaddexp(normaliser, upsample(channel, size, align_corners))
    is_valid = (mask != IGNORE_INDEX).unsqueeze(1)
    mean_slope = torch.zeros_like(normaliser)  # sum over classes of probability x slope
    for label, channel in enumerate(channels):
        is_truth = (mask == label).unsqueeze(1)
        probability = (upsample(channel, size, align_corners) - normaliser).exp_()
        value, slope = lovasz_extension(probability, is_truth, is_valid)
        is_present = is_truth.any()
        total += value * is_present
        count += is_present
        if gradient is not None:
            slope = slope.mul_(probability).mul_(is_present)
            mean_slope += slope
            gradient[:, label : label + 1] = _downsample(slope, channel, align_corners)
    count.clamp_(min=1)
    if gradient is not None:
        for label, channel in enumerate(channels):
            probability = (upsample(channel, size, align_corners) - normaliser).exp_()
            gradient[:, label : label + 1] -= _downsample(probability.mul_(mean_slope), channel, align_corners)
        gradient /= count
    return total / count


def lovasz_extension(probability: Tensor, is_truth: Tensor, is_valid: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the extension of one class's Jaccard loss at its errors, and its slope in the probabilities.

    The Jaccard loss grows by 1 / U with a missed pixel and by I / (U (U - 1)) with a false one, I and U after it. The
    authors' code subtracts neighbouring values of 1 - I / U, which loses most digits in float32 among millions.

    Args:
        probability: of the class, any shape.
        is_truth: bool, the pixels of the class.
        is_valid: bool, the pixels that count.

    Returns:
        A scalar, and a tensor like `probability`.
    """
    errors = torch.where(is_truth, 1 - probability, probability).masked_fill_(~is_valid, -1)  # ignored ones last
    errors, order = errors.flatten().sort(descending=True)
    is_missed = is_truth.flatten()[order]
    # In place where possible: with millions of pixels these maps are the loss's memory. Counts are exact in int32.
    intersection = is_missed.cumsum(0, dtype=torch.int32)
    intersection = intersection.neg_().add_(-intersection[-1])
    union = torch.arange(1, len(order) + 1, dtype=torch.int32, device=order.device).add_(intersection)
    # With the sign of the slope in the probability: the error of a missed pixel falls as it rises.
    growth = intersection.to(errors.dtype).masked_fill_(is_missed, -1).div_(union)
    growth.div_(union.sub_(1).clamp_(min=1).masked_fill_(is_missed, 1))
    value = errors.clamp_(min=0).mul_(growth).abs_().sum()
    return value, errors.scatter_(0, order, growth).view_as(probability).mul_(is_valid)


def _downsample(gradient: Tensor, channel: Tensor, align_corners: bool) -> Tensor:
    """Computes the gradient `(B, 1, h, w)` in a channel from that in the upsampled channel, `(B, 1, H, W)`."""
    with torch.enable_grad():
        leaf = channel.detach().requires_grad_()
        full = upsample(leaf, (gradient.shape[-2], gradient.shape[-1]), align_corners)
    return torch.autograd.grad(full, leaf, gradient)[0]
