"""Records the cost of a run's network: its parameters, and the operations for an image of its validation."""

import logging
from collections.abc import Sequence

import torch

from src.files import write_json
from src.reports.network_cost import count_flops, count_parameters
from src.runs.folder import RunFolder
from src.runs.records import Cost
from src.task import SegmentationTask

log = logging.getLogger(__name__)


def note_cost(run: RunFolder, task: SegmentationTask, image_size: Sequence[int] | None) -> None:
    """Writes `cost.json` unless the run has it; logs a note if it cannot be counted.

    Args:
        image_size: `(H, W)` of the images; None for a run that does not record it, which is then left as it is.
    """
    if run.cost.is_file() or image_size is None:
        return
    size = task.protocol.window or task.protocol.seen_size((image_size[0], image_size[1]))
    image = torch.zeros(1, task.network.channels, *size, dtype=torch.uint8)
    try:
        parameters, training_parameters = count_parameters(task.network, image)
        cost = Cost(parameters, training_parameters, count_flops(task.network, image) / 1e9, tuple(size))
    except Exception as error:  # of a network that the meta device does not take: its scores are worth more
        log.warning("note: the cost of %s is not counted (%s: %s)", run.path, type(error).__name__, error)
    else:
        write_json(run.cost, cost)
