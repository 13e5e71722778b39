"""`src.api`: images, files and folders in, labels, confidence and pictures out, as `src.predict` gives them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.api import load
from src.errors import UserError
from src.evaluation.loaded import LoadedNetwork, Segmentation
from src.runs.folder import RunFolder
from tests.support.paths import TINY
from tests.support.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("api") / "runs", *TINY)


@pytest.fixture(scope="module")
def network(run: RunFolder) -> LoadedNetwork:
    return load(run.path, device="cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo of 50x70 pixels."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    return path


def test_arrays_pictures_and_files_give_the_same(network: LoadedNetwork, photo: Path) -> None:
    pixels = np.asarray(Image.open(photo))
    found = [network.predict(given) for given in (photo, str(photo), pixels, Image.open(photo))]
    for each in found:
        assert isinstance(each, Segmentation)
        assert (each.labels.shape, each.labels.dtype) == ((50, 70), np.uint8)
        assert np.array_equal(each.labels, found[0].labels)
        assert np.array_equal(each.image, pixels)
        assert 1 / 11 <= each.confidence.min() <= each.confidence.max() <= 1


def test_labels_are_those_of_the_command(network: LoadedNetwork, run: RunFolder, photo: Path, cli, tmp_path) -> None:
    cli("predict", f"run={run.path}", f"input={photo}", f"output={tmp_path / 'out'}", "accelerator=cpu")
    written = np.asarray(Image.open(tmp_path / "out" / "labels" / "photo.png"))
    assert np.array_equal(network.predict(photo).labels, written)


def test_options_of_the_protocol(run: RunFolder, photo: Path) -> None:
    changed = load(run.path, device="cpu", short_side=25, flip=True)
    assert str(changed.protocol) == "whole at short side 25, flip"
    assert changed.predict(photo).labels.shape == (50, 70)
    for options, message in (
        ({"short_sid": 25}, "short_sid=25: must be one of size, short_side, window"),
        ({"crop": [8, 8]}, r"crop=\[8, 8\]: must be one of"),
        ({"device": "gpu9"}, "device=gpu9"),
        ({"device": "cpu:x"}, "device=cpu:x"),
        ({"engine": "onnx"}, "network.onnx: no such file; make it"),
        ({"checkpoint": "last"}, "checkpoint=last: no file"),
    ):
        with pytest.raises(UserError, match=message):
            load(run.path, **options)
    with pytest.raises(UserError, match="no run folder there"):
        load(run.path / "nothing")


def test_a_folder_is_segmented_image_by_image(network: LoadedNetwork, photo: Path) -> None:
    (photo.parent / "drive").mkdir()
    Image.open(photo).save(photo.parent / "drive" / "b.jpg")
    (photo.parent / "broken.png").write_bytes(photo.read_bytes()[:500])
    found = network.predict(photo.parent)
    assert sorted(found) == ["broken.png", "drive/b.jpg", "photo.png"]
    assert np.array_equal(found["photo.png"].labels, network.predict(photo).labels)
    with pytest.raises(UserError, match=r"broken\.png"):
        found["broken.png"]


def test_shares_and_pictures_by_hand(tmp_path: Path) -> None:
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[:10] = 1
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    classes = {"road": (128, 64, 128), "sky": (70, 130, 180), "car": (0, 0, 142)}
    found = Segmentation(image, labels, np.ones((40, 60), np.float32), classes)
    assert found.shares == {"road": 0.75, "sky": 0.25, "car": 0}
    assert repr(found) == "Segmentation 40x60: road 75.0 %, sky 25.0 %"
    picture = found.picture(0.5)
    assert picture[0, 0].tolist() == [85, 115, 140]
    assert picture[39, 0].tolist() == [114, 82, 114]
    assert picture.shape[0] > 40, "a legend below"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found._repr_png_()))), picture)
    found.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)


def test_figures_and_configuration_are_those_of_the_run(network: LoadedNetwork, run: RunFolder) -> None:
    assert network.results.own.miou == run.read_results().own.miou
    assert list(network.classes) == list(network.config["data"]["classes"])
    assert network.config["seed"] == 0
    own = network.results.own
    assert repr(network).startswith(f"first: 11 classes, mIoU {own.miou:.4f} (streets-11 val (3 images)")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        ([1], "list"),
    ],
)
def test_no_image(network: LoadedNetwork, given: object, found: str) -> None:
    with pytest.raises(UserError, match=rf"an image is uint8 \(H, W, 3\), RGB, a PIL image, or a path; given: {found}"):
        network.predict(given)


def test_a_picture_is_refused_for_what_its_file_is(network: LoadedNetwork, tmp_path: Path) -> None:
    """Pillow's own conversion to RGB would clip 16 bits to white, and show what transparent pixels hide."""
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    hidden = np.zeros((8, 8, 4), dtype=np.uint8)
    for pixels, message in ((deep, "have more than 8 bits"), (hidden, "64 pixels are transparent")):
        picture = Image.fromarray(pixels)
        picture.save(tmp_path / "picture.png")
        for given in (tmp_path / "picture.png", picture):
            with pytest.raises(UserError, match=message):
                network.predict(given)
    whole = network.predict(Image.fromarray(np.full((8, 8, 4), 255, dtype=np.uint8)))
    assert isinstance(whole, Segmentation)
    assert np.array_equal(whole.image, np.full((8, 8, 3), 255))


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3)])
def test_an_array_without_pixels_is_named(network: LoadedNetwork, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"given: uint8 \(\d, \d, 3\)"):
        network.predict(np.zeros(shape, dtype=np.uint8))
