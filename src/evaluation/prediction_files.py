"""What a prediction is written as: pictures to look at, or the files that a benchmark's server takes."""

import zipfile
from pathlib import Path

import numpy as np

from src.data.sources.cityscapes_labels import to_label_ids
from src.errors import UserError
from src.files import atomic_path
from src.reports.pictures import Palette, colourise, overlay, save_png

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same predictions give the same archive


class Pictures:
    """`labels/`, `colours/` and `overlays/` in a folder.

    Args:
        opacity: of the colours in the overlays, 0 to 1.
    """

    def __init__(self, folder: Path, palette: Palette, opacity: float) -> None:
        self.folder, self.palette, self.opacity = folder, palette, opacity

    def write(self, name: str, image: np.ndarray, ids: np.ndarray) -> None:
        """Image uint8 `(H, W, 3)` and its predicted ids uint8 `(H, W)`; `name` with `.png`."""
        save_png(self.folder / "labels" / name, ids)
        save_png(self.folder / "colours" / name, colourise(ids, self.palette))
        save_png(self.folder / "overlays" / name, overlay(image, ids, self.palette, self.opacity))

    def finish(self) -> str:
        """What was written, for the log."""
        return f"labels/, colours/ and overlays/ in {self.folder}"


class LabelIds:
    """PNGs of Cityscapes' label ids under a benchmark's names, and an archive of them, `<folder>.zip`.

    Raises:
        UserError: the archive is there already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder.with_name(f"{folder.name}.zip")
        self.names: list[str] = []
        if self.archive.exists():
            raise UserError(f"{self.archive}: exists, and nothing is overwritten; give another output=FOLDER")

    def write(self, name: str, image: np.ndarray, ids: np.ndarray) -> None:
        """Predicted ids uint8 `(H, W)`, 0..18, at the image's own size; `name` as `Source.official_path` gives it."""
        save_png(self.folder / name, to_label_ids(ids))
        self.names.append(name)

    def finish(self) -> str:
        """Zips what was written, and says where it is."""
        with atomic_path(self.archive) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(self.names):
                # Stored: a PNG is compressed already.
                archive.writestr(zipfile.ZipInfo(name, EPOCH), (self.folder / name).read_bytes())
        return f"label ids in {self.folder}, zipped for the server: {self.archive}"
