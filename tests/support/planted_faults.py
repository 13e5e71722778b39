"""Plants faults of many kinds into CamVid's layout for `src.check` to find."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

Found = set[tuple[str, frozenset[str] | str]]  # (kind, its files, or its text if it has none)


def plant(root: Path) -> Found:
    """Plants faults of 17 kinds, in 22 forms, into frames of CamVid's layout. Returns the faults to be found."""
    frames = iter(sorted((root / "train").iterdir())[::3])
    rng = np.random.default_rng(1)
    planted: Found = set()

    def add(kind: str, *paths: Path) -> None:
        planted.add((kind, frozenset(path.relative_to(root).as_posix() for path in paths)))

    def mask_of(image: Path) -> Path:
        return image.parent.with_name(f"{image.parent.name}annot") / f"{image.stem}.png"

    def labels(image: Path) -> np.ndarray:
        return np.array(Image.open(mask_of(image)))

    def replace(image: Path, picture: Image.Image, suffix: str, **options: object) -> Path:
        image.unlink()
        picture.save(image.with_suffix(suffix), **options)
        return image.with_suffix(suffix)

    for _ in range(2):
        mask_of(image := next(frames)).unlink()
        add("missing mask", image)
    for image in (next(frames), sorted((root / "val").iterdir())[0]):
        image.unlink()
        add("mask without image", mask_of(image))
    image = next(frames)
    image.write_bytes(image.read_bytes()[: image.stat().st_size * 2 // 3])
    add("unreadable", image)
    mask_of(image := next(frames)).write_text("not a picture")
    add("unreadable", mask_of(image))
    (image := next(frames)).write_bytes(b"")
    add("unreadable", image)
    for wrong in ({12: 7, 40: 3}, {12: 1}):
        ids = labels(image := next(frames))
        ids.flat[:10] = [label for label, count in wrong.items() for _ in range(count)] + [0] * (
            10 - sum(wrong.values())
        )
        Image.fromarray(ids).save(mask_of(image))
        add("label", mask_of(image))
    ids = labels(image := next(frames))
    Image.fromarray(ids[::2, ::2]).save(mask_of(image))
    add("size", mask_of(image))
    image = next(frames)
    size = ids.shape[::-1]
    deep = Image.fromarray(rng.integers(0, 2**16, size[::-1], dtype=np.uint16))
    add("pixel format", replace(image, deep, ".png"))
    Image.open(mask_of(image := next(frames))).convert("RGB").save(mask_of(image))
    add("pixel format", mask_of(image))
    ids = labels(image := next(frames))
    Image.fromarray(ids.astype(np.uint16)).save(mask_of(image))
    add("pixel format", mask_of(image))
    for kind, folder, flip in (("leak", "val", 1), ("duplicate", "train", 1), ("contradiction", "train", -1)):
        ids = labels(image := next(frames))
        ids[ids == 10] = 0  # for the empty class below
        Image.fromarray(ids).save(mask_of(image))
        twin = root / folder / f"0016E5_9{flip + 1}999{image.suffix}"
        shutil.copy(image, twin)
        Image.fromarray(ids[:, ::flip]).save(mask_of(twin))
        add(kind, image, twin)
    image = next(frames)
    twin = image.with_suffix(".webp")
    shutil.copy(image, twin)
    add("listing", twin)
    image = next(frames)
    add("alpha or CMYK", replace(image, Image.open(image).convert("RGBA"), ".png"))
    image = next(frames)
    add("alpha or CMYK", replace(image, Image.open(image).convert("CMYK"), ".jpg"))
    image, exif = next(frames), Image.Exif()
    exif[0x0112] = 3
    add("turned by EXIF", replace(image, Image.open(image).copy(), ".jpg", exif=exif))
    image = next(frames)
    add("blank image", replace(image, Image.new("RGB", size), ".png"))
    ids = labels(image := next(frames))
    Image.fromarray(np.full_like(ids, 11)).save(mask_of(image))
    add("void mask", mask_of(image))
    first, second = next(frames), next(frames)
    shutil.copy(mask_of(first), mask_of(second))
    add("shared mask", mask_of(first), mask_of(second))
    Image.open(next(frames)).save(root / "train" / "preview.gif")
    add("not read", root / "train" / "preview.gif")
    for path in (root / "valannot").iterdir():
        ids = np.array(Image.open(path))
        ids[ids == 10] = 11
        Image.fromarray(ids).save(path)
    return planted | {("empty class", "split val: no pixel of class Bicyclist")}
