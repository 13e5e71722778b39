"""Publishes a run: writes its folder in small, with weights of 16 bits, the figures of these, and a model card."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from src.data.datamodule import SegmentationDataModule
from src.errors import UserError
from src.evaluation.measure import evaluate, evaluation_trainer
from src.files import write_json, write_text
from src.models.half import to_half, write_safetensors
from src.reports.card import CardFacts, model_card
from src.reports.network_cost import count_parameters
from src.reports.zoo import ZooEntry, read_entry, write_index
from src.runs.folder import LEAKAGE, RunFolder
from src.runs.records import Evaluation
from src.runs.summary import without_places
from src.task import SegmentationTask

log = logging.getLogger(__name__)
LARGEST = 12_000_000  # bytes of the weights: every clone of the repository has them
MOST_LOST = 0.005  # mIoU that 16 bits may cost


@dataclass(frozen=True)
class PublishPlan:
    """A run to publish, known in full before torch is imported."""

    run: RunFolder
    checkpoint: str
    folder: Path  # of the network in the zoo; does not exist yet
    config: str  # YAML, without places of this machine
    splits: tuple[str, ...]  # to evaluate on; the first is that of the training's own figure
    accelerator: str
    precision: str
    start: str  # where the first weights came from
    notes: str  # for the card
    build_data: Callable[[], SegmentationDataModule]
    build_task: Callable[[], SegmentationTask]


def publish(plan: PublishPlan) -> ZooEntry:
    """Evaluates the run with 32 and with 16 bits and writes its folder in the zoo in one step, then the zoo's index.

    Raises:
        UserError: the data are not those of the training, the weights do not fit into 16 bits or into the zoo.
    """
    temporary = plan.folder.with_name(f".{plan.folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(plan, RunFolder(temporary))
        os.rename(temporary, plan.folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return next(entry for entry in write_index(plan.folder.parent) if entry.name == plan.folder.name)


def _write(plan: PublishPlan, entry: RunFolder) -> None:
    """Writes all files of a network; each figure is measured on the weights as they are read back."""
    task, data = plan.build_task(), plan.build_data()
    trainer = evaluation_trainer(plan.accelerator, plan.precision)
    full = evaluate(trainer, task, data, plan.run, plan.splits[0], plan.checkpoint)
    if full.protocol.is_other_data:
        raise UserError(
            f"data.root: its {plan.splits[0]} is not what {plan.run.path} was validated on (fingerprint "
            f"{full.protocol.data}); give the data of the training"
        )
    _write_weights(task, full, entry.weights)
    write_text(entry.config, plan.config)
    environment = plan.run.read_environment()
    for session in environment.get("sessions", []):
        session["command"] = without_places(session["command"])
    write_json(entry.environment, environment | {"weights": "float16"})
    for name in (LEAKAGE, "folds"):
        if (plan.run.path / name).is_dir():
            shutil.copytree(plan.run.path / name, entry.path / name)
        elif (plan.run.path / name).is_file():
            shutil.copyfile(plan.run.path / name, entry.path / name)
    evaluations = [evaluate(trainer, task, data, entry, split, "best") for split in plan.splits]
    _check_loss(full, evaluations[0])
    for number, evaluation in enumerate(evaluations):
        entry.add_evaluation(evaluation, finished=number == 0)
    facts = CardFacts(data.source.terms, len(data.samples("train")), full.miou, plan.start, plan.notes)
    card = model_card(replace(read_entry(entry.path), name=plan.folder.name), evaluations, facts)
    write_text(entry.path / "README.md", card)


def _write_weights(task: SegmentationTask, evaluation: Evaluation, path: Path) -> None:
    """Writes the weights that the task has. Raises UserError if they are too many."""
    image = torch.zeros(1, task.network.channels, 64, 64, dtype=torch.uint8)
    used, _ = count_parameters(task.network, image)
    checkpoint = evaluation.checkpoint
    notes: dict[str, Any] = {"epoch": checkpoint.epoch, "step": checkpoint.step, "parameters": used}
    write_safetensors(path, to_half(task.state_dict()), {key: str(value) for key, value in notes.items()})
    if (size := path.stat().st_size) > LARGEST:
        raise UserError(
            f"the weights take {size / 1e6:.1f} MB in 16 bits, and the zoo takes {LARGEST / 1e6:.0f} MB at most; "
            "publish a smaller network"
        )


def _check_loss(full: Evaluation, half: Evaluation) -> None:
    """Logs the price of 16 bits. Raises UserError if it is too high."""
    log.info("mIoU %.5f with 32 bits, %.5f with 16", full.miou, half.miou)
    if full.miou - half.miou > MOST_LOST:
        raise UserError(
            f"16 bits cost {full.miou - half.miou:.4f} of mIoU ({full.miou:.4f} to {half.miou:.4f}), and at most "
            f"{MOST_LOST} is allowed; the run stays as it is"
        )
