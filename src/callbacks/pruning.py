"""The early end of a training in a search whose figures are below those of the others."""

from typing import Any

import lightning as L

from src.runs.study import PRUNED, Place, PrunedError, open_study


class Pruning(L.Callback):
    """Reports val/miou to the search after each validation, and ends the training if optuna's pruner says so.

    The last checkpoint is then that of the epoch before. A validation that is repeated after a kill counts once.

    Raises:
        PrunedError: the training is pruned.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def on_validation_end(self, trainer: L.Trainer, task: Any) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        epoch, miou = trainer.current_epoch + 1, float(trainer.callback_metrics["val/miou"])
        is_pruned = trainer.is_global_zero and self._is_pruned(epoch, miou)
        if trainer.strategy.broadcast(is_pruned):
            raise PrunedError(
                f"pruned after epoch {epoch}: val/miou {miou:.4f} is below the median of the other trials at this epoch"
            )

    def _is_pruned(self, epoch: int, miou: float) -> bool:
        from optuna.trial import Trial

        study = open_study(self.place.folder, self.place.startup_trials)
        known = study.get_trials(deepcopy=False)[self.place.number]
        trial = Trial(study, known._trial_id)
        if epoch not in known.intermediate_values:
            trial.report(miou, epoch)
        if self.place.startup_trials is None or not trial.should_prune():
            return False
        trial.set_user_attr(PRUNED, True)
        return True
