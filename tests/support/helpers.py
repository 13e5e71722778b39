"""Classes and functions that configurations of tests name as `_target_`."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import torch


def explode_in_second_epoch(optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int) -> object:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e38 if step >= steps_per_epoch else 1.0)


class KillAt(L.Callback):
    """Sends its process group a signal in the middle of an epoch, as the environment asks: EPOCH:BATCH, its number."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        at = os.environ.get("KILL_AT")
        if (
            at
            and trainer.is_global_zero
            and (trainer.current_epoch, trainer.fit_loop.batch_idx) == tuple(map(int, at.split(":")))
        ):
            os.killpg(0, int(os.environ.get("KILL_BY", signal.SIGKILL)))


class SaveRanks(L.Callback):
    """Writes `rank_R_epoch_E.pt`: this process' weights, average and learning rates at each epoch's end."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        averages = [c.average.state_dict() for c in trainer.callbacks if hasattr(c, "average")]
        state = {
            "weights": dict(task.network.named_parameters()),
            "average": averages[0] if averages else {},
            "rates": [group["lr"] for group in trainer.optimizers[0].param_groups],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.folder / f"rank_{trainer.global_rank}_epoch_{trainer.current_epoch}.pt")


class SaveFirstWeights(L.Callback):
    """Leaves `first.ckpt` in the folder: the weights before step 1."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        torch.save(task.state_dict(), f"{self.folder}/first.ckpt")
