"""A trained network in the hands of another program: images in, labels and pictures out."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from PIL import Image, ImageOps

from src.data.frame import RGB, ImageForm
from src.data.reading import read_image, to_rgb
from src.errors import UserError
from src.evaluation.checkpoint import load_weights
from src.evaluation.engine import use_engine
from src.evaluation.exported import EngineFile
from src.evaluation.inputs import find_images
from src.evaluation.quiet import quieten
from src.inference import predict_rows
from src.models.network import Network
from src.reports.pictures import Palette, legend, overlay, save_png
from src.runs.folder import RunFolder
from src.runs.records import Results
from src.task import SegmentationTask

WIDEST = 1024  # pixels of a picture in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The prediction for one image.

    Args:
        image: uint8 `(H, W, 3)`, RGB, or with one more channel.
        labels: uint8 `(H, W)`, 0..K-1, in the order of `classes`.
        confidence: float32 `(H, W)`, probability of the predicted class, 0..1.
        classes: name to RGB.
    """

    image: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    classes: Palette

    @cached_property
    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has; they sum to 1."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return dict(zip(self.classes, (counts / self.labels.size).tolist(), strict=True))

    def picture(self, opacity: float = 0.5) -> np.ndarray:
        """Draws the colours of the classes over the image, and a legend below: uint8 `(H + h, W, 3)`."""
        shown = overlay(self.image[..., :3], self.labels, self.classes, opacity)
        found = {name: colour for name, colour in self.classes.items() if self.shares[name] > 0}
        return np.concatenate([shown, legend(found, shown.shape[1], is_ignored=False)])

    def save(self, path: str | Path, opacity: float = 0.5) -> None:
        """Writes the picture as PNG."""
        save_png(Path(path), self.picture(opacity))

    def _repr_png_(self) -> bytes:
        """Returns the picture as IPython asks for it."""
        picture, content = Image.fromarray(self.picture()), io.BytesIO()
        picture.thumbnail((WIDEST, picture.height))
        picture.save(content, "PNG")
        return content.getvalue()

    def __repr__(self) -> str:
        largest = sorted(self.shares.items(), key=lambda each: -each[1])[:3]
        text = ", ".join(f"{name} {100 * share:.1f} %" for name, share in largest if share > 0)
        return f"Segmentation {self.labels.shape[0]}x{self.labels.shape[1]}: {text}"


class Segmentations(Mapping[str, Segmentation]):
    """The predictions for the images of a folder, by the path in it; each is computed when it is read, and not kept."""

    def __init__(self, files: dict[str, Path], segment: Callable[[Path], Segmentation]) -> None:
        self.files, self._segment = files, segment

    def __getitem__(self, name: str) -> Segmentation:
        return self._segment(self.files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"Segmentations of {len(self)} images"


class LoadedNetwork:
    """The network of a run, with its weights, on a device.

    Attributes:
        path: of the run folder.
        config: the resolved configuration of the run, as plain values.
        classes: name to RGB, in the order of the labels 0..K-1.
        protocol: the way in which an image passes through the network.

    Raises:
        UserError: the checkpoint is damaged or does not fit, or the engine was made of other weights.
    """

    def __init__(
        self,
        run: RunFolder,
        config: dict[str, Any],
        task: SegmentationTask,
        checkpoint: Path,
        fabric: L.Fabric,
        engine: EngineFile | None = None,
        form: ImageForm = RGB,
    ) -> None:
        load_weights(task, checkpoint)
        if engine is not None:
            task.network = use_engine(engine, task.network)
        self.path, self.config, self.classes = run.path, config, config["data"]["classes"]
        self.form = form
        self.protocol = task.protocol.at_own_size
        self.engine = "torch" if engine is None else engine.record.options.title
        self._run, self._task, self._device = run, task.to(fabric.device).eval(), fabric.device
        self._autocast: Callable[[], AbstractContextManager] = fabric.autocast

    @property
    def network(self) -> Network:
        """The module of torch, or the exported file in its place: images `(B, 3, H, W)` in 0..255 to `(logits,)`."""
        return cast(Network, self._task.network)

    @property
    def results(self) -> Results:
        """The evaluations of the run, each with its protocol and its confusion matrix."""
        return self._run.read_results()

    def predict(self, given: Any) -> Segmentation | Segmentations:
        """Segments an image at its own size, or each image of a folder (sub-folders too).

        Args:
            given: an array uint8 `(H, W, 3)`, RGB, or with as many channels as the run's images; a PIL image (RGB
                only); the path of a file or of a folder.

        Raises:
            UserError: no such file, a damaged one, an array or a picture of another kind, transparent pixels.
        """
        if isinstance(given, str | Path):
            path = Path(given).expanduser()
            if not path.is_dir():
                return self._segment_file(next(iter(find_images(path).files.values())))
            files = find_images(path, recursive=True).files.values()
            return Segmentations({file.relative_to(path).as_posix(): file for file in files}, self._segment_file)
        if isinstance(given, Image.Image) and self.form.channels == RGB.channels:
            if given.mode.startswith(("I", "F")):  # which Pillow would clip to 8 bits
                raise UserError(f"the PIL image: {given.mode} pixels have more than 8 bits; scale them to 0..255")
            given = to_rgb("the PIL image", ImageOps.exif_transpose(given))
        channels = self.form.channels
        if (
            not isinstance(given, np.ndarray)
            or given.dtype != np.uint8
            or given.shape[2:] != (channels,)
            or not given.size
        ):
            found = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
            kinds = "RGB, a PIL image, or a path" if channels == RGB.channels else "or a path"
            raise UserError(f"an image is uint8 (H, W, {channels}), {kinds}; given: {found}")
        return self._segment(given)

    def _segment_file(self, path: Path) -> Segmentation:
        return self._segment(read_image(path, self.form))

    def _segment(self, image: np.ndarray) -> Segmentation:
        batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(self._device)
        labels, confidence = [], []
        with torch.inference_mode(), self._autocast():
            for _, scores in predict_rows(self.network, batch, self.protocol):
                probability, ids = scores.float().softmax(dim=1).max(dim=1)
                labels.append(ids[0].to(torch.uint8).cpu())
                confidence.append(probability[0].cpu())
        return Segmentation(image, torch.cat(labels).numpy(), torch.cat(confidence).numpy(), self.classes)

    def __repr__(self) -> str:
        evaluations = self.results.evaluations
        figure = f", mIoU {self.results.own.miou:.4f} ({self.results.own.tag})" if evaluations else ""
        return f"{self.path.name}: {len(self.classes)} classes{figure}, {self.engine} on {self._device}"


def place(accelerator: str, number: str, precision: Any, given: str) -> L.Fabric:
    """Returns the device, and the precision on it. Raises UserError if the machine does not have it."""
    quieten()
    try:
        devices = [int(number)] if number else 1
        return L.Fabric(accelerator=accelerator, devices=devices, precision=precision)
    except (ValueError, TypeError, RuntimeError) as error:  # Lightning's are of all kinds
        raise UserError(f"device={given}: {error}; give auto, cpu, cuda, cuda:1 or mps") from error
