"""Plans a report: its folders, its title and its place."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from src.errors import UserError, whole
from src.files import claim
from src.runs.zoo import find_run, nearest_runs

WIDEST = 2048  # pixels of an image in the page


@dataclass(frozen=True)
class ReportPlan:
    """Everything that src.report needs."""

    folders: tuple[Path, ...]  # that exist; with records in them or beneath them
    out: Path  # a folder of this program
    title: str
    num_images: int  # of the gallery, per set of evaluated images
    width: int  # of these images in pixels, at most


def plan_report(cfg: DictConfig) -> ReportPlan:
    """Checks a composed configuration.

    Raises:
        UserError: no such folder (names the nearest), a value out of range, a place for the report that is not this
            program's.
    """
    given = list(cfg.runs) if isinstance(cfg.runs, ListConfig) else [cfg.runs]
    if not given:
        raise UserError("runs=[]: no folder; give run folders, or folders above them: python -m src.report runs")
    num_images, width = whole("images", cfg.images, 0), whole("width", cfg.width, 16)
    if width > WIDEST:
        raise UserError(f"width={width}: must be at most {WIDEST}; the page holds every image")
    folders = tuple(dict.fromkeys(_find(str(each)) for each in given))
    title = cfg.title if cfg.title is not None else ", ".join(folder.name for folder in folders[:4])
    out = Path(cfg.out)
    claim(out, "out")
    return ReportPlan(folders, out, str(title), num_images, width)


def _find(given: str) -> Path:
    path = find_run(given)
    if not path.is_dir():
        raise UserError(f"runs={given}: no such folder{nearest_runs(path)}")
    return path
