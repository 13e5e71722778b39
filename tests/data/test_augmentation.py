"""Augmentation against independent formulations: scale-then-crop on whole frames, albumentations, complex numbers."""

from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import open_dict

from src.data.augment.crop import Geometry
from src.data.augment.photometric import ChannelGain, ColourJitter
from src.data.augment.pipeline import Augmentation
from src.data.augment.warp import Placement, warp_image, warp_mask
from src.data.frame import ArrayFrame, Frame
from src.data.streets.source import draw_scene
from src.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(path.stem for path in (CONF / "augmentation").glob("*.yaml"))
FILL = (124, 116, 104)


def augmentation(*overrides: str, only_geometry: bool = False) -> Augmentation:
    """Builds what the command line would; `only_geometry` switches colour steps off and elastic displacement on."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("train", [*overrides]).augmentation
    with open_dict(node):
        for name, step in node.items():
            if only_geometry and name not in ("_target_", "geometry"):
                step.p = 1.0 if name == "elastic" else 0.0
    return instantiate(node, _convert_="all")


def scale_then_crop(image: np.ndarray, mask: np.ndarray, place: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Applies a placement to the whole frame: resize, rotate, pad on all sides, crop, mirror.

    The mask is not rotated: taking the nearest pixel twice would give another mask.
    """
    (height, width), (crop_h, crop_w) = place.size, place.crop
    shrinks = min(height / image.shape[0], width / image.shape[1]) < 0.5
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    if place.angle:
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), place.angle, 1)
        image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=FILL)
    far = max(crop_h, crop_w)
    image = cv2.copyMakeBorder(image, far, far, far, far, cv2.BORDER_CONSTANT, value=FILL)
    mask = cv2.copyMakeBorder(mask, far, far, far, far, cv2.BORDER_CONSTANT, value=255)
    window = (slice(far + place.top, far + place.top + crop_h), slice(far + place.left, far + place.left + crop_w))
    image, mask = image[window], mask[window]
    return (image[:, ::-1], mask[:, ::-1]) if place.flip else (image, mask)


def nearest_label(mask: np.ndarray, place: Placement) -> np.ndarray:
    """Finds the label under the middle of each pixel of the crop, by complex numbers."""
    height, width = place.size
    rows, columns = np.indices(place.crop)
    x, y = place.left + columns + 0.5, place.top + rows + 0.5
    canvas = (x > 0) & (x < width) & (y > 0) & (y < height)
    point = (x - width / 2) + 1j * (height / 2 - y)  # imaginary numbers run up, rows down
    point = point * np.exp(-1j * np.radians(place.angle))
    column = np.floor((point.real + width / 2) * mask.shape[1] / width).astype(int)
    row = np.floor((height / 2 - point.imag) * mask.shape[0] / height).astype(int)
    there = canvas & (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
    ids = np.where(there, mask[row.clip(0, mask.shape[0] - 1), column.clip(0, mask.shape[1] - 1)], 255)
    return ids[:, ::-1] if place.flip else ids


def inside(mask: np.ndarray, margin: int = 3) -> np.ndarray:
    """Returns the pixels further than `margin` from any pixel of padding (255) and from the crop's edge."""
    kernel = np.ones((2 * margin + 1, 2 * margin + 1))
    return cv2.erode((mask != 255).astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 1


@pytest.fixture(scope="module")
def street() -> tuple[np.ndarray, np.ndarray]:
    """A scene with noise, of a size that nothing divides. Void gets an id, so that 255 is only padding."""
    image, mask = draw_scene(0, "train", 3, (375, 1242))
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), np.where(mask == 255, 11, mask)


@pytest.mark.parametrize(
    ("options", "crop", "limit"),
    [
        ({"scale": (0.5, 2.0)}, (256, 512), 1),
        ({"scale": (0.5, 2.0)}, (500, 700), 1),  # often padded
        ({"scale": (0.98, 1.02)}, (201, 301), 1),  # hardly any whole pixel for a resize to begin at
        ({"scale": (2.0, 9.0)}, (300, 300), 1),
        ({"scale": (0.1, 0.5)}, (101, 203), 2),
        # The reference interpolates the image twice.
        ({"scale": (0.5, 2.0), "rotate": 10.0}, (256, 512), 2),
        ({"scale": (0.1, 0.5), "rotate": 170.0}, (150, 200), 2),
        ({"resize": (300, 300), "scale": (0.8, 1.2), "rotate": 3.0}, (201, 301), 2),  # width by 1/4, height by .8
        ({"resize": {"long": 400}, "scale": (0.5, 2.0)}, (380, 380), 2),
    ],
)
def test_crop_first_is_scale_then_crop(
    street: tuple[np.ndarray, np.ndarray], options: dict, crop: tuple[int, int], limit: float
) -> None:
    image, mask = street
    frame, geometry = ArrayFrame(image, mask), Geometry(crop, flip_p=0.5, **options)
    shown, seeds = 0, 6 if options["scale"][1] > 2 else 25  # the reference scales whole frames
    for seed in range(seeds):
        place = geometry.draw(frame.size, np.random.default_rng(seed))
        crop_first, ids = warp_image(frame, place, FILL), warp_mask(frame, place)
        reference, reference_ids = scale_then_crop(image, mask, place)
        exact_ids = nearest_label(mask, place)
        valid = inside(exact_ids)
        difference = np.abs(crop_first.astype(int) - reference)[valid]
        assert difference.size == 0 or difference.mean() < limit, place
        assert (ids == exact_ids).mean() > 0.99, place
        assert place.angle or (ids == reference_ids).mean() > 0.99, place
        outside = cv2.erode((exact_ids == 255).astype(np.uint8), np.ones((7, 7))) == 1
        assert (crop_first[outside] == FILL).all(), place
        shown += valid.sum()
    assert shown > seeds * 0.1 * crop[0] * crop[1]


def test_without_scale_a_crop_is_a_slice(street: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = street
    geometry = Geometry((200, 300))
    for seed in range(5):
        place = geometry.draw(mask.shape, np.random.default_rng(seed))
        window = (slice(place.top, place.top + 200), slice(place.left, place.left + 300))
        crop, ids = geometry(ArrayFrame(image, mask), np.random.default_rng(seed))
        assert np.array_equal(crop, image[window])
        assert np.array_equal(ids, mask[window])


@pytest.mark.parametrize("size", [(100, 200), (50, 64)])
def test_crops_are_distributed_as_albumentations_are(size: tuple[int, int]) -> None:
    """Compares the first and last pixels of 500 crops by their Kolmogorov-Smirnov distance (.1 % level: .123)."""
    rows, columns = np.indices(size)
    image = np.stack([columns, rows, rows], axis=2).astype(np.uint8)
    reference = A.Compose(
        [
            A.RandomScale((-0.5, 1.0), p=1.0),
            A.PadIfNeeded(64, 80, position="random", fill_mask=255),
            A.RandomCrop(64, 80, fill_mask=255),
        ],
        seed=0,
    )
    crop_first = Augmentation(Geometry((64, 80), scale=(0.5, 2.0)))
    results = {"crop first": [], "reference": []}
    for seed in range(500):
        results["crop first"].append(crop_first(ArrayFrame(image, np.zeros(size, np.uint8)), seed))
        other = reference(image=image, mask=np.zeros(size, np.uint8))
        results["reference"].append((other["image"], other["mask"]))

    def features(crop: np.ndarray, mask: np.ndarray) -> list[float]:
        shown = np.argwhere(mask != 255)
        seen = crop[mask != 255].astype(float)
        return [*shown.min(0), *shown.max(0), *seen[:, :2].min(0), *seen[:, :2].max(0)]

    a, b = (np.array([features(*result) for result in results[name]]) for name in results)
    for one, other in zip(a.T, b.T, strict=True):
        at = np.sort(np.concatenate([one, other]))
        below = [np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (one, other)]
        assert np.abs(below[0] - below[1]).max() < 0.123


class Spy(Frame):
    """Records the largest window that is read."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size, self.pixels = size, 0

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        assert 0 <= top <= top + height <= self.size[0]
        assert 0 <= left <= left + width <= self.size[1]
        self.pixels = max(self.pixels, height * width)
        return np.zeros((height, width, 3), np.uint8)

    def mask(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.image(top, left, height, width)[..., 0]


@pytest.mark.parametrize("rotate", [0.0, 10.0])
def test_only_the_window_is_read_from_frames_of_any_size(rotate: float) -> None:
    for size in ((600, 900), (6000, 9000)):
        spy, geometry = Spy(size), Geometry((100, 200), scale=(0.5, 2.0), rotate=rotate)
        for seed in range(200):
            geometry(spy, np.random.default_rng(seed))
        most = (200 + 70) * (400 + 70) if not rotate else (200 + 80) * (400 + 45)
        assert spy.pixels < most


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_move_image_and_mask_together(recipe: str) -> None:
    """Coordinates are painted into the image, and into the mask as blocks of 32: both must agree in each pixel."""
    pipeline = augmentation(f"augmentation={recipe}", "data.crop_size=[200,300]", only_geometry=True)
    rows, columns = np.indices((256, 256))
    frame = ArrayFrame(
        np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8), (rows // 32 * 8 + columns // 32).astype(np.uint8)
    )
    padded = 0
    for seed in range(25):
        image, mask = pipeline(frame, seed)
        assert image.shape == (200, 300, 3)
        assert image.dtype == mask.dtype == np.uint8
        valid = inside(mask)
        x, y = image[valid][:, 0].astype(int), image[valid][:, 1].astype(int)
        far = (abs(x % 32 - 16) < 13) & (abs(y % 32 - 16) < 13)  # from the blocks' edges
        assert np.array_equal((y // 32 * 8 + x // 32)[far], mask[valid][far])
        outside = cv2.erode((mask == 255).astype(np.uint8), np.ones((9, 9))) == 1
        assert (image[outside] == FILL).all()
        padded += outside.sum()
    assert padded or recipe.startswith("r2"), "resized to 512x1024, a crop of 200x300 needs no padding"


@pytest.mark.parametrize("recipe", RECIPES)
def test_whole_recipes_keep_labels_on_their_pixels(recipe: str) -> None:
    """Light and dark blocks: lightness must show the label of a pixel after every change of colours."""
    pipeline = augmentation(f"augmentation={recipe}", "data.crop_size=[200,300]")
    rows, columns = np.indices((300, 500)) // 50
    ids = ((rows + columns) % 2).astype(np.uint8)
    frame = ArrayFrame(np.where(ids[..., None] == 1, (170, 150, 160), (60, 80, 70)).astype(np.uint8), ids)
    for seed in range(40):
        image, mask = pipeline(frame, seed)
        light = image.astype(float).mean(axis=2)
        middle = (light[mask == 1].mean() + light[mask == 0].mean()) / 2
        known = mask != 255
        assert ((light > middle) == (mask == 1))[known].mean() > 0.96, seed


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_seed_gives_one_result(recipe: str, street: tuple[np.ndarray, np.ndarray]) -> None:
    pipeline, again = (augmentation(f"augmentation={recipe}", "data.crop_size=[128,256]") for _ in range(2))
    frame = ArrayFrame(*street)
    for seed in (3, 0, 3, 2**32 - 1):
        for a, b in zip(pipeline(frame, seed), again(frame, seed), strict=True):
            assert np.array_equal(a, b)
    assert not np.array_equal(pipeline(frame, 3)[0], pipeline(frame, 4)[0])


def test_a_step_that_would_label_padding_as_a_class_is_refused() -> None:
    with pytest.raises(Exception, match=r"augmentation.pad: PadIfNeeded has fill_mask=0.*set fill_mask: 255"):
        augmentation("+augmentation.pad={_target_: albumentations.PadIfNeeded, min_height: 9, min_width: 9}")
    nested = A.OneOf([A.HorizontalFlip(), A.Affine(rotate=10)])
    with pytest.raises(ValueError, match=r"augmentation.one: Affine has fill_mask=0"):
        Augmentation(one=nested)
    with pytest.raises(ValueError, match=r"augmentation.drop: PixelDropout has mask_drop_value=0"):
        Augmentation(drop=A.PixelDropout(mask_drop_value=0))
    with pytest.raises(ValueError, match=r"augmentation.strange: int is not a step"):
        Augmentation(strange=3)


def test_a_step_that_would_blend_labels_is_refused() -> None:
    with pytest.raises(UserError, match=r"augmentation.size: Resize has mask_interpolation=1.*mask_interpolation: 0"):
        Augmentation(size=A.Resize(8, 8, mask_interpolation=cv2.INTER_LINEAR))


def test_a_dropout_may_leave_the_mask_as_it_is(street: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = Augmentation(drop=A.CoarseDropout(p=1.0))(ArrayFrame(*street), 0)
    assert not np.array_equal(image, street[0])
    assert np.array_equal(mask, street[1])


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (A.Normalize(), r"float32 \(375, 1242, 3\)"),
        (A.ToFloat(), r"float32 \(375, 1242, 3\)"),
        (A.ToTensorV2(), r"torch.uint8 \(3, 375, 1242\)"),
        (A.ToGray(num_output_channels=1, p=1.0), r"uint8 \(375, 1242\)"),
    ],
)
def test_a_step_that_gives_no_rgb_of_8_bits_is_refused(
    step: A.BasicTransform, found: str, street: tuple[np.ndarray, np.ndarray]
) -> None:
    """The network normalises: an image that is normalised already would be nearly black to it."""
    pipeline = Augmentation(flip=A.HorizontalFlip(), step=step)
    with pytest.raises(UserError, match=rf"HorizontalFlip, {type(step).__name__} turn .* into {found}.*leave out"):
        pipeline(ArrayFrame(*street), 0)


def test_albumentations_may_follow_the_crop(street: tuple[np.ndarray, np.ndarray]) -> None:
    added = "+augmentation.dropout={_target_: albumentations.CoarseDropout, fill: 0, fill_mask: 255, p: 1.0}"
    shifted = "+augmentation.shift={_target_: albumentations.RGBShift, p: 1.0}"
    pipeline = augmentation("augmentation=none", "data.crop_size=[100,120]", added, shifted)
    assert len(pipeline.steps) == 1, "neighbours share one reseeded pipeline"
    frame = ArrayFrame(*street)
    image, mask = pipeline(frame, 1)
    again, _ = pipeline(frame, 1)
    assert image.shape == (100, 120, 3)
    assert (mask == 255).any()
    assert np.array_equal(image, again)
    plain, _ = augmentation("augmentation=none", "data.crop_size=[100,120]")(frame, 1)
    shift = image.astype(int) - plain
    assert len(np.unique(shift[mask != 255], axis=0)) == 1, "the crop is the same, its colours shifted"


def test_a_pipeline_without_geometry_gives_the_whole_frame(street: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = Augmentation(flip=A.HorizontalFlip(p=1.0))(ArrayFrame(*street), 0)
    assert np.array_equal(image, street[0][:, ::-1])
    assert np.array_equal(mask, street[1][:, ::-1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ColourJitter(hue=(-1, 1)), r"hue=\[-1, 1\] must be \[LOW,HIGH\] within -0.5 to 0.5"),
        (lambda: ColourJitter(contrast=(1.2, 0.8)), r"contrast=\[1.2, 0.8\]"),
        (lambda: ChannelGain((1, 1), p=30), "ChannelGain: p=30: must be 0 to 1"),
    ],
)
def test_steps_refuse_wrong_arguments(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
