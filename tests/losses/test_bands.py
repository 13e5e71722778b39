"""Losses in row bands have the value and gradient of the whole, without a full-size copy of the logits."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src.losses import banded
from src.losses.alignment import AlignedLoss
from src.losses.combined import CombinedLoss
from src.losses.dice import Dice
from src.upsampling import RowUpsampling, upsample
from tests.support.naive_losses import naive

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "loss").glob("[!_]*.yaml"))
K = 5
each_yaml = pytest.mark.parametrize("name", NAMES)


@functools.cache
def composed_loss(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [f"loss={name}", *overrides]).loss


def build(name: str, num_classes: int = K, *overrides: str) -> CombinedLoss:
    """Builds the loss of a yaml, with weights for a weighting's name, and a min_kept of OHEM that is small enough."""
    cfg = composed_loss(name, *overrides).copy()
    for term in (cfg.base if name == "ce_siam" else cfg).terms.values():
        if isinstance(term.loss.get("class_weights"), str):
            term.loss.class_weights = [0.5 + label for label in range(num_classes)]
        if "min_kept" in term.loss:
            term.loss.min_kept = 50
    loss = instantiate(cfg, _convert_="all")
    return loss.base if isinstance(loss, AlignedLoss) else loss


def make_batch(size: tuple[int, int], strides: list[int], align_corners: bool) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [[-(-side // stride) + (align_corners and stride > 1) for side in size] for stride in strides]
    logits = [2 * torch.randn(2, K, *shape, generator=generator) for shape in shapes]
    blocks = torch.randint(0, K - 1, (2, -(-size[0] // 3), -(-size[1] // 3)), generator=generator, dtype=torch.uint8)
    mask = blocks.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, : size[0], : size[1]].contiguous()
    mask[0, 2:5, 3:9] = 255
    return logits, mask


def naive_combined(loss: CombinedLoss, logits: list[Tensor], mask: Tensor, align_corners: bool) -> Tensor:
    totals = []
    for output in logits:
        full = upsample(output, tuple(mask.shape[-2:]), align_corners)
        totals.append(sum(loss.weights[name] * naive(term, full, mask.long()) for name, term in loss.terms.items()))
    return totals[0] + loss.aux_weight * sum(totals[1:])


@pytest.fixture
def rows_a_band(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda rows: monkeypatch.setattr(banded, "band_rows", lambda row_bytes, budget: rows)


# Every loss with every size, with each way of alignment in turn.
CUTS = [((21, 30), 4), ((32, 33), 7), ((17, 25), 100)]
CASES = [(name, *cut, bool((i + j) % 2)) for i, name in enumerate(NAMES) for j, cut in enumerate(CUTS)]


@pytest.mark.parametrize(("name", "size", "rows", "align_corners"), CASES)
def test_bands_give_value_and_gradient_of_the_whole(
    name: str, size: tuple[int, int], rows: int, align_corners: bool, rows_a_band: Callable
) -> None:
    rows_a_band(rows)
    loss = build(name)
    logits, mask = make_batch(size, [4, 8, 1], align_corners)
    # Lovász's gradient jumps if two errors change places, which rounding to float32 may cause.
    dtype = torch.float64 if "lovasz" in loss.terms else torch.float32
    ours = [x.to(dtype, copy=True).requires_grad_() for x in logits]
    exact = [x.double().requires_grad_() for x in logits]
    result = loss(tuple(ours), mask, align_corners)
    expected = naive_combined(loss, exact, mask, align_corners)
    result["loss"].backward()
    expected.backward()
    assert set(result) == {"loss", "aux", *loss.terms}
    assert result["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-5, atol=1e-5 * b.grad.abs().max().item())


SIZES, STRIDES = [(21, 30), (32, 64), (33, 65), (1, 1), (7, 200)], [1, 2, 4, 8, 32]


@pytest.mark.parametrize(
    ("size", "stride", "align_corners"),
    [(size, stride, bool((i + j) % 2)) for i, size in enumerate(SIZES) for j, stride in enumerate(STRIDES)],
)
def test_rows_are_those_of_the_full_upsampling(size: tuple[int, int], stride: int, align_corners: bool) -> None:
    source = tuple(-(-side // stride) for side in size)
    logits = torch.randn(2, 3, *source)
    full = upsample(logits, size, align_corners)
    upsampling = RowUpsampling(source, size, align_corners)
    for start in range(size[0]):
        for stop in {start + 1, min(start + 5, size[0]), size[0]}:
            part = logits[:, :, upsampling.needed(start, stop)]
            torch.testing.assert_close(upsampling.rows(part, start, stop), full[:, :, start:stop], rtol=0, atol=1e-5)
    assert part.shape[2] <= 4, "only few rows of the logits are read"


@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, (torch.contiguous_format, torch.channels_last)[index % 2]) for index, name in enumerate(NAMES)],
)
def test_networks_in_bfloat16_and_channels_last(name: str, layout: torch.memory_format, rows_a_band: Callable) -> None:
    rows_a_band(5)
    loss = build(name)
    (logits,), mask = make_batch((16, 24), [4], False)
    logits = logits.bfloat16()
    ours = logits.clone(memory_format=layout).requires_grad_()
    exact = logits.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss((ours,), mask)["loss"]
        value.backward()
    expected = loss((exact,), mask)["loss"]
    expected.backward()
    assert value.dtype == torch.float32
    assert value.item() == expected.item()
    assert ours.grad.dtype == torch.bfloat16
    torch.testing.assert_close(ours.grad, exact.grad.bfloat16())


@each_yaml
def test_validation_scores_full_size_without_a_gradient(name: str, rows_a_band: Callable) -> None:
    rows_a_band(3)
    loss = build(name).eval()
    (logits,), mask = make_batch((16, 24), [1], False)
    with torch.inference_mode():
        value = loss((logits.clone(),), mask.clone())["loss"]
    assert value.item() == pytest.approx(naive_combined(loss, [logits.double()], mask, False).item(), rel=1e-5)


class Largest(TorchDispatchMode):
    """Records the bytes of the largest tensor that an operation returned, and the operation's name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = (0, "")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [(x.untyped_storage().nbytes(), str(function)) for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.seen = max([self.seen, *sizes])
        return result


@each_yaml
def test_no_tensor_is_near_a_full_size_copy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(banded.BAND_BYTES, "cpu", 2**16)
    num_classes, (height, width) = 19, (256, 128)
    logits = torch.randn(2, num_classes, height // 4, width // 4, requires_grad=True)
    mask = torch.randint(0, num_classes, (2, height, width), dtype=torch.uint8)
    loss = build(name, num_classes)
    copy = 4 * 2 * num_classes * height * width
    with Largest() as largest:
        loss((logits,), mask)["loss"].backward()
    # The gradient at stride 4 is a sixteenth; positions of a sort, 8 bytes a pixel, two nineteenths.
    assert copy / 20 < largest.seen[0] < copy / 9, largest.seen
    with Largest() as largest:
        F.cross_entropy(upsample(logits, (height, width), False), mask.long()).backward()
    assert largest.seen[0] >= copy, "the measure notices a full-size copy"


def test_bands_fit_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [banded.band_rows(*pair) for pair in ((10, 100), (30, 100), (101, 100))] == [10, 3, 1]
    heights = []
    statistics = Dice.statistics
    monkeypatch.setattr(Dice, "statistics", lambda *a: heights.append(a[1].logits.shape[2]) or statistics(*a))
    monkeypatch.setitem(banded.BAND_BYTES, "cpu", 10 * 4 * 2 * K * 24)  # ten rows of 2 x K x 24 float32
    (logits,), mask = make_batch((35, 24), [4], False)
    Dice()(logits, mask)
    assert heights == [10, 10, 10, 5]
    Dice()(logits.double(), mask)
    assert heights[4:] == [5] * 7


@each_yaml
def test_the_loss_never_waits_for_the_device(name: str) -> None:
    """On tensors without data, reading a value on the host raises."""
    loss = build(name)
    with FakeTensorMode(allow_non_fake_inputs=True):
        logits = torch.randn(2, K, 8, 8, requires_grad=True)
        mask = torch.zeros(2, 32, 32, dtype=torch.uint8)
        with pytest.raises(DataDependentOutputException):
            bool((mask == 255).any())
        loss((logits, logits), mask)["loss"].backward()
        assert logits.grad.shape == logits.shape


def test_terms_share_one_upsampling_and_one_softmax(rows_a_band: Callable) -> None:
    rows_a_band(8)
    loss = build("ce_dice_smooth")
    (logits,), mask = make_batch((16, 24), [4], False)
    counts: dict[str, int] = {}

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            counts[function.__name__] = counts.get(function.__name__, 0) + 1
            return function(*args, **(kwargs or {}))

    with Count():
        loss((logits,), mask)
    assert counts["upsample_bilinear2d.default"] == counts["_log_softmax.default"] == 2  # bands


def test_a_frozen_part_gets_no_gradient_and_two_backwards_agree() -> None:
    loss = build("r0_hybrid")
    (logits,), mask = make_batch((16, 24), [4], False)
    factor = torch.ones(1, requires_grad=True)
    value = loss((logits * factor,), mask)["loss"]
    (first,) = torch.autograd.grad(value, factor, retain_graph=True)
    (second,) = torch.autograd.grad(3 * value, factor)
    assert second.item() == pytest.approx(3 * first.item(), rel=1e-5)


def test_alpha_on_the_command_line() -> None:
    for name in ("ce_dice", "ce_dice_smooth"):
        assert build(name, K, "loss.alpha=0.6").weights == pytest.approx({"ce": 0.6, "dice": 0.4})
    smooth = build("ce_dice_smooth")
    assert (smooth.weights, smooth.terms["ce"].label_smoothing) == ({"ce": 0.5, "dice": 0.5}, 0.1)
    changed = build("ce_dice", K, "loss.terms.dice.loss.squared=true", "loss.terms.ce.loss.label_smoothing=0.2")
    assert (changed.terms["dice"].squared, changed.terms["ce"].label_smoothing) == (True, 0.2)


def test_recipes_weights_are_the_reports() -> None:
    hybrid = build("r0_hybrid")
    assert (hybrid.weights, hybrid.aux_weight) == ({"focal": 0.5, "lovasz": 0.3, "dice": 0.2}, 0.4)
    assert isinstance(hybrid, nn.Module)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["loss=ce_weighted"])
    assert OmegaConf.select(cfg, "loss.terms.ce.loss.class_weights") == "inverse_sqrt"
