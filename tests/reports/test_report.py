"""The report of several runs: what is read, what is best, what is noise, and that no text of a user is code."""

import csv
import json
import math
import re
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from src.config.words import gather_words
from src.errors import UserError
from src.files import write_json
from src.reports.page.columns import best_rows, find_seeds
from src.reports.page.content import Content, read_content, unique_names
from src.reports.page.files import SCRIPTS, as_html, as_markdown, write_report
from src.reports.page.payload import MOST_POINTS, _thinned, as_script, payload
from src.runs.folder import FOLDS, RunFolder
from src.runs.records import Taint
from tests.support.records import average_record, candidate, evaluation, fold_record, folds_record
from tests.support.report_runs import CLASSES, EVIL, scenes, write_run

TAINT = Taint("trained", 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of one network, another network, and one that was trained on an image that it is evaluated on."""
    folder, given = tmp_path_factory.mktemp("report") / "runs", scenes(3, (64, 96))
    for seed in range(3):
        write_run(folder / f"seed{seed}", given, seed, share=0.3 + 0.1 * seed)
    write_run(folder / "other", given, 7, model="fcn")
    write_run(folder / "tainted", given, 8, share=0.0, model="dpt", taints=[TAINT])
    return folder


@pytest.fixture(scope="module")
def content(runs: Path) -> Content:
    return read_content([runs], "title", 10, 512)


def test_rows_are_the_evaluations(content: Content) -> None:
    assert [content.runs[row.run].name for row in content.rows] == ["other", "seed0", "seed1", "seed2", "tainted"]
    assert not content.left_out


def test_the_best_is_among_the_same_images_and_never_tainted(content: Content) -> None:
    clean = {index: row.evaluation.miou for index, row in enumerate(content.rows) if not row.evaluation.protocol.taints}
    assert content.rows[4].evaluation.miou > max(clean.values())
    best = best_rows(content)
    assert best["miou"] == {max(clean, key=clean.__getitem__)}
    assert best["gflops"] == {1}  # of the untainted ones that with the least
    # The same scores on other images: nothing is left to compare with.
    other = replace(content.rows[0].evaluation, protocol=replace(content.rows[0].evaluation.protocol, data="f" * 12))
    apart = replace(content, rows=(replace(content.rows[0], evaluation=other), *content.rows[1:2]))
    assert best_rows(apart) == {}
    # Their middle only: of the same images, and of fewer pixels.
    fewer = [[count // 2 for count in counts] for counts in content.rows[0].evaluation.matrix]
    crop = replace(content.rows[0].evaluation, matrix=fewer)
    assert best_rows(replace(content, rows=(replace(content.rows[0], evaluation=crop), *content.rows[1:2]))) == {}


def test_the_noise_of_the_seed(content: Content, runs: Path) -> None:
    (found,) = find_seeds(content)
    mious = [RunFolder(runs / f"seed{seed}").read_results().own.miou for seed in range(3)]
    assert (found.names, found.seeds) == (("seed0", "seed1", "seed2"), (0, 1, 2))
    assert found.mean == pytest.approx(statistics.mean(mious))
    assert found.deviation == pytest.approx(statistics.stdev(mious))
    assert f"{100 * statistics.stdev(mious):.2f} %" in as_html(content)


def test_seeds_that_divide_the_data_are_no_repetition(content: Content) -> None:
    runs = [
        replace(run, config={**run.config, "folds": {"num_folds": 2, "seed": n}}) for n, run in enumerate(content.runs)
    ]
    assert find_seeds(replace(content, runs=tuple(runs))) == []


def test_files(content: Content, tmp_path: Path) -> None:
    page = write_report(content, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "runs.csv", "classes.csv"}
    text = (tmp_path / "report.md").read_text()
    best = max(row.evaluation.miou for row in content.rows[:4])
    assert f"**{100 * best:.2f} %**" in text
    assert "† val: weights were trained on 1 of these images" in text
    tainted = content.rows[4].evaluation
    assert f"{100 * tainted.miou:.2f} %†" in text
    assert f"{100 * tainted.miou:.2f} %†" in page.read_text()
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * len(CLASSES)
    seed0 = [row for row in rows if row["run"] == "seed0"]
    known = [float(row["iou"]) for row in seed0 if row["iou"]]
    assert statistics.mean(known) == pytest.approx(content.rows[1].evaluation.miou)
    with (tmp_path / "runs.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == [run.name for run in content.runs]


def test_no_text_of_a_user_ends_the_script_or_becomes_html(content: Content) -> None:
    hostile = replace(content, title=EVIL, runs=tuple(replace(run, name=f"{run.name}{EVIL}") for run in content.runs))
    page = as_html(hostile)
    assert EVIL not in page
    assert len(re.findall("</script", page)) == 2  # that of the data, and that of the program
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert not re.search("[<>&\u2028\u2029]", data[1])
    assert json.loads(data[1])["runs"][0]["name"] == f"other{EVIL}"
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in page


def test_the_page_has_the_hashes_of_its_own_policy(content: Content) -> None:
    """An independent look: by the bytes between the tags, as a browser hashes them."""
    import base64
    import hashlib

    page = as_html(content)
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{name} &#39;sha256-{digest}&#39;" in page or f"{name} 'sha256-{digest}'" in page


def test_json_has_no_number_that_is_none(content: Content) -> None:
    absent = replace(content.rows[0].evaluation, miou=math.nan)
    text = as_script(replace(content, rows=(replace(content.rows[0], evaluation=absent), *content.rows[1:])))
    assert json.loads(text)["rows"][0]["miou"] is None
    assert "NaN" not in text


def test_curves_are_thinned_and_keep_the_best() -> None:
    values = [0.0] * 10_000
    values[4321] = 1.0
    places = _thinned(values)
    assert {0, 4321, 9999} <= set(places)
    assert MOST_POINTS / 2 < len(places) <= MOST_POINTS + 2
    assert _thinned([1.0, 2.0]) == [0, 1]


def test_points_within_an_epoch_are_spread_over_it(content: Content) -> None:
    curves = payload(content)["runs"][0]["curves"]
    steps, epochs, _ = curves["train/loss"]
    assert epochs == pytest.approx([(step + 1) / 10 for step in steps])
    assert curves["val/miou"][1] == [1, 2, 3, 4, 5]


def test_damaged_and_unfinished_runs_do_not_stop_the_report(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs" / "seed0" / "results.json").write_text("{")
    (tmp_path / "runs" / "seed1" / "results.json").unlink()
    (tmp_path / "runs" / "seed2" / "config.yaml").unlink()
    content = read_content([tmp_path / "runs"], "t", 4, 64)
    assert [run.name for run in content.runs] == ["other", "seed1", "tainted"]
    assert content.rows[1].evaluation is None
    assert "not evaluated yet; 5 epochs begun" in as_html(content)
    damaged, without = sorted(content.left_out)
    assert "seed0/results.json: is damaged" in damaged
    assert "seed2: has figures, but no config.yaml" in without
    for line in content.left_out:
        assert line in as_markdown(content)


def test_a_damaged_record_of_images_or_picture_does_not_stop_the_report(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    folders = {name: next((tmp_path / "runs" / name / "evaluations").iterdir()) for name in ("other", "seed0", "seed1")}
    (folders["other"] / "matrices.npz").unlink()
    (folders["seed0"] / "images.csv").write_text("image,miou\n1,2\n")
    picture = sorted((folders["seed1"] / "predictions").rglob("*.png"))[0]
    picture.write_bytes(picture.read_bytes()[:40])
    content = read_content([tmp_path / "runs"], "t", 4, 64)
    assert [run.name for run in content.runs] == ["other", "seed0", "seed1", "seed2", "tainted"]
    named = sorted(line.partition(": is damaged")[0] for line in content.left_out)
    assert named == [str(folders["other"] / "matrices.npz"), str(folders["seed0"] / "images.csv"), str(picture)]
    assert [len(gallery.shots) for gallery in content.galleries] == [2], "of three images"


def test_what_is_beneath_a_run_is_no_run_of_its_own(tmp_path: Path) -> None:
    given = scenes(2, (64, 96))
    write_run(tmp_path / "run", given, 0)
    write_run(tmp_path / "run" / "copy", given, 1)
    assert [run.name for run in read_content([tmp_path], "t", 0, 64).runs] == ["run"]


def test_a_later_evaluation_is_not_the_trainings_own(tmp_path: Path) -> None:
    write_run(tmp_path / "run", scenes(2, (64, 96)), 0)
    run = RunFolder(tmp_path / "run")
    own = run.read_results().own
    run.add_evaluation(replace(own, protocol=replace(own.protocol, inference="whole at 8x8")), finished=False)
    rows = read_content([tmp_path], "t", 0, 64).rows
    assert [(row.is_own, row.evaluation.protocol.inference) for row in rows] == [
        (True, own.protocol.inference), (False, "whole at 8x8")
    ]  # fmt: skip


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in it or beneath it; give run folders, or folders above them"):
        read_content([tmp_path], "t", 4, 64)


def test_folds_and_averages_have_their_tables(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "other", tmp_path / "cv" / "fold0")
    record = folds_record(fold_record(0, evaluation(), evaluation(taints=[TAINT])), fold_record(1, None, why="killed"))
    write_json(tmp_path / "cv" / FOLDS, record)
    shutil.copytree(runs / "other", tmp_path / "cv" / "aggregate")
    averages = average_record(candidate("best run", evaluation(), evaluation()))
    write_json(tmp_path / "cv" / "aggregate" / "aggregate.json", averages)
    content = read_content([tmp_path / "cv"], "t", 0, 64)
    page = as_html(content)
    for text in ("cv: folds", "aggregate: averages", "fold 1 failed: killed", "77.50 %†", "best run"):
        assert text in page, text
    assert payload(content)["folds"][0]["kinds"]["own"]["folds"] == [[0, pytest.approx(0.775)]]


def test_the_cells_of_the_matrix_name_the_images_that_fill_them(content: Content) -> None:
    from src.runs.per_image import EVALUATIONS, read_images

    (gallery,) = content.galleries
    own = content.rows[1]
    images = read_images(content.runs[own.run].folder.path / EVALUATIONS / own.evaluation.key)
    names = [row.image for row in images.rows]
    for (truth, prediction), filled in gallery.cells[1].items():
        counts = {name: images.matrices[index, truth, prediction] for index, name in enumerate(names)}
        expected = sorted((count for count in counts.values() if count), reverse=True)[:3]
        assert [pixels for _, pixels in filled] == expected
        assert all(counts[name] == pixels for name, pixels in filled)


def test_the_cells_with_most_of_their_truth_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from src.reports.page import gallery
    from src.runs.per_image import ImageFacts, describe_images

    matrices = np.array([[[90, 10, 0], [300, 100, 0], [1, 0, 1]]])  # shares: .9 .1 0, .75 .25 0, .5 0 .5
    images = describe_images([ImageFacts("a", "", 1, 502, "")], matrices, ["x", "y", "z"])
    monkeypatch.setattr(gallery, "MOST_CELLS", 3)
    assert gallery._fill(images) == {(0, 0): [("a", 90)], (1, 0): [("a", 300)], (2, 0): [("a", 1)]}


def test_pictures_are_the_worst_and_fit_the_width(runs: Path) -> None:
    import base64
    import io

    import numpy as np
    from PIL import Image

    content = read_content([runs], "t", 2, 24)
    (gallery,) = content.galleries
    assert len(gallery.shots) == 2
    means = [sum(shot.scores.values()) / len(shot.scores) for shot in gallery.shots]
    assert means == sorted(means)
    for shot in gallery.shots:
        assert shot.size == (16, 24)
        assert set(shot.predictions) == {0, 1, 2, 3, 4}
        ids = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot.truth.partition(",")[2]))))
        assert ids.shape == (16, 24)
        assert set(np.unique(ids)) <= {*range(len(CLASSES)), 255}


@pytest.mark.parametrize("place", ["elsewhere", "predictions/../elsewhere", "/elsewhere"])
def test_a_prediction_outside_its_folder_is_not_read(runs: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(runs / "other", tmp_path / "run")
    (table,) = (tmp_path / "run" / "evaluations").glob("*/images.csv")
    shutil.copytree(table.parent / "predictions", table.parent / "elsewhere")  # pictures that could be read
    place = place.replace("/elsewhere", str(table.parent / "elsewhere")) if place[0] == "/" else place
    table.write_text(table.read_text().replace("predictions/", f"{place}/"))
    (gallery,) = read_content([tmp_path], "t", 4, 64).galleries
    assert gallery.shots
    assert all(shot.predictions == {} for shot in gallery.shots)


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/run", "b/run", "b/other")]
    assert list(unique_names(paths).values()) == ["a/run", "b/run", "other"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["runs/a", "runs/b"], ["runs=['runs/a','runs/b']"]),
        (["out=x", "runs/a", "images=3"], ["out=x", "runs=['runs/a']", "images=3"]),
        (["--cfg", "job", "runs/a"], ["--cfg", "job", "runs=['runs/a']"]),
        (["it's, [here]"], ["runs=['it\\'s, [here]']"]),
        (["out=x", "--help"], ["out=x", "--help"]),
    ],
)
def test_plain_words_become_one_list(words: list[str], expected: list[str]) -> None:
    assert gather_words(words, "runs") == expected


def test_plain_words_may_have_an_equals_sign_if_they_exist(tmp_path: Path) -> None:
    (tmp_path / "lr=0.1").mkdir()
    assert gather_words([f"{tmp_path}/lr=0.1"], "runs") == [f"runs=['{tmp_path}/lr=0.1']"]
    assert gather_words([f"{tmp_path}/lr=0.2"], "runs") == [f"{tmp_path}/lr=0.2"]


def test_plain_words_beside_the_list() -> None:
    with pytest.raises(UserError, match=r"runs/a: is given beside runs=; give all folders as plain words"):
        gather_words(["runs/a", "runs=[b]"], "runs")


def test_command(cli, fails, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("report", str(runs / "seed0"), str(runs / "other"), f"out={out}", "title='My runs'") == 2
    assert "<title>My runs</title>" in (out / "report.html").read_text()
    assert cli("report", f"runs=['{runs}']", f"out={out}") == 5  # again, in place of its own
    assert "no such folder; the nearest are seed0" in fails("report", f"{runs}/sed0", f"out={out}")
    assert fails("report", str(runs), f"out={out}", "images=-1") == "images=-1: must be a whole number, at least 0"
    assert fails("report", str(runs), f"out={out}", "width=9999").startswith("width=9999: must be at most 2048")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("a user's")
    assert "holds files that this program did not make" in fails("report", str(runs), f"out={tmp_path / 'mine'}")
    assert (tmp_path / "mine" / "report.html").read_text() == "a user's"


def test_every_script_is_in_the_page() -> None:
    from src.reports.page.files import HTML

    assert {path.stem for path in HTML.glob("*.js")} == set(SCRIPTS)
