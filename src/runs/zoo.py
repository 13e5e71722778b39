"""The zoo: trained networks in the repository, each a small run folder, which commands find and never write into."""

import difflib
import shutil
from pathlib import Path

from src.files import claim, plain
from src.runs.folder import RESULTS, RunFolder

ZOO = Path(__file__).parents[2] / "zoo"
OUTPUTS = Path("runs") / "zoo"  # for whatever commands write about a network of a zoo


def find_run(given: str | Path) -> Path:
    """Returns the path of a run folder; `zoo/NAME` is in the repository, unless the working directory has such a path.

    Other paths are returned as they are, whether anything is there or not.
    """
    path = Path(given).expanduser()
    is_zoo = path.parts[:1] == (ZOO.name,) and not path.exists()
    return ZOO.joinpath(*path.parts[1:]) if is_zoo else path


def nearest_runs(path: Path) -> str:
    """Names what a user may have meant by the path of a run folder that does not exist: `; the nearest are a, b`."""
    names = sorted(config.parent.name for config in path.parent.glob("*/config.yaml"))
    if path.parent == ZOO or path == ZOO:
        entries = names if path.parent == ZOO else entry_names(ZOO)
        return f"; the zoo has {', '.join(entries) or 'no network yet'}"
    near = difflib.get_close_matches(path.name, names, 3, cutoff=0.4)
    return f"; the nearest are {', '.join(near)}" if near else ""


def entry_names(zoo: Path) -> list[str]:
    """Returns the names of the networks in a zoo, sorted; those that are being written begin with a dot."""
    return sorted(path.parent.name for path in zoo.glob("[!.]*/config.yaml"))


def output_folder(run: RunFolder) -> RunFolder:
    """Returns the folder for what a command writes about a run: the run's own; for a published one `runs/zoo/NAME`.

    The latter is made with copies of the configuration and of the figures, so that it can be drawn and tabulated; anew
    if the network was published anew.

    Raises:
        UserError: a folder of somebody else is there, or it cannot be made.
    """
    if not run.is_published:
        return run
    copy = RunFolder(OUTPUTS / run.path.resolve().name)
    claim(copy.path, "output")
    shutil.copyfile(run.config, copy.config)
    if not copy.results.is_file() or plain(copy.read_results().own) != plain(run.read_results().own):
        shutil.copyfile(run.path / RESULTS, copy.results)
    return copy
