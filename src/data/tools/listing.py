"""All samples of a dataset that has faults: what its own listing refuses is noted and set aside, and it is asked again.

Datasets stop at the first image without its mask, as they should when a training starts. So that `src.check` can name
all of them, and no dataset need know of it, they list a shadow of their folder, made of links, from which the refused
file is taken away. The data are not touched.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.progress import Progress

from src.data.reading import IMAGE_SUFFIXES
from src.data.source import Sample, Source


@dataclass
class Listing:
    """What is there: samples by split, what the listing refused as (split, message, file), and every file."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    refused: list[tuple[str, str, Path | None]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def list_all(build: Callable[[str], Source], root: Path, splits: Iterable[str]) -> Listing:
    """Lists `splits` of the dataset that `build` makes of a root. Without samples: those that cannot be listed at all.

    A refusal without a file is of a split that cannot be listed: its folder is missing, its list of names is wrong.
    """
    listing, root, splits = Listing(), root.expanduser().absolute(), list(splits)
    with tempfile.TemporaryDirectory(prefix="streetseg-check-") as temporary, Progress() as bar:
        shadow, task = Path(temporary) / root.name, bar.add_task("list", total=len(splits))
        links = _mirror(root, shadow, frozenset())
        listing.files = [root / link.relative_to(shadow) for link in links]
        images = [link for link in links if _is_image(link)]
        by_path, by_stem = ({key(link): link for link in reversed(images)} for key in (str, lambda link: link.stem))
        source = build(str(shadow))
        for split in splits:
            while split not in listing.samples:
                try:
                    listing.samples[split] = source.samples(split)
                except (ValueError, OSError) as error:
                    link = _named(str(error), by_path, by_stem)
                    file = root / link.relative_to(shadow) if link else None
                    listing.refused.append((split, str(error).replace(str(shadow), str(root)), file))
                    bar.update(task, description=f"list ({len(listing.refused)} refused)")
                    if link is None:
                        break
                    link.unlink()
                    del by_path[str(link)]
            bar.advance(task)

        def real(path: Path | None) -> Path | None:
            return root / path.relative_to(shadow) if path else None

        for split, samples in listing.samples.items():
            listing.samples[split] = [
                replace(sample, image=real(sample.image), mask=real(sample.mask)) for sample in samples
            ]
    return listing


def _mirror(folder: Path, shadow: Path, above: frozenset[str]) -> list[Path]:
    """Links to all files below a folder, sorted; hidden folders, and links back to a folder above, are left out."""
    above |= {os.path.realpath(folder)}
    shadow.mkdir()
    links = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        link = shadow / entry.name
        if not entry.is_dir():
            link.symlink_to(entry.path)
            links.append(link)
        elif not entry.name.startswith(".") and os.path.realpath(entry.path) not in above:
            links += _mirror(Path(entry.path), link, above)
    return links


def _named(message: str, by_path: dict[str, Path], by_stem: dict[str, Path]) -> Path | None:
    """The image file that a message names, at its beginning by path or stem, or between quotes by path."""
    head = message.partition(": ")[0]
    names = [by_path.get(name) for name in (head, *re.findall(r"'([^']+)'", message))]
    return next((link for link in names if link), None) or by_path.get(str(by_stem.get(head)))


def masks_without_image(samples: Iterable[Sample], files: Iterable[Path]) -> list[Path]:
    """Masks whose image is not there.

    Where masks are, and what they are called, is learnt from the pairs that are there: `image_2/um_000001` and
    `gt_image_2/um_road_000001` differ by a folder and `road_`, so that `um_lane_000001` is no mask of this dataset.
    """
    pairs = [(sample.image, sample.mask) for sample in samples if sample.mask is not None]
    rules = {(_moved(image.parent, mask.parent), _difference(image.stem, mask.stem)) for image, mask in pairs}
    images = {(path.parent, path.stem) for path in files if _is_image(path)}
    used = {mask for _, mask in pairs}
    orphans = []
    for path in files:
        if path in used or not _is_image(path):
            continue
        expected = set()
        for moved, difference in rules:
            folder, stem = _move_back(path.parent, moved), _undo(path.stem, *difference)
            if folder and stem:
                expected.add((folder, stem))
        if expected and not expected & images:
            orphans.append(path)
    return orphans


def _moved(images: Path, masks: Path) -> tuple[int, tuple[tuple[int, str, str], ...]]:
    """How deep folders of masks are (-1: as their images' are not), and which parts of their paths differ."""
    same_depth = len(images.parts) == len(masks.parts)
    parts = enumerate(zip(images.parts, masks.parts, strict=False))
    return len(masks.parts) if same_depth else -1, tuple((place, *pair) for place, pair in parts if pair[0] != pair[1])


def _move_back(folder: Path, rule: tuple[int, tuple[tuple[int, str, str], ...]]) -> Path | None:
    """The images' folder of a masks' folder; None where it is not called as those are."""
    depth, changes = rule
    parts = list(folder.parts)
    if len(parts) != depth or any(parts[place] != mask for place, _, mask in changes):
        return None
    for place, image, _ in changes:
        parts[place] = image
    return Path(*parts)


def files_not_read(samples: Iterable[Sample], files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Files among the images that are none by their suffix (`.gif`, `.png.part`), by folder; hidden ones apart."""
    samples = list(samples)
    folders = {sample.image.parent for sample in samples}
    found: dict[Path, list[Path]] = {}
    for path in files:
        junk = path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")
        if path.parent in folders and path.suffix.lower() not in IMAGE_SUFFIXES and not junk:
            found.setdefault(path.parent, []).append(path)
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _difference(image: str, mask: str) -> tuple[str, str, bool]:
    """What an image's name has where its mask's has something else, and whether that is the end of both."""
    start = _num_equal(image, mask)
    image, mask = image[start:], mask[start:]
    end = _num_equal(image[::-1], mask[::-1])
    return image[: len(image) - end], mask[: len(mask) - end], end == 0


def _num_equal(first: str, second: str) -> int:
    """Characters that both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _undo(stem: str, in_image: str, in_mask: str, at_end: bool) -> str | None:
    """The image's name of a mask's; None where it is not called as a mask is, or that does not tell."""
    if not in_mask:
        return stem + in_image if at_end else None
    before, found, after = stem.rpartition(in_mask)
    return None if not found or (at_end and after) else before + in_image + after
