"""Evaluates a checkpoint on a split: the one path for the end of training, for `src.eval` and for averages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np

from src.data.datamodule import SegmentationDataModule
from src.data.fingerprint import fingerprint
from src.evaluation.checkpoint import load_weights
from src.evaluation.details import describe_details
from src.evaluation.engine import use_engine
from src.evaluation.exported import EngineFile
from src.evaluation.extras import NO_FILES, Extras
from src.evaluation.image_files import ImageFiles
from src.evaluation.observer import ImageObserver, count_rows, gather
from src.evaluation.quiet import quieten
from src.files import atomic_folder, beside
from src.machine import NO_FOLDER
from src.metrics.figures import figures
from src.runs.folder import RunFolder
from src.runs.leakage import image_ids, leakage_of
from src.runs.per_image import EVALUATIONS
from src.runs.records import Checkpoint, Evaluation, Leakage, Protocol, Taint, evaluation_key
from src.task import SegmentationTask


def evaluate(
    trainer: L.Trainer,
    task: SegmentationTask,
    data: SegmentationDataModule,
    run: RunFolder,
    split: str,
    which: str,
    output: RunFolder | None = None,
    extras: Extras = NO_FILES,
    engine: EngineFile | None = None,
) -> Evaluation:
    """Evaluates checkpoint `which` of a run on every image of a split.

    Args:
        output: the run folder that the files of the images are written to, in `evaluations/`; None for none.
        engine: an exported file that runs in place of the network.

    Raises:
        UserError: another process evaluates the same thing, or the engine was made of other weights.
    """
    weights = run.checkpoint(which)
    checkpoint = Checkpoint(which, *load_weights(task, weights))
    described = protocol(trainer, task, data, split)
    if engine is not None:
        task.network = use_engine(engine, task.network)
        described = replace(described, precision=engine.record.options.title, file=engine.record.digest[:8])
    described = replace(described, taints=find_taints(data, split, leakage_of(run, weights)))
    samples = data.samples(split)
    with _folder(trainer, output, evaluation_key(described, which)) as folder:
        observer = ImageObserver(data.source, samples, folder, extras, trainer.global_rank, trainer.world_size)
        matrix = count(trainer, task, data, split, observer)
        seen = gather(observer.seen, extras.suspects)
        assert sorted(seen.matrices) == list(range(len(samples))), "each image was counted once"
        if folder is not None and trainer.is_global_zero:
            ImageFiles(folder, data, samples, task.protocol, extras).write(seen)
    evaluation = describe_evaluation(matrix, task.classes, described, checkpoint)
    earlier = (output or run).read_results()
    return earlier.place(replace(evaluation, details=describe_details(seen, data.source)))


@contextmanager
def _folder(trainer: L.Trainer, output: RunFolder | None, key: str) -> Iterator[Path | None]:
    """Yields the folder that all processes write the files of an evaluation's images to; it is in place afterwards."""
    if output is None:
        yield None
        return
    path = output.path / EVALUATIONS / key
    busy = f"{path}: another process evaluates the same thing; wait for it"
    with atomic_folder(path, busy) if trainer.is_global_zero else nullcontext(beside(path)) as folder:
        trainer.strategy.barrier()
        yield folder


def describe_evaluation(
    matrix: np.ndarray, classes: Sequence[str], protocol: Protocol, checkpoint: Checkpoint
) -> Evaluation:
    """Derives all figures from a confusion matrix int `(K, K)`, rows truth."""
    result = figures(matrix)
    return Evaluation(
        protocol,
        checkpoint,
        miou=result.miou,
        pixel_accuracy=result.pixel_accuracy,
        mean_accuracy=result.mean_accuracy,
        frequency_weighted_iou=result.frequency_weighted_iou,
        iou=dict(zip(classes, map(float, result.iou), strict=True)),
        accuracy=dict(zip(classes, map(float, result.accuracy), strict=True)),
        share=dict(zip(classes, map(float, result.share), strict=True)),
        matrix=np.asarray(matrix).tolist(),
    )


def find_taints(data: SegmentationDataModule, split: str, before: Leakage) -> tuple[Taint, ...]:
    """Returns the taints of figures on a split by the leakage of the first weights; none on `train`, which says it."""
    return () if split == "train" else before.taints(image_ids(data.source, data.samples(split)))


def count(
    trainer: L.Trainer,
    task: SegmentationTask,
    data: SegmentationDataModule,
    split: str,
    observer: ImageObserver | None = None,
) -> np.ndarray:
    """Counts the confusion matrix int64 `(K, K)`, rows truth, of the task's weights as they are on a split.

    Args:
        observer: takes the scores, in place of one that only counts.
    """
    loader = data.eval_dataloader(split)
    task.observer = observer or partial(count_rows, num_classes=data.source.num_classes)
    try:
        trainer.validate(task, dataloaders=loader, verbose=False)
    finally:
        task.observer = None
    assert task.matrix is not None
    assert trainer.num_val_batches == [len(loader)], "a figure is of all images"
    return task.matrix.numpy()


def protocol(trainer: L.Trainer, task: SegmentationTask, data: SegmentationDataModule, split: str) -> Protocol:
    """Returns the protocol of figures on a split, without taints."""
    return Protocol(
        labels=data.source.labels,
        splits=(data.folds.describe(data.source, split),),
        images=len(data.samples(split)),
        data=fingerprint(data.source, data.samples(split)),
        inference=str(task.protocol),
        precision=str(trainer.precision),
    )


def evaluation_trainer(accelerator: str, precision: str, *, with_progress: bool = True) -> L.Trainer:
    """Builds a trainer that evaluates on one device and writes no files."""
    quieten()
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=cast(Any, precision),  # which Lightning checks
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=with_progress,
        use_distributed_sampler=False,
        default_root_dir=NO_FOLDER,
    )
