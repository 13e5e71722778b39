"""The training of one run: fits, evaluates the best checkpoint, leaves figures and pictures in the run folder."""

import logging
from contextlib import ExitStack
from functools import partial
from typing import Any

import lightning as L

from src.data.datamodule import SegmentationDataModule
from src.evaluation.checkpoint import check_continues
from src.evaluation.cost import note_cost
from src.evaluation.extras import Extras
from src.evaluation.measure import evaluate, find_taints
from src.evaluation.quiet import quieten
from src.machine import is_first_process
from src.reports.dashboard import Dashboard, Publication, marked_figures
from src.reports.figures import draw_or_note, draw_run
from src.reports.tables import class_table
from src.runs.folder import RunFolder
from src.runs.leakage import leakage_before
from src.runs.marks import MARK
from src.task import SegmentationTask
from src.training.banner import banner
from src.training.memory import naming_memory
from src.training.ranks import Ranks, digest_last, naming_lost_ranks, register

log = logging.getLogger(__name__)


def begin(seed: int, rank_timeout: float) -> None:
    """Seeds every generator, and silences the warnings of Lightning that give the user nothing to do.

    `rank_timeout`: seconds that the processes of several devices wait for each other at most.
    """
    quieten()
    register(rank_timeout)
    L.seed_everything(seed, verbose=False)


def fit(
    run: RunFolder, data: SegmentationDataModule, task: SegmentationTask, trainer: L.Trainer, config: dict[str, Any]
) -> None:
    """Trains from the run's last checkpoint, or from the start, then evaluates the best checkpoint.

    Args:
        run: the run folder, which this process has locked.
        task: with its first weights, which those of the last checkpoint replace.
        trainer: those of its loggers that are a `Dashboard` show more than curves.
        config: the resolved configuration of the run, for the banner.

    Raises:
        UserError: the loss is not finite; the memory is full; a rank was lost, or sees another run folder or other
            data; all that reading the data raises.
    """
    dashboards = [logger for logger in trainer.loggers if isinstance(logger, Dashboard)]
    if run.last.is_file():
        check_continues(task, run.last)
    if is_first_process():
        log.info(banner(config, run, data, task, trainer))
    last = digest_last(run)
    ranks: Any = Ranks(run, last, config["data"]["fingerprint"])
    trainer.callbacks.insert(0, ranks)  # pyright: ignore[reportAttributeAccessIssue]
    lost, memory = naming_lost_ranks(trainer, config["rank_timeout"]), naming_memory(trainer, config["data"])
    with ExitStack() as stack, lost, memory:
        for dashboard in dashboards:
            stack.enter_context(dashboard)
            dashboard.count_epochs(partial(share_of_epoch, trainer))
        # Another rank may be on a node that does not see this folder, which `Ranks` reports once all have started.
        if is_first_process() and (taints := find_taints(data, data.validation_split, leakage_before(run.path))):
            log.info("note: %s figures of this training's validation: %s", MARK, "; ".join(map(str, taints)))
            for dashboard in dashboards:
                dashboard.mark(taints)
        trainer.fit(task, data, ckpt_path=run.last if last else None, weights_only=True)
        trainer.loggers = []  # what follows is not a point of the curves
        evaluation = evaluate(trainer, task, data, run, data.validation_split, "best", run, Extras())
        if trainer.is_global_zero:
            run.add_evaluation(evaluation, finished=True)  # first: a plot that fails must not cost the run
            note_cost(run, task, config["data"]["image_size"])
            pictures = draw_or_note(run.path, partial(draw_run, run, evaluation))
            figures = marked_figures("best", evaluation)
            results = Publication(pictures, class_table(evaluation), figures, evaluation)
            for dashboard in dashboards:
                dashboard.publish(results)


def share_of_epoch(trainer: L.Trainer) -> float:
    """Returns the share of the current epoch's batches that are done, 0 to 1."""
    done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return min(1.0, done / max(1, int(trainer.num_training_batches)))
