"""Learning-rate schedules per optimiser step. Each scales all parameter groups alike, from the rate of each.

A schedule is `(optimizer, total_steps, steps_per_epoch, options) -> LRScheduler`, stepped after every optimiser step.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from src.errors import UserError, whole

Curve = Callable[[float], float]  # of the fraction done


def poly(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, power: float, warmup_epochs: float, floor: float = 0.0
) -> LambdaLR:
    """Scales lr by floor + (1 - floor) (1 - t / T)^power at step t (Chen et al. 2017), after a linear warm-up.

    t and T count from the warm-up's end; `floor` is a fraction of lr.

    Raises:
        UserError: a negative power, by which the rate would grow without end.
    """
    if power < 0:
        raise UserError(f"scheduler.power={power}: must not be negative")
    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: (1 - done) ** power, floor)


def cosine(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float, floor: float
) -> LambdaLR:
    """Lowers lr by half a cosine to `floor` times lr (Loshchilov & Hutter 2017), after a linear warm-up."""
    return _with_warmup(
        optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: (1 + math.cos(math.pi * done)) / 2, floor
    )


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float) -> LambdaLR:
    """Keeps lr after a linear warm-up."""
    return _with_warmup(optimizer, total_steps, steps_per_epoch, warmup_epochs, lambda done: 1.0, floor=0.0)


def step(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, every_epochs: int, gamma: float, warmup_epochs: float
) -> LambdaLR:
    """Scales lr by gamma^(epoch // every_epochs), epochs counted from the run's start, with a linear warm-up within.

    Raises:
        UserError: `every_epochs` is no whole number above 0, `gamma` is not above 0.
    """
    whole("scheduler.every_epochs", every_epochs, 1)
    if gamma <= 0:
        raise UserError(f"scheduler.gamma={gamma}: must be above 0")
    warmup = _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)
    length = every_epochs * steps_per_epoch
    return LambdaLR(optimizer, lambda now: _warm(now, warmup) * gamma ** (now // length))


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    rise: float,
    start: float,
    end: float,
    cycle_momentum: bool,
) -> OneCycleLR:
    """Builds torch's 1cycle (Smith & Topin 2018): lr is the peak, reached by a cosine after a share of the run.

    Args:
        rise: share of the run in which the learning rate rises.
        start: the first learning rate, as a fraction of lr.
        end: the last learning rate, as a fraction of lr.
        cycle_momentum: whether momentum (beta1) falls from .95 to .85 while the rate rises, and returns.

    Raises:
        UserError: a share outside (0, 1), fractions that are not 0 < end <= start <= 1.
    """
    if not 0 < rise < 1:
        raise UserError(f"scheduler.rise={rise}: must be above 0 and below 1")
    if not 0 < end <= start <= 1:
        raise UserError(f"scheduler.start={start}, scheduler.end={end}: must be 0 < end <= start <= 1")
    if float(rise * total_steps) == 1:  # torch (2.15) would divide by the length of the rise, which is 0
        rise *= 1 + 1e-6
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=rise,
        cycle_momentum=cycle_momentum,
        div_factor=1 / start,
        final_div_factor=start / end,
    )


class Plateau(LRScheduler):
    """Scales lr by factor^n; n grows by one after more than `patience` validations in a row without a better figure.

    It follows a linear warm-up. It replaces torch's ReduceLROnPlateau, which has no warm-up and which Lightning (2.6.6)
    steps after writing the epoch's checkpoint, so that a resumed run would not know of the last validation. Here
    `observe` takes each figure.

    Args:
        factor: in (0, 1).
        threshold: a figure is better if it is above best (1 + threshold).
        floor: fraction of lr below which it does not fall.

    Raises:
        UserError: a factor outside (0, 1), a patience that is no whole number of at least 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        steps_per_epoch: int,
        factor: float,
        patience: int,
        warmup_epochs: float,
        threshold: float = 1e-4,
        floor: float = 0.0,
    ) -> None:
        _check_floor(floor)
        if not 0 < factor < 1:
            raise UserError(f"scheduler.factor={factor}: must be above 0 and below 1")
        self.factor = factor
        self.patience = whole("scheduler.patience", patience, 0)
        self.threshold = threshold
        self.floor = floor
        self.warmup = _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)
        self.best = -math.inf
        self.num_bad = 0
        self.num_cuts = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        scale = _warm(self.last_epoch, self.warmup) * max(self.floor, self.factor**self.num_cuts)
        return [base * scale for base in self.base_lrs]

    def observe(self, figure: float) -> None:
        """Takes a validation's figure, the higher the better (NaN is not better), and sets the rate accordingly."""
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


plateau = Plateau  # conf/scheduler names it like the functions


def _with_warmup(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float, curve: Curve, floor: float
) -> LambdaLR:
    """Gives step i of the warm-up's W steps (i + 1) / W of the learning rate, and follows `curve` thereafter.

    The factor is then floor + (1 - floor) `curve(done)`; the curve falls from 1 to 0 (or is 1) over the fraction done.
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
