"""Divides train: into folds for cross-validation, so that neighbouring frames never fall on both sides, or by a share.

A run of fold k trains on the other folds and validates on the split called `fold`, the part held out. The dataset's own
val is not touched; `src.eval split=val` measures on it.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from src.data.source import Sample, Source
from src.errors import UserError, whole

HELD_OUT = "fold"


@dataclass(frozen=True)
class Split:
    """A split as figures and the log name it: of the dataset, or of a run that holds out a fold of train.

    Args:
        name: `train`, `val`, `fold` (the part held out) or another split of the dataset.
        fold: the fold held out, from 0; None if the split has nothing to do with folds, then and below.
        num_folds: number of folds of the division.
        by: `group`, `image` or `block`.
        gap: frames on either side of a block that are left out of training; None unless by block.
        seed: seed of the division; None if by block.
        share: the share of train that is held out, above 0 and below 1, if there are no folds.
    """

    name: str
    fold: int | None = None
    num_folds: int | None = None
    by: str | None = None
    gap: int | None = None
    seed: int | None = None
    share: float | None = None

    @property
    def is_held_out(self) -> bool:
        """Whether this is the held-out part of a fold."""
        return self.name == HELD_OUT and self.fold is not None

    @property
    def division(self) -> str:
        """The division that the fold belongs to, as `5 (by group, seed 42)`."""
        way = f"gap {self.gap}" if self.by == "block" else f"seed {self.seed}"
        return f"{self.num_folds} (by {self.by}, {way})"

    def __str__(self) -> str:
        if self.share is not None:
            part = f"{100 * self.share:g} % (by {self.by}, seed {self.seed})"
            return f"{part} of train" if self.name == HELD_OUT else f"{self.name} without {part}"
        if self.fold is None:
            return self.name
        fold = f"fold {self.fold} of {self.division}"
        return f"{fold} of train" if self.name == HELD_OUT else f"{self.name} without {fold}"


class Folds:
    """The images that a run trains and validates on: those of one fold of train, or all of train and the dataset's val.

    The same arguments and file names give the same folds on any machine and with any version of numpy.

    Args:
        num_folds: number of folds; None for no folds.
        fold: the fold held out, from 0.
        by: `group`: groups (a drive, a city, a sequence) stay whole; if there are fewer groups than folds, each fold is
            a block of consecutive frames of one group, in the order of the numbers in their names. `image`: images are
            shuffled as by scikit-learn's `KFold(num_folds, shuffle=True, random_state=seed)`, so that neighbours fall
            on both sides.
        gap: frames left out of training on either side of a held-out block, within the same group.
        seed: seed of the shuffle of images or groups; blocks take none.
        share: in place of folds, the share of train to hold out: whole groups, or images if there is only one group.
            Each is drawn by a hash of the seed and its name, so that most stay on their side if images are added.

    Raises:
        UserError: a value out of range, or folds and a share.
    """

    def __init__(
        self,
        num_folds: int | None = None,
        fold: int | None = None,
        by: str = "group",
        gap: int = 5,
        seed: int = 42,
        share: float | None = None,
    ) -> None:
        if share is not None:
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise UserError(f"data.val_share={share}: must be null or a number above 0 and below 1, such as 0.25")
            if num_folds is not None or fold is not None:
                raise UserError(f"data.val_share={share}: data.num_folds or data.fold is given too; give one of them")
        if num_folds is None and fold is not None:
            raise UserError(
                f"data.fold={fold}: needs the number of folds; give data.num_folds=5, or leave data.fold out"
            )
        if num_folds is not None:
            whole("data.num_folds", num_folds, 2, also="null")
            if type(fold) is not int or fold not in range(num_folds):
                raise UserError(f"data.fold={fold}: must be the fold to hold out, 0 to {num_folds - 1}")
        if by not in ("group", "image"):
            raise UserError(f"data.fold_by={by}: must be group or image")
        self.gap, self.seed = whole("data.fold_gap", gap, 0), whole("data.fold_seed", seed, 0)
        self.num_folds, self.fold, self.by, self.share = num_folds, fold, by, share

    @property
    def divides(self) -> bool:
        """Whether a part of train is held out."""
        return self.num_folds is not None or self.share is not None

    @property
    def validation_split(self) -> str:
        """The split that training validates on."""
        return HELD_OUT if self.divides else "val"

    def samples(self, source: Source, split: str) -> list[Sample]:
        """Lists a split as the run sees it: train is without the held-out part, and with the extra splits.

        Raises:
            UserError: there is no such split, fewer images than folds, or nothing left to train on.
        """
        if split == HELD_OUT and self.divides:
            return self.divide(source)[HELD_OUT]
        if split == "train":
            train = self.divide(source)["train"] if self.divides else source.samples("train")
            return train + [sample for extra in source.extra_splits for sample in source.samples(extra)]
        if split == "val" and split not in source.splits:
            raise UserError(
                f"this dataset has no val, only {', '.join(source.splits)}; give it one, or hold out a share of "
                "train: data.val_share=0.25"
            )
        return source.samples(split)

    def divide(self, source: Source) -> dict[str, list[Sample]]:
        """Divides train into `train`, `fold` (held out) and `left_out` (the gaps), each in the split's own order."""
        samples = source.samples("train")
        groups, by = [sample.group for sample in samples], self._divides_by(source)
        order = np.arange(len(samples))  # of consecutive frames
        if by == "block":
            order = np.array(sorted(order, key=lambda place: by_numbers(samples[place].name)))
            groups = [groups[place] for place in order]
        if self.share is not None:
            names = groups if by == "group" else [sample.name for sample in samples]
            held = held_out_by_share(names, self.share, self.seed)
            parts = {"train": ~held, HELD_OUT: held}
            return {name: [samples[index] for index in np.flatnonzero(chosen)] for name, chosen in parts.items()}
        assert self.num_folds is not None
        if len(samples) < self.num_folds:
            raise UserError(f"data.num_folds={self.num_folds}: train has {len(samples)} images; give at most as many")
        if by == "image":
            folds = folds_of_images(len(samples), self.num_folds, self.seed)
        elif by == "block":
            folds = folds_of_blocks(groups, self.num_folds)
        else:
            folds = folds_of_groups(groups, self.num_folds, self.seed)
        held = folds == self.fold
        near = neighbours(groups, held, self.gap) if by == "block" else np.zeros_like(held)
        held, near = held[np.argsort(order)], near[np.argsort(order)]  # in the split's own order again
        parts = {"train": ~(held | near), HELD_OUT: held, "left_out": near}
        if not parts["train"].any():
            raise UserError(
                f"data.fold_gap={self.gap}: leaves nothing to train on; give a smaller gap, or data.val_share=0.25 in "
                "place of folds"
            )
        return {name: [samples[index] for index in np.flatnonzero(chosen)] for name, chosen in parts.items()}

    def lists(self, source: Source) -> dict[str, str]:
        """Writes the parts of `divide` as file lists, one name per line; none without folds."""
        parts = self.divide(source) if self.divides else {}
        return {part: "".join(f"{sample.name}\n" for sample in samples) for part, samples in parts.items()}

    def _divides_by(self, source: Source) -> str:
        num_groups = len({sample.group for sample in source.samples("train")})
        if self.num_folds is None:
            return "group" if self.by == "group" and num_groups > 1 else "image"
        return "block" if self.by == "group" and num_groups < self.num_folds else self.by

    def describe(self, source: Source, split: str) -> Split:
        """Returns a split with the fold that it depends on."""
        if not self.divides or split not in ("train", HELD_OUT):
            return Split(split)
        if self.share is not None:
            return Split(split, by=self._divides_by(source), seed=self.seed, share=self.share)
        if self._divides_by(source) == "block":
            return Split(split, self.fold, self.num_folds, "block", gap=self.gap)
        return Split(split, self.fold, self.num_folds, self.by, seed=self.seed)

    def note(self, source: Source) -> str | None:
        """Describes the folds, or the part held out, for the log; None without either."""
        if not self.divides:
            return None
        parts, split = self.divide(source), self.describe(source, HELD_OUT)
        text = f"{split}: {len(parts['train'])} images train, {len(parts[HELD_OUT])} validate"
        if split.by == "block":
            groups = {sample.group for sample in source.samples("train")}
            text += (
                f"; train has {len(groups)} groups, fewer than folds, so that folds are blocks of consecutive "
                f"frames, and {len(parts['left_out'])} frames beside this block are left out of training "
                f"(data.fold_gap={self.gap})"
            )
        elif split.by == "image":
            why = "data.fold_by=image" if self.by == "image" else "data.group would keep them together"
            text += f"; neighbouring frames may fall on both sides ({why}), which flatters the figures"
        else:
            text += f" ({', '.join(sorted({sample.group for sample in parts[HELD_OUT]}))})"
        return text


def by_numbers(name: str) -> list[str | int]:
    """Returns a key that sorts names by the numbers in them: `frame_2` comes before `frame_10`."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]


def folds_of_images(num_images: int, num_folds: int, seed: int) -> np.ndarray:
    """Returns int `(N,)`, the fold that holds each image out, as scikit-learn's KFold with shuffle and random_state."""
    order = np.arange(num_images)
    np.random.RandomState(seed).shuffle(order)  # its stream is frozen, that of default_rng is not
    folds = np.empty(num_images, dtype=np.int64)
    for fold, part in enumerate(np.array_split(order, num_folds)):
        folds[part] = fold
    return folds


def folds_of_groups(groups: list[str], num_folds: int, seed: int) -> np.ndarray:
    """Returns int `(N,)`: whole groups, about the largest first, each in the fold that has the fewest images so far.

    The order is that of the sizes times random factors from 0.75 to 1, so that seeds give different folds and folds are
    of similar size.
    """
    sizes = Counter(groups)
    factors = np.random.RandomState(seed).uniform(0.75, 1, len(sizes))
    order = {name: -sizes[name] * factor for name, factor in zip(sorted(sizes), factors, strict=True)}
    fold_of, filled = {}, [0] * num_folds
    for name in sorted(order, key=lambda name: order[name]):
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += sizes[name]
    return np.array([fold_of[group] for group in groups])


def held_out_by_share(names: list[str], share: float, seed: int) -> np.ndarray:
    """Returns bool `(N,)`: the images that are held out, given the name of each one's group, or its own.

    In the order of a hash, each group is held out that brings the count nearer to the share; at least one is, and at
    least one is not.

    Raises:
        UserError: only one group.
    """
    sizes, target = Counter(names), share * len(names)
    if len(sizes) < 2:
        raise UserError(f"data.val_share={share}: train has only one image or group; give it a val, or more images")
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    held: set[str] = set()
    count = 0
    for name in order:
        if abs(count + sizes[name] - target) < abs(count - target) and len(held) < len(sizes) - 1:
            held.add(name)
            count += sizes[name]
    held = held or {min(order, key=lambda name: sizes[name])}
    return np.array([name in held for name in names])


def folds_of_blocks(groups: list[str], num_folds: int) -> np.ndarray:
    """Returns int `(N,)`: blocks of consecutive frames of the groups by name; longer groups have more blocks."""
    sizes = Counter(groups)
    num_blocks = dict.fromkeys(sorted(sizes), 1)
    for _ in range(num_folds - len(sizes)):
        num_blocks[max(num_blocks, key=lambda name: sizes[name] / num_blocks[name])] += 1
    folds, first = np.empty(len(groups), dtype=np.int64), 0
    for name, count in num_blocks.items():
        places = [place for place, group in enumerate(groups) if group == name]
        for fold, part in enumerate(np.array_split(places, count), first):
            folds[part] = fold
        first += count
    return folds


def neighbours(groups: list[str], held: np.ndarray, gap: int) -> np.ndarray:
    """Returns bool `(N,)`: images not held out, but within `gap` frames of a held-out one in the same group."""
    near = np.zeros_like(held)
    for name in set(groups):
        places = np.array([place for place, group in enumerate(groups) if group == name])
        ranks = np.flatnonzero(held[places])
        if len(ranks):
            near[places[max(0, ranks[0] - gap) : ranks[-1] + gap + 1]] = True
    return near & ~held


def join_splits(splits: Sequence[Split]) -> str:
    """Names several splits together: folds of one division as `folds 0 1 of 3 (by group, seed 42) of train`."""
    first = splits[0]
    if len(splits) > 1 and all(each.is_held_out and replace(each, fold=first.fold) == first for each in splits):
        return f"folds {' '.join(str(each.fold) for each in splits)} of {first.division} of train"
    return " + ".join(str(each) for each in splits)
