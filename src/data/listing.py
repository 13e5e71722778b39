"""Lists the files of a dataset: without hidden ones, and through links to folders, though never in a circle."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from src.data.reading import IMAGE_SUFFIXES
from src.errors import DataError, UserError

# Pictures that this program does not read, by their suffix.
FOREIGN = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"), ".avif": "AVIF", ".jxl": "JPEG XL", ".gif": "GIF",
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf"), "JPEG 2000"), ".svg": "SVG", ".psd": "PSD", ".exr": "OpenEXR",
    **dict.fromkeys((".ppm", ".pgm", ".pnm", ".tga"), "an old format"), ".hdr": "HDR",
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".raw"), "a camera's RAW"
    ),
}  # fmt: skip


def foreign_fault(path: Path) -> DataError | None:
    """Returns the error about a picture of a format that is not read, with the remedy; None for other files."""
    if (name := FOREIGN.get(path.suffix.lower())) is None:
        return None
    text = f"is {name}, which is not read; convert it, such as by ImageMagick: magick {shlex.quote(path.name)} " + (
        f"{shlex.quote(path.stem + '.png')}, or remove it"
    )
    return DataError(path, "unreadable", text)


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder, sorted. UserError if it cannot be listed."""
    return [path for path in (Path(entry) for entry in list_entries(folder) if not entry.is_dir()) if is_image(path)]


def list_folders(folder: Path) -> list[Path]:
    """Folders of a folder, sorted. UserError if it cannot be listed."""
    return [Path(entry) for entry in list_entries(folder) if entry.is_dir()]


def walk(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, sorted by the parts of their paths. UserError if it cannot be listed."""
    return (Path(entry) for entry in walk_entries(folder))


def walk_entries(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[os.DirEntry[str]]:
    """Yields the entries of `walk`, which know without another call of the system whether they are regular files.

    A link to one of the folders `above`, or to one that contains them, is not followed.
    """
    real = folder.resolve()
    above |= {real, *real.parents}
    for entry in list_entries(folder):
        if not entry.is_dir():
            yield entry
        elif Path(entry).resolve() not in above:
            yield from walk_entries(Path(entry), above)


def list_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder that are not hidden, sorted by name. UserError if it cannot be listed."""
    try:
        return sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
