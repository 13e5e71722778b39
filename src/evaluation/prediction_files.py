"""Writes predictions: as pictures to look at, or as the files that a benchmark's server takes."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.data.sources.cityscapes_labels import to_label_ids
from src.errors import UserError
from src.files import atomic_path
from src.reports.pictures import Palette, colourise, overlay, save_png

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip, so that the same predictions give the same archive


@dataclass(frozen=True)
class Pictures:
    """Writes `labels/`, `colours/` and `overlays/` into a folder."""

    folder: Path
    palette: Palette
    opacity: float  # of the colours in the overlays, 0 to 1

    def write(self, name: str, image: np.ndarray, ids: np.ndarray) -> None:
        """Writes the pictures of an image uint8 `(H, W, 3)` and its predicted ids uint8 `(H, W)`; `name` has `.png`."""
        save_png(self.folder / "labels" / name, ids)
        save_png(self.folder / "colours" / name, colourise(ids, self.palette))
        save_png(self.folder / "overlays" / name, overlay(image, ids, self.palette, self.opacity))

    def finish(self) -> str:
        """Describes the written files for the log."""
        return f"labels/, colours/ and overlays/ in {self.folder}"


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
