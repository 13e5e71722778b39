"""Reads the files that W&B writes without a network: `*.wandb` is a LevelDB log of protobuf records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import MetricRecord, Record, RunRecord

BLOCK, HEADER = 32_768, 7  # bytes; a header of a chunk is its checksum (4), length (2) and type (1)
FULL, LAST = 1, 4


def records(folder: Path, pattern: str = "offline-run-*") -> list[Record]:
    """Reads all records of the only such W&B run in a run folder."""
    wandb.teardown()  # its own process writes the file, and may do so later
    (file,) = folder.glob(f"wandb/{pattern}/*.wandb")
    return [Record.FromString(content) for content in _split(file.read_bytes())]


def run_record(folder: Path) -> RunRecord:
    """Returns the last name, group, job type, tags and notes of the W&B run."""
    return [record.run for record in records(folder) if record.HasField("run")][-1]


def config(folder: Path) -> dict[str, Any]:
    """Returns the configuration of the W&B run as it began."""
    first = next(record.run for record in records(folder) if record.HasField("run"))
    return {item.key: json.loads(item.value_json) for item in first.config.update if item.key != "_wandb"}


def charts(folder: Path) -> dict[str, str]:
    """Returns W&B's own charts of the run: the kind by the name."""
    found = {}
    for record in records(folder):
        for item in record.config.update:
            if list(item.nested_key[:2]) == ["_wandb", "visualize"]:
                found[item.nested_key[2]] = json.loads(item.value_json)["panel_config"]["panelDefId"]
    return found


def history(folder: Path, pattern: str = "offline-run-*") -> list[dict[str, Any]]:
    """Returns the logged rows; nested keys are joined by a slash."""
    rows = (record.history for record in records(folder, pattern) if record.HasField("history"))
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows]


def metrics(folder: Path) -> dict[str, MetricRecord]:
    """Returns how figures are drawn and summarised, by name or pattern."""
    found = [record.metric for record in records(folder) if record.HasField("metric")]
    return {metric.name or metric.glob_name: metric for metric in found}


def exit_code(folder: Path) -> int:
    """Returns the exit status of the W&B run."""
    (found,) = (record.exit.exit_code for record in records(folder) if record.HasField("exit"))
    return found


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
