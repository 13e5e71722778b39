"""What is about to be trained, in a few lines: nobody should find out afterwards that weights were random."""

import logging
import warnings

import torch
from lightning import Trainer
from omegaconf import DictConfig

from src.data.datamodule import SegmentationDataModule
from src.runs.folder import RunFolder
from src.task import SegmentationTask
from src.training.batchnorm import batchnorm_layers

QUIET = (
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # lightning 2.6.6 with torch 2.15: its own affair
    r".*is smaller than the logging interval",  # the epoch's mean loss is logged in any case
    r".*does not have many workers which may be a bottleneck",  # data.num_workers is the user's choice
    r"Checkpoint directory .* exists and is not empty",
)
SMALL_BATCH = 8  # below it BatchNorm costs PSPNet 79 -> 69 mIoU (mmsegmentation #179)


def banner(
    cfg: DictConfig, run: RunFolder, data: SegmentationDataModule, task: SegmentationTask, trainer: Trainer
) -> str:
    """Data, network, weights, protocol, device, run folder; then what the user may not have meant."""
    source, network = data.source, task.network
    counts = ", ".join(f"{len(data.samples(split))} {split}" for split in ("train", data.validation_split))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    total_batch = cfg.data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    image, _ = source.read(data.samples("train")[0])
    protocol = data.folds.describe(source, data.validation_split)
    lines = {
        "data": f"{cfg.data.name}{f' in {cfg.data.root}' if cfg.data.root else ''}: {counts}, "
        f"{source.num_classes} classes ({source.labels}), crops {'x'.join(map(str, cfg.data.crop_size))}",
        "network": f"{cfg.choices.model}{f', backbone {cfg.backbone.name}' if cfg.backbone else ''}, "
        f"{parameters / 1e6:.2f} M parameters",
        "weights": _weights(cfg),
        "training": f"{trainer.max_epochs} epochs, batch {total_batch} ({cfg.data.batch_size} x {trainer.world_size} "
        f"devices x {trainer.accumulate_grad_batches}), seed {cfg.seed}",
        "optimiser": _optimiser(cfg),
        "protocol": f"{protocol}, {task.protocol}, figures at the labels' own size",
        "device": f"{_device(trainer)}, {trainer.world_size} process(es), precision {trainer.precision}",
        "run": f"{run.path}{', continued from its last checkpoint' if run.last.is_file() else ''}",
    }
    text = [f"{name:<9} {value}" for name, value in lines.items()]
    if folds := data.folds.note(source):
        text.append(f"note: {folds}")
    if any(crop > side for crop, side in zip(cfg.data.crop_size, image.shape[:2], strict=True)):
        text.append(
            f"note: crops of {'x'.join(map(str, cfg.data.crop_size))} are larger than the images "
            f"({image.shape[0]}x{image.shape[1]}): padded, and the padding labelled 255"
        )
    return "\n".join(text + _batchnorm_notes(cfg, task, trainer))


def _batchnorm_notes(cfg: DictConfig, task: SegmentationTask, trainer: Trainer) -> list[str]:
    """How many images BatchNorm sees, where that is few. Accumulated batches do not count: each is normalised alone."""
    if not batchnorm_layers(task.network) or cfg.freeze.batchnorm_epochs >= cfg.trainer.max_epochs:
        return []
    synchronised, several = cfg.trainer.sync_batchnorm, trainer.world_size > 1
    images = cfg.data.batch_size * (trainer.world_size if synchronised else 1)
    notes = []
    if several and not synchronised:
        on_cpu = trainer.strategy.root_device.type == "cpu"
        why = "SyncBatchNorm exists on GPUs alone" if on_cpu else "trainer.sync_batchnorm=true would join them"
        notes.append(f"note: each process has BatchNorm of its own batches ({why})")
    if images < SMALL_BATCH:
        where = " a device" if several and not synchronised else ""
        notes.append(
            f"note: BatchNorm over {images} images{where}; below {SMALL_BATCH} it can cost much accuracy: raise "
            "data.batch_size (trainer.accumulate_grad_batches does not help), or hold it, freeze.batchnorm_epochs"
        )
    return notes


def quieten() -> None:
    """Lightning's lines once, not twice, and none that tells the user nothing to do."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)


def _optimiser(cfg: DictConfig) -> str:
    name = cfg.optimizer.optimizer._target_.rsplit(".", 1)[-1]
    schedule = cfg.scheduler._target_.rsplit(".", 1)[-1]
    average = cfg.averaging._target_.rsplit(".", 1)[-1] if cfg.averaging else None
    return f"{name}, lr {cfg.optimizer.lr:g}, {schedule}{f', validates its {average}' if average else ''}"


def _weights(cfg: DictConfig) -> str:
    if cfg.init_from is not None:
        return f"from {cfg.init_source.path}, where they fit"
    if cfg.backbone is None or cfg.backbone.weights is None:
        why = "" if cfg.backbone is None else " (backbone.weights=null)"
        return f"random{why}, by seed {cfg.seed}"
    source = "ImageNet, by smp / timm" if cfg.backbone.weights == "imagenet" else cfg.backbone.weights
    return f"backbone: {source}; the rest random, by seed {cfg.seed}"


def _device(trainer: Trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.get_device_name(trainer.strategy.root_device)
    return f"{trainer.strategy.root_device.type} ({torch.get_num_threads()} threads)"
