"""Draws an export once, into the layout of `data=folder`: images, masks and the list of classes."""

import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from src.data.frame import Colour
from src.data.grouping import IGNORE, RESERVED
from src.data.imports.shapes import Export, LabelledImage
from src.data.listing import list_images
from src.data.reading import read_size
from src.data.sources.colours import voc_colour
from src.data.sources.folder import CLASS_FILES, read_classes
from src.data.threads import in_threads
from src.errors import UserError, shortened
from src.files import atomic_folder, write_text
from src.labels import IGNORE_INDEX

BACKGROUND = "background"
NUM_PAIRS = 5  # of overlapping classes that the report names


@dataclass
class Drawn:
    """The pixels of the masks that were drawn."""

    pixels: Counter[str] = field(default_factory=Counter)  # by class; `unlabelled` is that of no class
    covered: Counter[tuple[str, str]] = field(default_factory=Counter)  # by the class above and the class below
    num_images: int = 0

    def add(self, other: "Drawn") -> None:
        self.pixels.update(other.pixels)
        self.covered.update(other.covered)
        self.num_images += other.num_images


UNLABELLED = ""  # the name of no class


def write_dataset(
    export: Export, out: Path, split: str | None, unlabelled: str, classes: list[str] | None, *, link: bool
) -> tuple[Drawn, list[str]]:
    """Writes `out/images`, `out/masks` and `out/classes.txt`; with a split `out/images/SPLIT`, `out/masks/SPLIT`.

    A split joins those that are there, if the list of classes is the same. Returns the pixels drawn, and notes.

    Args:
        unlabelled: `ignore`, pixels of no area are not learnt, and images without areas are left out; or
            `background`, they are a class of this name, the first.
        classes: names in the order of the ids; None: as the export lists them, or sorted by name.
        link: links the images in place of copying them.

    Raises:
        UserError: something is there already, a class that is not listed, names that collide, an image of another size
            than the export says.
    """
    listed = _listed_before(out) if split else None
    names = classes or export.classes
    used = sorted({shape.label for image in export.images for shape in image.shapes})
    if names is None:
        names = [name for name in listed if name not in (IGNORE, BACKGROUND)] if listed else used
    if unlabelled == BACKGROUND and BACKGROUND not in names:
        names = [BACKGROUND, *names]
    _check_names(names, used)
    colours = _colours(names, export.colours)
    if listed is not None and list(listed.items()) != list(colours.items()):
        raise UserError(
            f"{out / CLASS_FILES[0]}: lists other classes ({', '.join(listed)}) than this export ({', '.join(names)}); "
            "give classes=[...] to both, or another out="
        )
    notes = [f"left out {count} of the kind {kind}, which is no area" for kind, count in export.left_out.items()]
    images = export.images
    if unlabelled == IGNORE and (empty := [image.name for image in images if not image.shapes]):
        images = [image for image in images if image.shapes]
        notes.append(
            f"left out {len(empty)} images without an area ({shortened(empty)}); unlabelled=background has them"
        )
    if not images:
        raise UserError("no image with an area in this export; look at input= and images=")
    if twice := [name for name, count in Counter(image.name for image in images).items() if count > 1]:
        raise UserError(f"{twice[0]}: several images of this name; their masks would be one file")
    base = names.index(BACKGROUND) if unlabelled == BACKGROUND else IGNORE_INDEX
    ids = {name: index for index, name in enumerate(names)}
    with ExitStack() as stack:
        folders = _open(stack, out, split)

        def draw(image: LabelledImage) -> Drawn:
            return _write(image, ids, base, colours, folders, link=link)

        drawn = Drawn()
        for each in in_threads(draw, images, 2, "draw"):
            drawn.add(each)
        if listed is None:
            lines = [f"{name}: {' '.join(map(str, colour))}\n" for name, colour in colours.items()]
            place = out if split else folders[0].parent
            write_text(place / CLASS_FILES[0], "".join(lines))
    return drawn, notes


def _listed_before(out: Path) -> dict[str, Colour] | None:
    file = out / CLASS_FILES[0]
    return read_classes(file)[0] if file.is_file() else None


def _open(stack: ExitStack, out: Path, split: str | None) -> tuple[Path, Path]:
    """Returns new folders for images and masks, which take their place when the stack is left without an error."""
    busy = f"out={out}: another process writes there; wait for it"
    targets = [out / "images" / split, out / "masks" / split] if split else [out]
    for target in targets:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target}: exists, and nothing is overwritten; give another out= or split=, or remove it")
    if split and (out / "images").is_dir() and list_images(out / "images"):
        raise UserError(
            f"{out}: holds images without a split, and split={split} would stand beside them; give another out="
        )
    made = [stack.enter_context(atomic_folder(target, busy)) for target in targets]  # masks are in place first
    return (made[0], made[1]) if split else (made[0] / "images", made[0] / "masks")


def _check_names(names: list[str], used: list[str]) -> None:
    if unknown := [name for name in used if name not in names]:
        raise UserError(f"{unknown[0]!r} is not in the list of classes ({', '.join(names)}); give it in classes=[...]")
    for name in names:
        if ":" in name or "#" in name or name.strip("'\" \t") != name or not name or name in (IGNORE, *RESERVED):
            raise UserError(f"the class {name!r} cannot stand in classes.txt; rename it in the annotation tool")
    if len(set(names)) < len(names) or not 2 <= len(names) < IGNORE_INDEX:
        raise UserError(
            f"{len(names)} classes ({shortened(names, 9)}): must be 2 to 254 different ones; with one, give "
            "unlabelled=background"
        )


def _colours(names: list[str], given: dict[str, Colour]) -> dict[str, Colour]:
    """The colours of the export, if no two are the same; others as Pascal VOC numbers them, without repeats."""
    colours: dict[str, Colour] = {}
    own = {name: given[name] for name in names if name in given}
    if len(set(own.values())) < len(own):
        own = {}
    number = 0 if BACKGROUND in names else 1  # black is the background's
    for name in names:
        colour = own.get(name)
        while colour is None or (name not in own and colour in (*own.values(), *colours.values())):
            colour, number = voc_colour(number), number + 1
        colours[name] = colour
    return colours


def _write(
    image: LabelledImage, ids: dict[str, int], base: int, colours: dict[str, Colour], folders: tuple[Path, Path], *,
    link: bool,
) -> Drawn:  # fmt: skip
    size = read_size(image.image, upright=True)
    if image.size not in (None, size):
        assert image.size is not None
        turned = (
            "; its EXIF tag turns it: draw on the turned image, or remove the tag" if image.size == size[::-1] else ""
        )
        raise UserError(
            f"{image.image}: is {size[0]}x{size[1]} (HxW), and the export says {image.size[0]}x{image.size[1]}{turned}"
            "; give the images that were labelled"
        )
    mask, drawn = draw_mask(image, ids, base, size)
    pictures, masks = folders
    target = pictures / f"{image.name}{image.image.suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(image.image.resolve())
    else:
        shutil.copyfile(image.image, target)
    # The colour of 255 must be none of a class's, by which a reader of colours would take it for that class.
    void = next(colour for colour in map(voc_colour, range(255, -1, -1)) if colour not in colours.values())
    palette = np.full((256, 3), void, dtype=np.uint8)
    palette[: len(colours)] = list(colours.values())
    picture = Image.fromarray(mask)
    picture.putpalette(palette.tobytes())
    (masks / image.name).parent.mkdir(parents=True, exist_ok=True)
    picture.save(masks / f"{image.name}.png")
    return drawn


def draw_mask(image: LabelledImage, ids: dict[str, int], base: int, size: tuple[int, int]) -> tuple[np.ndarray, Drawn]:
    """Draws the areas of an image in their order: ids uint8 `(H, W)`, `base` if no area is there.

    Args:
        ids: by name of a class.
        size: height and width.
    """
    mask = np.full(size, IGNORE_INDEX, dtype=np.uint8)  # of no area
    names, drawn = list(ids), Drawn(num_images=1)
    for shape in image.shapes:
        part, inside = shape.cover(size)
        new = ids[shape.label]
        for old, count in zip(*np.unique(mask[part][inside], return_counts=True), strict=True):
            if old not in (IGNORE_INDEX, new):
                drawn.covered[shape.label, names[old]] += int(count)
        mask[part][inside] = new
    counts = np.bincount(mask.ravel(), minlength=256)
    drawn.pixels.update({name: int(counts[index]) for name, index in ids.items()})
    drawn.pixels[UNLABELLED] += int(counts[IGNORE_INDEX])
    mask[mask == IGNORE_INDEX] = base
    return mask, drawn


def describe(drawn: Drawn, unlabelled: str) -> list[str]:
    """Describes the masks for the log: shares of the classes, what no area has, and which classes covered others."""
    total = sum(drawn.pixels.values())
    shares = ", ".join(f"{name} {100 * n / total:.2f} %" for name, n in drawn.pixels.items() if name != UNLABELLED)
    meaning = "the class background" if unlabelled == BACKGROUND else "ignored (255)"
    lines = [
        f"{drawn.num_images} images; pixels: {shares}",
        f"in no area: {100 * drawn.pixels[UNLABELLED] / total:.2f} % of the pixels, {meaning}",
    ]
    for (above, below), count in drawn.covered.most_common(NUM_PAIRS):
        lines.append(f"overlap: {above} covers {count} pixels of {below}, for it comes later in the file")
    return lines
