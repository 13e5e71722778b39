"""Logs to Trackio (`logger=trackio`): a local dashboard with the interface of W&B."""

import importlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks.optional import need
from src.reports.dashboard import Dashboard, Description, Examples, Publication
from src.runs.folder import RunFolder
from src.runs.marks import MARK
from src.runs.records import Taint


class Trackio(Dashboard, Logger):
    """One Trackio run per training; it begins with its first figure, and a continued one goes on in it.

    Trackio keeps its database in TRACKIO_DIR (by default in the cache of the Hugging Face hub); `trackio show` opens
    it.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, run_dir: str, project: str, job_type: str = "train") -> None:
        super().__init__()
        need("trackio", "trackio")
        self._trackio: Any = importlib.import_module("trackio")
        run = RunFolder(Path(run_dir))
        self._options: dict[str, Any] = {
            "project": project,
            "name": f"{run.path.name}-{run.read_environment()['id']}",
            "group": os.environ.get("WANDB_RUN_GROUP"),
            "resume": "allow",
        }
        self._config: dict[str, Any] = {"job_type": job_type}
        self._run: Any = None

    @property
    def name(self) -> str:
        return self._options["project"]

    @property
    def version(self) -> str:
        return self._options["name"]

    def describe(self, description: Description) -> None:
        # Names that begin with an underscore are Trackio's own.
        plain = {key: value for key, value in description.config.items() if not key.startswith("_")}
        self._config |= plain | {"tags": list(description.tags)}

    def mark(self, taints: Sequence[Taint]) -> None:
        self._config["tainted"] = f"{MARK} {'; '.join(map(str, taints))}"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing; `describe` takes the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {name: float(value) for name, value in metrics.items()}
        self._log({name: value for name, value in row.items() if not math.isnan(value)}, step)

    @rank_zero_only
    def show_examples(self, examples: Examples) -> None:
        picture = self._trackio.Image(examples.panel, caption=f"epoch {examples.epoch}")
        self._log({"val/predictions": picture}, examples.step)

    @rank_zero_only
    def publish(self, results: Publication) -> None:
        self._log({f"figures/{name}": self._trackio.Image(str(path)) for name, path in results.pictures.items()})
        self._log({"figures/table": self._trackio.Markdown(f"```\n{results.table}\n```"), **results.figures})

    def _log(self, row: dict[str, Any], step: int | None = None) -> None:
        if self._run is None:
            self._run = self._trackio.init(**self._options, config=self._config)
        self._run.log(row, step)

    def __exit__(self, error: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
