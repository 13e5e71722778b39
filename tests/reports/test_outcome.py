"""The outcome of a training: best epoch, worst classes and what takes them, and what to try, each from its figures."""

import numpy as np
import pytest

from src.reports.outcome import look_back, weakest
from src.runs.records import Taint
from tests.support.records import evaluation

TAINT = Taint("trained", 2)

CONFIG = {
    "optimizer": {"lr": 0.01}, "data": {"class_uniform": 0.0}, "backbone": {"weights": "imagenet"}, "init_from": None
}  # fmt: skip
START = "\"init_from='runs/x'\""
FINE_TUNING = f"the same command with {START} optimizer.lr=0.001: fine-tuning from this run at a lower rate"
# Of the classes a, b, c and d, c has 10 of 1010 pixels and d none.
MATRIX = np.array([[500, 100, 0, 0], [40, 360, 0, 0], [1, 7, 2, 0], [0, 0, 0, 0]])
FOUR = evaluation(matrix=MATRIX, classes="abcd")


def rows(figures: list[float], losses: list[float] | None = None) -> list[dict[str, float]]:
    found = [{"step": n, "epoch": n, "val/miou": figure} for n, figure in enumerate(figures)]
    for row, loss in zip(found, losses or [], strict=False):
        row["val/loss"] = loss
    return found


def test_the_worst_classes_and_what_takes_them() -> None:
    worst = weakest(FOUR)
    assert [(each.name, each.other) for each in worst] == [("c", "b"), ("b", "a"), ("a", "b")], "d is not in the truth"
    assert worst[0].iou == pytest.approx(2 / 10)
    assert (worst[0].share, worst[0].taken) == pytest.approx((10 / 1010, 7 / 10))
    assert str(worst[0]) == "c 20.00 % (0.99 % of the pixels, 70.00 % taken for b)"
    perfect = weakest(evaluation(matrix=np.diag([3, 4]), classes="ab"))
    assert str(perfect[0]) == "a 100.00 % (42.86 % of the pixels)"


def test_the_best_and_the_last_epoch() -> None:
    outcome = look_back(evaluation(), rows([0.775, 0.77]), CONFIG, START)
    assert str(outcome).splitlines()[0] == "best epoch: 1 of 2, mIoU 77.50 %; after the last 77.00 %"
    unknown = look_back(evaluation(), rows([0.775]) + [{"step": 5, "epoch": 3}], CONFIG, START)
    assert str(unknown).splitlines()[0] == "best epoch: 1 of 4, mIoU 77.50 %", "the last was not validated"
    tainted = look_back(evaluation(taints=[TAINT]), rows([0.775]), CONFIG, START)
    assert str(tainted).splitlines()[0] == "best epoch: 1 of 1, mIoU 77.50 %†; after the last 77.50 %†"


@pytest.mark.parametrize(
    ("figures", "losses", "first"),
    [
        ([0.1, 0.3, 0.5, 0.7, 0.75], None, "trainer.max_epochs=10: mIoU still rose by 5.0 points in the last fifth"),
        ([0.775, 0.7, 0.7, 0.7, 0.7], None, "stronger augmentation=... or optimizer.weight_decay=..., for mIoU fell"),
        ([0.77, 0.77, 0.77, 0.77, 0.775], [0.5, 0.4, 0.4, 0.5, 0.6], "stronger augmentation=... or optimizer.weight"),
        ([0.77, 0.77, 0.77, 0.77, 0.775], [0.5, 0.4, 0.4, 0.4, 0.4], FINE_TUNING),
        ([0.7, 0.775], None, FINE_TUNING),
    ],
)
def test_the_curve_decides_what_to_try_first(figures: list[float], losses: list[float] | None, first: str) -> None:
    outcome = look_back(evaluation(), rows(figures, losses), CONFIG, START)
    assert outcome.tries[0].startswith(first)
    assert outcome.tries[-1] == FINE_TUNING
    assert len(outcome.tries) == 1 + (first != FINE_TUNING)


def test_rare_classes_and_random_weights_are_named() -> None:
    outcome = look_back(FOUR, [], CONFIG | {"backbone": {"weights": None}}, START)
    assert outcome.tries == (
        "data.class_uniform=0.5 or loss=ce_weighted: c rare and badly known",
        "backbone.weights=imagenet, with backbone=... of a size that has such weights: these began at random",
        FINE_TUNING,
    )
    done = {"data": {"class_uniform": 0.5}, "backbone": None}
    assert look_back(FOUR, [], CONFIG | done, START).tries == (FINE_TUNING,)
