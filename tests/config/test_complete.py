"""Completing a configuration: a command builds its dataset once and lists each split once, down to the batches."""

import os
from collections import Counter
from pathlib import Path

import lightning as L
import pytest
from PIL import Image

from src.config import complete
from src.config.complete import _image_size
from src.config.identity import derive_name, identity
from src.data.reading import read_image
from src.data.sources.camvid import CamVid
from src.data.sources.folder import Folder
from src.errors import UserError
from src.runs.origin import content_digest
from tests.support.compose import composed
from tests.support.small import fit, small_task
from tests.support.trees import write_camvid, write_folder

FOLD = (
    "data=camvid", "trainer=cpu", "logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false",
    "data.num_workers=0", "data.crop_size=[32,32]", "data.batch_size=2", "model.decoder_channels=[32,16,16,8,8]",
    "data.num_folds=2", "data.fold=0", "data.fold_gap=0", "loss.terms.ce.loss.class_weights=inverse_sqrt",
)  # fmt: skip


class StoppedError(Exception):
    """Stands in for the training, which a test does not need."""


class Figures(L.Callback):
    """Collects the names of all figures of validations."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.seen |= {name for name in trainer.callback_metrics if name.startswith("val/")}


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each folder is listed, by its name."""
    found: Counter[str] = Counter()
    for name in ("listdir", "scandir"):
        listing = getattr(os, name)

        def counted(path: os.PathLike | str = ".", listing=listing) -> object:
            found[Path(path).name if isinstance(path, (str, os.PathLike)) else ""] += 1
            return listing(path)

        monkeypatch.setattr(os, name, counted)
    return found


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[CamVid]:
    """Collects the datasets that are built."""
    found: list[CamVid] = []
    initialise = CamVid.__init__

    def noted(self: CamVid, *arguments: object, **options: object) -> None:
        found.append(self)
        initialise(self, *arguments, **options)

    monkeypatch.setattr(CamVid, "__init__", noted)
    return found


def test_a_fold_run_lists_train_once_until_it_trains(
    cli, walks: Counter[str], built: list[CamVid], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a loader for each split, file lists, class weights and the images of the run folder."""
    root = write_camvid(tmp_path / "data", {"train": 8, "val": 2})

    def look(run: object, data: object, *rest: object) -> None:
        data.train_dataloader()
        data.val_dataloader()
        assert data.source is built[0]
        raise StoppedError

    monkeypatch.setattr("src.training.fit.fit", look)
    with pytest.raises(StoppedError):
        cli("train", *FOLD, f"data.root={root}", f"runs={tmp_path}/runs")
    assert len(built) == 1
    assert walks["train"] == 1
    assert walks["val"] == 0, "a fold is validated on its own part"


@pytest.mark.e2e
def test_a_fold_run_lists_train_once_to_its_end(cli, walks: Counter[str], built: list[CamVid], tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", {"train": 8, "val": 2})
    assert 0 <= cli("train", *FOLD, f"data.root={root}", f"runs={tmp_path}/runs") <= 1
    assert len(built) == 1
    assert walks["train"] == 1


def test_the_best_checkpoint_is_by_a_figure_that_is_better_if_higher(tmp_path: Path) -> None:
    fit(tmp_path, task := small_task(), [noted := Figures()], epochs=1)
    higher = noted.seen - {"val/loss"}
    assert len(higher) == 4 + len(task.classes)
    for name in higher:
        complete.check_monitor(name, task.classes)
    for wrong in ("val/loss", "val/mIoU", "val/iou/Cat", None):
        with pytest.raises(UserError, match=rf"^callbacks.checkpoints.monitor={wrong}: must be one of val/miou, "):
            complete.check_monitor(wrong, task.classes)
    words = ("data=streets_tiny", "data.pack=null", "callbacks.checkpoints=null")  # no checkpoint to evaluate
    with composed("train", *words) as cfg, pytest.raises(UserError, match=r"^callbacks.checkpoints.monitor=None"):
        complete.complete(cfg)


@pytest.mark.e2e
def test_camvid_trains_from_its_layout(cli, tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", {"train": 4, "val": 2})
    words = [word for word in FOLD if "fold" not in word]
    assert 0 <= cli("train", *words, f"data.root={root}", f"runs={tmp_path}/runs") <= 1


def test_the_composed_configuration_is_left_as_it_was(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given, finish = [], complete.complete

    def noted(cfg):
        before = cfg.copy()
        prepared = finish(cfg)
        given.append((before, cfg, prepared.config))
        raise StoppedError

    monkeypatch.setattr("src.train.complete", noted)
    with pytest.raises(StoppedError):
        cli("train", f"runs={tmp_path}")
    ((before, after, completed),) = given
    assert before == after
    assert completed != after
    assert completed.choices.model == "unet_small"


def test_the_size_of_an_image_is_that_of_the_upright_one(tmp_path: Path) -> None:
    """Phones store upright photos lying down, with a tag; the network sees them upright."""
    root = write_folder(tmp_path)
    source = Folder(str(root))
    sample = source.samples("train")[0]
    assert sample.image is not None
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 48)).save(sample.image, exif=exif)
    assert _image_size(source, sample) == read_image(sample.image).shape[:2] == (80, 48)


def test_other_weights_in_the_same_file_make_another_run(tmp_path: Path) -> None:
    files, names = [tmp_path / "backbone.pth", tmp_path / "teacher.pth"], []
    network = ["data=streets_tiny", "model=sctnet_s", "model.teacher={backbone:{name:mit_b0,weights:imagenet}}"]
    for content in (b"ab", b"ab", b"cb", b"cd"):
        for file, byte in zip(files, content, strict=True):
            file.write_bytes(bytes([byte]))
        with composed("train", *network, f"model.weights={files[0]}", f"+model.teacher.weights={files[1]}") as cfg:
            names.append(derive_name(complete.complete(cfg).config))
    assert names[0] == names[1]
    assert len({*names}) == 3
    with composed("train", "data=streets_tiny") as cfg:
        config = complete.complete(cfg).config
    assert config.weight_digests is None
    assert "weight_digests" not in identity(config), "names of runs of before stay"
    # The teacher's alone: `init_from` replaces the network's own.
    start = [f"init_from={files[0]}", "model.weights=nowhere.pth", f"+model.teacher.weights={files[1]}"]
    with composed("train", *network, *start) as cfg:
        assert complete.complete(cfg).config.weight_digests == [content_digest(files[1])]
    files[1].unlink()
    with (
        composed("train", *network, f"+model.teacher.weights={files[1]}") as cfg,
        pytest.raises(UserError, match=r"^model\.teacher\.weights=.*teacher\.pth: no such file; give a \.safetensors"),
    ):
        complete.complete(cfg)


def test_the_weight_of_outputs_that_a_network_does_not_have(fails) -> None:
    for model, remedy in (("unet_small", "leave it out"), ("deeplabv3plus", "set model.aux=true, or leave it out")):
        message = fails("train", f"model={model}", "data=streets_tiny", "loss.aux_weight=0.2")
        assert message == f"loss.aux_weight=0.2: model={model} has no auxiliary output here; {remedy}"
    with composed("train", "data=streets_tiny", "model=pspnet", "loss.aux_weight=0.2") as cfg:
        assert complete.complete(cfg).config.loss.aux_weight == 0.2
