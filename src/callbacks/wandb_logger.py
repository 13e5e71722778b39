"""A W&B logger that never holds a run up."""

import html
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from src.errors import UserError
from src.machine import reachable
from src.reports.tables import MARK
from src.runs.folder import RunFolder


class OneRunLogger(WandbLogger):
    """A W&B run from `with` to its end, by its true exit code; the next job of a sweep would else log into it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(error is not None))
            self._experiment = None

    def mark(self, taints: Sequence[str]) -> None:
        """Marks the run that will begin, whose curves are of images that its weights had seen: name, tag, notes."""
        self._wandb_init["name"] += f" {MARK}"
        self._wandb_init |= {"tags": ["tainted"], "notes": f"{MARK} {'; '.join(taints)}"}

    @rank_zero_only
    def publish(self, pictures: Mapping[str, Path], table: str, figures: Mapping[str, float | str]) -> None:
        """Shows what a run came to.

        Args:
            pictures: PNG files by name.
            table: text, as the terminal has it.
            figures: for the summary; a tainted one's mark is in its name (`src.reports.tables.marked_figures`).
        """
        shown: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
        shown["figures/table"] = wandb.Html(f"<pre>{html.escape(table)}</pre>", inject=False, data_is_not_path=True)
        self.experiment.log(shown)
        self.experiment.summary.update(dict(figures))


def build_wandb_logger(
    run_dir: str, project: str, entity: str | None, mode: str, job_type: str = "train"
) -> OneRunLogger:
    """Online with a key and a reachable server, else offline: wandb alone blocks for minutes without a network.

    Args:
        run_dir: the run folder; W&B's own files go there, and its id is the run's, so that a resumed run goes on.
        job_type: what W&B calls the kind of the run; WANDB_RUN_GROUP is the name of its group, W&B's own variable.
        mode: "auto", "online" or "offline"; WANDB_MODE decides where it is set.

    Raises:
        UserError: another mode, or online where there is no key or no server.
    """
    mode = os.environ.get("WANDB_MODE", mode)
    if mode not in ("auto", "online", "offline", "disabled"):
        raise UserError(f"logger.wandb.mode={mode}: must be auto, online or offline")
    if mode in ("auto", "online"):
        server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        missing = "no key (wandb login, or WANDB_API_KEY)" if not _has_key(server) else None
        missing = missing or (None if reachable(server) else f"{server} cannot be reached")
        if missing and mode == "online":
            raise UserError(f"logger.wandb.mode=online: {missing}; set logger.wandb.mode=auto to log offline")
        mode = "offline" if missing else "online"
    os.environ["WANDB_SILENT"] = os.environ.get("WANDB_SILENT", "true")
    run = RunFolder(Path(run_dir))
    logger = OneRunLogger(
        project=project,
        entity=entity,
        name=run.path.name,
        id=f"{run.path.name}-{run.read_environment()['id']}",
        save_dir=run_dir,
        group=os.environ.get("WANDB_RUN_GROUP"),  # W&B itself reads it once a process, as it was at the first run
        job_type=job_type,
        mode=mode,  # not offline=True, by which Lightning sets WANDB_MODE for every later run of this process
        resume="allow" if mode == "online" else None,
        log_model=False,
    )
    del logger._wandb_init["anonymous"]  # W&B warns of it, whatever it is
    return logger


def _has_key(server: str) -> bool:
    """Whether `wandb login` or the environment left a key; asking wandb itself would prompt for one."""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    in_file = file.is_file() and netrc.netrc(file).authenticators(urlparse(server).hostname) is not None
    return bool(os.environ.get("WANDB_API_KEY")) or in_file
