"""The error of a training that needs more memory than there is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from src.errors import UserError

CPU = "DefaultCPUAllocator"  # in torch's message


@contextmanager
def naming_memory(trainer: L.Trainer, data: dict[str, Any]) -> Iterator[None]:
    """Raises a UserError that names what can be lowered, for torch's error that the memory of a device is full.

    Args:
        data: the part `data` of the configuration.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and CPU not in str(error):
            raise
        device = "memory" if CPU in str(error) else "GPU memory"
        if trainer.validating or trainer.sanity_checking:
            raise UserError(
                f"not enough {device} for a validation with data.eval_batch_size={data['eval_batch_size']}: set it to "
                "1, or inference.window=[512,512], or inference.short_side lower"
            ) from error
        raise UserError(
            f"not enough {device} for a step with data.batch_size={data['batch_size']}, data.crop_size="
            f"{data['crop_size']} and trainer.precision={trainer.precision}: lower one of the first two "
            "(trainer.accumulate_grad_batches=2 with half the batch keeps the step), or take bf16-mixed; "
            "python -m src.check proposes a crop and a batch"
        ) from error
