"""A W&B logger that never holds a run up."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

from lightning.pytorch.loggers import WandbLogger

from src.machine import reachable
from src.run import RunFolder


class OneRunLogger(WandbLogger):
    """Ends its W&B run with the training, by its true exit code; the next job of a sweep would else log into it."""

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def build_wandb_logger(run_dir: str, project: str, entity: str | None, mode: str) -> WandbLogger:
    """Online with a key and a reachable server, else offline: wandb alone blocks for minutes without a network.

    Args:
        run_dir: the run folder; W&B's own files go there, and its id is the run's, so that a resumed run goes on.
        mode: "auto", "online" or "offline"; WANDB_MODE decides where it is set.

    Raises:
        ValueError: another mode, or online where there is no key or no server.
    """
    mode = os.environ.get("WANDB_MODE", mode)
    if mode not in ("auto", "online", "offline", "disabled"):
        raise ValueError(f"logger.wandb.mode={mode}: must be auto, online or offline")
    if mode in ("auto", "online"):
        server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        missing = "no key (wandb login, or WANDB_API_KEY)" if not _has_key(server) else None
        missing = missing or (None if reachable(server) else f"{server} cannot be reached")
        if missing and mode == "online":
            raise ValueError(f"logger.wandb.mode=online: {missing}; set logger.wandb.mode=auto to log offline")
        mode = "offline" if missing else "online"
    os.environ["WANDB_SILENT"] = os.environ.get("WANDB_SILENT", "true")
    run = RunFolder(Path(run_dir))
    return OneRunLogger(
        project=project,
        entity=entity,
        name=run.path.name,
        id=f"{run.path.name}-{run.read_environment()['id']}",
        save_dir=run_dir,
        mode=mode,  # not offline=True, by which Lightning sets WANDB_MODE for every later run of this process
        resume="allow" if mode == "online" else None,
        log_model=False,
    )


def _has_key(server: str) -> bool:
    """Whether `wandb login` or the environment left a key; asking wandb itself would prompt for one."""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    in_file = file.is_file() and netrc.netrc(file).authenticators(urlparse(server).hostname) is not None
    return bool(os.environ.get("WANDB_API_KEY")) or in_file
