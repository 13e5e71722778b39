"""Files for the servers of benchmarks, and figures against the evaluation of them by cityscapesScripts."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling import args, evaluateImgLists, getPrediction
from cityscapesscripts.helpers.labels import id2label, labels
from omegaconf import OmegaConf
from PIL import Image

from src.config.predict_plan import check_given_inputs, list_photos
from src.data.source import Sample
from src.data.sources.camvid import CamVid
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.cityscapes_labels import CLASSES, ID_TABLE, to_label_ids
from src.errors import UserError
from src.evaluation.segmenter import Segmented
from src.evaluation.writers import LabelIds
from src.metrics.confusion import ConfusionMatrix, count_images
from src.metrics.figures import category_ious, figures
from src.metrics.instances import InstanceCounts
from src.runs.folder import RunFolder
from tests.support.paths import SMALL
from tests.support.trees import write_camvid, write_cityscapes, write_kitti


def evaluate_officially(truth: list[Path], predictions: list[Path], *, instances: bool = False) -> dict:
    """Runs evalPixelLevelSemanticLabeling, whose main() finds the same files by environment variables."""
    args.evalInstLevelScore = instances
    args.JSONOutput = False
    args.quiet = True
    return evaluateImgLists([str(path) for path in predictions], [str(path) for path in truth], args)


def find_officially(root: Path, truth: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Lists predictions as the official tool finds them beneath a folder, by the names of the truth."""
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(root))
    monkeypatch.setattr(args, "predictionPath", None)
    monkeypatch.setattr(args, "predictionWalk", None)
    return [Path(getPrediction(args, str(path))) for path in truth]


def test_the_table_is_that_of_cityscapes_scripts() -> None:
    evaluated = sorted((label.trainId, label.name, label.color) for label in labels if not label.ignoreInEval)
    assert [(index, *item) for index, item in enumerate(CLASSES.items())] == evaluated
    assert {i: id2label[i].trainId for i in range(34)} | {255: 255} == ID_TABLE
    assert to_label_ids(np.arange(19, dtype=np.uint8)).tolist() == [
        label.id for label in sorted(labels, key=lambda label: label.trainId) if not label.ignoreInEval
    ]


def test_figures_equal_those_of_the_official_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions right in three of four blocks, one class never predicted, one never true, on a tree of Cityscapes."""
    source = Cityscapes(str(write_cityscapes(tmp_path / "data", {"val/frankfurt": 3, "val/lindau": 2})))
    rng, matrix = np.random.default_rng(0), ConfusionMatrix(19)
    writer, samples = LabelIds(tmp_path / "out"), source.samples("val")
    for sample in samples:
        raw = np.asarray(Image.open(sample.mask)).copy()
        raw[raw == 31] = 0  # no train in the truth
        Image.fromarray(raw).save(sample.mask)
        image, mask = source.read(sample)
        noise = rng.integers(0, 18, mask.shape).astype(np.uint8)
        noise[noise == 16] = 0 if sample is samples[0] else 16
        ids = np.where((rng.random(mask.shape) < 0.75) & (mask != 255) & (mask != 18), mask, noise)
        matrix.update(count_images(torch.from_numpy(ids)[None], torch.from_numpy(mask)[None], 19))
        writer.write(source.official_path(sample), image, Segmented(ids))
    assert str(tmp_path / "out.zip") in writer.finish([source.official_path(sample) for sample in samples])
    predictions = find_officially(tmp_path / "out", [sample.mask for sample in samples], monkeypatch)
    official, own = evaluate_officially([sample.mask for sample in samples], predictions), figures(matrix.compute())
    assert_equal_figures(official, own.miou, dict(zip(CLASSES, own.iou, strict=True)))
    assert 0.3 < own.miou < 0.7
    assert own.iou[18] == 0, "never predicted"
    assert own.iou[16] == 0, "never true"


def test_categories_and_instances_equal_those_of_the_official_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of 8x8 pixels is an instance if its label has some; groups of instances (below 1000) are none."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # which numpy 2.4 does not have any more
    source = Cityscapes(str(write_cityscapes(tmp_path / "data", {"val/frankfurt": 3})))
    rng, matrix = np.random.default_rng(1), np.zeros((19, 19), dtype=np.int64)
    counts = InstanceCounts(list(CLASSES), source.instance_sizes, source.categories)
    writer, samples = LabelIds(tmp_path / "out"), source.samples("val")
    for number, sample in enumerate(samples):
        raw = np.asarray(Image.open(sample.mask)).astype(np.int32)
        blocks = np.arange(raw.size // 64).reshape(raw.shape[0] // 8, -1).repeat(8, 0).repeat(8, 1)
        has = np.isin(raw, [label.id for label in labels if label.hasInstances]) & (blocks % 5 > 0)
        assert number or source.read_instances(sample) is None
        path = Path(str(sample.mask).replace("labelIds", "instanceIds"))
        Image.fromarray(np.where(has, 1000 * raw + blocks % 40, raw).astype(np.uint16)).save(path)
        image, mask = source.read(sample)
        noise = rng.integers(0, 19, mask.shape).astype(np.uint8)
        ids = np.where((rng.random(mask.shape) < 0.6) & (mask != 255), mask, noise)
        matrix += count_images(torch.from_numpy(ids)[None], torch.from_numpy(mask)[None], 19)[0].numpy()
        instances = source.read_instances(sample)
        assert instances is not None
        counts.add(instances, mask, ids)
        writer.write(source.official_path(sample), image, Segmented(ids))
    writer.finish([source.official_path(sample) for sample in samples])
    truth = [sample.mask for sample in samples]
    predictions = find_officially(tmp_path / "out", truth, monkeypatch)
    official = evaluate_officially(truth, predictions, instances=True)
    groups = dict(zip(source.categories, category_ious(matrix, list(CLASSES), source.categories), strict=True))
    for name, value in groups.items():
        assert value == pytest.approx(official["categoryScores"][name], abs=1e-9), name
    own = counts.iou(matrix)
    assert list(own) == [*source.instance_sizes, "human", "vehicle"]
    for name, value in own.items():
        expected = official["classInstScores" if name in CLASSES else "categoryInstScores"][name]
        assert value == pytest.approx(expected, abs=1e-9), name
    mean = np.mean([own[name] for name in source.instance_sizes])
    assert mean == pytest.approx(official["averageScoreInstClasses"], abs=1e-9)


def assert_equal_figures(official: dict, miou: float, iou: dict[str, float]) -> None:
    assert official["averageScoreClasses"] == pytest.approx(miou, abs=1e-6)
    for name, value in iou.items():
        assert official["classScores"][name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


@pytest.mark.e2e
def test_a_run_on_cityscapes_is_measured_as_by_the_official_tool(cli, fails, tmp_path: Path, monkeypatch) -> None:
    """The run is trained, evaluated and written from the command line; its zip is given to the official tool."""
    root = write_cityscapes(tmp_path / "data")
    cli(
        "train", *SMALL, "data=cityscapes", f"data.root={root}", f"runs={tmp_path}/runs", "name=city", "data.extra=true"
    )
    run = tmp_path / "runs" / "city"
    call = ("predict", f"run={run}", "accelerator=cpu", "format=labelids")
    assert cli(*call, "split=val") == 3
    archive = run / "predictions" / "val_labelids.zip"
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == [
            "frankfurt_000000_000000_labelIds.png", "frankfurt_000000_000019_labelIds.png",
            "munster_000000_000000_labelIds.png",
        ]  # fmt: skip
        zipped.extractall(tmp_path / "submitted")
    truth = sorted((root / "gtFine" / "val").rglob("*_labelIds.png"))
    official = evaluate_officially(truth, find_officially(tmp_path / "submitted", truth, monkeypatch))
    own = RunFolder(run).read_results().own
    assert_equal_figures(official, own.miou, own.iou)

    assert cli(*call, "split=test") == 2
    folder = run / "predictions" / "test_labelids"
    assert [path.name for path in sorted(folder.glob("[!.]*"))] == [
        f"berlin_000000_0000{i}_labelIds.png" for i in ("00", "19")
    ]
    assert np.asarray(Image.open(next(folder.glob("*.png")))).shape == (64, 128)
    assert "test_labelids.zip: exists, and nothing is overwritten" in fails(*call, "split=test")
    (run / "predictions" / "again.zip").touch()
    message = fails(*call, "split=test", f"output={run / 'predictions' / 'again'}")
    assert message.endswith("again.zip: exists, and nothing is overwritten; give another output=FOLDER")

    message = fails("eval", f"run={run}", "accelerator=cpu", "split=test")
    assert message.startswith(
        "split 'test' of cityscapes-19 has no public labels; choose one of train, val, train_extra"
    )
    assert cli("predict", f"run={run}", "accelerator=cpu", "split=test") == 2, "pictures of a split"
    assert len(list((run / "predictions" / "test" / "overlays").iterdir())) == 2

    broken = root / "leftImg8bit" / "test" / "berlin" / "berlin_000000_000019_leftImg8bit.png"
    broken.write_bytes(broken.read_bytes()[:300])
    message = fails(*call, "split=test", f"output={tmp_path / 'half'}")
    assert message.startswith("no archive was made: 1 of 2 files could not be read: ")
    assert not (tmp_path / "half.zip").exists()


@pytest.mark.e2e
def test_a_run_on_kitti_writes_the_files_of_its_server(cli, tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "data")
    cli("train", *SMALL, "data=kitti", f"data.root={root}", f"runs={tmp_path}/runs", "name=kitti")
    moved = root.rename(tmp_path / "elsewhere")
    run = tmp_path / "runs" / "kitti"
    call = ("predict", f"run={run}", "accelerator=cpu", "format=labelids", "split=test")
    assert cli(*call, f"data.root={moved}", f"output={tmp_path / 'out'}") == 2
    with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
        assert zipped.namelist() == ["semantic/000000_10.png", "semantic/000001_10.png"]
        with zipped.open("semantic/000000_10.png") as file, Image.open(file) as picture:
            assert (picture.mode, picture.size) == ("L", (80, 48))
            evaluated = {label.id for label in labels if not label.ignoreInEval}
            assert set(np.asarray(picture).ravel().tolist()) <= evaluated


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either input=FILE or FOLDER, or split=NAME of the run's dataset"),
        ({"input": ".", "split": "val"}, "give either input=FILE or FOLDER, or split=NAME of the run's dataset"),
        ({"format": "png", "split": "val"}, "format=png: must be pictures or labelids"),
        (
            {"format": "labelids", "split": "val"},
            "format=labelids: no benchmark takes files of camvid-11-merged; use format=pictures",
        ),
        (
            {"format": "labelids", "input": "."},
            "format=labelids: a server wants the names of its own dataset; give split=test, not input",
        ),
        ({"input": ".", "batch_size": 0}, "batch_size=0: must be auto or a whole number, at least 1"),
        (
            {"input": ".", "frames": 5},
            "frames=5: counts those of a video or a camera, and input is none; leave it out",
        ),
        (
            {"input": "/dev/null", "batch_size": 2},
            "batch_size=2: frames of a film are seen one by one; leave it out",
        ),
        (
            {"input": ".", "palette": True, "outputs": ["overlays"]},
            "palette=true: is of the label PNGs of format=pictures, which are not asked for; leave it out",
        ),
        ({"input": ".", "frames": 0}, "frames=0: must be null or a whole number, at least 1"),
        (
            {"format": "labelids", "split": "test", "classes": ["Road"]},
            "classes=['Road']: a server wants all label ids; leave it out with format=labelids",
        ),
        ({"split": "valid"}, "split 'valid' is not one of this dataset's: train, val, test"),
    ],
)
def test_the_images_must_be_given_clearly(given: dict[str, str], message: str, tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", {"train": 2, "val": 2})
    dataset = {"_target_": "src.data.sources.camvid.CamVid", "root": str(root)}
    datamodule = {"dataset": dataset, "folds": {}, "pack": None}
    config = OmegaConf.create({"datamodule": datamodule, "data": {"classes": list(CamVid.classes)}})
    cfg = OmegaConf.create(
        {
            "format": "pictures", "input": None, "split": None, "recursive": False, "opacity": 0.5, "palette": False,
            "batch_size": "auto", "frames": None, "outputs": None, "classes": None, **given,
        }
    )  # fmt: skip

    def plan() -> None:
        check_given_inputs(cfg)
        list_photos(cfg, RunFolder(tmp_path / "run"), config)

    with pytest.raises(UserError) as error:
        plan()
    assert str(error.value) == message


def test_archives_of_the_same_predictions_are_the_same(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 19, (8, 16)).astype(np.uint8)
    for name in ("a", "b"):
        writer = LabelIds(tmp_path / name)
        for number in (3, 1):
            writer.write(Cityscapes.official_path(None, Sample(f"berlin_{number}", "berlin")), ids, Segmented(ids))
        writer.finish([f"berlin_{number}_labelIds.png" for number in (3, 1)])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
