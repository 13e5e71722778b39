"""The banner of a training: a few lines by which nobody finds out only afterwards that weights were random."""

from typing import Any

import torch
from lightning import Trainer

from src.data.datamodule import SegmentationDataModule
from src.data.statistics import absent_classes
from src.errors import shortened
from src.models.packaged import WEIGHTS as PACKAGE
from src.runs.folder import RunFolder
from src.task import SegmentationTask
from src.training.batchnorm import batchnorm_layers, has_statistics

SMALL_BATCH = 8  # below it BatchNorm costs PSPNet 79 -> 69 mIoU (mmsegmentation #179)


def banner(
    cfg: dict[str, Any], run: RunFolder, data: SegmentationDataModule, task: SegmentationTask, trainer: Trainer
) -> str:
    """Describes data, network, weights, protocol, device and run folder; then notes what may not be intended.

    `cfg` is the run's resolved configuration, `task` has its first weights.
    """
    source, network = data.source, task.network
    counts = ", ".join(f"{len(data.samples(split))} {split}" for split in ("train", data.validation_split))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    batch_size, crop_size = cfg["data"]["batch_size"], cfg["data"]["crop_size"]
    total_batch = batch_size * trainer.world_size * trainer.accumulate_grad_batches
    image, _ = source.read(data.samples("train")[0])
    name, root, backbone = cfg["data"]["name"], cfg["data"]["root"], cfg["backbone"]
    backbone_name = f", backbone {backbone['name']}" if backbone else ""
    schedule = f"lr {cfg['optimizer']['lr']:g}, {_last(cfg['scheduler'])}"
    average = f", validates its {_last(cfg['averaging'])}" if cfg["averaging"] else ""
    lines = {
        "data": f"{name}{f' in {root}' if root else ''}: {counts}, {source.num_classes} classes ({source.labels}), "
        f"crops {_by(crop_size)}",
        "network": f"{cfg['choices']['model']}{backbone_name}, {parameters / 1e6:.2f} M parameters",
        "weights": _weights(cfg),
        "images": f"normalised by mean {_numbers(cfg['data']['mean'])}, std {_numbers(cfg['data']['std'])} "
        f"({cfg['normalised_by']})",
        "training": f"{trainer.max_epochs} epochs, batch {total_batch} ({batch_size} x {trainer.world_size} "
        f"devices x {trainer.accumulate_grad_batches}), seed {cfg['seed']}",
        "optimiser": f"{_last(cfg['optimizer']['optimizer'])}, {schedule}{average}",
        "protocol": f"{data.folds.describe(source, data.validation_split)}, {task.protocol}, figures at the labels' "
        "own size",
        "device": f"{_device(trainer)}, {trainer.world_size} process(es), precision {trainer.precision}",
        "run": f"{run.path}{', continued from its last checkpoint' if run.last.is_file() else ''}",
    }
    text = [f"{key:<9} {value}" for key, value in lines.items()]
    if folds := data.folds.note(source):
        text.append(f"note: {folds}")
    if absent := absent_classes(source, data.samples("train")):
        text.append(f"note: no training image has a pixel of {shortened(absent)}: not learnt, and an IoU of 0 or none")
    if any(crop > side for crop, side in zip(crop_size, image.shape[:2], strict=True)):
        text.append(
            f"note: crops of {_by(crop_size)} are larger than the images ({_by(image.shape[:2])}): padded, and the "
            "padding labelled 255"
        )
    return "\n".join(text + batchnorm_notes(cfg, task, trainer))


def batchnorm_notes(cfg: dict[str, Any], task: SegmentationTask, trainer: Trainer) -> list[str]:
    """Notes over how many images BatchNorm is measured, if these are few.

    Accumulated batches do not count, for each is normalised by itself.
    """
    if not batchnorm_layers(task.network) or cfg["freeze"]["batchnorm_epochs"] >= cfg["trainer"]["max_epochs"]:
        return []
    synchronised, several = cfg["trainer"]["sync_batchnorm"], trainer.world_size > 1
    images = cfg["data"]["batch_size"] * (trainer.world_size if synchronised else 1)
    notes = []
    if several and not synchronised:
        notes.append("note: BatchNorm is over each process's own batches; trainer.sync_batchnorm=true would join them")
    if images < SMALL_BATCH:
        where = " per device" if several and not synchronised else ""
        # Initial statistics cannot be frozen: they would normalise nothing.
        is_measured = any(map(has_statistics, batchnorm_layers(task.network).values()))
        freeze = f", or freeze it, freeze.batchnorm_epochs={cfg['trainer']['max_epochs']}" if is_measured else ""
        notes.append(
            f"note: BatchNorm over {images} images{where}; below {SMALL_BATCH} it can cost much accuracy: give "
            f"data.batch_size={SMALL_BATCH} if memory allows (trainer.accumulate_grad_batches does not help){freeze}"
        )
    return notes


def _weights(cfg: dict[str, Any]) -> str:
    if cfg["init_from"] is not None:
        return f"from {cfg['init_source']['path']}, as far as they fit"
    if cfg["backbone"] is None:
        return f"random, by seed {cfg['seed']}"
    weights = cfg["backbone"]["weights"]
    if weights is None:
        return f"random (backbone.weights=null), by seed {cfg['seed']}"
    source = {"imagenet": "ImageNet, by smp / timm", PACKAGE: "ImageNet, by an installed package"}.get(weights, weights)
    return f"backbone: {source}; the rest random, by seed {cfg['seed']}"


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} ({torch.get_num_threads()} threads)"
    )


def _by(size: Any) -> str:
    return "x".join(map(str, size))


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _last(node: dict[str, Any]) -> str:
    return node["_target_"].rsplit(".", 1)[-1]
