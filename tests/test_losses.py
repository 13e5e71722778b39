"""Losses against hand-computed values, torch's own, and a naive float64 formulation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.losses.combined import CombinedLoss
from src.losses.cross_entropy import CrossEntropy
from src.losses.dice import Dice


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator) * 3
    mask = torch.randint(0, 4, (2, 6, 7), generator=generator)  # class 4 is absent
    mask[0, :2] = 255
    return logits, mask


def naive_dice(logits: np.ndarray, mask: np.ndarray, smooth: float) -> float:
    """Loop over classes in float64, straight from the definition."""
    exponent = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probability = exponent / exponent.sum(axis=1, keepdims=True)
    losses = []
    for label in range(logits.shape[1]):
        truth = (mask == label).astype(np.float64)
        if truth.sum() == 0:
            continue
        p = probability[:, label] * (mask != 255)
        losses.append(1 - (2 * (p * truth).sum() + smooth) / (p.sum() + truth.sum() + smooth))
    return float(np.mean(losses))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 0.0, 3.0]])
def test_cross_entropy_equals_torch(batch, smoothing: float, weights: list[float] | None) -> None:
    logits, mask = batch
    expected = F.cross_entropy(
        logits, mask, None if weights is None else torch.tensor(weights), ignore_index=255, label_smoothing=smoothing
    )
    assert CrossEntropy(smoothing, weights)(logits, mask) == pytest.approx(expected.item(), abs=1e-6)


def test_label_smoothing_by_hand() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0]).view(1, 3, 1, 1)
    log_p = [2 - math.log(math.e**2 + 1 + math.e**-1), -math.log(math.e**2 + 1 + math.e**-1)]
    log_p.append(log_p[1] - 1)
    target = [0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]  # sums to 1
    expected = -sum(t * p for t, p in zip(target, log_p, strict=True))
    assert CrossEntropy(0.1)(logits, torch.zeros(1, 1, 1, dtype=torch.long)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_equals_naive_float64(batch, smooth: float) -> None:
    logits, mask = batch
    assert Dice(smooth)(logits, mask).item() == pytest.approx(
        naive_dice(logits.numpy(), mask.numpy(), smooth), abs=1e-6
    )


def test_dice_of_a_perfect_prediction_is_zero_with_12_of_19_classes() -> None:
    mask = torch.arange(12).repeat(1, 4, 3)
    logits = F.one_hot(mask, 19).permute(0, 3, 1, 2) * 100.0
    assert Dice()(logits, mask).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), CrossEntropy(0, [1.0, 2, 3, 4, 5]), Dice(), Dice(0.0)])
def test_an_ignored_batch_gives_zero_with_zero_gradient(loss: torch.nn.Module) -> None:
    logits = torch.randn(2, 5, 3, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 3, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", [CrossEntropy(0.1, [1.0, 2, 3, 4, 5]), Dice()])
def test_ignored_pixels_and_order_do_not_matter(batch, loss: torch.nn.Module) -> None:
    logits, mask = batch
    logits = logits.clone().requires_grad_()
    value = loss(logits, mask)
    value.backward()
    assert torch.equal(logits.grad.permute(0, 2, 3, 1)[mask == 255], torch.zeros(14, 5))
    order = torch.randperm(2 * 6 * 7)
    shuffled = logits.detach().permute(0, 2, 3, 1).reshape(-1, 5)[order].T.reshape(1, 5, 84, 1)
    assert loss(shuffled, mask.reshape(-1)[order].reshape(1, 84, 1)).item() == pytest.approx(value.item(), abs=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), Dice()])
def test_gradient_is_that_of_the_value(loss: torch.nn.Module) -> None:
    logits = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[[0, 1, 255], [2, 1, 0]]])
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), logits)


def combined(**weights: float) -> CombinedLoss:
    losses = {"ce": CrossEntropy(0.1), "dice": Dice()}
    return CombinedLoss({name: {"weight": w, "loss": losses[name]} for name, w in weights.items()}, aux_weight=0.4)


def test_combined_weighs_terms_and_auxiliary_logits(batch) -> None:
    logits, mask = batch
    auxiliary = torch.randn(2, 5, 3, 4)
    result = combined(ce=0.6, dice=0.4)((logits, auxiliary), mask)
    main = 0.6 * CrossEntropy(0.1)(logits, mask) + 0.4 * Dice()(logits, mask)
    up = F.interpolate(auxiliary, (6, 8), mode="bilinear", align_corners=False)[..., :7]  # stride 2, cropped
    aux = 0.6 * CrossEntropy(0.1)(up, mask) + 0.4 * Dice()(up, mask)
    assert result["aux"].item() == pytest.approx(aux.item(), abs=1e-6)
    assert result["loss"].item() == pytest.approx((main + 0.4 * aux).item(), abs=1e-6)
    assert set(result) == {"loss", "ce", "dice", "aux"}


def test_combined_computes_in_float32_under_autocast() -> None:
    logits = torch.randn(1, 3, 64, 64).mul(20)
    mask = torch.randint(0, 3, (1, 64, 64), dtype=torch.uint8)
    exact = combined(ce=0.5, dice=0.5)((logits.bfloat16(),), mask)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        value = combined(ce=0.5, dice=0.5)((logits.bfloat16(),), mask)["loss"]
    assert value.dtype == torch.float32
    assert value.item() == exact.item()


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing=1: must be at least 0 and below 1"):
        CrossEntropy(1)
    with pytest.raises(ValueError, match="class_weights has 2 values for 3 classes"):
        CrossEntropy(0, [1.0, 2.0])(torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"loss.terms.ce.weight=-1: must not be negative"):
        combined(ce=-1)
    with pytest.raises(ValueError, match="needs a term of positive weight"):
        combined(ce=0)
