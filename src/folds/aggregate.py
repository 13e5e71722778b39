"""Averages several runs, compares the averages, and keeps one as a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from src.files import claim, write_json, write_text
from src.folds.crossval import Publish
from src.reports.dashboard import marked_figures
from src.reports.figures import draw_average, draw_or_note
from src.reports.tables import candidate_table
from src.runs.folder import AVERAGE, RunFolder
from src.runs.leakage import write_leakage
from src.runs.records import AverageRecord
from src.runs.serial import read_record

if TYPE_CHECKING:
    from src.data.datamodule import SegmentationDataModule
    from src.folds.compare import AverageComparison
    from src.task import SegmentationTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunToAverage:
    """A run that is averaged; `build_data` builds its data module, without augmentation."""

    run: RunFolder
    build_data: Callable[[], SegmentationDataModule]
    build_task: Callable[[], SegmentationTask]


@dataclass(frozen=True)
class AveragePlan:
    """An average, known in full before torch is imported."""

    run: RunFolder  # of the winner
    group: str  # of W&B runs
    members: list[RunToAverage]
    select_on: str  # images that decide: `fold_val`, `official_val` or `holdout`
    holdout: str | None  # the split that decides by `holdout`, else None
    top_k: int  # number of best runs that are averaged beside all of them
    batchnorm_images: int  # number of training images that BatchNorm of an average is measured on
    is_one_network: bool  # of all runs, so that weights can be averaged
    keeps_ensemble: bool  # the averaged probabilities are kept, whatever they score
    accelerator: str  # of the evaluations, as `precision`
    precision: str
    seed: int  # seed of the training images
    # These four are of the winner, a run on all of train; the configuration is YAML.
    build_data: Callable[[], SegmentationDataModule]
    build_task: Callable[[], SegmentationTask]
    identity: dict[str, Any]
    config: str


def keep_best(plan: AveragePlan, publish: Publish) -> None:
    """Compares the averages and writes the run folder of the winner; `results.json`, which makes it finished, last.

    Raises:
        UserError: another process works in the folder; the weights are of different architectures.
    """
    from src.evaluation.extras import Extras
    from src.evaluation.measure import evaluate  # imports torch

    run = plan.run
    claim(run.path, "out")
    with run.lock():
        run.mend()
        comparison = build_comparison(plan)
        winner, candidates = comparison.compare(plan.top_k)
        # The folder first: the winner's figure is measured on the weights that were kept, as src.eval will.
        comparison.save(winner, run.path / "checkpoints" / "best.ckpt")
        write_leakage(run.path, [], comparison.leakage(winner, is_chosen=not plan.keeps_ensemble))
        record = AverageRecord(plan.select_on, winner.name, candidates, plan.keeps_ensemble)
        # Before the configuration: a folder with both is never taken for a run to average.
        write_json(run.path / AVERAGE, record)
        write_json(run.identity, plan.identity)
        write_text(run.config, plan.config)
        run.note_session("src.aggregate")
        table = candidate_table(record)
        write_text(run.path / "aggregate.md", table + "\n")
        if comparison.official is None:
            evaluation = next(each.selection for each in candidates if each.is_winner)
        else:
            evaluation = evaluate(
                comparison.trainer, comparison.task, comparison.training, run, "val", "best", run, Extras()
            )
        run.add_evaluation(evaluation, finished=True)
        pictures = draw_or_note(run.path, partial(draw_average, run, record, evaluation))
        publish(pictures, table, marked_figures("winner", evaluation))


def report(run: RunFolder) -> float:
    """Logs the table of an average; returns the mIoU of the winner."""
    log.info("%s\n%s", candidate_table(read_record(run.path / AVERAGE, AverageRecord)), run.path)
    return run.read_results().own.miou


def build_comparison(plan: AveragePlan) -> AverageComparison:
    """Builds the comparison of the runs, on the images that `select_on` names."""
    import lightning as L

    from src.evaluation.measure import evaluation_trainer
    from src.folds.compare import AverageComparison, Part, read_member

    L.seed_everything(plan.seed, verbose=False)
    trainer = evaluation_trainer(plan.accelerator, plan.precision, with_progress=False)
    training = plan.build_data()
    official = Part(training, "val") if "val" in training.source.splits else None
    members = [read_member(each.run, each.build_task(), each.build_data()) for each in plan.members]
    if plan.select_on == "fold_val":
        # Runs of the same fold share its images, which count once.
        selection = list({member.own.record: member.own for member in members}.values())
    elif plan.select_on == "official_val":
        assert official is not None
        selection = [official]
    else:
        assert plan.holdout is not None
        selection = [Part(training, plan.holdout)]
    return AverageComparison(
        trainer, plan.build_task(), members, training, plan.batchnorm_images, selection, official,
        plan.is_one_network, plan.keeps_ensemble,
    )  # fmt: skip
