"""Logs to MLflow (`logger=mlflow`)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks.optional import need
from src.reports.dashboard import Dashboard, Description, Examples, Publication
from src.runs.folder import RunFolder
from src.runs.records import Taint

ID = "streetseg_id"  # the tag by which a continued run finds its MLflow run, whose id cannot be chosen


class MLflow(Dashboard, MLFlowLogger):
    """One MLflow run per training; a continued one goes on in it.

    Args:
        project: MLflow's experiment.
        tracking_uri: server or database; None for MLFLOW_TRACKING_URI, or, if that is not set, `mlflow.db` with
            `mlruns/`, beside the run folder.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, run_dir: str, project: str, tracking_uri: str | None = None, job_type: str = "train") -> None:
        need("mlflow", "mlflow")
        run = RunFolder(Path(run_dir))
        place = run.path.absolute().parent
        given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        # A database, since MLflow (3.17.2) refuses folders; of itself it would keep files in the working directory.
        uri, files = (given, None) if given else (f"sqlite:///{place / 'mlflow.db'}", (place / "mlruns").as_uri())
        tags = {ID: run.read_environment()["id"], "job_type": job_type}
        if group := os.environ.get("WANDB_RUN_GROUP"):
            tags["group"] = group
        super().__init__(project, run.path.name, uri, tags, artifact_location=files)
        self._description = Description({}, ())

    @rank_zero_only
    def _enter(self) -> None:
        client = self._mlflow_client
        if (found := client.get_experiment_by_name(self._experiment_name)) is not None:
            assert self.tags is not None
            runs = client.search_runs([found.experiment_id], f"tags.{ID} = '{self.tags[ID]}'")
            self._run_id = runs[0].info.run_id if runs else None
        if self._run_id is None:  # parameters of a run cannot change
            self.log_hyperparams(dict(self._description.config))
        self._tag("tags", ", ".join(self._description.tags))

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(self, error: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        self.finalize("failed" if error is not None else "success")

    @rank_zero_only
    def describe(self, description: Description) -> None:
        self._description = description

    @rank_zero_only
    def _tag(self, name: str, text: str) -> None:
        self.experiment.set_tag(self.run_id, name, text)

    @rank_zero_only
    def mark(self, taints: Sequence[Taint]) -> None:
        self._tag("tainted", "; ".join(map(str, taints)))

    @rank_zero_only
    def show_examples(self, examples: Examples) -> None:
        self.experiment.log_image(self.run_id, examples.panel, f"predictions/epoch_{examples.epoch:04d}.png")

    @rank_zero_only
    def publish(self, results: Publication) -> None:
        for path in results.pictures.values():
            self.experiment.log_artifact(self.run_id, str(path), "figures")
        self.experiment.log_text(self.run_id, results.table, "figures/table.txt")
        self.log_metrics({name: value for name, value in results.figures.items() if not isinstance(value, str)})
        for name, value in results.figures.items():
            if isinstance(value, str):
                self._tag(name.rstrip(" †"), value)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs figures; MLflow takes no dagger in their names, so that of a tainted one ends with `tainted`."""
        super().log_metrics({name.replace("†", " tainted"): value for name, value in metrics.items()}, step)
