"""Reads the files that W&B writes without a network: `*.wandb` is a LevelDB log of protobuf records."""

import json
from collections.abc import Iterator
from pathlib import Path

import wandb
from wandb.proto.wandb_internal_pb2 import Record, RunRecord

BLOCK, HEADER = 32_768, 7  # bytes; a header of a chunk is its checksum (4), length (2) and type (1)
FULL, LAST = 1, 4


def records(folder: Path) -> list[Record]:
    """Reads all records of the only W&B run in a run folder."""
    wandb.teardown()  # its own process writes the file, and may do so later
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return [Record.FromString(content) for content in _split(file.read_bytes())]


def run_record(folder: Path) -> RunRecord:
    """Returns the last name, group, job type, tags and notes of the W&B run."""
    return [record.run for record in records(folder) if record.HasField("run")][-1]


def summary(folder: Path) -> dict[str, object]:
    """Returns the summary of the W&B run; nested keys are joined by a slash."""
    found = {}
    for record in records(folder):
        for item in record.summary.update:
            found["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return found


def _split(content: bytes) -> Iterator[bytes]:
    place, parts = HEADER, []  # the file's own header is as long
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts.append(content[place + HEADER : place + HEADER + length])
        place += HEADER + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
