"""Output for people and for later use: pictures, tables, files written whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.callbacks.csv_logger import CSVLogger
from src.files import atomic_path, write_json
from src.reports.pictures import colourise, error_map, image_miou, legend, overlay, panel, shown
from src.reports.tables import class_table
from src.runs.folder import RunFolder
from src.runs.metrics_csv import read_metrics, series
from tests.support.records import evaluation

PALETTE = {"road": (128, 64, 128), "sky": (70, 130, 180)}


def test_pictures_by_hand() -> None:
    image = np.full((1, 3, 3), 100, dtype=np.uint8)
    truth, prediction = np.array([[0, 1, 255]], dtype=np.uint8), np.array([[0, 0, 1]], dtype=np.uint8)
    assert colourise(truth, PALETTE).tolist() == [[[128, 64, 128], [70, 130, 180], [0, 0, 0]]]
    assert overlay(image, truth, PALETTE, 0.25)[0, 0].tolist() == [107, 91, 107]
    assert error_map(image, prediction, truth).tolist() == [[[40, 40, 40], [230, 40, 40], [255, 255, 255]]]


def test_ignored_pixels_are_striped_whatever_colours_the_classes_have() -> None:
    palette = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (136, 136, 136)}
    ids = np.full((12, 12), 255, dtype=np.uint8)
    ids[:, :4], ids[:, 4:8] = 0, 1
    picture = shown(ids, palette)
    assert np.array_equal(picture[:, :8], colourise(ids[:, :8], palette))
    striped = picture[:, 8:]
    # Along every row and column of the ignored part both tones appear: no plain colour looks so.
    assert all(len(np.unique(line, axis=0)) == 2 for line in (*striped, *striped.transpose(1, 0, 2)))
    image = np.full((12, 12, 3), 50, dtype=np.uint8)
    assert {tuple(pixel) for pixel in overlay(image, ids, palette)[:, 8:].reshape(-1, 3).tolist()} == {
        (152, 152, 152),
        (93, 93, 93),
    }
    entries = legend(palette, 300)
    assert len(np.unique(entries.reshape(-1, 3), axis=0)) > 3


def test_the_score_of_an_image_by_hand() -> None:
    truth = np.array([[0, 0, 1, 255]], dtype=np.uint8)
    prediction = np.array([[0, 1, 1, 0]], dtype=np.uint8)
    assert image_miou(prediction, truth, 3) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert np.isnan(image_miou(prediction, np.full((1, 4), 255, dtype=np.uint8), 3))


def test_a_panel_has_one_row_per_image_and_a_legend_that_fits() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (rng.integers(0, 256, (h, w, 3), dtype=np.uint8), *rng.integers(0, 2, (2, h, w), dtype=np.uint8))
        for h, w in ((40, 80), (50, 100))
    ]
    picture = panel(rows, PALETTE, width=100)
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 4 * 100 + 3 * 4
    named = panel(rows, PALETTE, width=100, names=["one", "two"])
    assert named.shape == picture.shape
    # Above each row, of 18 pixels, stands its name; the pictures are the same.
    for top in (0, 18 + 4 + 50 + 4):
        assert not np.array_equal(named[top : top + 18, :100], picture[top : top + 18, :100])
        assert np.array_equal(named[top + 22 : top + 72], picture[top + 22 : top + 72])
    many = {f"a class with a long name {i}": (i, i, i) for i in range(12)}
    assert legend(many, 300).shape[1] == 300
    assert legend(many, 300).shape[0] > legend(many, 3000).shape[0]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "results.json"
    write_json(path, {"miou": float("nan"), "pair": (1, 2.5)})
    assert json.loads(path.read_text()) == {"miou": None, "pair": [1, 2.5]}

    def broken() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        broken()
    assert json.loads(path.read_text())["pair"] == [1, 2.5]
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_metrics_of_repeated_steps_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = CSVLogger(str(path))
    for step in (9, 19, 29):
        first.log_metrics({"train/loss": step / 10, "epoch": step // 10}, step)
    first.log_metrics({"val/miou": 0.5, "epoch": 2}, 29)
    first.save()
    assert [row["step"] for row in read_metrics(path)] == [9, 19, 29]
    second = CSVLogger(str(path))
    second.restore(first.rows[:1])  # continued after step 10
    second.log_metrics({"train/loss": 7.0, "epoch": 1}, 19)
    second.finalize("success")
    rows = read_metrics(path)
    assert [(row["step"], row["train/loss"]) for row in rows] == [(9, 0.9), (19, 7.0)]
    assert series(rows, "val/miou") == ([], [])


def test_the_table_of_an_evaluation_states_what_is_absent() -> None:
    described = evaluation(matrix=np.array([[3, 1], [0, 0]]), classes=list(PALETTE), checkpoint="last")
    assert described.iou == {"road": 0.75, "sky": 0.0}
    table = class_table(described)
    assert table.startswith(described.tag)
    assert "75.00 %" in table
    assert "absent" in table, "the accuracy of a class that the truth does not have"


def test_the_trainings_own_evaluation_stands_first(tmp_path: Path) -> None:
    """This holds even if the unfinished run was evaluated before; later evaluations leave it there."""
    run, own = RunFolder(tmp_path), evaluation("val")
    run.add_evaluation(evaluation("test", checkpoint="last"), finished=False)
    assert not run.read_results().finished
    run.add_evaluation(own, finished=True)
    run.add_evaluation(evaluation("val", inference="flip"), finished=False)
    run.add_evaluation(evaluation("test", checkpoint="last"), finished=False)
    results = run.read_results()
    assert results.finished
    assert results.own == own
    assert [each.protocol.split for each in results.evaluations.values()] == ["val", "test", "val"]


def test_checkpoints_of_another_network_are_refused(tmp_path: Path) -> None:
    from src.evaluation.checkpoint import load_weights

    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 0, "global_step": 1}, path)
    with pytest.raises(ValueError, match=r"other.ckpt: does not fit the network of this run's config.yaml"):
        load_weights(torch.nn.Linear(3, 2), path)
    with pytest.raises(ValueError, match=r"checkpoint=best: no file .*; this run has none yet"):
        RunFolder(tmp_path).checkpoint("best")


def test_panels_on_disk_are_pictures(tmp_path: Path) -> None:
    from src.reports.pictures import save_png

    save_png(tmp_path / "x" / "p.png", np.zeros((4, 6, 3), dtype=np.uint8))
    with Image.open(tmp_path / "x" / "p.png") as picture:
        assert picture.size == (6, 4)
