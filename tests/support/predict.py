"""Predictions by a small network, as `src.predict` makes them, and the scores of the network itself."""

from pathlib import Path

import torch

from src.evaluation.inputs import Photo
from src.evaluation.ledger import Ledger
from src.evaluation.predictions import Outcome, predict_photos
from src.evaluation.segmenter import Segmenter
from src.evaluation.wanted import USUAL, Wanted
from src.evaluation.writers import Pictures
from src.files import claim
from src.inference import predict_scores
from src.task import SegmentationTask
from tests.support.small import CLASSES, small_task

PALETTE = {name: [10 * number + 5, 200 - 9 * number, number] for number, name in enumerate(CLASSES)}
SETTINGS = {"checkpoint": "a", "opacity": 0.5}


def write_weights(path: Path) -> Path:
    """Writes a checkpoint whose head decides clearly, so that no pixel hangs on the last bit."""
    task = small_task()
    torch.nn.init.normal_(task.network.architecture.head[4].weight, std=3.0)
    torch.save({"state_dict": task.state_dict(), "epoch": 0, "global_step": 1}, path)
    return path


def network_of(weights: Path, wanted: Wanted | None = None) -> Segmenter:
    wanted = wanted or Wanted(USUAL, PALETTE)
    return Segmenter(small_task(), weights, "cpu", "32-true", wanted)


def run(weights: Path, photos: list[Photo], folder: Path, wanted: Wanted | None = None, size: int = 1) -> Outcome:
    """Predicts photos into a folder, as the command does."""
    wanted = wanted or Wanted(USUAL, PALETTE)
    claim(folder, "output")
    with Ledger(folder, SETTINGS) as ledger:
        return predict_photos(network_of(weights, wanted), photos, Pictures(folder, wanted), ledger, size)


def plain_scores(weights: Path, photo: Photo) -> torch.Tensor:
    """Scores of one photo by the network itself, `(K, H, W)`."""
    task: SegmentationTask = small_task()
    task.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    image = torch.from_numpy(photo.read().transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        return predict_scores(task.eval().network, image, task.protocol)[0]
