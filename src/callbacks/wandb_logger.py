"""Logs to W&B, without ever delaying a run."""

import html
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from src.errors import UserError
from src.machine import reachable
from src.reports.dashboard import Dashboard
from src.runs.folder import RunFolder
from src.runs.marks import MARK
from src.runs.records import Taint


class OneRunLogger(Dashboard, WandbLogger):
    """A W&B run that ends with its `with` block, so that the next job of a sweep does not log into it."""

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Ends the run, with exit code 1 if there was an error."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(error is not None))
            self._experiment = None

    def mark(self, taints: Sequence[Taint]) -> None:
        """Marks the run, before it begins, as one whose curves are of images that its weights have seen."""
        self._wandb_init["name"] += f" {MARK}"
        self._wandb_init |= {"tags": ["tainted"], "notes": f"{MARK} {'; '.join(map(str, taints))}"}

    @rank_zero_only
    def publish(self, pictures: Mapping[str, Path], table: str, figures: Mapping[str, float | str]) -> None:
        shown: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
        shown["figures/table"] = wandb.Html(f"<pre>{html.escape(table)}</pre>", inject=False, data_is_not_path=True)
        self.experiment.log(shown)
        self.experiment.summary.update(dict(figures))


def build_wandb_logger(
    run_dir: str, project: str, entity: str | None, mode: str, job_type: str = "train"
) -> OneRunLogger:
    """Builds a logger that is online with a key and a reachable server, else offline.

    Without a network wandb itself blocks for minutes. The group of the run is W&B's own variable WANDB_RUN_GROUP.

    Args:
        run_dir: the run folder, which W&B's files go to; its id becomes that of the W&B run, which a resumed run
            continues.
        entity: W&B's user or team; None for that of the key.
        mode: `auto`, `online` or `offline`; WANDB_MODE decides if it is set.

    Raises:
        UserError: the mode is unknown, or online without a key or a server.
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
        group=os.environ.get("WANDB_RUN_GROUP"),  # W&B itself reads it only once per process, at the first run
        job_type=job_type,
        mode=mode,  # with offline=True Lightning would set WANDB_MODE for every later run of this process
        resume="allow" if mode == "online" else None,
        log_model=False,
    )
    del logger._wandb_init["anonymous"]  # W&B warns of it, whatever its value
    return logger


def _has_key(server: str) -> bool:
    """Returns whether there is a key from `wandb login` or the environment; wandb itself would prompt for one."""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    in_file = file.is_file() and netrc.netrc(file).authenticators(urlparse(server).hostname or "") is not None
    return bool(os.environ.get("WANDB_API_KEY")) or in_file
