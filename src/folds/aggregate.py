"""Averages the weights of several runs, compares the averages, and keeps the best one as a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.files import atomic_path, write_json, write_text
from src.folds.crossval import Publish
from src.reports.dashboard import marked_figures
from src.reports.figures import draw_average
from src.reports.tables import candidate_table
from src.runs.folder import AVERAGE, RunFolder
from src.runs.leakage import image_ids, leakage_before, write_leakage
from src.runs.records import AverageRecord, Checkpoint, Leakage
from src.runs.serial import read_record, write_record

if TYPE_CHECKING:
    from src.data.datamodule import SegmentationDataModule
    from src.folds.compare import AverageComparison, Member
    from src.task import SegmentationTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunToAverage:
    """A run whose weights are averaged.

    Args:
        run: its run folder.
        build_data: builds its data module, without augmentation.
    """

    run: RunFolder
    build_data: Callable[[], SegmentationDataModule]


@dataclass(frozen=True)
class AveragePlan:
    """An average, known in full before torch is imported.

    Args:
        run: run folder of the winner.
        group: name of the group of W&B runs that it belongs to.
        members: the runs to average.
        select_on: images that decide: `fold_val`, `official_val` or `holdout`.
        holdout: the split that decides by `holdout`, else None.
        top_k: number of best runs that are averaged beside all of them.
        batchnorm_images: number of training images that BatchNorm of an average is measured on.
        accelerator, precision: of the evaluations.
        seed: seed of the training images.
        build_data, build_task: build the parts of the winner, a run on all of train.
        identity: identity of the winner.
        config: its configuration as YAML.
    """

    run: RunFolder
    group: str
    members: list[RunToAverage]
    select_on: str
    holdout: str | None
    top_k: int
    batchnorm_images: int
    accelerator: str
    precision: str
    seed: int
    build_data: Callable[[], SegmentationDataModule]
    build_task: Callable[[], SegmentationTask]
    identity: dict[str, Any]
    config: str


def keep_best(plan: AveragePlan, publish: Publish) -> None:
    """Compares the averages and writes the run folder of the winner; `results.json`, which makes it finished, last.

    Raises:
        UserError: another process works in the folder; the weights are of different architectures.
    """
    from src.evaluation.measure import evaluate  # imports torch

    run = plan.run
    run.path.mkdir(parents=True, exist_ok=True)
    with run.lock():
        comparison = build_comparison(plan)
        winner, candidates = comparison.compare(plan.top_k)
        # The folder first: the winner's figure is measured on the weights that were kept, as src.eval will.
        comparison.load(winner.members)
        save_weights(comparison.task, comparison.checkpoint(winner), run.path / "checkpoints" / "best.ckpt")
        write_leakage(run.path, [], comparison.leakage(winner, is_chosen=True))
        record = AverageRecord(plan.select_on, winner.name, candidates)
        # Before the configuration: a folder with both is never taken for a run to average.
        write_record(run.path / AVERAGE, record)
        write_json(run.identity, plan.identity)
        write_text(run.config, plan.config)
        run.note_session("src.aggregate")
        table = candidate_table(record)
        write_text(run.path / "aggregate.md", table + "\n")
        if comparison.official is None:
            evaluation = next(each.selection for each in candidates if each.is_winner)
        else:
            evaluation = evaluate(comparison.trainer, comparison.task, comparison.training, run, "val", "best")
        publish(draw_average(run, record, evaluation), table, marked_figures("winner", evaluation))
        run.add_evaluation(evaluation, finished=True)


def report(run: RunFolder) -> float:
    """Logs the table of an average; returns the mIoU of the winner."""
    log.info("%s\n%s", candidate_table(read_record(run.path / AVERAGE, AverageRecord)), run.path)
    return run.read_results().own.miou


def build_comparison(plan: AveragePlan) -> AverageComparison:
    """Builds the comparison of the runs, on the images that `select_on` names."""
    import lightning as L

    from src.evaluation.measure import evaluation_trainer
    from src.folds.compare import AverageComparison, Part

    L.seed_everything(plan.seed, verbose=False)
    trainer = evaluation_trainer(plan.accelerator, plan.precision, with_progress=False)
    training = plan.build_data()
    official = Part(training, "val") if "val" in training.source.splits else None
    members = [load_member(each) for each in plan.members]
    if plan.select_on == "fold_val":
        # Runs of the same fold share its images, which count once.
        selection = list({member.own.record: member.own for member in members}.values())
    elif plan.select_on == "official_val":
        assert official is not None
        selection = [official]
    else:
        assert plan.holdout is not None
        selection = [Part(training, plan.holdout)]
    return AverageComparison(trainer, plan.build_task(), members, training, plan.batchnorm_images, selection, official)


def load_member(given: RunToAverage) -> Member:
    """Reads the weights of a run to average, and their leakage."""
    from src.folds.compare import Part, read_member

    data = given.build_data()
    trained = Leakage(trained=frozenset(image_ids(data.source, data.samples("train"))))
    leakage = trained | leakage_before(given.run.path)
    own = Part(data, data.validation_split)
    return read_member(given.run.path.name, given.run.checkpoint("best"), leakage, own)


def save_weights(task: SegmentationTask, checkpoint: Checkpoint, path: Path) -> None:
    """Writes weights as a checkpoint for evaluation, prediction and `init_from`; a training cannot continue from it."""
    import torch

    state = {name: value.cpu() for name, value in task.state_dict().items()}
    content = {"state_dict": state, "epoch": checkpoint.epoch - 1, "global_step": checkpoint.step}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
