"""Silences what Lightning prints without giving the user anything to do."""

import logging
import warnings

MESSAGES = (
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # lightning 2.6.6 with torch 2.15: within these two
    r".*is smaller than the logging interval",  # the epoch's mean loss is logged in any case
    r"GPU available but not used",  # accelerator=cpu is the user's choice
    r".*does not have many workers which may be a bottleneck",  # data.num_workers is the user's choice
    r".*checkpoint that ended before the epoch ended",  # the sampler goes on with the next sample
    r"Checkpoint directory .* exists and is not empty",
)


def quieten() -> None:
    """Lets Lightning's log lines appear once instead of twice, from warnings upwards, and filters some warnings.

    Call it after Lightning was imported, which sets its loggers up.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message)
