"""The learning rate of each parameter group, logged beside the loss."""

from typing import Any

import lightning as L

from src.training.optim import NO_DECAY


class LearningRates(L.Callback):
    """Logs `lr/<group>`, with which the step is made, whenever the loss is logged."""

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        # The part of a group without weight decay has the rate of the part with it.
        groups = trainer.optimizers[0].param_groups
        task.log_dict({f"lr/{group['name'].removesuffix(NO_DECAY)}": group["lr"] for group in groups})
