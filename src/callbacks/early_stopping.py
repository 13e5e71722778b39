"""The end of a training whose validation no longer gets better."""

import logging
from typing import Any

import lightning as L
from lightning.pytorch import callbacks

log = logging.getLogger(__name__)


class EarlyStopping(callbacks.EarlyStopping):
    """Ends the training if `val/miou` has not risen in `patience` validations one after the other.

    The count is in the checkpoint. Lightning's own class (2.6.6) would train one more epoch if a run that it has ended
    is killed before its evaluation and started again.
    """

    def __init__(self, patience: int) -> None:
        super().__init__("val/miou", patience=patience, mode="max", check_on_train_epoch_end=False)

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_validation_end(trainer, *args)
        is_early = trainer.should_stop and trainer.current_epoch + 1 < (trainer.max_epochs or 0)
        if self.wait_count >= self.patience and is_early and trainer.is_global_zero:
            log.info(
                "ended early after epoch %d of %d: val/miou has not risen above %.4f in %d validations "
                "(early_stopping.patience)",
                trainer.current_epoch + 1, trainer.max_epochs, float(self.best_score), self.patience,
            )  # fmt: skip
