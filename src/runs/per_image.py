"""Temporary reader, until the branch that writes these records is merged."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ImageRow:
    image: str
    group: str
    height: int
    width: int
    labelled: int
    miou: float
    pixel_accuracy: float
    prediction: str
    iou: dict[str, float]


@dataclass(frozen=True)
class PerImage:
    rows: tuple[ImageRow, ...]
    matrices: np.ndarray

    def images_of(self, truth: int, prediction: int, most: int = 10) -> list[tuple[ImageRow, int]]:
        counts = self.matrices[:, truth, prediction]
        order = np.argsort(-counts, kind="stable")[:most]
        return [(self.rows[index], int(counts[index])) for index in order if counts[index] > 0]

    def worst(self, number: int) -> list[ImageRow]:
        return sorted((row for row in self.rows if not math.isnan(row.miou)), key=lambda row: row.miou)[:number]


def read_images(folder: Path) -> PerImage | None:
    if not (folder / "images.csv").is_file():
        return None
    rows = []
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            iou = {k.removeprefix("iou/"): float(v or "nan") for k, v in row.items() if k.startswith("iou/")}
            rows.append(
                ImageRow(
                    row["image"], row["group"], int(row["height"]), int(row["width"]), int(row["labelled"]),
                    float(row["miou"] or "nan"), float(row["pixel_accuracy"] or "nan"), row["prediction"], iou,
                )
            )
    with np.load(folder / "matrices.npz") as file:
        return PerImage(tuple(rows), file["matrices"])
