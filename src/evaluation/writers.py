"""Writes predictions: pictures to look at and arrays to use, or the files that a benchmark's server takes."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from src.data.sources.cityscapes_labels import to_label_ids
from src.errors import UserError
from src.evaluation.segmenter import Segmented
from src.evaluation.wanted import Wanted
from src.files import atomic_path, write_json
from src.reports.pictures import as_rgb, colourise, legend, overlay, save_png

LEGEND = 640  # pixels of its width
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip, so that the same predictions give the same archive
FAST = 1  # compression of pictures for people


class Writer(Protocol):
    """Writes the files of a prediction."""

    def files(self, name: str) -> list[Path]:
        """Returns the paths of the files of one image."""
        ...

    def write(self, name: str, image: np.ndarray, segmented: Segmented) -> None:
        """Writes the files of an image uint8 `(H, W, 3)`; `name` has the suffix `.png`."""
        ...

    def finish(self, names: Sequence[str]) -> str:
        """Writes what all images share, when they are done, and describes the written files for the log."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Writes `labels/`, `colours/`, `overlays/`, `confidence/` and `probabilities/`, each at the size of the image."""

    folder: Path
    wanted: Wanted

    def files(self, name: str, kinds: Sequence[str] | None = None) -> list[Path]:
        """Returns the paths of the files of one image, all or some kinds."""
        return [self._file(kind, name) for kind in (self.wanted.outputs if kinds is None else kinds)]

    def _file(self, kind: str, name: str) -> Path:
        return self.folder / kind / (f"{name.removesuffix('.png')}.npz" if kind == "probabilities" else name)

    def write(self, name: str, image: np.ndarray, segmented: Segmented, kinds: Sequence[str] | None = None) -> None:
        """Writes the files of an image uint8 `(H, W, 3)`, all or some kinds; `name` has the suffix `.png`."""
        ids, wanted = segmented.ids, self.wanted
        for kind in wanted.outputs if kinds is None else kinds:
            path = self._file(kind, name)
            if kind == "labels":
                save_png(path, ids, wanted.classes if wanted.palette else None)
            elif kind == "confidence":
                assert segmented.confidence is not None
                save_png(path, segmented.confidence, level=FAST)
            elif kind == "probabilities":
                assert segmented.probabilities is not None
                with atomic_path(path) as temporary:
                    np.savez_compressed(
                        temporary, probabilities=segmented.probabilities, classes=np.array(list(wanted.classes))
                    )
            else:
                save_png(path, draw(kind, image, ids, wanted), level=FAST)

    def finish(self, names: Sequence[str]) -> str:
        """Writes `legend.png` and `class_map.json`, which pictures of any size share."""
        write_legend(self.folder, self.wanted)
        kinds = "".join(f"{kind}/, " for kind in self.wanted.outputs)
        return f"{kinds}legend.png and class_map.json in {self.folder}"


def write_legend(folder: Path, wanted: Wanted) -> None:
    """Writes `legend.png`, the colours of the classes, and `class_map.json`, their names by the ids of label PNGs."""
    save_png(folder / "legend.png", legend(wanted.shown, LEGEND, is_ignored=False))
    write_json(folder / "class_map.json", {str(number): name for number, name in enumerate(wanted.classes)})


def draw(kind: str, image: np.ndarray, ids: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Draws `colours` or `overlays` uint8 `(H, W, 3)`; classes that are not kept are black, or show the image."""
    if kind == "colours":
        return colourise(ids, wanted.classes)
    image = as_rgb(image)
    if wanted.kept is None:
        return overlay(image, ids, wanted.classes, wanted.opacity)
    return np.where((ids == 255)[..., None], image, overlay(image, ids, wanted.classes, wanted.opacity))


class LabelIds:
    """Writes PNGs of Cityscapes' label ids under a benchmark's names, and an archive of them, `<folder>.zip`.

    Raises:
        UserError: the archive exists already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder.with_name(f"{folder.name}.zip")
        if self.archive.exists():
            raise UserError(f"{self.archive}: exists, and nothing is overwritten; give another output=FOLDER")

    def files(self, name: str) -> list[Path]:
        """Returns the path of the file of one image."""
        return [self.folder / name]

    def write(self, name: str, image: np.ndarray, segmented: Segmented) -> None:
        """Writes ids uint8 `(H, W)`, 0..18, at the image's own size; `name` is that of `Source.official_path`."""
        save_png(self.folder / name, to_label_ids(segmented.ids))

    def finish(self, names: Sequence[str]) -> str:
        """Zips the files, and names the archive for the log."""
        with atomic_path(self.archive) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(names):
                # Stored without compression, which a PNG has already.
                archive.writestr(zipfile.ZipInfo(name, EPOCH), (self.folder / name).read_bytes())
        return f"label ids in {self.folder}, zipped for the server: {self.archive}"
