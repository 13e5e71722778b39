"""A raised trainer.max_epochs: refused in the folder of the run, announced in another, and never silent."""

import logging
from pathlib import Path

import pytest

from src.config.identity import identity
from src.config.open import check_configuration, is_longer, note_shorter
from src.errors import UserError
from src.files import write_json
from src.runs.folder import RunFolder
from tests.support.compose import composed

SHORT, LONG = "trainer.max_epochs=8", "trainer.max_epochs=16"
TEXT = (
    r"a run keeps the number of epochs that its schedule \(cosine\) was laid out over\. For a schedule of 16 epochs "
    r"from the start, give another name= or none; to go on from its weights by a new schedule at a lower rate, give "
    r"another name= or none, and \"init_from='{}'\" optimizer\.lr=0\.0003$"
)


def finished(folder: Path, *words: str) -> RunFolder:
    run = RunFolder(folder)
    run.last.parent.mkdir(parents=True)
    run.last.touch()
    run.config.touch()
    with composed("train", *words) as cfg:
        write_json(run.identity, identity(cfg))
    return run


def test_only_more_epochs_are_a_longer_run() -> None:
    short = {"trainer.max_epochs": 8, "seed": 0}
    assert is_longer(short, {"trainer.max_epochs": 16, "seed": 0})
    for other in ({"trainer.max_epochs": 4, "seed": 0}, {"trainer.max_epochs": 16, "seed": 1}, short):
        assert not is_longer(short, other)


def test_the_folder_of_a_run_gets_no_more_epochs(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", SHORT)
    with composed("train", LONG) as cfg, pytest.raises(UserError) as refusal:
        check_configuration(cfg, run)
    begin = f"{run.path} holds the same training with trainer.max_epochs: 8 -> 16, and "
    assert str(refusal.value).startswith(begin)
    assert refusal.match(TEXT.format(run.path))
    for words in (("trainer.max_epochs=4",), (LONG, "seed=1")):
        with composed("train", *words) as cfg, pytest.raises(UserError, match="holds a run of another configuration"):
            check_configuration(cfg, run)


def test_a_new_run_names_the_shorter_one_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = finished(tmp_path / "streets-unet-s0-aaaaaa", SHORT)
    finished(tmp_path / "streets-unet-s0-cccccc", SHORT, "optimizer.lr=0.1")
    (tmp_path / "streets-unet-s0-dddddd").mkdir()
    (tmp_path / "streets-unet-s0-dddddd" / "identity.json").write_text("broken")
    with composed("train", LONG) as cfg, caplog.at_level(logging.INFO, "src.config.open"):
        note_shorter(cfg, RunFolder(tmp_path / "streets-unet-s0-bbbbbb"))
    (note,) = (record.getMessage() for record in caplog.records)
    begin = f"note: {run.path} is the same training with trainer.max_epochs: 8 -> 16; this one begins anew, for a run "
    assert note.startswith(begin)
