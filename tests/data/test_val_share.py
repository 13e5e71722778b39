"""A share of train held out by `data.val_share`: the same on every machine, whole groups, at least one on each side."""

import hashlib

import pytest

from src.data.folds import Folds, Split, held_out_by_share
from src.errors import UserError
from tests.data.test_folds import CITIES, Names, names


def test_photos_without_groups_are_drawn_by_a_hash_of_seed_and_name() -> None:
    """Of 8 photos 2 are held out, not all but one."""
    source, folds = Names({"": 8}, splits=("train",)), Folds(share=0.25)
    everything = names(source.samples("train"))
    order = sorted(everything, key=lambda name: hashlib.sha256(f"42/{name}".encode()).hexdigest())
    assert names(folds.samples(source, "fold")) == sorted(order[:2])
    assert names(folds.samples(source, "train")) == sorted(order[2:])
    assert folds.validation_split == "fold"
    other = names(Folds(share=0.25, seed=1).samples(source, "fold"))
    assert len(other) == 2
    assert other != sorted(order[:2])
    assert folds.lists(source)["fold"] == "".join(f"{name}\n" for name in sorted(order[:2]))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_groups_stay_whole_and_the_share_is_near(share: float) -> None:
    source, folds = Names(CITIES), Folds(share=share)
    parts = folds.divide(source)
    held, trained = ({sample.group for sample in parts[name]} for name in ("fold", "train"))
    assert held
    assert held | trained == set(CITIES)
    assert not held & trained
    assert abs(len(parts["fold"]) / sum(CITIES.values()) - share) < 0.05


def test_adding_images_moves_none_of_the_others_far() -> None:
    before = held_out_by_share([f"{i}" for i in range(100)], 0.2, 42)
    after = held_out_by_share([f"{i}" for i in range(110)], 0.2, 42)[:100]
    assert (before != after).sum() <= 4  # of the few that change, two are new


@pytest.mark.parametrize(("names", "share"), [(["a", "b"], 0.01), (["a", "b"], 0.99), (["a"] * 9 + ["b"], 0.1)])
def test_each_side_has_one(names: list[str], share: float) -> None:
    held = held_out_by_share(names, share, 0)
    assert held.any()
    assert not held.all()


def test_figures_and_the_log_name_the_share() -> None:
    source, folds = Names({"": 8}), Folds(share=0.25)
    assert folds.describe(source, "fold") == Split("fold", by="image", seed=42, share=0.25)
    assert str(folds.describe(source, "fold")) == "25 % (by image, seed 42) of train"
    assert str(folds.describe(source, "train")) == "train without 25 % (by image, seed 42)"
    assert str(folds.describe(source, "val")) == "val"
    note = folds.note(source)
    assert note is not None
    assert note.startswith("25 % (by image, seed 42) of train: 6 images train, 2 validate; neighbouring frames may")


@pytest.mark.parametrize("share", [0, 1, True, "a", -0.1])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(UserError, match=rf"^data\.val_share={share}: must be null or a number above 0 and below 1"):
        Folds(share=share)


def test_a_share_and_folds_exclude_each_other() -> None:
    with pytest.raises(UserError, match=r"^data\.val_share=0\.25: data\.num_folds or data\.fold is given too"):
        Folds(5, 0, share=0.25)
    with pytest.raises(UserError, match=r"^data\.val_share=0\.5: train has only one image or group"):
        Folds(share=0.5).divide(Names({"a": 1}))
    with pytest.raises(UserError, match=r"give it one, or hold out a share of train: data\.val_share=0\.25$"):
        Folds().samples(Names({"a": 8}, splits=("train",)), "val")
    with pytest.raises(UserError, match=r"give a smaller gap, or data\.val_share=0\.25 in place of folds$"):
        Folds(2, 0).divide(Names({"a": 8}))
