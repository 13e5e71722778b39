"""The learning rate of each parameter group, beside the loss."""

from typing import Any

import lightning as L


class LearningRates(L.Callback):
    """Logs `lr/<group>` whenever the loss is logged."""

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        rates = {f"lr/{group['name']}": group["lr"] for group in trainer.optimizers[0].param_groups}
        task.log_dict({name: rate for name, rate in rates.items() if not name.endswith("/no_decay")})
