"""Draws prediction panels of the same few validation images through training, to disk and to dashboards."""

from pathlib import Path

import lightning as L
import numpy as np

from src.reports.dashboard import Dashboard, Example, Examples
from src.reports.pictures import Palette, as_rgb, panel, save_png
from src.task import SegmentationTask


class PredictionPanels(L.Callback):
    """Writes `epoch_0005.png`: image, truth, prediction and error map of images spread over the validation split.

    Args:
        num_images: rows of a panel.
        every_n_epochs: epochs from one panel to the next, counted from 1; the last epoch always has one.
    """

    def __init__(self, folder: str, palette: Palette, num_images: int, every_n_epochs: int) -> None:
        self.folder, self.palette = Path(folder), palette
        self.num_images, self.every_n_epochs = num_images, every_n_epochs

    def on_validation_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:
        """Draws a panel if the epoch is due."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if trainer.sanity_checking or not trainer.is_global_zero or not due or trainer.state.fn != "fit":
            return
        assert trainer.val_dataloaders is not None
        dataset = trainer.val_dataloaders.dataset
        chosen = np.unique(np.linspace(0, len(dataset) - 1, self.num_images).round().astype(int))
        examples = []
        for index in chosen:
            sample = dataset[0, int(index)]
            with trainer.precision_plugin.val_step_context():
                prediction = task.predict_ids(sample["image"][None])[0].numpy()
            name = dataset.samples[int(index)].name
            image = as_rgb(sample["image"].permute(1, 2, 0).numpy())
            examples.append(Example(name, image, sample["mask"].numpy(), prediction))
        rows = [(each.image, each.truth, each.prediction) for each in examples]
        picture = panel(rows, self.palette, names=[each.name for each in examples])
        save_png(self.folder / f"epoch_{epoch:04d}.png", picture)
        shown = Examples(examples, list(self.palette), picture, epoch, trainer.global_step)
        for logger in trainer.loggers:
            if isinstance(logger, Dashboard):
                logger.show_examples(shown)
