"""The list of the zoo's networks, zoo/index.json, and the table of the README, both made from the folders."""

import re
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.files import read_json, write_json, write_text
from src.reports.tables import markdown
from src.runs.folder import RunFolder
from src.runs.marks import MARK
from src.runs.serial import read_record
from src.runs.summary import RunSummary, summarise
from src.runs.zoo import entry_names, read_notes

INDEX = "index.json"
TABLE = re.compile(r"(<!-- zoo: [^\n]* -->\n).*?(\n<!-- end of zoo -->)", re.DOTALL)  # in the README
EMPTY = "No network is published yet."


@dataclass(frozen=True)
class ZooEntry:
    """A network of the zoo, in one line."""

    name: str
    facts: RunSummary  # of the run that was published
    tag: str  # the protocol of the figures
    split: str
    images: int
    classes: int
    miou: float  # with the weights as they are in the zoo
    pixel_accuracy: float
    is_marked: bool  # whether the figures are on images that the weights were trained or chosen on
    parameters: int  # that inference uses
    size: int  # bytes of the weights


def read_entry(folder: Path) -> ZooEntry:
    """Reads a network of the zoo. Raises UserError if one of its files is damaged."""
    run = RunFolder(folder)
    if not (run.weights.is_file() and run.results.is_file()):
        raise UserError(f"{folder}: has no {run.weights.name} or no {run.results.name}; publish it again")
    own, notes = run.read_results().own, read_notes(run.weights)
    return ZooEntry(
        name=folder.name,
        facts=summarise(run),
        tag=own.tag,
        split=own.protocol.split,
        images=own.protocol.images,
        classes=len(own.iou),
        miou=own.miou,
        pixel_accuracy=own.pixel_accuracy,
        is_marked=bool(own.protocol.taints),
        parameters=int(notes["parameters"]),
        size=run.weights.stat().st_size,
    )


def read_entries(zoo: Path) -> tuple[ZooEntry, ...]:
    """Reads all networks of a zoo, by name."""
    return tuple(read_entry(zoo / name) for name in entry_names(zoo))


def write_index(zoo: Path) -> tuple[ZooEntry, ...]:
    """Writes zoo/index.json from the folders, and the README's table if the zoo's parent has one; returns the entries.

    Raises:
        UserError: a damaged entry.
    """
    entries, readme = read_entries(zoo), zoo.parent / "README.md"
    write_json(zoo / INDEX, entries)
    if readme.is_file() and (changed := put_table(readme.read_text(), entries)) != readme.read_text():
        write_text(readme, changed)
    return entries


def read_index(zoo: Path) -> tuple[ZooEntry, ...]:
    """Reads zoo/index.json."""
    return read_record(zoo / INDEX, tuple[ZooEntry, ...]) if read_json(zoo / INDEX) else ()


def put_table(text: str, entries: tuple[ZooEntry, ...]) -> str:
    """Returns a text with the table of the zoo between its two markers."""
    return TABLE.sub(lambda found: f"{found[1]}\n{zoo_table(entries)}\n{found[2]}", text)


def zoo_table(entries: tuple[ZooEntry, ...]) -> str:
    """Writes the networks of the zoo as Markdown."""
    if not entries:
        return EMPTY
    rows = [
        [
            f"[`zoo/{each.name}`](zoo/{each.name}/README.md)",
            f"`{each.facts.data}`, {each.classes} classes",
            f"{each.miou:.4f}{MARK if each.is_marked else ''}",
            f"{each.split} ({each.images})",
            f"{each.parameters / 1e6:.2f} M",
            f"{each.size / 1e6:.1f} MB",
        ]
        for each in entries
    ]
    return markdown(["network", "trained on", "mIoU", "of (images)", "parameters", "weights"], rows)
