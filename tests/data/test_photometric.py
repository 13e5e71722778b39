"""Colour steps, filters of recipes and elastic displacement, against torchvision, Pillow, OpenCV and plain float."""

import colorsys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image, ImageEnhance

from src.data.augment.elastic import Elastic
from src.data.augment.photometric import ColourJitter, Grey, LinearSteps, jitter_matrix
from src.data.augment.pipeline import Albumentations, Augmentation
from src.data.frame import ArrayFrame


def picture(low: int = 60, high: int = 180) -> np.ndarray:
    """Returns smooth colours that jitter does not clip."""
    coarse = np.random.default_rng(1).integers(low, high, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_LINEAR)


def jittered(image: np.ndarray, **factors: float) -> np.ndarray:
    neutral = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0, "shift": 0}
    ranges = {name: (value, value) for name, value in (neutral | factors).items()}
    rng = np.random.default_rng(0)
    return LinearSteps([ColourJitter(**ranges)])(image, image[..., 0], rng)[0]


@pytest.mark.parametrize("factor", [0.0, 0.7, 1.3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_is_torchvisions(name: str, factor: float) -> None:
    image = picture()
    reference = getattr(F, f"adjust_{name}")(torch.from_numpy(image).permute(2, 0, 1), factor).permute(1, 2, 0).numpy()
    assert np.abs(jittered(image, **{name: factor}).astype(int) - reference).max() <= 1


def test_jitter_is_composed_as_plain_float() -> None:
    """Shift, then brightness, contrast, saturation one after the other, in float64 and without a matrix."""
    image = picture(80, 170)
    luma = np.array([0.299, 0.587, 0.114])
    x = 1.1 * (image.astype(float) + 7)
    x = 0.8 * x + 0.2 * (x @ luma).mean()
    x = 1.2 * x - 0.2 * (x @ luma)[..., None]
    result = jittered(image, shift=7, brightness=1.1, contrast=0.8, saturation=1.2)
    assert np.abs(result - x).max() < 1, "OpenCV keeps ten bits of a coefficient"
    assert np.abs(result - x).mean() < 0.3


def test_hue_turns_as_hsv_does_and_keeps_grey_and_luma() -> None:
    luma = np.array([0.299, 0.587, 0.114])
    for turn in (-0.05, 0.03, 0.5):
        matrix = jitter_matrix(1, 1, 1, turn, 0, np.zeros(4))[:3, :3]
        assert matrix @ [1, 1, 1] == pytest.approx([1, 1, 1])
        assert luma @ matrix == pytest.approx(luma)
        for hue in np.arange(0, 1, 0.1):
            after = colorsys.rgb_to_hsv(*(matrix @ colorsys.hsv_to_rgb(hue, 0.2, 0.5)))[0]
            assert abs((after - hue - turn + 0.5) % 1 - 0.5) < 0.04
    turns = [jitter_matrix(1, 1, 1, 0.1, 0, np.zeros(4))] * 10
    assert np.linalg.multi_dot(turns) == pytest.approx(np.eye(4), abs=1e-9)


def test_neighbouring_linear_steps_are_one_matrix() -> None:
    """Ten steps are applied with one rounding, as in float, not as ten uint8 images."""
    image = picture()
    steps = [ColourJitter(brightness=(0.9, 0.9)), ColourJitter(brightness=(1 / 0.9, 1 / 0.9))] * 5
    pipeline = Augmentation(**{f"step{number}": step for number, step in enumerate(steps)})
    assert len(pipeline.steps) == 1
    assert np.array_equal(pipeline(ArrayFrame(image, image[..., 0]), 0)[0], image)


def test_contrast_pivots_on_the_mean_after_earlier_steps() -> None:
    """After a step that changes the mean, contrast 0 gives the new mean grey everywhere."""
    image = picture()
    steps = [ColourJitter(brightness=(0.5, 0.5)), ColourJitter(contrast=(0, 0))]
    flat = LinearSteps(steps)(image, image[..., 0], np.random.default_rng(0))[0]
    expected = (0.5 * image @ np.array([0.299, 0.587, 0.114])).mean()
    assert np.abs(flat - expected).max() <= 0.51


def test_grey_is_torchvisions_and_chances_hold() -> None:
    image = picture()
    grey = F.rgb_to_grayscale(torch.from_numpy(image).permute(2, 0, 1), 3).permute(1, 2, 0).numpy()
    step, changed = LinearSteps([Grey(p=0.3)]), 0
    for seed in range(1000):
        result, _ = step(image, image[..., 0], np.random.default_rng(seed))
        if not np.array_equal(result, image):
            changed += 1
            assert np.abs(result.astype(int) - grey).max() <= 1
    assert changed / 1000 == pytest.approx(0.3, abs=0.05)


def recipe_step(recipe: str, name: str, **options: object) -> Albumentations:
    """Builds one step of a recipe, with a chance of 1 and these options."""
    overrides = [f"augmentation.{name}.{key}={value}" for key, value in (options | {"p": 1.0}).items()]
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        node = compose("train", [f"augmentation={recipe}", *overrides]).augmentation[name]
    return Albumentations([instantiate(node, _convert_="all")])


def apply(step: Albumentations, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return step(image, image[..., 0], np.random.default_rng(seed))[0].astype(float)


def test_gamma_is_a_power_with_a_uniform_exponent() -> None:
    image = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    exact = 255 * (image / 255) ** 0.8
    assert np.abs(apply(recipe_step("r2_standard", "gamma", gamma_limit=[80, 80]), image) - exact).max() <= 1
    step, grey = recipe_step("r2_standard", "gamma"), np.full((4, 4, 3), 64, np.uint8)
    exponents = np.log(np.array([apply(step, grey, seed).mean() + 0.5 for seed in range(300)]) / 255) / np.log(64 / 255)
    assert exponents.min() == pytest.approx(0.7, abs=0.02)
    assert exponents.max() == pytest.approx(1.3, abs=0.02)
    assert exponents.mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.7, 1.0])
def test_blur_is_opencvs(sigma: float) -> None:
    image = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for recipe, name in (("r2_standard", "blur"), ("r2_advanced", "more_blur")):
        blurred = apply(recipe_step(recipe, name, sigma_limit=[sigma, sigma]), image)
        assert np.abs(blurred - cv2.GaussianBlur(image, (0, 0), sigma)).max() <= 1
    assert np.abs(apply(recipe_step("r1", "blur"), image) - cv2.GaussianBlur(image, (5, 5), 1.1)).max() <= 1


def test_sharpening_is_pillows() -> None:
    image = picture()
    sharp = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(1.7))
    step = recipe_step("r2_advanced", "sharpen", alpha=[0.7 / 13, 0.7 / 13])
    assert np.abs(apply(step, image) - sharp)[1:-1, 1:-1].max() <= 1
    strongest = recipe_step("r2_advanced", "sharpen").pipeline.transforms[0].alpha
    assert strongest == pytest.approx((0, 1 / 13)), "factors 1 to 2"


def test_noise_has_a_deviation_of_five_grey_levels() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = apply(recipe_step("r2_advanced", "noise"), grey) - 128
    assert noise.std() == pytest.approx(5, abs=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02, "channels are independent"


def test_elastic_moves_by_a_smooth_field() -> None:
    step = Elastic((5, 5), (20, 20))
    x, y = step.draw((100, 150), np.random.default_rng(0))
    rows, columns = np.indices((100, 150))
    # Blurred uniform noise: 20 x sqrt(1/3) / (2 x 5 x sqrt(pi))
    for moved in (x - columns, y - rows):
        assert moved.std() == pytest.approx(0.651, rel=0.15)
        assert np.abs(np.diff(moved, axis=0)).max() < 0.5
