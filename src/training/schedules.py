"""Learning rates by optimiser step. Every schedule scales all parameter groups alike, each from its own rate.

A schedule is `(optimizer, total_steps, steps_per_epoch, options) -> LRScheduler`, stepped after every optimiser step.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from src.errors import UserError


def poly(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    power: float,
    warmup_epochs: float,
    floor: float = 0.0,
) -> LambdaLR:
    """floor + (1 - floor) (1 - t / T)^power, times lr, by step (Chen et al. 2017), after a linear warm-up.

    t and T count from the warm-up's end; `floor` is a fraction of lr.
    """
    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: (1 - done) ** power, floor)


def cosine(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float, floor: float
) -> LambdaLR:
    """Half a cosine from lr to `floor` times lr by step (Loshchilov & Hutter 2017), after a linear warm-up."""

    def half(done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2

    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, half, floor)


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float) -> LambdaLR:
    """lr throughout, after a linear warm-up."""
    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: 1.0)


def step(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    every_epochs: int,
    gamma: float,
    warmup_epochs: float,
) -> LambdaLR:
    """lr times gamma^(epoch // every_epochs), epochs counted from the run's start; a linear warm-up within it.

    Raises:
        UserError: `every_epochs` that is no whole number above 0.
    """
    if not isinstance(every_epochs, int) or every_epochs < 1:
        raise UserError(f"scheduler.every_epochs={every_epochs}: must be a whole number, at least 1")
    warmup = _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)

    def factor(now: int) -> float:
        return _warm(now, warmup) * gamma ** (now // (every_epochs * steps_per_epoch))

    return LambdaLR(optimizer, factor)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    rise: float,
    start: float,
    end: float,
    cycle_momentum: bool,
) -> OneCycleLR:
    """torch's 1cycle (Smith & Topin 2018): lr is its peak, reached by a cosine after the share `rise` of the run.

    Args:
        rise: share of the run in which the learning rate rises.
        start, end: the first and the last learning rate, as fractions of lr.
        cycle_momentum: momentum (beta1) falls from .95 to .85 while the rate rises, and comes back.

    Raises:
        UserError: a share outside (0, 1), fractions that are not 0 < end <= start <= 1.
    """
    if not 0 < rise < 1:
        raise UserError(f"scheduler.rise={rise}: must be above 0 and below 1")
    if not 0 < end <= start <= 1:
        raise UserError(f"scheduler.start={start}, scheduler.end={end}: must be 0 < end <= start <= 1")
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        max_lr=peaks,
        total_steps=total_steps,
        pct_start=rise,
        cycle_momentum=cycle_momentum,
        div_factor=1 / start,
        final_div_factor=start / end,
    )


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    factor: float,
    patience: int,
    warmup_epochs: float,
    threshold: float = 1e-4,
    floor: float = 0.0,
) -> "Plateau":
    """See `Plateau`, after a linear warm-up.

    Raises:
        UserError: a factor outside (0, 1), a patience that is no whole number from 0 on.
    """
    _check_floor(floor)
    if not 0 < factor < 1:
        raise UserError(f"scheduler.factor={factor}: must be above 0 and below 1")
    if not isinstance(patience, int) or patience < 0:
        raise UserError(f"scheduler.patience={patience}: must be a whole number, at least 0")
    warmup = _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)
    return Plateau(optimizer, factor, patience, threshold, floor, warmup)


class Plateau(LRScheduler):
    """lr times factor^n: n grows by one where more than `patience` validations in a row brought no better figure.

    Not torch's ReduceLROnPlateau: Lightning (2.6.6) steps that one after the epoch's checkpoint was written, so that a
    resumed run would not know of the last validation; and it has no warm-up. This one is told by `observe`.

    Args:
        threshold: a figure is better from best (1 + threshold) on.
        floor: fraction of lr below which it does not fall.
        warmup: steps.
    """

    def __init__(
        self, optimizer: Optimizer, factor: float, patience: int, threshold: float, floor: float, warmup: int
    ) -> None:
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.floor = floor
        self.warmup = warmup
        self.best = -math.inf
        self.num_bad = 0
        self.num_cuts = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        scale = _warm(self.last_epoch, self.warmup) * max(self.floor, self.factor**self.num_cuts)
        return [base * scale for base in self.base_lrs]

    def observe(self, figure: float) -> None:
        """Takes a validation's figure, the higher the better; NaN is not better. The next step has the new rate."""
        if figure > self.best + self.threshold * abs(self.best) or (self.best == -math.inf and figure > self.best):
            self.best, self.num_bad = figure, 0
        else:
            self.num_bad += 1
        if self.num_bad > self.patience:
            self.num_cuts += 1
            self.num_bad = 0
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def _with_warmup(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    curve: Callable[[float], float],
    floor: float = 0.0,
) -> LambdaLR:
    """Step i of the warm-up's W has (i + 1) / W of the learning rate.

    Then floor + (1 - floor) `curve(done)`, a curve from 1 to 0 (or 1 throughout) of the fraction done, 0 to 1.
    """
    _check_floor(floor)
    warmup = _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)

    def factor(now: int) -> float:
        if now < warmup:
            return _warm(now, warmup)
        return floor + (1 - floor) * curve(min(1.0, (now - warmup) / (total_steps - warmup)))

    return LambdaLR(optimizer, factor)


def _warm(now: int, warmup: int) -> float:
    return min(1.0, (now + 1) / warmup) if warmup else 1.0


def _warmup_steps(total_steps: int, steps_per_epoch: int, warmup_epochs: float) -> int:
    warmup = round(warmup_epochs * steps_per_epoch)
    if not 0 <= warmup < total_steps:
        raise UserError(
            f"scheduler.warmup_epochs={warmup_epochs}: {warmup} steps of the run's {total_steps}; "
            f"{'lower it' if warmup > 0 else 'it must not be negative'}"
        )
    return warmup


def _check_floor(floor: float) -> None:
    if not 0 <= floor <= 1:
        raise UserError(f"scheduler.floor={floor}: must be 0 to 1, a fraction of optimizer.lr")
