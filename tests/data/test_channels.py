"""Images of 16 bits and of four channels: read, packed, normalised, augmented, predicted and exported as one says."""

import json
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from hydra.utils import instantiate
from PIL import Image

from src.check import check_data
from src.config.build import build_dataset, build_task
from src.config.checks import check_ranges
from src.config.complete import complete
from src.config.identity import derive_name
from src.data.datamodule import SegmentationDataModule
from src.data.fingerprint import fingerprint
from src.data.frame import RGB, ImageForm
from src.data.packed import attach
from src.data.reading import read_image
from src.data.source import FileSource
from src.data.sources.folder import Folder
from src.data.tools.pack import pack_split, verify_split
from src.errors import DataError, UserError
from src.models.network import Network
from src.training.precision import choose_precision
from tests.support.compose import composed
from tests.support.paths import SMALL

SIZE = (48, 80)
MEAN, STD = [0.4, 0.5, 0.6, 0.3], [0.2, 0.2, 0.2, 0.1]
FOUR = ("data.channels=4", f"data.mean={MEAN}", f"data.std={STD}", "~augmentation.colour")


def write(root: Path, channels: int = 4, suffix: str = ".png", bits: int = 8) -> dict[str, np.ndarray]:
    """Writes a folder dataset; returns the pixels of its images, channels last, by name."""
    rng = np.random.default_rng(0)
    written = {}
    (root / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("road: 128 64 128\nsky: 70 130 180\n")
    for split in ("train", "val"):
        for number in range(4):
            dtype = np.uint8 if bits == 8 else np.uint16
            pixels = rng.integers(0, 2**bits, (*SIZE, channels), dtype=dtype)
            image = root / "images" / split / f"{number}{suffix}"
            for path in (image, root / "masks" / split / f"{number}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
            order = pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels[..., 0]
            assert cv2.imwrite(str(image), order)
            mask = rng.integers(0, 2, SIZE, dtype=np.uint8)
            Image.fromarray(mask).save(root / "masks" / split / f"{number}.png")
            written[f"{split}/{number}"] = pixels
    return written


def folder(root: Path, form: ImageForm) -> FileSource:
    source = Folder(str(root))
    source.form = form
    return source


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_fourth_channel_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    written = write(tmp_path, suffix=suffix)
    source = folder(tmp_path, ImageForm(4))
    for sample in source.samples("train"):
        assert (source.read(sample)[0] == written[f"train/{sample.name}"]).all()
    sample = source.samples("train")[0]
    assert sample.image is not None
    if suffix == ".png":
        with pytest.raises(
            DataError, match=r"if alpha is a fourth channel of an image, such as infrared, set data\.cha"
        ):
            read_image(sample.image)
    Image.new("RGB", (4, 4)).save(sample.image)
    with pytest.raises(DataError, match=r"RGB pixels have no fourth channel, as data\.channels=4 asks"):
        read_image(sample.image, ImageForm(4))


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
@pytest.mark.parametrize("meaning", [0, 1, 2])
def test_the_fourth_channel_of_a_tiff_may_mean_anything(tmp_path: Path, meaning: int, compression: str) -> None:
    """Neither unspecified samples (0), as GDAL writes infrared, nor alpha (1, 2) change or lose a value."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    file = tmp_path / "a.tif"
    Image.fromarray(pixels).save(file, compression=compression)
    tag = struct.pack("<HHIH", 338, 3, 1, 2)  # ExtraSamples, one short, 2
    content = file.read_bytes()
    assert content.count(tag) == 1
    file.write_bytes(content.replace(tag, tag[:-2] + struct.pack("<H", meaning)))
    assert (read_image(file, ImageForm(4)) == pixels).all()


def test_only_images_of_16_bits_are_sent_to_data_range(tmp_path: Path) -> None:
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"F pixels have more than 8 bits; convert the file to 8 bits per channel$"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_become_eight_by_a_range(tmp_path: Path, channels: int, suffix: str) -> None:
    written = write(tmp_path, channels, suffix, bits=16)
    low, high = 1000, 50000
    form = ImageForm(max(3, channels), (low, high))
    source = folder(tmp_path, form)
    for sample in source.samples("val"):
        pixels = written[f"val/{sample.name}"].astype(np.float64)
        expected = np.clip((pixels - low) / (high - low) * 255, 0, 255)
        found = source.read(sample)[0]
        assert found.shape == (*SIZE, form.channels)
        assert np.abs(found - expected).max() <= 0.501  # greys are the same in three channels
        assert found.min() == 0
        assert found.max() == 255
    sample = source.samples("val")[0]
    assert sample.image is not None
    with pytest.raises(DataError, match=r"have more than 8 bits; .*, or give the values .*: data.range=\[0,65535\]"):
        read_image(sample.image)
    other = 3 if channels == 4 else 4
    with pytest.raises(DataError, match=rf"has {channels} channels, not data\.channels={other}"):
        read_image(sample.image, ImageForm(other, (low, high)))
    sample.image.write_bytes(sample.image.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        read_image(sample.image, form)
    Image.new("RGB", (4, 4)).save(sample.image)
    with pytest.raises(DataError, match=r"data.range=\[1000, 50000\] is for images of 16 bits; this one has 8"):
        read_image(sample.image, form)


def test_packs_and_fingerprints_follow(tmp_path: Path) -> None:
    root = tmp_path / "data"
    written = write(root)
    source = folder(root, ImageForm(4))
    pack_split(source, "train", tmp_path / "pack", 1)
    assert "verified" in verify_split(source, "train", tmp_path / "pack", 1)
    packed = attach(folder(root, ImageForm(4)), str(tmp_path / "pack"))
    for sample in packed.samples("train"):
        frame = packed.open(sample)
        assert (frame.image(3, 5, 20, 30) == written[f"train/{sample.name}"][3:23, 5:35]).all()
    with pytest.raises(UserError, match="the pack of train was made from other data"):
        attach(folder(root, RGB), str(tmp_path / "pack"))
    samples = source.samples("train")
    forms = (RGB, ImageForm(4), ImageForm(3, (0, 100)), ImageForm(3, (0, 200)))
    assert len({fingerprint(folder(root, form), samples) for form in forms}) == 4


@pytest.mark.parametrize(("name", "source_name"), [("tu-test_resnet", "conv1.0"), ("resnet18", "conv1")])
def test_the_first_convolution_is_adapted_as_timm_does(tmp_path: Path, name: str, source_name: str) -> None:
    with composed("train", "model=unet_small", f"backbone.name={name}") as cfg:
        cfg.data.classes = {"a": [0, 0, 0], "b": [1, 1, 1]}
        plain = instantiate(cfg.model, _convert_="all")
        wide = instantiate(cfg.model, _convert_="all")
    wide.load_state_dict(plain.state_dict())
    Network(wide, MEAN, STD)
    bare = name.removeprefix("tu-")
    state = plain.encoder.state_dict()
    prefix = next(key for key in state if key.endswith(f"{source_name}.weight")).removesuffix(f"{source_name}.weight")
    file = tmp_path / "weights.pth"
    own = timm.create_model(bare, num_classes=0)
    matching = {key: state[f"{prefix}{key}"] for key in own.state_dict() if f"{prefix}{key}" in state}
    torch.save(own.state_dict() | matching, file)
    overlay = {"file": str(file), "first_conv": source_name, "num_classes": 0}
    by_timm = timm.create_model(bare, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=4, num_classes=0)
    weight = by_timm.get_parameter(f"{source_name}.weight")
    assert weight.shape[1] == 4
    torch.testing.assert_close(wide.encoder.state_dict()[f"{prefix}{source_name}.weight"], weight)


def test_the_fourth_channel_begins_with_the_weights_of_red() -> None:
    """And three equal weights keep the value of a grey pixel."""
    with composed("train", "model=unet_small") as cfg:
        cfg.data.classes = {"a": [0, 0, 0], "b": [1, 1, 1]}
        plain, wide = (instantiate(cfg.model, _convert_="all") for _ in range(2))
    conv = plain.encoder.get_submodule("model.conv1.0")
    conv.weight.data[:] = conv.weight.data.mean(1, keepdim=True)
    wide.load_state_dict(plain.state_dict())
    narrow, broad = Network(plain, [0.5] * 3, [0.2] * 3).eval(), Network(wide, [0.5] * 4, [0.2] * 4).eval()
    grey = torch.randint(0, 256, (1, 1, 50, 70), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(narrow(grey.expand(-1, 3, -1, -1))[0], broad(grey.expand(-1, 4, -1, -1))[0])
    assert broad.channels == 4


def test_a_network_that_needs_rgb_is_refused() -> None:
    with composed("train", "model=enet") as cfg:
        cfg.data.classes = {"a": [0, 0, 0], "b": [1, 1, 1]}
        architecture = instantiate(cfg.model, _convert_="all")
    with pytest.raises(UserError, match=r"data.channels=4: ENet uses the three channels of RGB beyond its first conv"):
        Network(architecture, MEAN, STD)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("data.channels=5",), "data.channels=5: must be 3 (RGB) or 4 (RGB and one more)"),
        (("data.range=[5,5]",), "data.range=[5, 5]: must be [LOW,HIGH] with 0 <= LOW < HIGH < 65536, or null"),
        (("data.range=7",), "data.range=7: must be [LOW,HIGH]"),
    ],
)
def test_values_out_of_range(words: tuple[str, ...], fault: str) -> None:
    with composed("train", *words) as cfg, pytest.raises(UserError, match=re.escape(fault)):
        check_ranges(cfg)


def test_the_configuration_of_a_run(tmp_path: Path) -> None:
    write(tmp_path)
    words = ("data=folder", f"data.root={tmp_path}", *SMALL)
    for more, fault in (
        ((), "data.mean must be 4 numbers, .*; python -m src.check prints those of train"),
        (("data.mean=[0.5,0.5,0.5]",), r"data.mean=\[0.5, 0.5, 0.5\]: must be 4 numbers, for the channels"),
    ):
        with composed("train", *words, "data.channels=4", *more) as cfg, pytest.raises(UserError, match=fault):
            complete(cfg)
    with composed("train", *words, *FOUR) as cfg:
        done = complete(cfg)
        assert done.config.augmentation.geometry.fill == [124, 116, 104, round(255 * 0.3)]
        assert derive_name(done.config)
        task = build_task(done.config, continues=False)
        assert task.network.channels == 4
        augmentation = instantiate(done.config.augmentation, _convert_="all")
        data = SegmentationDataModule(done.source, augmentation, 2, 1, 0, seed=0)
        batch = next(iter(data.train_dataloader()))
        assert batch["image"].shape == (2, 4, 32, 64)
        assert task.network(batch["image"])[0].shape[1] == 2
        assert choose_precision(task, (32, 32), 2)[1] > 0, "a step is timed with four channels"
    with composed("train", *words, *FOUR[:3]) as cfg:
        augmentation = instantiate(complete(cfg).config.augmentation, _convert_="all")
        with pytest.raises(
            UserError, match=r"augmentation\.colour: ColourJitter changes the colours of RGB, and data.chan"
        ):
            SegmentationDataModule(done.source, augmentation, 2, 1, 0, seed=0)
    with (
        composed("train", "data.channels=4") as cfg,
        pytest.raises(UserError, match="streets-11 is drawn, in RGB of 8"),
    ):
        build_dataset(cfg.data.dataset, cfg.data)


@pytest.mark.parametrize(
    ("step", "is_taken"), [("GaussianBlur", True), ("HueSaturationValue", False), ("ToSepia", False)]
)
def test_steps_of_albumentations_that_take_only_rgb_are_refused(step: str, is_taken: bool) -> None:
    import albumentations as A

    from src.data.augment.pipeline import Augmentation

    augmentation = Augmentation(None, x=getattr(A, step)())
    augmentation.check_channels(3)
    if is_taken:
        augmentation.check_channels(4)
    else:
        with pytest.raises(UserError, match=rf"augmentation.x: {step} changes the colours of RGB"):
            augmentation.check_channels(4)


def test_check_prints_the_statistics_that_training_needs(tmp_path: Path) -> None:
    written = write(tmp_path / "data")
    words = ("data=folder", f"data.root={tmp_path / 'data'}", f"out={tmp_path / 'out'}", "num_processes=1")
    with composed("check", *words, "data.channels=4", "propose=false") as cfg:
        report = check_data(cfg)
    pixels = np.stack([array for name, array in written.items() if name.startswith("train")]).reshape(-1, 4) / 255
    found = report.channel_statistics("train")
    assert found is not None
    np.testing.assert_allclose(found, [pixels.mean(0), pixels.std(0)], atol=1e-4)
    assert json.loads((tmp_path / "out/report.json").read_text())["errors"] == 0
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_weights_of_an_rgb_run_start_one_of_four_channels(tmp_path: Path) -> None:
    write(tmp_path / "data")
    with composed("train", "model=unet_small") as cfg:
        cfg.data.classes = {"road": [0, 0, 0], "sky": [1, 1, 1]}
        plain = Network(instantiate(cfg.model, _convert_="all"), [0.5] * 3, [0.2] * 3)
    torch.save(plain.state_dict(), tmp_path / "rgb.pth")
    words = ("data=folder", f"data.root={tmp_path / 'data'}", *SMALL, *FOUR, f"init_from={tmp_path / 'rgb.pth'}")
    with composed("train", *words, "model.decoder_channels=[64,32,32,16,16]") as cfg:
        task = build_task(complete(cfg).config, continues=False)
    name = "encoder.model.conv1.0.weight"
    before, after = (network.architecture.state_dict()[name] for network in (plain, task.network))
    torch.testing.assert_close(after, before[:, [0, 1, 2, 0]] * 3 / 4)
    torch.testing.assert_close(
        task.network.architecture.state_dict()["encoder.model.layer1.0.conv1.weight"],
        plain.architecture.state_dict()["encoder.model.layer1.0.conv1.weight"],
    )
