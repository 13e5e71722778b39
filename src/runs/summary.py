"""Facts of a run for tables of several runs and model cards: choices, seed, command, commit, machine, time."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from src.files import damaged
from src.runs.folder import RunFolder

WORD = re.compile(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+")  # of a command line, quotes included
# Beginnings of paths that only one machine has: /..., ~/..., ../..., C:\...
PLACE = re.compile(r"(?:(?<=^)|(?<=[=\['\",(:]))(?:/|~/|\.\./|[A-Za-z]:\\)(?=[^\s,\]'\")]*\w)[^,\]'\")]*")


@dataclass(frozen=True)
class RunSummary:
    """Facts of one run; texts are empty if the run folder does not have them."""

    run: str  # name of the folder
    id: str  # of `environment.json`: the same wherever the folder is
    recipe: str  # choice of the group `experiment`, with the scale if that is not `full`
    data: str
    model: str
    backbone: str
    seed: int
    command: str  # without the places of this machine
    commit: str  # with a `+` if files were changed since
    date: str  # day on which the first session started
    minutes: float | None  # of all sessions; None if one was killed
    machine: str
    weights: str  # `float16` for a published run, else `float32`


def summarise(run: RunFolder) -> RunSummary:
    """Reads the facts of a run from its configuration and its sessions.

    Raises:
        UserError: one of these files is damaged.
    """
    config = run.read_config()
    try:
        choices, data, seed = config["choices"] or {}, config["data"]["name"], config["seed"]
    except (KeyError, TypeError) as error:
        raise damaged(run.config, error) from error
    environment = run.read_environment()
    sessions = environment.get("sessions", [])
    first = sessions[0] if sessions else {}
    scale = choices.get("scale", "full")
    recipe = " ".join([choices.get("experiment") or "", *([f"scale={scale}"] if scale != "full" else [])]).strip()
    commit = first.get("git_commit", "")
    return RunSummary(
        run=run.path.name,
        id=environment.get("id", ""),
        recipe=recipe,
        data=data,
        model=choices.get("model", ""),
        backbone=(config.get("backbone") or {}).get("name", ""),
        seed=seed,
        command=without_places(first.get("command", "")),
        commit=f"{commit}+" if first.get("git_changes") else commit,
        date=first.get("started", "")[:10],
        minutes=minutes_of(sessions),
        machine=first.get("machine", ""),
        weights=environment.get("weights", "float32"),
    )


def without_places(command: str) -> str:
    """Returns a command line with `DIR` for the folder of the data, and only the names of other files.

    What a path of one machine leads to is nobody else's, and may hold the name of a user.
    """
    words = [word for word in WORD.findall(command) if not re.match(r"data\.pack=|runs=(?!\[)", word)]
    return " ".join("data.root=DIR" if word.startswith("data.root=") else without_place(word) for word in words)


def without_place(text: str) -> str:
    """Returns a text with only the last name of every path of this machine in it."""
    return PLACE.sub(lambda found: re.split(r"[/\\]", found.group().rstrip("/\\"))[-1], text)


def places(node: Any, key: str = "") -> list[str]:
    """Lists the texts in nested dicts and lists that name a place of this machine, as `key=text`."""
    if isinstance(node, dict):
        return [each for name, inner in node.items() for each in places(inner, f"{key}.{name}" if key else str(name))]
    if isinstance(node, list):
        return [each for number, inner in enumerate(node) for each in places(inner, f"{key}[{number}]")]
    return [f"{key}={node}"] if isinstance(node, str) and PLACE.search(node) else []


def minutes_of(sessions: list[dict[str, Any]]) -> float | None:
    """Sums the times of all sessions; None if any has no end."""
    if not sessions or any("ended" not in session for session in sessions):
        return None
    spans = [datetime.fromisoformat(each["ended"]) - datetime.fromisoformat(each["started"]) for each in sessions]
    return round(sum(span.total_seconds() for span in spans) / 60, 1)
