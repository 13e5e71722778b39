"""The images that are to be segmented: found, named and measured before torch is imported."""

import glob
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from src.data.listing import foreign_fault, is_image, list_entries, walk_entries
from src.data.reading import IMAGE_SUFFIXES, read_image, read_size, read_text
from src.data.source import Sample, Source
from src.errors import DataError, UserError, shortened
from src.evaluation.ledger import RECORD
from src.evaluation.raster_files import is_raster

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv")
LIST_SUFFIX = ".txt"  # of a text file with one path per line
SCALE_MARGIN = 1.5  # a network copes with objects larger or smaller by this factor: the random scale of its training
LOOKED_AT = 100  # images whose scale is looked at: the headers of 100,000 files take a minute
NAMED = 10  # files that are left out, which are named


@dataclass(frozen=True)
class Photo:
    """One image: the name of its outputs with the suffix `.png`, its file or what identifies it, and its reader."""

    name: str
    path: Path | None
    read: Callable[[], np.ndarray]  # RGB uint8 (H, W, 3)
    drawing: str = ""  # of an image without a file, the settings that it is drawn by

    @property
    def source(self) -> str:
        """The absolute path of the file; of an image without one, its name."""
        return os.path.abspath(self.path) if self.path is not None else self.name


@dataclass(frozen=True)
class Found:
    """Image files by the names of their outputs, a line for each kind of file that was left out, a title for both."""

    files: dict[str, Path]
    left_out: tuple[str, ...] = ()
    title: str = ""


def read_sample(source: Source, sample: Sample) -> np.ndarray:
    """Reads RGB uint8 `(H, W, 3)` without the labels, which the test split of a benchmark does not have."""
    return read_image(sample.image, source.form) if sample.image else source.read(sample)[0]


def film_of(given: str) -> Path | None:
    """Returns the path of a video file or of a camera; None for others."""
    path = Path(given)
    return path if is_camera(path) or (path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()) else None


def is_camera(path: Path) -> bool:
    """Returns whether a path is that of a character device, such as `/dev/video0`."""
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def find_inputs(given: str | Sequence[str], *, recursive: bool = False) -> Found:
    """Returns the images of a file, a folder, a pattern (`photos/*.jpg`), a list in a text file, or several paths.

    Raises:
        UserError: as `find_images`; or nothing fits the pattern, the list names no file that is there, or a path is
            empty.
    """
    if "" in ([given] if isinstance(given, str) else given):
        raise UserError("input=: has an empty path; give a file, a folder or a pattern; input=. is this folder")
    if not isinstance(given, str):
        return _of_list("input", [Path(each) for each in given])
    path = Path(given)
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        # Paths in a list are relative to the folder that the list is in.
        return _of_list(f"input={path}", [path.parent / line for line in read_text(path).splitlines() if line.strip()])
    if path.exists() or not glob.has_magic(given):
        return find_images(path, recursive=recursive)
    found = sorted(Path(each) for each in glob.iglob(given, recursive=True))
    if not found:
        raise UserError(f"input={given}: no file fits this pattern; ** stands for folders, at any depth")
    base = _before_magic(path)
    inner = [os.path.relpath(each, base) for each in found if not each.is_dir()]
    inner, left_out = _without_outputs(f"input={given}", base, inner)
    return _of_list(f"input={given}", [base / each for each in inner], base, left_out)


def find_images(path: Path, *, recursive: bool = False) -> Found:
    """Returns the file itself, or the images of a folder in order, without hidden ones (`._photo.jpg` of macOS).

    Each file is looked at once: a folder of 100,000 images takes seconds.

    Args:
        recursive: whether images in sub-folders are found too; their outputs lie in folders of the same names.

    Raises:
        UserError: no such file or folder, no image in it, or two images whose outputs would share a name.
    """
    if path.is_file():
        if not is_image(path):
            known = ", ".join(IMAGE_SUFFIXES)
            raise foreign_fault(path) or UserError(f"input={path}: no image by its suffix; give one of {known}")
        return Found({path.with_suffix(".png").name: path}, title=path.resolve().stem)
    if not path.is_dir():
        raise UserError(f"input={path}: no such file or folder")
    base = os.path.join(str(path), "")
    images, others, folders = [], [], []
    for entry in walk_entries(path) if recursive else list_entries(path):
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
            images.append(entry.path.removeprefix(base))
        else:
            (folders if entry.is_dir() else others).append(entry.path.removeprefix(base))
    images, outputs = _without_outputs(f"input={path}", path, images)
    left_out = [*_left_out(f"input={path}", _without_outputs("", path, others)[0]), *outputs]
    if folders:
        left_out.append(
            f"input={path}: left out {len(folders)} sub-folders ({shortened(folders)}); recursive=true reads them too"
        )
    if not images:
        reasons = "".join(f"; {line.partition(': ')[2]}" for line in left_out)
        raise UserError(f"input={path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)}){reasons}")
    return Found(_by_name(f"input={path}", path, images), tuple(left_out), path.resolve().stem)


def _of_list(key: str, paths: Iterable[Path], base: Path | None = None, lines: Sequence[str] = ()) -> Found:
    """Returns the images among paths; their outputs are named by what follows the folder that all are in."""
    unique = list(dict.fromkeys(os.path.abspath(path) for path in paths))
    if not unique:
        raise UserError("; ".join(lines) or f"{key}: names no file")
    if not any(map(os.path.lexists, unique)):
        raise UserError(f"{key}: no file is there, the first at {unique[0]}; paths in a list start from its folder")
    base = Path(os.path.abspath(base)) if base else Path(os.path.commonpath([os.path.dirname(each) for each in unique]))
    inner = [os.path.relpath(each, base) for each in unique]
    images = [each for each in inner if each.lower().endswith(IMAGE_SUFFIXES)]
    left_out = _left_out(key, [each for each in inner if not each.lower().endswith(IMAGE_SUFFIXES)])
    if not images:
        raise UserError(f"{key}: no image ({', '.join(IMAGE_SUFFIXES)}); {'; '.join(left_out)}")
    return Found(_by_name(key, base, images), (*left_out, *lines), base.name or "list")


def _before_magic(pattern: Path) -> Path:
    """Returns the folder before the first part of a pattern that has a wildcard."""
    return next(path for path in pattern.parents if not glob.has_magic(str(path)))


def _without_outputs(key: str, base: Path, inner: Sequence[str]) -> tuple[list[str], list[str]]:
    """Leaves files out that are in output folders of `src.predict` below a folder: pictures of it are no photos.

    Returns:
        The paths of the others in the folder, and a line about the folders that were left out, if there are any.
    """

    @cache
    def outputs_around(folder: str) -> str:
        if not folder:
            return ""
        return outputs_around(os.path.dirname(folder)) or (folder if (base / folder / RECORD).is_file() else "")

    around = [outputs_around(os.path.dirname(each)) for each in inner]
    kept = [each for each, folder in zip(inner, around, strict=True) if not folder]
    if len(kept) == len(inner):
        return kept, []
    names = shortened(sorted({folder for folder in around if folder}))
    return kept, [f"{key}: left out {len(inner) - len(kept)} pictures of earlier predictions ({names})"]


def _left_out(key: str, others: Sequence[str]) -> list[str]:
    """Describes files that are no images, with a remedy for the first that could be converted."""
    if not others:
        return []
    films = [name for name in others if name.lower().endswith(VIDEO_SUFFIXES)]
    remedy = next((f"; {name} {fault.text}" for name in others if (fault := foreign_fault(Path(name)))), "")
    remedy += f"; give the video by itself, input={films[0]}" if films else ""
    suffixes = ", ".join(IMAGE_SUFFIXES)
    names = shortened(others, NAMED)
    return [f"{key}: left out {len(others)} files that are none of {suffixes}: {names}{remedy}"]


def _by_name(key: str, base: Path, inner: Sequence[str]) -> dict[str, Path]:
    """Returns paths in a folder by the names of their outputs. UserError if two have the same."""
    names = [f"{os.path.splitext(each)[0]}.png" for each in inner]
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        stem = os.path.splitext(repeated[0])[0]
        raise UserError(f"{key}: several images are called {stem}; their outputs would be one file")
    return {name: base / each for name, each in zip(names, inner, strict=True)}


def trained_short_side(size: Sequence[int], resize: Sequence[int] | Mapping[str, int] | None) -> int:
    """Returns the length of the shorter side at which training saw whole images, before its random scale.

    Args:
        size: height and width of the training images.
        resize: as of `src.data.augment.crop.Geometry`.
    """
    if resize is None:
        return min(size)
    if not isinstance(resize, Mapping):
        return min(resize)
    return resize["short"] if "short" in resize else round(resize["long"] * min(size) / max(size))


def film_size(path: Path) -> tuple[int, int]:
    """Returns height and width of a video's frames as they are stored. DataError if it is none."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return stream.height, stream.width
    except (FFmpegError, IndexError) as error:
        raise DataError(path, "unreadable", f"cannot be read as a video ({error})") from error


def note_scale(
    files: Sequence[Path],
    trained: int,
    shown: int | None,
    size_of: Callable[[Path], tuple[int, int]] | None = None,
) -> list[str]:
    """Describes the scale of the training, and the images that the network would see at another one.

    Args:
        files: of more than `LOOKED_AT`, as many are looked at, evenly spread.
        trained: shorter side of the training's images, in pixels.
        shown: shorter side that each image is resized to; None for its own.
        size_of: reads height and width from a file, by default of an image.
    """
    size_of = size_of or read_size
    sides = {}
    looked = files[:: -(-len(files) // LOOKED_AT)] if files else files
    for file in looked:
        try:
            if is_raster(file):
                continue  # is seen by tiles
            sides[file] = shown or min(size_of(file))
        except DataError:
            continue  # reported when it is decoded
    lines = [f"the network was trained on images with a short side of {trained} pixels"]
    other = [file for file, side in sides.items() if not 1 / SCALE_MARGIN <= side / trained <= SCALE_MARGIN]
    if other:
        of = f"{len(looked)} images" + (f" that were looked at, of {len(files)}," if len(looked) < len(files) else "")
        lines.append(
            f"{len(other)} of {of} reach it at another scale (first: {other[0].name}, short side "
            f"{sides[other[0]]}), so that their classes may be wrong: inference.short_side={trained} resizes them"
        )
    return lines
