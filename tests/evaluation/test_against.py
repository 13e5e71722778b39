"""The images of two runs are joined by their names, whatever their order; of several evaluations the nearest counts."""

from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.evaluation.against import _aligned, compare
from src.files import read_json
from src.runs.folder import RunFolder
from src.runs.per_image import EVALUATIONS, ImageFacts, PerImage, describe_images, write_images
from src.runs.records import Evaluation
from tests.support.records import evaluation


def images(**counts: int) -> PerImage:
    facts = [ImageFacts(name, "", 1, 1, "") for name in counts]
    return describe_images(
        facts, np.stack([np.eye(2, dtype=np.int64) * count for count in counts.values()]), ["a", "b"]
    )


def test_images_are_joined_by_name() -> None:
    first, second = _aligned(images(x=1, y=2), images(z=9, y=4, x=3), Path("other"))
    assert first[:, 0, 0].tolist() == [1, 2]
    assert second[:, 0, 0].tolist() == [3, 4]


def test_a_missing_image_is_named() -> None:
    with pytest.raises(UserError, match=r"^against=other: its evaluation lacks images of this one \(y\); repeat it$"):
        _aligned(images(x=1, y=2), images(x=3), Path("other"))


@pytest.mark.parametrize(
    ("checkpoint", "precision", "expected"),
    [
        ("best", "32-true", ("best", "32-true")),
        ("best", "int8", ("best", "int8")),
        ("last", "int8", ("last", "32-true")),
        ("soup", "int8", ("best", "int8")),
        ("soup", "bf16", ("last", "32-true")),
    ],
)
def test_the_nearest_evaluation_is_compared(
    tmp_path: Path, checkpoint: str, precision: str, expected: tuple[str, str]
) -> None:
    """By checkpoint, then by precision; the first of several that are as near."""
    run, other = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    own = evaluated(run, checkpoint, precision, x=3, y=4)
    known = [
        evaluated(other, "last", "32-true", x=1, y=2),
        evaluated(other, "best", "32-true", x=1, y=2),
        evaluated(other, "best", "int8", x=1, y=2),
    ]
    (chosen,) = (each for each in known if (each.checkpoint.name, each.protocol.precision) == expected)
    record = compare(run, own, other, known)
    assert (record.key, record.checkpoint) == (chosen.key, expected[0])
    assert f"against {other.path} ({expected[0]}) on the same 2 images" in str(record)


def test_an_evaluation_is_not_compared_with_itself(tmp_path: Path) -> None:
    """As `engine=onnx against=` the same run, when it is repeated; also if its path is written in another way."""
    run = RunFolder(tmp_path / "run")
    own, plain = (evaluated(run, "best", precision, x=3, y=4) for precision in ("onnx int8", "32-true"))
    assert compare(run, own, run, [own, plain]).key == plain.key
    with pytest.raises(UserError, match="none of its evaluations is by the protocol of this one"):
        compare(run, own, run, [own])
    (tmp_path / "link").symlink_to(run.path)
    assert compare(run, own, RunFolder(tmp_path / "link"), [own, plain]).key == plain.key


def test_records_of_runs_of_one_name_stand_side_by_side(tmp_path: Path) -> None:
    run, others = RunFolder(tmp_path / "run"), [RunFolder(tmp_path / folder / "same") for folder in ("a", "b")]
    own = evaluated(run, "best", "32-true", x=3, y=4)
    for other in [*others, others[0]]:
        compare(run, own, other, [evaluated(other, "best", "32-true", x=1, y=2)])
    records = [read_json(path) for path in (run.path / EVALUATIONS / own.key).glob("against_same_*.json")]
    assert sorted(record["run"] for record in records) == [str(other.path) for other in others]


def evaluated(run: RunFolder, checkpoint: str, precision: str, **counts: int) -> Evaluation:
    """An evaluation whose images are in its run folder."""
    made = evaluation(checkpoint=checkpoint, precision=precision)
    write_images(run.path / EVALUATIONS / made.key, images(**counts))
    return made
