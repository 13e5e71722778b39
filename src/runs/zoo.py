"""The zoo: trained networks in the repository, each a small run folder, which commands find and never write into."""

import difflib
import json
import shutil
from pathlib import Path

from src.files import HOME, claim, damaged, plain
from src.runs.folder import RESULTS, RunFolder

ZOO = HOME / "zoo"
OUTPUTS = Path("runs") / "zoo"  # for whatever commands write about a network of a zoo


def find_run(given: str | Path) -> Path:
    """Returns the path of a run folder; `zoo/NAME` is in the repository, unless the working directory has such a path.

    Other paths are returned as they are, whether anything is there or not.
    """
    path = Path(given).expanduser()
    is_zoo = path.parts[:1] == (ZOO.name,) and not path.exists()
    return ZOO.joinpath(*path.parts[1:]) if is_zoo else path


def is_in_zoo(path: Path) -> bool:
    """Returns whether a path is that of a network in the repository's zoo, or of the zoo itself."""
    return ZOO in (path, path.parent)


def nearest_runs(path: Path) -> str:
    """Names what a user may have meant by the path of a run folder that does not exist: `; the nearest are a, b`."""
    if is_in_zoo(path):
        return f"; the zoo has {', '.join(entry_names(ZOO)) or 'no network yet'}"
    names = sorted(config.parent.name for config in path.parent.glob("*/config.yaml"))
    near = difflib.get_close_matches(path.name, names, 3, cutoff=0.4)
    return f"; the nearest are {', '.join(near)}" if near else "; give the folder of a run"


def entry_names(zoo: Path) -> list[str]:
    """Returns the names of the networks in a zoo, sorted; those that are being written begin with a dot."""
    return sorted(path.parent.name for path in zoo.glob("[!.]*/config.yaml"))


def read_notes(weights: Path) -> dict[str, str]:
    """Reads the metadata of a file of safetensors: `epoch`, `step`, `parameters`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with weights.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return header["__metadata__"]
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise damaged(weights, error) from error


def output_folder(run: RunFolder) -> RunFolder:
    """Returns the folder for what a command writes about a run: the run's own; for a published one `runs/zoo/NAME`.

    The latter is made with copies of the run's records, so that it can be drawn and tabulated; anew
    if the network was published anew.

    Raises:
        UserError: a folder of somebody else is there, or it cannot be made.
    """
    if not run.is_published:
        return run
    copy = RunFolder(OUTPUTS / run.path.resolve().name)
    claim(copy.path, "output")
    for record in (run.config, run.environment):
        if record.is_file():
            shutil.copyfile(record, copy.path / record.name)
    if not copy.results.is_file() or plain(copy.read_results().own) != plain(run.read_results().own):
        shutil.copyfile(run.path / RESULTS, copy.results)
    return copy
