"""Every loss as its paper writes it, on full-size logits, in their precision."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.losses.boundary import BoundaryCrossEntropy
from src.losses.cross_entropy import CrossEntropy
from src.losses.dice import Dice
from src.losses.focal import Focal
from src.losses.lovasz import Lovasz
from src.losses.ohem import OHEM


def naive(term: nn.Module, logits: Tensor, mask: Tensor) -> Tensor:
    """Computes a term's expected value for logits `(B, K, H, W)` and an int64 mask."""
    return FORMULAS[type(term)](term, logits, mask)


def pixels(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Selects logits `(N, K)` and labels `(N,)` of the pixels that are not ignored."""
    return logits.movedim(1, -1)[mask != 255], mask[mask != 255]


def images(term: nn.Module, logits: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pixels of the batch, or of each image that has any."""
    if term.per == "batch":
        return [pixels(logits, mask)]
    pairs = [pixels(logits[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]
    return [pair for pair in pairs if len(pair[1])]


def cross_entropy(term: CrossEntropy, logits: Tensor, mask: Tensor) -> Tensor:
    weights = None if term.class_weights is None else term.class_weights.to(logits.dtype)
    return F.cross_entropy(logits, mask, weights, ignore_index=255, label_smoothing=term.label_smoothing)


def focal(term: Focal, logits: Tensor, mask: Tensor) -> Tensor:
    logits, labels = pixels(logits, mask)
    p = logits.softmax(1)[torch.arange(len(labels)), labels]
    weights = torch.ones_like(p) if term.class_weights is None else term.class_weights.to(p.dtype)[labels]
    return (weights * -((1 - p) ** term.gamma) * p.log()).sum() / weights.sum()


def dice(term: Dice, logits: Tensor, mask: Tensor) -> Tensor:
    means = []
    for scores, labels in images(term, logits, mask):
        losses = []
        for label in labels.unique():
            p, truth = scores.softmax(1)[:, label], (labels == label).to(scores.dtype)
            size = (p**2 + truth**2).sum() if term.squared else (p + truth).sum()
            losses.append(1 - (2 * (p * truth).sum() + term.smooth) / (size + term.smooth))
        means.append(torch.stack(losses).mean())
    return torch.stack(means).mean()


def lovasz(term: Lovasz, logits: Tensor, mask: Tensor) -> Tensor:
    """Berman et al.'s Algorithm 1: differences of the Jaccard loss of growing sets of errors."""
    means = []
    for scores, labels in images(term, logits, mask):
        losses = []
        for label in labels.unique():
            truth = (labels == label).to(scores.dtype)
            errors, order = (truth - scores.softmax(1)[:, label]).abs().sort(descending=True)
            sets = truth[order]
            jaccard = 1 - (sets.sum() - sets.cumsum(0)) / (sets.sum() + (1 - sets).cumsum(0))
            losses.append((errors * jaccard.diff(prepend=jaccard.new_zeros(1))).sum())
        means.append(torch.stack(losses).mean())
    return torch.stack(means).mean()


def ohem(term: OHEM, logits: Tensor, mask: Tensor) -> Tensor:
    """HRNet's rule: below max(threshold, the probability of rank min_kept), if there are more pixels than that."""
    logits, labels = pixels(logits, mask)
    p = logits.softmax(1)[torch.arange(len(labels)), labels]
    limit = math.exp(-term.limit)
    if term.min_kept >= len(p):
        return -p.log().mean()
    kept = p < max(limit, p.sort().values[term.min_kept].item())
    return -p[kept].log().mean()


def boundary(term: BoundaryCrossEntropy, logits: Tensor, mask: Tensor) -> Tensor:
    losses = F.cross_entropy(logits, mask, ignore_index=255, reduction="none", label_smoothing=term.label_smoothing)
    weights = boundary_weights(term, mask).to(logits.dtype) * (mask != 255)
    return (losses * weights).sum() / weights.sum()


def boundary_weights(term: BoundaryCrossEntropy, mask: Tensor) -> Tensor:
    """Compares every pixel with every other."""
    result = torch.ones(mask.shape, dtype=torch.float64)
    reach = math.ceil(3 * term.sigma)
    for image, ids in enumerate(mask.tolist()):
        places = [(y, x) for y in range(len(ids)) for x in range(len(ids[0]))]
        edge = [
            (y, x) for y, x in places if ids[y][x] != 255 and any(
                ids[v][u] not in (255, ids[y][x]) for v, u in places if abs(v - y) <= 1 and abs(u - x) <= 1
            )
        ]  # fmt: skip
        for y, x in places:
            near = [(v - y) ** 2 + (u - x) ** 2 for v, u in edge if max(abs(v - y), abs(u - x)) <= reach]
            if near:
                result[image, y, x] += term.boundary_weight * math.exp(-min(near) / (2 * term.sigma**2))
    return result


FORMULAS = {
    CrossEntropy: cross_entropy, Focal: focal, Dice: dice, Lovasz: lovasz, OHEM: ohem, BoundaryCrossEntropy: boundary,
}  # fmt: skip
