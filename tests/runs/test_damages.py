"""Every file of a run folder, damaged in every way: what reads it names the file in one line, or goes without it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from src.config.open import check_configuration
from src.config.reopen import load_run
from src.config.saved import config_text, read_config
from src.data.streets.source import Streets
from src.errors import UserError
from src.evaluation.checkpoint import check_continues, load_weights
from src.files import write_json
from src.reports.figures import draw
from src.runs.folder import AVERAGE, FOLDS, LEAKAGE, STAGES, RunFolder
from src.runs.leakage import leakage_after, leakage_before, write_leakage
from src.runs.metrics_csv import epochs_done, read_metrics
from src.runs.origin import find_origin
from src.runs.records import Leakage
from tests.config.test_configs import composed
from tests.support.paths import TINY
from tests.support.records import average_record, candidate, evaluation, fold_record, folds_record
from tests.support.small import fit, small_task


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(255, 0, -1)) * 3)


def in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


OWN = evaluation(classes=list(Streets.classes)[:2])
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "most": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10]),
    "random": random_bytes,
    "list": lambda path: path.write_text("[1, 2]\n"),
    "number": lambda path: path.write_text("3\n"),
    "text": lambda path: path.write_text('"x"\n'),
    "null": lambda path: path.write_text("null\n"),
    "object": lambda path: path.write_text("{}\n"),
    "folder": in_place,
    "link": link,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of one epoch, with all of its records."""
    run = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    run.path.mkdir()
    cfg = composed(run.path, *TINY)
    run.config.write_text(config_text(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))))
    write_json(run.identity, {"data.classes.a": [1, 2, 3], "seed": 0})
    write_leakage(run.path, ["a"], Leakage())
    run.note_session()
    run.metrics.write_text("step,epoch,val/miou,train/loss\n1,0,0.5,2.0\n3,1,0.5,1.0\n")
    fit(run.path / "checkpoints", small_task(), epochs=2)
    run.add_evaluation(OWN, finished=True)
    write_json(run.path / AVERAGE, average_record(candidate("x", OWN), candidate("y", OWN)))
    write_json(run.path / FOLDS, folds_record(fold_record(0, OWN), fold_record(1, OWN)))
    return run


def loaded(run: RunFolder) -> None:
    wanted = {"run": str(run.path), "checkpoint": "best", "data": {"root": "run"}}
    wanted |= {"accelerator": "auto", "precision": "run", "inference": {}}
    load_run(OmegaConf.create(wanted))


def configured(run: RunFolder) -> None:
    check_configuration(OmegaConf.create({"data": {"classes": {"a": [1, 2, 3]}}, "seed": 0}), run)


def continued(run: RunFolder) -> None:
    """Prepares a training to continue, as src.train does."""
    run.mend()
    check_continues(small_task(), run.last)


def drawn(name: str) -> Callable[[RunFolder], Any]:
    """Draws a folder that has only this record."""

    def call(run: RunFolder) -> None:
        (run.path / ({FOLDS, AVERAGE} - {name}).pop()).unlink(missing_ok=True)
        for number in (0, 1):
            (run.path / f"fold{number}").mkdir()
            shutil.copyfile(run.metrics, run.path / f"fold{number}" / "metrics.csv")
        draw(run.path)

    return call


def weighed(run: RunFolder) -> None:
    load_weights(small_task(), run.checkpoint("best"))


READERS: dict[str, list[Callable[[RunFolder], Any]]] = {
    "results.json": [RunFolder.read_results, lambda run: run.add_evaluation(evaluation(), finished=False)],
    "environment.json": [RunFolder.note_session, RunFolder.read_environment],
    "config.yaml": [loaded, lambda run: read_config(run.config)],
    "identity.json": [configured, lambda run: find_origin(str(run.path))],
    LEAKAGE: [lambda run: leakage_before(run.path), lambda run: leakage_after(run.path)],
    "metrics.csv": [lambda run: read_metrics(run.metrics)],
    "checkpoints/best.ckpt": [weighed, lambda run: run.mend()],
    AVERAGE: [drawn(AVERAGE)],
    FOLDS: [drawn(FOLDS)],
}
CASES = [(name, number) for name, readers in READERS.items() for number in range(len(readers))]


@pytest.fixture
def copied(whole: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(whole.path, tmp_path / "run")))


@pytest.mark.parametrize(("name", "reader"), CASES)
def test_nothing_is_wrong_with_the_whole_run(name: str, reader: int, copied: RunFolder) -> None:
    READERS[name][reader](copied)


ANOTHER = ("identity.json", "object")  # which is the identity of another run, without classes


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "reader"), CASES)
def test_a_damaged_file_is_named_in_one_line(name: str, reader: int, damage: str, copied: RunFolder) -> None:
    path = copied.path / name
    DAMAGES[damage](path)
    if (name, damage) == ANOTHER and reader == 1:
        assert find_origin(str(copied.path)).classes is None
        return
    with pytest.raises(UserError) as error:
        READERS[name][reader](copied)
    assert Path(name).name in str(error.value) or (name, damage) == ANOTHER
    assert ";" in str(error.value), "a remedy"


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(damage: str, copied: RunFolder, caplog) -> None:
    before = torch.load(copied.before, weights_only=True)
    {**DAMAGES, "missing": Path.unlink}[damage](copied.last)
    if damage in ("folder", "link"):
        with pytest.raises(UserError, match=r"last\.ckpt: is a"):
            continued(copied)
        return
    continued(copied)
    assert torch.load(copied.last, weights_only=True)["epoch"] == before["epoch"] == 0
    assert "the run continues from the checkpoint before it" in caplog.text


@pytest.mark.parametrize("content", ["[]", "[1]", "{}", "null", "", "[{}]"])
def test_damaged_stages_are_named(content: str, tmp_path: Path) -> None:
    (tmp_path / STAGES).write_text(content)
    with pytest.raises(UserError, match=r"stages\.json: is damaged"):
        draw(tmp_path)


WRONG: list[tuple[str, Any]] = [
    ("finished", "yes"), ("finished", 1), ("evaluations", []), ("evaluations", {}), ("evaluations", {"x": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_values_of_another_kind_are_found(key: str, value: Any, copied: RunFolder) -> None:
    content = json.loads(copied.results.read_text())
    copied.results.write_text(json.dumps({**content, key: value}))
    with pytest.raises(UserError, match=r"results\.json: is damaged"):
        copied.read_results()


@pytest.mark.parametrize("key", ["miou", "iou", "matrix", "checkpoint"])
@pytest.mark.parametrize("value", ["x", [1], {"a": "b"}, True])
def test_figures_of_another_kind_are_found(key: str, value: Any, copied: RunFolder) -> None:
    content = json.loads(copied.results.read_text())
    first = next(iter(content["evaluations"].values()))
    if key == "matrix" and value == [1]:
        value = [[1], ["x"]]
    first[key] = value
    copied.results.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results\.json: is damaged"):
        copied.read_results()


@pytest.mark.parametrize("damage", DAMAGES)
def test_bars_of_progress_go_on(damage: str, copied: RunFolder) -> None:
    assert epochs_done(copied.metrics) == 2
    DAMAGES[damage](copied.metrics)
    assert epochs_done(copied.metrics) == 0


def test_every_cut_of_a_configuration_is_found(whole: RunFolder, tmp_path: Path) -> None:
    """A value that is lost would be taken for its default."""
    text = whole.config.read_text()
    for length in range(0, len(text) - 4, 97):
        (tmp_path / "config.yaml").write_text(text[:length])
        with pytest.raises(UserError, match=r"config\.yaml: is damaged"):
            read_config(tmp_path / "config.yaml")


def test_missing_leakage_is_no_leakage_that_is_empty(copied: RunFolder) -> None:
    (copied.path / LEAKAGE).unlink()
    with pytest.raises(UserError, match=r"exposure\.json: is missing, so that nothing says"):
        leakage_before(copied.path)
