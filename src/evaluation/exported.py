"""An exported file: its options, the record beside it, and its examination before it is used. Without torch."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from src.errors import UserError
from src.files import damaged
from src.runs.serial import read_record

T = TypeVar("T")
Read = Callable[[], tuple[np.ndarray, np.ndarray | None]]  # image uint8 (H, W, 3), mask uint8 (H, W) or None
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch_export": ".pt2", "safetensors": ".safetensors"}  # by format
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "torch_export": ("fp32",),
    "safetensors": ("fp32", "fp16"),
}
HEADS = ("logits", "probabilities", "labels")
ENGINES = ("onnx", "openvino")  # formats that src.eval and src.predict can run
LEAST = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}  # share of the pixels of which both must name the same class


@dataclass(frozen=True)
class ExportOptions:
    """The kind of file that is asked for.

    Args:
        format: a key of `SUFFIXES`.
        precision: of the weights; `int8` of the activations too.
        head: `logits` at the network's own stride; `probabilities` or `labels` at the size of the image.
        size: `(H, W)` of the images if the file takes no others; None for any size.
        batch_size: number of images that the file takes at a time.
        calibration: number of images by which the ranges of `int8` are set.
        measured: number of images on which the loss of mIoU is measured; None for all.
        most_lost: loss of mIoU above which the file is refused; None for any.
    """

    format: str = "onnx"
    precision: str = "fp32"
    head: str = "logits"
    size: tuple[int, int] | None = None
    batch_size: int = 1
    calibration: int = 16
    measured: int | None = 50
    most_lost: float | None = 0.01

    @property
    def title(self) -> str:
        """Format and precision, which stand in the protocol of the figures that such a file gives: `onnx int8`."""
        return f"{self.format} {self.precision}"

    def content(self, channels: int) -> str:
        """Describes the input and the output of the file, whose images have 3 or 4 channels."""
        if self.format == "safetensors":
            return "weights"
        height, width = self.size or ("height", "width")
        return f"uint8 image ({self.batch_size}, {channels}, {height}, {width}) to {self.head}"


@dataclass(frozen=True)
class Examples:
    """Images by which a file is compared, calibrated and measured."""

    title: str  # for the record, such as `val (101 images)`
    reads: Sequence[Read]

    def divide(self, calibration: int, measured: int | None) -> tuple[list[Read], list[Read]]:
        """Returns the images that calibrate, and those on which a loss is measured: others, if there are two or more.

        Both are spread evenly over the whole.
        """
        whole = list(range(len(self.reads)))
        chosen = spread(whole, min(calibration, max(1, len(whole) // 2)))
        rest = [index for index in whole if index not in chosen] or whole
        used = spread(rest, len(rest) if measured is None else measured)
        return [self.reads[index] for index in chosen], [self.reads[index] for index in used]


@dataclass(frozen=True)
class ExportFacts:
    """The facts about a run that travel with an exported file."""

    run: str  # name of the run folder
    checkpoint: str
    weights: str  # digest of the tensors (`src.models.half.digest`)
    classes: dict[str, list[int]]  # name to RGB, in the order of the ids
    mean: list[float]  # by which the file normalises, of values in 0..255; RGB
    std: list[float]
    image_size: list[int]  # [H, W] of the images of the training, empty if the run does not record it
    inference: str  # `src.inference.Protocol` of the run's validation as text


@dataclass(frozen=True)
class ExportCheck:
    """The comparison of the file with the network on images of one size."""

    height: int
    width: int
    images: int
    agreement: float  # share of the pixels of which both name the same class
    largest_difference: float  # of logits or probabilities; 0 for labels
    largest_value: float  # of the network's logits or probabilities

    def __str__(self) -> str:
        return (
            f"{self.height}x{self.width}: same class at {100 * self.agreement:.3f} % of the pixels, values differ by "
            f"{self.largest_difference:.2g} at most (the largest is {self.largest_value:.3g})"
        )


@dataclass(frozen=True)
class ExportLoss:
    """The mIoU of the file and of the network on the same labelled images, none of which calibrated the file."""

    images: int
    network: float
    file: float
    low: float  # of the 95 % bootstrap interval of the difference, file minus network; NaN for one image
    high: float

    @property
    def lost(self) -> float:
        return self.network - self.file

    def __str__(self) -> str:
        return (
            f"mIoU {self.file:.4f}, of the network {self.network:.4f}, on {self.images} images "
            f"({-100 * self.lost:+.2f} points, 95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f})"
        )


@dataclass(frozen=True)
class ExportRecord:
    """Content of the JSON file beside an exported file."""

    file: str
    options: ExportOptions
    facts: ExportFacts
    align_corners: bool  # how logits are to be brought up to the image, as of `src.upsampling.upsample`
    runtime: str  # that ran the file for the comparison
    size: int  # bytes, with weights in a file of their own
    digest: str  # SHA-256 of the file, or of both
    compared_on: str
    checks: tuple[ExportCheck, ...]
    loss: ExportLoss | None = None  # None if it was not measured: 32 bits, only weights, or no labels

    def __str__(self) -> str:
        lines = [f"compared by {self.runtime} on images of {self.compared_on}:", *(f"  {each}" for each in self.checks)]
        return "\n".join([*lines, *([f"  {self.loss}"] if self.loss else [])])

    @property
    def fault(self) -> str | None:
        """The first comparison that shows another network, as text."""
        least, most = LEAST[self.options.precision], self.options.most_lost
        for check in self.checks:
            if not check.agreement >= least:
                return f"{check}; at least {100 * least:g} % are asked for"
        if self.loss and most is not None and not self.loss.lost <= most:
            return f"{self.loss}; at most {100 * most:g} are allowed (most_lost=)"
        return None


@dataclass(frozen=True)
class EngineFile:
    """An exported file that is to run in place of a network."""

    path: Path
    record: ExportRecord


def spread(items: Sequence[T], count: int) -> list[T]:
    """Returns at most `count` items, evenly spread over a sequence."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def parts(path: Path) -> Iterator[Path]:
    """Yields the files of an exported network: the file, and OpenVINO's weights, which are in a file of their own."""
    yield path
    if path.suffix == SUFFIXES["openvino"]:
        yield path.with_suffix(".bin")


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of all files of an exported network. Raises UserError if one is missing."""
    content = hashlib.sha256()
    for part in parts(path):
        if not part.is_file():
            raise UserError(f"{part}: is missing, without which {path.name} does not work; export anew")
        with part.open("rb") as file:
            while block := file.read(2**20):
                content.update(block)
    return content.hexdigest()


def record_path(path: Path) -> Path:
    """Returns the path of the record beside an exported file."""
    return path.with_name(f"{path.name}.json")


def read_export(path: Path, remedy: str) -> ExportRecord:
    """Reads the record of an exported file that is to stand in for a network.

    Raises:
        UserError: the file or its record is missing or damaged, or the file gives no logits; ends with `remedy`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {remedy}")
    if not record_path(path).is_file():
        raise UserError(f"{path}: has no record beside it ({record_path(path).name}); {remedy}")
    record = read_record(record_path(path), ExportRecord)
    if record.digest != file_digest(path):
        raise damaged(path, f"its content is not that of its record {record_path(path).name}")
    if record.options.head != "logits":
        raise UserError(f"{path}: gives {record.options.head}, and logits are needed here (head=logits); {remedy}")
    return record
