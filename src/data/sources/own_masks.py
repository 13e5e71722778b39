"""Decides whether the masks of a user's own dataset hold labels or colours, by what each file shows."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from src.data.reading import ids_of_labels, open_mask
from src.data.source import Colour
from src.data.sources.colours import ids_of_colours
from src.errors import DataError
from src.labels import IGNORE_INDEX

KINDS = ("auto", "index", "colour")
REMEDY = "set data.masks=index if masks hold labels, or data.masks=colour if they hold the colours of the class list"


class OwnMasks:
    """Reads masks as ids.

    With `auto`, a file is read in the way in which the class list knows all of its values. If it knows them in both
    ways, and these differ, an RGB file and a palette of colours are read as colours, and a grey file is refused. A
    palette PNG read by labels is refused if its palette contradicts the list, or the palette of an earlier file.

    Args:
        kind: one of KINDS.
        colours: the id of each colour.
        table: the id of each label; 255 is void, whether the class list says so or not.
        void_is_listed: whether the class list itself has the label 255.
    """

    def __init__(self, kind: str, colours: dict[Colour, int], table: dict[int, int], void_is_listed: bool) -> None:
        self.kind, self.colours, self.table, self.void_is_listed = kind, colours, table, void_is_listed
        self.num_classes = len({*table.values()} - {IGNORE_INDEX})
        self.palette: dict[int, Colour] = {}  # the colour of each label in the palettes that were read

    def read(self, path: Path) -> np.ndarray:
        """Reads ids uint8 `(H, W)`, 0..K-1 or 255.

        Raises:
            DataError: the file cannot be read, has values outside the list, or may be read in two ways.
        """
        mask = open_mask(path)
        if self.kind == "colour":
            return ids_of_colours(path, np.asarray(mask.convert("RGB")), self.colours)
        if mask.mode == "RGB":
            return self._read_rgb(path, np.asarray(mask))
        raw = np.asarray(mask, dtype=np.uint8)
        if self.kind == "auto" and self._has_colours(path, mask, raw):
            return ids_of_colours(path, np.asarray(mask.convert("RGB")), self.colours)
        return ids_of_labels(path, raw, self.table)

    def _read_rgb(self, path: Path, image: np.ndarray) -> np.ndarray:
        """Reads colours; or, from three equal channels, labels if `kind` says so."""
        if self.kind == "index":
            if not _is_grey(image):
                text = "data.masks=index, but this mask is RGB with channels that differ; set data.masks=colour"
                raise DataError(path, "pixel format", text)
            return ids_of_labels(path, np.ascontiguousarray(image[..., 0]), self.table)
        try:
            ids = ids_of_colours(path, image, self.colours)
        except DataError as fault:
            if _is_grey(image) and all(value in self.table for value in _used(image[..., 0])):
                text = f"{fault.text}; or, as its three channels are equal labels of the list, set data.masks=index"
                raise DataError(path, "colour", text, fault.counts) from fault
            raise
        # Only colours that are also another class's label leave a doubt. That 255 is void by itself is none.
        doubtful = {(label,) * 3 for label in self.table if label != IGNORE_INDEX or self.void_is_listed}
        if doubtful & self.colours.keys() and _is_grey(image):
            used = _used(image[..., 0])
            is_known = all((value,) * 3 in doubtful for value in used)
            if is_known and any(self.table[value] != self.colours[value, value, value] for value in used):
                raise self._two_ways(path)
        return ids

    def _has_colours(self, path: Path, mask: Image.Image, raw: np.ndarray) -> bool:
        """Whether a file of one channel is to be read by its colours. DataError if that cannot be known."""
        used = _used(raw)
        shown = _shown(mask, used)
        labels = {value: self.table.get(value) for value in used}
        colours = {value: self.colours.get(shown[value]) for value in used}
        is_picture = any(len(set(colour)) > 1 for colour in shown.values())
        if None not in colours.values():
            if None in labels.values() or (is_picture and labels != colours):
                return True
            if labels != colours:
                raise self._two_ways(path)
        elif None in labels.values():
            return is_picture and any(found is not None for found in colours.values())  # either way an error
        elif is_picture:
            self._check_palette(path, shown, labels, colours)
        elif used == [0, IGNORE_INDEX] and self.num_classes == 2 and not self.void_is_listed:
            text = (
                "holds 0 and 255 alone, and the class list does not say what 255 is; add the line `ignore: 255 255 255 "
                "255` to it if that is void, or give the class the colour 255 255 255 and set data.masks=colour"
            )
            raise DataError(path, "kind of mask", text)
        return False

    def _check_palette(
        self, path: Path, shown: dict[int, Colour], labels: dict[int, int | None], colours: dict[int, int | None]
    ) -> None:
        """Raises DataError if a palette contradicts the class list, or the palettes of other files."""
        for value, colour in shown.items():
            if colours[value] not in (None, labels[value]):
                text = f"label {value} has the colour {colour}, which is another class's in the class list; {REMEDY}"
                raise DataError(path, "kind of mask", text)
            if (other := self.palette.setdefault(value, colour)) != colour:
                text = f"label {value} has the colour {colour} in its palette, but {other} in another file's; {REMEDY}"
                raise DataError(path, "kind of mask", text)

    def _two_ways(self, path: Path) -> DataError:
        text = f"its greys are labels and colours of different classes in the class list; {REMEDY}"
        return DataError(path, "kind of mask", text)


def _used(raw: np.ndarray) -> list[int]:
    """The values of a channel uint8 `(H, W)`, in order."""
    counts = cv2.calcHist([np.ascontiguousarray(raw)], [0], None, [256], [0, 256])
    return np.flatnonzero(counts).tolist()


def _shown(mask: Image.Image, used: list[int]) -> dict[int, Colour]:
    """The colour in which a viewer shows each value of a file of one channel."""
    if mask.mode != "P":
        scale = 255 if mask.mode == "1" else 1
        return {value: (value * scale, value * scale, value * scale) for value in used}
    palette = np.zeros((256, 3), dtype=np.uint8)
    entries = np.array(mask.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette[: len(entries)] = entries
    return {value: (int(palette[value, 0]), int(palette[value, 1]), int(palette[value, 2])) for value in used}


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())
