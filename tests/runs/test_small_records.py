"""Records that other records are made of: damaged ones are named in a line."""

from pathlib import Path

import pytest

from src.errors import UserError
from src.files import write_json
from src.runs.folder import RunFolder
from src.runs.serial import is_written
from src.runs.summary import summarise
from src.runs.zoo import read_notes


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"\x01" + b"\0" * 7 + b"["]
)
def test_weights_without_notes_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors: is damaged"):
        read_notes(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("text", ["[", "data: {}", "data: {classes: [a, b]}", "a"])
def test_a_configuration_without_what_is_asked_is_named(text: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml: is damaged"):
        _ = run.palette
    with pytest.raises(UserError, match=r"config\.yaml: is damaged"):
        summarise(run)


def test_a_damaged_record_is_not_what_is_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    assert is_written(path, {"a": 1})
    assert not is_written(path, {"a": 2})
    path.write_text("{")
    assert not is_written(path, {"a": 1})
