"""Losses against hand-computed values, torch's own, and a naive float64 formulation."""

import math

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import FocalLoss, LovaszLoss

from src.losses.boundary import BoundaryCrossEntropy
from src.losses.combined import CombinedLoss
from src.losses.cross_entropy import CrossEntropy
from src.losses.dice import Dice
from src.losses.focal import Focal
from src.losses.lovasz import Lovasz, lovasz_extension
from src.losses.ohem import OHEM
from tests.support.naive_losses import boundary_weights, naive


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator) * 3
    mask = torch.randint(0, 4, (2, 6, 7), generator=generator)  # class 4 is absent
    mask[0, :2] = 255
    return logits, mask


WEIGHTS = [1.0, 2.0, 0.5, 0.0, 3.0]
TERMS = {
    "ce": CrossEntropy(0.1), "weighted": CrossEntropy(0.1, WEIGHTS), "focal": Focal(), "focal .5": Focal(0.5),
    "weighted focal": Focal(2.0, WEIGHTS), "dice": Dice(), "dice 0": Dice(0.0), "squared": Dice(squared=True),
    "image dice": Dice(per="image"), "lovasz": Lovasz(), "image lovasz": Lovasz("image"), "ohem": OHEM(0.3, 5),
    "ohem few": OHEM(1e-6, 13), "ohem all": OHEM(), "boundary": BoundaryCrossEntropy(sigma=1.0, label_smoothing=0.1),
}  # fmt: skip
each_term = pytest.mark.parametrize("loss", TERMS.values(), ids=TERMS)


@each_term
def test_value_and_gradient_are_those_of_the_paper_in_float64(batch, loss: torch.nn.Module) -> None:
    logits, mask = batch
    ours, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    value, expected = loss(ours, mask), naive(loss, exact, mask)
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(ours.grad.double(), exact.grad, atol=1e-6, rtol=1e-5)


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


def test_dice_of_a_perfect_prediction_is_zero_with_12_of_19_classes() -> None:
    mask = torch.arange(12).repeat(1, 4, 3)
    logits = F.one_hot(mask, 19).permute(0, 3, 1, 2) * 100.0
    assert Dice()(logits, mask).item() == pytest.approx(0, abs=1e-6)


def test_dice_by_hand() -> None:
    p = torch.tensor([[0.8, 0.2], [0.6, 0.4]])  # two pixels, two classes
    logits, mask = p.log().T.view(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    first, second = 1 - (2 * 0.8 + 1) / (1.4 + 1 + 1), 1 - (2 * 0.4 + 1) / (0.6 + 1 + 1)
    assert Dice()(logits, mask).item() == pytest.approx((first + second) / 2, abs=1e-6)
    first, second = 1 - (2 * 0.8 + 1) / (0.64 + 0.36 + 1 + 1), 1 - (2 * 0.4 + 1) / (0.04 + 0.16 + 1 + 1)
    assert Dice(squared=True)(logits, mask).item() == pytest.approx((first + second) / 2, abs=1e-6)


@pytest.mark.parametrize("make", [Dice, Lovasz])
def test_per_image_is_the_mean_of_the_images_with_labels(make: type) -> None:
    logits, mask = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 5, 6))
    mask[1] = 255
    mask[2] %= 2  # other classes than the first image, so that the two means differ
    alone = [make()(logits[i : i + 1], mask[i : i + 1]).item() for i in (0, 2)]
    assert make(per="image")(logits, mask).item() == pytest.approx(sum(alone) / 2, abs=1e-6)
    assert make(per="batch")(logits, mask).item() != pytest.approx(sum(alone) / 2, abs=1e-3)


def test_focal_by_hand_and_at_gamma_0(batch) -> None:
    logits = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1)
    for label, p in enumerate((0.8, 0.2)):
        value = Focal(2.0)(logits, torch.full((1, 1, 1), label))
        assert value.item() == pytest.approx(-((1 - p) ** 2) * math.log(p), abs=1e-6)
    for weights in (None, WEIGHTS):
        assert Focal(0.0, weights)(*batch).item() == pytest.approx(CrossEntropy(0.0, weights)(*batch).item(), abs=1e-6)


def test_focal_of_two_classes_is_smps_binary_one() -> None:
    logits, mask = torch.randn(2, 2, 5, 6), torch.randint(0, 2, (2, 5, 6))
    mask[0, 0] = 255
    theirs = FocalLoss("binary", gamma=2.0, ignore_index=255)(logits[:, 1] - logits[:, 0], mask)
    assert Focal(2.0)(logits, mask).item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_of_a_certain_pixel_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    Focal(gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_equals_smp(per_image: bool) -> None:
    logits, mask = torch.randn(2, 4, 9, 7), torch.randint(0, 3, (2, 9, 7))
    mask[:, :2] = 255
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    value = Lovasz("image" if per_image else "batch")(ours, mask)
    expected = LovaszLoss("multiclass", per_image=per_image, ignore_index=255)(theirs, mask)
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_lovasz_of_a_certain_prediction_is_the_mean_of_1_minus_iou() -> None:
    mask = torch.tensor([[[0, 0, 0, 1, 1, 255]]])
    predicted = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    logits = F.one_hot(predicted, 4).permute(0, 3, 1, 2) * 1000.0
    assert Lovasz()(logits, mask).item() == pytest.approx((1 - 2 / 3 + 1 - 1 / 3) / 2, abs=1e-6)


def test_lovasz_slopes_keep_their_digits_among_a_million_pixels() -> None:
    n = 2**20
    p, truth = torch.rand(n), torch.rand(n) < 0.3
    _, slope = lovasz_extension(p, truth, torch.ones(n, dtype=torch.bool))
    errors = torch.where(truth, 1 - p, p)  # in float32, so that the order is the same
    order = errors.argsort(descending=True)
    sets = truth[order].double()
    jaccard = 1 - (sets.sum() - sets.cumsum(0)) / (sets.sum() + (1 - sets).cumsum(0))
    growth = jaccard.diff(prepend=jaccard.new_zeros(1))
    distinct = torch.ones(n, dtype=torch.bool)  # equal errors may come in any order
    same = errors[order].diff() == 0
    distinct[1:] &= ~same
    distinct[:-1] &= ~same
    ours = torch.where(truth, -slope, slope)[order].double()
    torch.testing.assert_close(ours[distinct], growth[distinct], atol=1e-13, rtol=1e-5)


def test_ohem_by_hand() -> None:
    p = torch.tensor([0.9, 0.6, 0.5, 0.8, 0.3, 0.1])
    logits = torch.stack([p, 1 - p]).log().view(1, 2, 1, 6)
    mask = torch.zeros(1, 1, 6, dtype=torch.long)
    mask[..., 5] = 255

    def mean(*kept: float) -> float:
        return pytest.approx(-sum(map(math.log, kept)) / len(kept), abs=1e-6)

    assert OHEM(0.7, 1)(logits, mask).item() == mean(0.6, 0.5, 0.3)
    assert OHEM(0.7, 4)(logits, mask).item() == mean(0.6, 0.5, 0.3, 0.8)
    assert OHEM(0.01, 2)(logits, mask).item() == mean(0.5, 0.3)
    assert OHEM(0.01, 100)(logits, mask).item() == mean(0.9, 0.6, 0.5, 0.8, 0.3)
    easy = torch.tensor([100.0, 0]).view(1, 2, 1, 1).expand(1, 2, 1, 6)
    assert OHEM(0.7, 2)(easy, mask).item() == pytest.approx(0, abs=1e-6), "ties: at least min_kept, never 0 / 0"


def test_boundary_weights_by_hand() -> None:
    mask = torch.tensor([[[0, 0, 0, 0, 1, 1, 255, 2, 2, 2]]], dtype=torch.uint8)
    expected = [math.exp(-((3 - x) ** 2) / 8) if x < 4 else math.exp(-((x - 4) ** 2) / 8) for x in range(10)]
    weights = BoundaryCrossEntropy(boundary_weight=3.0, sigma=2.0).pixel_weights(mask)
    torch.testing.assert_close(weights, 1 + 3 * torch.tensor(expected).view(1, 1, 10))


def test_boundary_distance_is_euclidean() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 3, (2, 4, 5), generator=generator).repeat_interleave(4, 1).repeat_interleave(3, 2)
    mask[0, :6, :4] = 255
    term = BoundaryCrossEntropy(sigma=0.8)
    assert boundary_weights(term, mask).unique().numel() > 5
    torch.testing.assert_close(term.pixel_weights(mask.to(torch.uint8)).double(), boundary_weights(term, mask))


@each_term
@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_an_ignored_batch_gives_zero_with_zero_gradient(loss: torch.nn.Module, scale: float) -> None:
    logits = torch.randn(2, 5, 3, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 3, 4), 255))
    (scale * value).backward()  # as float16 training scales it
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", [TERMS[n] for n in TERMS if "image" not in n and n != "boundary"])
def test_ignored_pixels_and_order_do_not_matter(batch, loss: torch.nn.Module) -> None:
    logits, mask = batch
    logits = logits.clone().requires_grad_()
    value = loss(logits, mask)
    value.backward()
    assert torch.equal(logits.grad.permute(0, 2, 3, 1)[mask == 255], torch.zeros(14, 5))
    order = torch.randperm(2 * 6 * 7, generator=torch.Generator().manual_seed(0))
    shuffled = logits.detach().permute(0, 2, 3, 1).reshape(-1, 5)[order].T.reshape(1, 5, 84, 1)
    again = loss(shuffled, mask.reshape(-1)[order].reshape(1, 84, 1))
    assert again.item() == pytest.approx(value.item(), rel=1e-5)


@each_term
@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_is_that_of_the_value(loss: torch.nn.Module, stride: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4 // stride, 4 // stride, dtype=torch.float64, requires_grad=True)
    mask = torch.randint(0, 4, (2, 4, 4))
    mask[0, 1] = 255
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


def test_alpha_weighs_two_terms(batch) -> None:
    logits, mask = batch
    terms = {"ce": {"loss": CrossEntropy(0.1)}, "dice": {"loss": Dice()}}
    ours = CombinedLoss(terms, alpha=0.6)((logits,), mask)["loss"]
    assert ours.item() == pytest.approx(combined(ce=0.6, dice=0.4)((logits,), mask)["loss"].item(), abs=1e-6)
    with pytest.raises(ValueError, match=r"loss.alpha=1.5: must be 0 to 1, the share of ce"):
        CombinedLoss(terms, alpha=1.5)
    with pytest.raises(ValueError, match=r"loss.alpha=0.5: needs two terms without a weight; .* ce \(weight 1\)"):
        CombinedLoss(terms | {"ce": {"loss": CrossEntropy(), "weight": 1}}, alpha=0.5)
    with pytest.raises(ValueError, match=r"loss.alpha=0.5: needs two terms"):
        CombinedLoss({"ce": {"loss": CrossEntropy()}}, alpha=0.5)
    with pytest.raises(ValueError, match=r"loss.terms.ce.weight is not set; give it, or loss.alpha"):
        CombinedLoss(terms)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(1), r"label_smoothing=1: must be at least 0 and below 1"),
        (lambda: CrossEntropy(0, "enet"), "class_weights=enet: must be numbers"),
        (lambda: Focal(class_weights=[1.0, -1.0]), r"class_weights=\[1.0, -1.0\]: none may be negative"),
        (lambda: Focal(-1.0), r"gamma=-1.0: must not be negative"),
        (lambda: Dice(-1.0), r"smooth=-1.0: must not be negative"),
        (lambda: Dice(per="pixel"), r"per=pixel: must be one of batch, image"),
        (lambda: Lovasz("class"), r"per=class: must be one of batch, image"),
        (lambda: OHEM(1.0), r"threshold=1.0: must be a probability above 0 and below 1"),
        (lambda: OHEM(0.7, 0), r"min_kept=0: must be a whole number, at least 1"),
        (lambda: BoundaryCrossEntropy(-1.0), r"boundary_weight=-1.0: must not be negative"),
        (lambda: BoundaryCrossEntropy(sigma=0.0), r"sigma=0.0: must be above 0 pixels"),
    ],
)
def test_wrong_settings_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="class_weights has 2 values for 3 classes"):
        CrossEntropy(0, [1.0, 2.0])(torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"loss.terms.ce.weight=-1: must not be negative"):
        combined(ce=-1)
    with pytest.raises(ValueError, match="needs a term of positive weight"):
        combined(ce=0)
