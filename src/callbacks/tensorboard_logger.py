"""Logs to TensorBoard (`logger=tensorboard`)."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from src.callbacks.optional import need
from src.reports.dashboard import Dashboard, Description, Examples, Publication
from src.runs.records import Taint


class TensorBoard(Dashboard, TensorBoardLogger):
    """Writes into `tensorboard/` of the run folder: `tensorboard --logdir runs` compares all runs.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, run_dir: str, job_type: str = "train") -> None:
        need("tensorboard", "tensorboard")
        super().__init__(save_dir=run_dir, name="", version="tensorboard", default_hp_metric=False)

    @rank_zero_only
    def describe(self, description: Description) -> None:
        self.log_hyperparams(dict(description.config))
        self.experiment.add_text("tags", ", ".join(description.tags))

    @rank_zero_only
    def mark(self, taints: Sequence[Taint]) -> None:
        self.experiment.add_text("tainted", "; ".join(map(str, taints)))

    @rank_zero_only
    def show_examples(self, examples: Examples) -> None:
        self.experiment.add_image("val/predictions", examples.panel, examples.step, dataformats="HWC")

    @rank_zero_only
    def publish(self, results: Publication) -> None:
        for name, path in results.pictures.items():
            self.experiment.add_image(f"figures/{name}", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")
        self.experiment.add_text("figures/table", "\n".join(f"    {line}" for line in results.table.splitlines()))
        for name, value in results.figures.items():
            if isinstance(value, str):
                self.experiment.add_text(name, value)
            else:
                self.experiment.add_scalar(name, value)
        self.experiment.flush()
