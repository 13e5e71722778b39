"""An evaluation of a run with random weights: its figures, the files of its images, and what a repetition does."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.errors import UserError
from src.evaluation import suspects
from src.evaluation.against import comparable, compare
from src.evaluation.extras import Extras
from src.evaluation.measure import count, evaluate, evaluation_trainer
from src.evaluation.suspects import find_suspects, keep_largest
from src.files import atomic_folder
from src.inference import Protocol
from src.metrics.figures import figures
from src.runs.folder import RunFolder
from src.runs.leakage import image_ids, write_leakage
from src.runs.per_image import find_images
from src.runs.records import Evaluation, Leakage, Taint
from src.runs.seal import seal
from tests.support.small import small_data, small_task


def make_run(path: Path, seed: int = 0) -> RunFolder:
    """Weights of a random network, as a training leaves them."""
    run, task = RunFolder(path), small_task()
    torch.manual_seed(seed)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    run.best.parent.mkdir(parents=True)
    torch.save({"state_dict": task.state_dict(), "epoch": 0, "global_step": 1}, run.best)
    seal(run.best)
    write_leakage(path, [], Leakage())
    return run


def measure(
    run: RunFolder,
    extras: Extras | None = None,
    protocol: Protocol | None = None,
    which: str = "best",
    output: RunFolder | None = None,
) -> Evaluation:
    task, data = small_task(), small_data()
    task.protocol = protocol or task.protocol
    trainer = evaluation_trainer("cpu", "32-true", with_progress=False)
    return evaluate(trainer, task, data, run, "val", which, output or run, extras or Extras())


def test_an_evaluation_and_the_files_of_its_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    evaluation = measure(run, Extras(boundary=(2, 4), suspects=3))
    folder, data, task = run.path / "evaluations" / evaluation.key, small_data(), small_task()
    task.load_state_dict(torch.load(run.best, weights_only=True)["state_dict"])
    task.eval()
    images = find_images(run.path, evaluation.key)
    assert images.matrices.sum(0).tolist() == evaluation.matrix
    counted = count(evaluation_trainer("cpu", "32-true", with_progress=False), task, data, "val")
    assert counted.tolist() == evaluation.matrix
    samples = data.samples("val")
    assert [row.image for row in images.rows] == [data.source.image_id(sample) for sample in samples]
    for row, matrix, sample in zip(images.rows, images.matrices, samples, strict=True):
        image, mask = data.source.read(sample)
        expected = task.predict_ids(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0].numpy()
        assert np.array_equal(np.asarray(Image.open(folder / row.prediction)), expected)
        assert matrix[3, 4] == ((mask == 3) & (expected == 4)).sum()
        assert row.miou == pytest.approx(figures(matrix).miou, abs=1e-6), "six decimals"
        assert row.group == sample.group
    assert evaluation.details is not None
    assert evaluation.miou == figures(images.matrices.sum(0)).miou
    assert [each.width for each in evaluation.details.boundary] == [2, 4]
    assert sum(each.pixels for each in evaluation.details.calibration) == sum(map(sum, evaluation.matrix))
    worst = images.rows[images.worst(1)[0]]
    assert np.array_equal(
        np.asarray(Image.open(folder / "worst" / "01_prediction.png")),
        np.asarray(Image.open(folder / worst.prediction)),
    )
    names = {path.name for path in folder.iterdir()}
    assert names == {"images.csv", "matrices.npz", "predictions", "worst", "worst.png", "suspects.csv"} | (
        {"suspects.png"} & names
    )


def test_a_repetition_takes_the_place_of_the_images_and_keeps_the_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    first = measure(run, Extras(boundary=(3,)))
    run.add_evaluation(first, finished=True)
    left = run.path / "evaluations" / f".{first.key}.tmp"
    left.mkdir()
    (left / "half").touch()
    second = measure(run, Extras(predictions=False, worst=0))
    run.add_evaluation(second, finished=False)
    own = run.read_results().own
    assert own.details is not None
    assert [each.width for each in own.details.boundary] == [3], "those of before stay: the weights are the same"
    folder = run.path / "evaluations" / first.key
    assert {path.name for path in folder.iterdir()} == {"images.csv", "matrices.npz"}
    assert not left.exists(), "left by a process that was killed"
    assert {row.prediction for row in find_images(run.path, first.key).rows} == {""}
    busy = "another process evaluates the same thing"
    with atomic_folder(folder, busy), pytest.raises(UserError, match=busy):
        measure(run)


def test_other_protocols_have_other_tags_and_folders(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    seen = measure(run, protocol=Protocol(size=(32, 48), labels="seen", crop=(20, 30)))
    assert seen.tag.endswith("whole at 32x48, centre crop 20x30, labels at that size")
    rows = find_images(run.path, seen.key).rows
    assert [(row.height, row.width) for row in rows] == [(20, 30)] * 2
    assert sum(map(sum, seen.matrix)) <= 2 * 20 * 30
    windows = measure(run, protocol=Protocol(window=(32, 32), weights="gaussian", flip=True))
    assert windows.tag.endswith("window 32x32 overlap 0.33 gaussian at own size, flip")
    assert len(list((run.path / "evaluations").glob("val-*"))) == 2


def test_a_figure_of_other_data_stands_beside_that_of_the_folder_it_is_written_to(tmp_path: Path) -> None:
    """That of a network of the zoo, whose own folder has no figures of the split, or other ones."""
    run, output = make_run(tmp_path / "run"), RunFolder(tmp_path / "output")
    first = measure(run, output=output)
    assert not first.protocol.is_other_data
    output.add_evaluation(replace(first, protocol=replace(first.protocol, data="another")), finished=False)
    second = measure(run, output=output)
    output.add_evaluation(second, finished=False)
    evaluations = output.read_results().evaluations.values()
    assert [each.protocol.data for each in evaluations] == ["another", first.protocol.data]
    assert second.tag.endswith(f"other data {first.protocol.data}")


def test_weights_of_another_run_have_the_marks_of_that_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, other = (make_run(tmp_path / name) for name in ("run", "other"))
    ids = image_ids(small_data().source, small_data().samples("val"))
    write_leakage(other.path, ids[:1], Leakage(chosen=frozenset(ids)))
    assert measure(run, which=str(other.best)).protocol.taints == (Taint("trained", 1), Taint("chosen", len(ids)))
    assert measure(run).protocol.taints == ()
    copy = tmp_path / "copy" / "best.ckpt"
    copy.parent.mkdir()
    shutil.copyfile(run.best, copy)
    with caplog.at_level("INFO"):
        assert measure(run, which=str(copy)).protocol.taints == ()
    assert f"{copy} does not say what it was trained on" in caplog.text


def test_two_runs_are_compared_on_the_same_images(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed) for seed, name in enumerate("ab")]
    for run in runs:
        run.add_evaluation(measure(run), finished=True)
    first, second = (run.read_results().own for run in runs)
    record = compare(runs[0], first, runs[1], comparable(runs[1], "val"))
    assert record.result.difference == pytest.approx(first.miou - second.miou)
    assert record.images == 2
    assert "on the same 2 images: 95 % interval" in str(record)
    assert len(list((runs[0].path / "evaluations" / first.key).glob("against_b_*.json"))) == 1
    flipped = measure(runs[0], protocol=Protocol(flip=True))
    with pytest.raises(UserError, match=r"none of its evaluations is by the protocol of this one"):
        compare(runs[0], flipped, runs[1], comparable(runs[1], "val"))
    with pytest.raises(UserError, match=r"has no evaluation on test with scores by image; make it first: .*split=test"):
        comparable(runs[1], "test")


def test_suspects_are_large_thick_and_sure() -> None:
    """Of four areas that differ from the label: one counts, one is thin, one is unsure, one lies on ignored pixels."""
    truth, ids = np.zeros((100, 200), np.uint8), np.zeros((100, 200), np.uint8)
    confidence = np.full(truth.shape, 250, np.uint8)
    ids[10:30, 20:50] = 2
    ids[40:44, 20:190] = 2
    ids[50:80, 20:60] = 1
    confidence[50:80, 20:60] = 200
    ids[50:80, 100:140], truth[50:80, 100:140] = 1, 255
    truth[12:15, 22:25] = 1
    (found,) = find_suspects(7, truth, ids, confidence)
    assert (found.place, found.top, found.left, found.height, found.width) == (7, 10, 20, 20, 30)
    assert (found.truth, found.predicted, found.pixels) == (0, 2, 600)
    assert found.confidence == pytest.approx(250 / 255)
    ids[0:8, 180:200] = 1
    two = find_suspects(7, truth, ids, confidence)
    assert [each.pixels for each in keep_largest(two, 1)] == [600]
    assert len(two) == 2


def test_the_sheet_of_suspects_has_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random network is never sure: here every large area that differs from its label is a suspect."""
    run = make_run(tmp_path / "run")
    monkeypatch.setattr(suspects, "SURE", 0)
    evaluation = measure(run, Extras(suspects=3))
    folder = run.path / "evaluations" / evaluation.key
    with (folder / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert 1 <= len(rows) <= 3
    weights = [int(row["pixels"]) * float(row["confidence"]) for row in rows]
    assert weights == sorted(weights, reverse=True)
    assert (folder / "suspects.png").is_file()


def test_weights_that_lightning_left_under_slurm_are_not_evaluated(tmp_path: Path, monkeypatch) -> None:
    run, expected = make_run(tmp_path / "run"), measure(make_run(tmp_path / "same")).matrix
    other = make_run(tmp_path / "other", seed=1)
    assert measure(other).matrix != expected
    for folder in (tmp_path, run.path):
        shutil.copy(other.best, folder / "hpc_ckpt_1.ckpt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert measure(run).matrix == expected
