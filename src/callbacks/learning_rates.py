"""The learning rate of each parameter group, beside the loss."""

from typing import Any

import lightning as L

from src.training.optim import NO_DECAY


class LearningRates(L.Callback):
    """Logs `lr/<group>` whenever the loss is logged: what the step that it belongs to is made with."""

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        # The part of a group that does not decay has the rate of the part that does.
        groups = trainer.optimizers[0].param_groups
        task.log_dict({f"lr/{group['name'].removesuffix(NO_DECAY)}": group["lr"] for group in groups})
