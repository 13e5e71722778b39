"""Made-up run folders with everything that a report shows: records, curves, costs, and images of drawn scenes."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from src.data.streets.source import Streets
from src.evaluation.measure import describe_evaluation
from src.files import write_json
from src.runs.details import Details, Interval
from src.runs.folder import RunFolder
from src.runs.per_image import EVALUATIONS, PREDICTIONS, WORST, ImageFacts, describe_images, write_images
from src.runs.records import Checkpoint, Cost, Evaluation, Taint
from tests.support.records import evaluation

EVIL = "</script><img src=x onerror=window.hacked=1>"  # a class name
CLASSES = {**dict(list(Streets.classes.items())[:-1]), EVIL: (10, 20, 30)}


@dataclass(frozen=True)
class Scene:
    """An image with its truth, as a split has it."""

    name: str
    image: np.ndarray
    truth: np.ndarray


def scenes(count: int, size: tuple[int, int]) -> list[Scene]:
    source = Streets(size=size, num_train=1, num_val=count)
    found = []
    for sample in source.samples("val"):
        frame = source.open(sample)
        image, mask = frame.image(0, 0, *size), frame.mask(0, 0, *size)
        mask = np.array(mask)
        mask[:3] = 255
        found.append(Scene(f"streets/{sample.name}", np.asarray(image), mask))
    return found


def predict(scene: Scene, seed: int, share: float) -> np.ndarray:
    """The truth with wrong blocks: about `share` of the pixels."""
    rng = np.random.default_rng([seed, len(scene.name), int(scene.name[-1])])
    ids = np.where(scene.truth == 255, 0, scene.truth).astype(np.uint8)
    height, width = ids.shape
    for _ in range(int(share * 64)):
        top, left = rng.integers(0, height * 7 // 8), rng.integers(0, width * 7 // 8)
        ids[top : top + height // 8, left : left + width // 8] = rng.integers(0, len(CLASSES))
    return ids


def write_run(
    folder: Path,
    given: Sequence[Scene],
    seed: int = 0,
    share: float = 0.2,
    model: str = "unet",
    taints: Sequence[Taint] = (),
    epochs: int = 5,
) -> RunFolder:
    """Writes a finished run that was evaluated on some scenes, of which it kept predictions and the ten worst."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    predictions = [predict(scene, seed, share) for scene in given]
    matrices = np.array([_count(scene.truth, ids) for scene, ids in zip(given, predictions, strict=True)])
    protocol = evaluation(images=len(given), taints=taints).protocol
    names = list(CLASSES)
    measured = describe_evaluation(matrices.sum(0), names, protocol, Checkpoint("best", epochs - 1, 10 * epochs))
    around = {name: Interval(value - 0.02, value + 0.02) for name, value in measured.iou.items()}
    details = Details({}, 0.5, Interval(measured.miou - 0.01, measured.miou + 0.01), around)
    measured = replace(measured, details=details)
    _write_images(run, measured, given, predictions, matrices)
    run.add_evaluation(measured, finished=True)
    write_json(run.cost, Cost(1_000_000 * (seed + 1), 0, 1.5 * (seed + 1), (64, 96)))
    classes = json.dumps(CLASSES)
    run.config.write_text(
        f"seed: {seed}\nname: x\nchoices: {{model: {model}, experiment: null, scale: full}}\n"
        f"data: {{name: streets, classes: {classes}}}\nbackbone: {{name: tu-{model}_small}}\n"
        f"optimizer: {{lr: {0.001 * (1 if model == 'unet' else 3)}, weight_decay: 0.01}}\n"
    )
    session = {
        "command": f"python -m src.train model={model}", "git_commit": "0" * 40,
        "started": "2026-11-26T10:00:00+00:00", "ended": f"2026-11-26T10:{10 + seed % 40}:00+00:00",
    }  # fmt: skip
    write_json(run.environment, {"id": f"{seed:08x}", "sessions": [session]})
    lines = ["step,epoch,train/loss,val/miou,lr/head"]
    for step in range(10 * epochs):
        miou = f"{measured.miou * (step + 1) / (10 * epochs):.4f}" if step % 10 == 9 else ""
        lines.append(f"{step},{step // 10},{1 / (step + 1):.4f},{miou},.1")
    run.metrics.write_text("\n".join([*lines, ""]))
    return run


def _write_images(
    run: RunFolder,
    measured: Evaluation,
    given: Sequence[Scene],
    predictions: Sequence[np.ndarray],
    matrices: np.ndarray,
) -> None:
    folder = run.path / EVALUATIONS / measured.key
    facts = []
    for scene, ids in zip(given, predictions, strict=True):
        path = f"{PREDICTIONS}/{scene.name}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(folder / path)
        facts.append(ImageFacts(scene.name, "drive", *scene.truth.shape, path))
    images = describe_images(facts, matrices, list(measured.iou))
    write_images(folder, images)
    (folder / WORST).mkdir()
    for number, index in enumerate(images.worst(10), start=1):
        Image.fromarray(given[index].image).save(folder / WORST / f"{number:02d}_image.jpg", quality=90)
        Image.fromarray(given[index].truth).save(folder / WORST / f"{number:02d}_truth.png")


def copy_run(run: RunFolder, folder: Path) -> None:
    """Copies a run, with hard links in place of its pictures."""
    shutil.copytree(run.path, folder, copy_function=os.link)


def _count(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Counts a confusion matrix pixel by pixel of each pair of classes."""
    matrix = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    np.add.at(matrix, (truth[truth != 255], prediction[truth != 255]), 1)
    return matrix
