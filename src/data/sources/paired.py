"""Datasets whose splits are a folder of images and a folder of masks of the same names."""

from collections.abc import Iterator
from pathlib import Path

from src.data.listing import list_images
from src.data.source import FileSource, Sample


class PairedFolders(FileSource):
    """Images in one folder per split, masks in another, with the same names but for `ending`. Each image is a group.

    Subclasses set `folders`: of each split the folder of images and that of masks (None: the labels are kept back),
    both relative to `root`.
    """

    folders: dict[str, tuple[str, str | None]]
    ending: str = ""  # of a mask's name, which its image's does not have

    def images(self, split: str) -> Iterator[Sample]:
        folder = self.root / self.folders[split][0]
        for path in list_images(folder) if folder.is_dir() else ():
            yield Sample(path.stem, path.stem, path)

    def mask_of(self, image: Path) -> Path:
        masks = next(masks for images, masks in self.folders.values() if image.parent == self.root / images)
        assert masks is not None
        return self.root / masks / f"{image.stem}{self.ending}.png"

    def image_of(self, mask: Path) -> Path | None:
        for images, masks in self.folders.values():
            if masks is not None and mask.parent == self.root / masks and mask.stem.endswith(self.ending):
                return self.root / images / f"{mask.stem.removesuffix(self.ending)}.jpg"
        return None

    def no_images(self, split: str) -> str:
        return f"{self.root / self.folders[split][0]}: no image of split {split!r} there; unpack its archive again"

    def image_id(self, sample: Sample) -> str:
        return f"{self.dataset}/{sample.name}"
