"""Segments images of any size, and writes pictures to look at, or the files that a benchmark's server takes."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.progress import track

from src.data.sources.cityscapes_labels import to_label_ids
from src.errors import UserError
from src.evaluation.checkpoint import load_weights
from src.evaluation.inputs import Images
from src.evaluation.quiet import quieten
from src.files import atomic_path
from src.reports.pictures import Palette, as_rgb, colourise, legend, overlay, save_png
from src.task import SegmentationTask

LEGEND = 640  # pixels of its width
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip, so that the same predictions give the same archive


@dataclass(frozen=True)
class Pictures:
    """Writes `labels/`, `colours/` and `overlays/` into a folder, each at the size of the image."""

    folder: Path
    palette: Palette
    opacity: float  # of the colours in the overlays, 0 to 1

    def write(self, name: str, image: np.ndarray, ids: np.ndarray) -> None:
        """Writes the pictures of an image uint8 `(H, W, C)` and its predicted ids uint8 `(H, W)`; `name` has `.png`."""
        save_png(self.folder / "labels" / name, ids)
        save_png(self.folder / "colours" / name, colourise(ids, self.palette))
        save_png(self.folder / "overlays" / name, overlay(as_rgb(image), ids, self.palette, self.opacity))

    def finish(self) -> str:
        """Writes `legend.png`, which pictures of any size share, and describes the written files for the log."""
        save_png(self.folder / "legend.png", legend(self.palette, LEGEND, is_ignored=False))
        return f"labels/, colours/, overlays/ and legend.png in {self.folder}"


class LabelIds:
    """Writes PNGs of Cityscapes' label ids under a benchmark's names, and an archive of them, `<folder>.zip`.

    Raises:
        UserError: the archive exists already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder.with_name(f"{folder.name}.zip")
        self.names: list[str] = []
        if self.archive.exists():
            raise UserError(f"{self.archive}: exists, and nothing is overwritten; give another output=FOLDER")

    def write(self, name: str, image: np.ndarray, ids: np.ndarray) -> None:
        """Writes ids uint8 `(H, W)`, 0..18, at the image's own size; `name` is that of `Source.official_path`."""
        save_png(self.folder / name, to_label_ids(ids))
        self.names.append(name)

    def finish(self) -> str:
        """Zips the files, and names the archive for the log."""
        with atomic_path(self.archive) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(self.names):
                # Stored without compression, which a PNG has already.
                archive.writestr(zipfile.ZipInfo(name, EPOCH), (self.folder / name).read_bytes())
        return f"label ids in {self.folder}, zipped for the server: {self.archive}"


def predict_images(
    task: SegmentationTask,
    checkpoint: Path,
    images: Images,
    writer: LabelIds | Pictures,
    accelerator: str,
    precision: Any,
) -> list[str]:
    """Writes the prediction for each image, by the protocol of the run; returns the errors of those not to be read."""
    quieten()
    fabric = L.Fabric(accelerator=accelerator, devices=1, precision=precision)
    load_weights(task, checkpoint)
    task.to(fabric.device).eval()
    unread = []
    for name, read in track(images.items(), f"{len(images)} images", disable=len(images) == 1):
        try:
            image = read()
        except ValueError as error:
            unread.append(str(error))
            continue
        with fabric.autocast():
            ids = task.predict_ids(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0].numpy()
        writer.write(name, image, ids)
    return unread
