"""The files of an evaluation's images: the table, the worst images, suspected label errors, the reliability diagram."""

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from src.data.datamodule import SegmentationDataModule
from src.data.source import Sample
from src.evaluation.extras import Extras
from src.evaluation.observer import Seen, prediction_name
from src.evaluation.suspects import Suspect
from src.files import atomic_path, write_text
from src.inference import Protocol, fit_labels
from src.reports.pictures import as_rgb, contact_sheet, panel, save_png
from src.runs.per_image import PREDICTIONS, WORST, ImageFacts, PerImage, describe_images, write_images

SUSPECTS = "suspects"  # name of the table and of the sheet
MARGIN = 0.6  # of a suspect's surroundings, a share of its longer side
LEAST_MARGIN = 24  # pixels


@dataclass(frozen=True)
class ImageFiles:
    """Writes the files of the images of one split into the folder of an evaluation, where their predicted ids are."""

    folder: Path
    data: SegmentationDataModule
    samples: Sequence[Sample]
    protocol: Protocol
    extras: Extras

    def write(self, seen: Seen) -> PerImage:
        """Writes all files; returns the scores of the images."""
        images = self._describe(seen)
        write_images(self.folder, images)
        self._write_worst(images)
        if self.extras.suspects:
            self._write_suspects(seen.suspects)
        if not self.extras.predictions:
            shutil.rmtree(self.folder / PREDICTIONS)
        return images

    def _describe(self, seen: Seen) -> PerImage:
        source = self.data.source
        names = [prediction_name(source, sample) if self.extras.predictions else "" for sample in self.samples]
        facts = [
            ImageFacts(source.image_id(sample), sample.group, *seen.sizes[place], names[place])
            for place, sample in enumerate(self.samples)
        ]
        matrices = np.stack([seen.matrices[place] for place in range(len(self.samples))])
        return describe_images(facts, matrices, list(source.classes))

    def read(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reads an image `(H, W, 3)` to look at, its truth and its predicted ids `(H, W)`, as they were counted."""
        sample = self.samples[place]
        image, mask = (torch.from_numpy(np.array(array)) for array in self.data.source.read(sample))
        fitted, truth, _ = fit_labels(image.permute(2, 0, 1)[None], mask[None], self.protocol)
        pixels = fitted[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        with Image.open(self.folder / prediction_name(self.data.source, sample)) as file:
            return as_rgb(pixels), truth[0].numpy(), np.asarray(file)

    def _write_worst(self, images: PerImage) -> None:
        """Writes the images of lowest mIoU, worst first, and a panel of them."""
        rows, titles = [], []
        for rank, place in enumerate(images.worst(self.extras.worst), 1):
            image, truth, prediction = self.read(place)
            stem, row = self.folder / WORST / f"{rank:02d}", images.rows[place]
            with atomic_path(stem.with_name(f"{stem.name}_image.jpg")) as temporary:
                Image.fromarray(image).save(temporary, quality=90)
            save_png(stem.with_name(f"{stem.name}_truth.png"), truth)
            save_png(stem.with_name(f"{stem.name}_prediction.png"), prediction)
            known = {name: value for name, value in row.iou.items() if value == value}
            least = sorted(known, key=known.__getitem__)[:3]
            names = ", ".join(f"{name} {known[name]:.2f}" for name in least)
            titles.append(f"{rank}  {row.image}   mIoU {row.miou:.3f}; lowest: {names}")
            rows.append(tuple(_at_most(array) for array in (image, truth, prediction)))
        if rows:
            save_png(self.folder / f"{WORST}.png", panel(rows, self.data.source.classes, titles=titles))

    def _write_suspects(self, suspects: Sequence[Suspect]) -> None:
        """Writes suspected label errors as a table and as a contact sheet: the truth, and the prediction beside it."""
        classes, source = list(self.data.source.classes), self.data.source
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        header = ("number", "image", "truth", "predicted", "pixels", "confidence", "left", "top", "width", "height")
        writer.writerow(header)
        pairs = []
        for number, each in enumerate(suspects, 1):
            name = source.image_id(self.samples[each.place])
            facts = (number, name, classes[each.truth], classes[each.predicted], each.pixels, f"{each.confidence:.4f}")
            writer.writerow([*facts, each.left, each.top, each.width, each.height])
            image, truth, prediction = self.read(each.place)
            area = _surroundings(each, truth.shape)
            title = f"{number}  {Path(name).name}: labelled {classes[each.truth]}"
            sure = f"predicted {classes[each.predicted]}, {each.pixels} pixels, sure to {each.confidence:.2f}"
            pairs += [(title, image[area], truth[area]), (sure, image[area], prediction[area])]
        write_text(self.folder / f"{SUSPECTS}.csv", text.getvalue())
        if pairs:
            save_png(self.folder / f"{SUSPECTS}.png", contact_sheet(pairs, source.classes))


def _surroundings(suspect: Suspect, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Returns the rows and columns of a suspect and of what is around it."""
    margin = max(LEAST_MARGIN, round(MARGIN * max(suspect.height, suspect.width)))
    starts, lengths = (suspect.top, suspect.left), (suspect.height, suspect.width)
    rows, columns = (
        slice(max(0, start - margin), min(side, start + length + margin))
        for start, length, side in zip(starts, lengths, size, strict=True)
    )
    return rows, columns


def _at_most(array: np.ndarray, width: int = 640) -> np.ndarray:
    """Thins out a large picture, so that those of a panel fit into memory."""
    step = max(1, array.shape[1] // width)
    return array[::step, ::step]
