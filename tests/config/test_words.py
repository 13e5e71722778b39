"""Paths and names on the command line are a user's data: neither Hydra, rich, nor the terminal interprets them."""

import errno
import io
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from src.config.cli import accept_any_text, launch
from src.config.messages import PlainFormatter, printable, user_message
from src.config.words import prepare_word, settle_paths, shell_word
from src.machine import drop_stray_ranks, ensure_home, is_first_process
from src.reports.tables import text_table
from tests.support.paths import ROOT

ODD = ("/x/with space", "/x/lr=0.1,wd=1e-4", "/x/[1] (2) {3}", "/x/Straße_日本", "/x/it's", "~/d", 'a"b$c`d', "x:y#z%")


def value_of(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("path", ODD)
def test_hints_quote_a_path_for_the_shell_and_for_hydra(path: str) -> None:
    (word,) = shlex.split(shell_word("data.root", path))
    assert value_of(word) == path


def test_a_bare_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me [1]")
    assert value_of(prepare_word("data.root=~/d")) == "/home/me [1]/d"
    assert value_of(prepare_word("runs=~")) == "/home/me [1]"
    assert prepare_word("~backbone") == "~backbone", "Hydra's deletion"
    assert prepare_word("optimizer.lr=1") == "optimizer.lr=1"


def test_a_tilde_in_any_value_of_a_configuration_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    cfg = OmegaConf.create({"runs": "~/runs", "data": {"roots": ["~/a", "b~/c"]}, "name": 7, "run": "${runs}"})
    settle_paths(cfg)
    assert OmegaConf.to_container(cfg, resolve=True) == {
        "runs": "/home/me/runs", "data": {"roots": ["/home/me/a", "b~/c"]}, "name": "7", 
        "run": "/home/me/runs",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["1", "007", "1e3", "true", "2024_01"])
def test_a_number_is_a_name(text: str) -> None:
    assert value_of(prepare_word(f"name={text}")) == text
    assert value_of(prepare_word(f"run={text}")) == text


def test_a_run_of_a_number_is_a_folder(fails) -> None:
    assert fails("eval", "run=1").startswith("run=1: no run folder there")


@pytest.mark.parametrize("path", ["/x/lr=0.1/d", "/x/[1] (2)/d", "/x/Straße", "/x/it's"])
def test_a_path_that_hydra_cannot_parse_is_answered_with_its_quotes(fails, path: str) -> None:
    message = fails("check", "data=folder", f"data.root={path}")
    assert message.startswith(f"data.root={path}: cannot be parsed; ")
    assert message.endswith(shell_word("data.root", path))


def test_a_path_with_commas_is_answered_with_its_quotes(fails) -> None:
    message = fails("check", "data=folder", "data.root=/x/a,b")
    assert "-m sweeps over such values" in message
    assert message.endswith("\"data.root='/x/a,b'\"")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["-m", "experiment=glob(r2/*)"],
            "this sweep has no job: glob(...) takes only the choices directly in",
        ),
        (["-m", "seed=range(3,3)"], "this sweep has no job"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm is unknown; the nearest are submitit_slurm"),
        (
            ["hydra/launcher=x"],
            "hydra/launcher=x is unknown; allowed are basic, joblib, ray, submitit_local, submitit_",
        ),
        (["hydra/launcher=ray"], "hydra/launcher=ray: is for the jobs of a sweep, for which -m is needed; or leave"),
        (["hydra.sweeper.max_batch_size=2"], "hydra.sweeper.max_batch_size=2: is for the jobs of a sweep, for which"),
        (["model=3"], "model=3: model takes the name of one of its choices: deeplabv3, "),
        (["--seed=3"], "--seed=3 is no option here; settings have no dashes: seed=3; --help lists them"),
        (["--batch-size", "3"], "--batch-size is no option here; settings have no dashes: batch_size=3"),
        (["=3"], "'=3' names no key; give key=value"),
        (["model="], "model=: model takes the name of one of its choices: deeplabv3, "),
        (["model=[unet,fcn]"], "model=[unet,fcn]: model takes the name of one of its choices: deeplabv3, "),
        (["experiment=r2"], "experiment=r2 is unknown; allowed are r2/aug_advanced, "),
        (["experiment=r2/_base"], "experiment=r2/_base is unknown; the nearest are r2/baseline"),
        (["loss=_class_weights"], "loss=_class_weights is unknown; the nearest are ce_weighted"),
        (["-m", "data=streets,_base"], "data=_base is unknown; allowed are ade20k, "),
        (["seed=range(1,3)"], "seed=range(1,3): several values need -m, which runs the command for each: -m "),
        (["data.root=${nowhere}"], "${nowhere} refers to a key that is not there; give one of --help, or, for"),
        (["data.fold=[a=b]"], "data.fold=[a=b]: cannot be parsed; quote each text within [] or {}"),
        (["foo"], "foo: is no setting; give key=value"),
    ],
)
def test_wrong_words_are_one_line(fails, words: list[str], message: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert fails("train", *words).startswith(message)


def test_a_word_without_a_near_key_lists_a_few_groups(fails) -> None:
    message = fails("train", "zzzzqq=1")
    assert len(message) < 250
    assert "data." not in message


def test_a_group_that_a_command_lacks_is_one_line(fails) -> None:
    assert fails("draw", "model=unet").startswith("model is not a key of this configuration; ")


def test_a_sweep_whose_jobs_run_is_no_empty_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["src.draw", "-m", "folder=a,b"])
    seen: list[str] = []
    launch(lambda cfg: seen.append(cfg.folder), "draw")
    assert seen == ["a", "b"]


@pytest.mark.parametrize("module", ["evaluation.export", "exprt"])
def test_a_module_that_is_no_command_is_an_error(module: str) -> None:
    command = [sys.executable, "-m", f"src.{module}", "run=x"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    commands = sorted(path.stem for path in (ROOT / "src").glob("*.py") if '__name__ == "__main__"' in path.read_text())
    listed = ", ".join(f"src.{name}" for name in commands)
    assert result.stderr == f"error: src.{module} is no command; the commands are {listed}\n"


def test_names_are_printed_as_they_are() -> None:
    names = ["[bold]road[/bold]", "[/]", "${seed}", "???", ":smile:"]
    table = text_table(["class"], [[name] for name in names])
    assert all(name in table for name in names)
    assert printable("a\x1b[31mb\x9b\r\n\tß") == "a\\x1b[31mb\\x9b\\x0d\n\tß"
    record = logging.makeLogRecord({"msg": "%s", "args": ("\x1b]0;title\x07",)})
    assert PlainFormatter("%(message)s").format(record) == "\\x1b]0;title\\x07"


def test_a_terminal_that_is_not_utf_8_gets_all_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    accept_any_text()
    print("┃ mIoU ┃", file=stream, flush=True)
    assert stream.buffer.getvalue() == b"? mIoU ?\n"  # type: ignore[attr-defined]


def test_a_stray_rank_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    drop_stray_ranks()
    assert is_first_process()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    drop_stray_ranks()
    assert not is_first_process()


def test_a_user_without_a_home_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    ensure_home()
    assert os.environ["HOME"] == "/home/me"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    ensure_home()
    assert Path(os.environ["HOME"]).is_dir()
    Path(os.environ["HOME"]).rmdir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_a_file_system_that_refuses_is_one_line(number: int) -> None:
    message = user_message(OSError(number, os.strerror(number), "/runs/a/config.yaml"), "train")
    assert message is not None
    assert message.startswith(f"/runs/a/config.yaml: {os.strerror(number)}; ")
    assert "runs=" in message


def test_other_errors_of_files_are_bugs() -> None:
    assert user_message(FileNotFoundError(errno.ENOENT, "No such file", "x"), "train") is None
    assert user_message(KeyError("x"), "train") is None
    hidden = KeyError("a bug while an error of a file was handled")
    hidden.__context__ = OSError(errno.ENOSPC, "full", "x")
    assert user_message(hidden, "train") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            "a data process was killed (Killed), perhaps",
        ),
        ("[enforce fail] PytorchStreamWriter failed writing file data/3", "a checkpoint could not be written: "),
    ],
)
def test_errors_of_torch_that_users_mend_are_one_line(text: str, message: str) -> None:
    assert (user_message(RuntimeError(text), "train") or "").startswith(message)
