"""The page of a report in a headless Chromium: no error, no request, and every part of it answers."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.files import write_json
from src.reports.page.content import read_content
from src.reports.page.files import write_report
from src.runs.folder import FOLDS
from src.runs.records import Taint
from tests.support.browser import Browser
from tests.support.records import evaluation, fold_record, folds_record
from tests.support.report_runs import CLASSES, Scene, copy_run, predict, scenes, write_run

pytestmark = pytest.mark.browser
SIZE = (64, 96)
MODELS = ("unet", "fcn", "dpt")
SHOWN = "[...document.querySelectorAll('#runs-table tbody tr')].filter(row => !row.hidden)"


@pytest.fixture(scope="module")
def given() -> list[Scene]:
    return scenes(4, SIZE)


@pytest.fixture(scope="module")
def page(given: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine runs of three networks, one with markup in its name and one tainted, and a cross-validation."""
    folder = tmp_path_factory.mktemp("page")
    for seed in range(7):
        taints = [Taint("trained", 1)] if seed == 6 else []
        write_run(folder / "runs" / f"run{seed}", given, seed, 0.1 + 0.05 * seed, MODELS[seed % 3], taints)
    write_run(folder / "runs" / "<img src=x onerror=window.hacked=1>", given, 7)
    write_run(folder / "runs" / f"a_long_name_{'x' * 90}", given, 8)
    record = folds_record(fold_record(0, evaluation(), evaluation()), fold_record(1, evaluation()))
    write_json(folder / "runs" / "cv" / FOLDS, record)
    return write_report(read_content([folder / "runs"], "runs", 10, 512), folder / "out")


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Browser]:
    with Browser() as opened:
        opened.open(page)
        opened.wait("document.getElementById('shot-canvas').dataset.shot")
        yield opened


@pytest.fixture(autouse=True)
def _silent(browser: Browser) -> Iterator[None]:
    """Nothing that a test does makes the page complain, or ask for anything outside the file."""
    yield
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "about:", "blob:"))] == []
    assert sum(url.startswith("file:") for url in browser.requests) == 1
    assert browser.run("window.hacked") is None


def column(browser: Browser, title: str) -> list[str]:
    """The texts that a column shows, from above."""
    return browser.run(
        f"(() => {{ const at = [...document.querySelectorAll('#runs-table thead th')].findIndex(each => "
        f"each.innerText.trim().startsWith('{title}')); "
        f"return {SHOWN}.map(row => row.cells[at].innerText.trim()); }})()"
    )


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector({selector!r}).click()")


def choose(browser: Browser, id: str, value: Any) -> None:
    """Sets a control as a user does, so that the page hears of it."""
    browser.run(
        f"(() => {{ const it = document.getElementById('{id}'); it.value = {value!r}; "
        f"it.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def test_sorting(browser: Browser) -> None:
    mious = [float(text.split()[0]) for text in column(browser, "mIoU")]
    assert mious == sorted(mious, reverse=True)
    assert len(mious) == 9
    # By keyboard, to the other order and back.
    browser.run("[...document.querySelectorAll('#runs-table th button')].find(b => b.innerText == 'mIoU').focus()")
    for expected, order in ((sorted(mious), "ascending"), (sorted(mious, reverse=True), "descending")):
        browser.press("Enter")
        assert [float(text.split()[0]) for text in column(browser, "mIoU")] == expected
        assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == order
    browser.run("[...document.querySelectorAll('#runs-table th button')].find(b => b.innerText == 'run').click()")
    names = column(browser, "run")
    assert sorted(names) != sorted(names, reverse=True)
    assert [name for name in names if name.startswith("run")] == [f"run{n}" for n in range(7)]


def test_filtering(browser: Browser) -> None:
    browser.run("document.getElementById('filter').focus()")
    browser.type("fcn RUN")
    assert set(column(browser, "run")) == {"run1", "run4"}
    assert browser.run("document.getElementById('filter-count').textContent") == "2 of 9 rows"
    shown = list(csv.reader(io.StringIO(browser.run("window.asCsv()"))))
    assert [row[0] for row in shown[1:]] == column(browser, "run")
    assert shown[0][:2] == ["run", "mIoU"]
    assert browser.run("window.asMarkdown()").count("\n") == 4
    choose(browser, "filter", "no such run")
    assert column(browser, "run") == []
    choose(browser, "filter", "")
    assert len(column(browser, "run")) == 9


def test_marks(browser: Browser) -> None:
    """The best of all is tainted or bold, never both; all taints are explained below."""
    cells = dict(zip(column(browser, "run"), column(browser, "mIoU"), strict=True))
    assert [name for name, text in cells.items() if text.endswith("†")] == ["run6"]
    best = browser.run("[...document.querySelectorAll('td strong.best')].map(b => b.closest('tr').cells[1].innerText)")
    assert "run6" not in best
    clean = {name: float(text.split()[0]) for name, text in cells.items() if not text.endswith("†")}
    assert max(clean, key=clean.__getitem__) in best
    assert "† val: weights were trained on 1 of these images" in browser.run("document.body.innerText")


def test_ticks_choose_what_is_drawn(browser: Browser) -> None:
    lines = "document.querySelectorAll('#curve-plot path').length"
    assert browser.run(lines) == 6
    click(browser, "#runs-table tbody input:checked")
    assert browser.run(lines) == 5
    assert browser.run("document.querySelectorAll('#class-bars .set:first-of-type .bar, #class-bars .set')[0] && true")
    assert browser.run("document.querySelector('#class-bars .set').children.length") == 5
    click(browser, "#runs-table tbody input:not(:checked)")
    assert browser.run(lines) == 6
    names = browser.run("[...document.querySelectorAll('#class-bars .name')].map(e => e.innerText.trim())")
    assert names == ["mean", *CLASSES]


def test_curves_answer_to_pointer_and_keys(browser: Browser) -> None:
    choose(browser, "curve-key", "train/loss")
    choose(browser, "curve-by", "0")
    browser.run("document.querySelector('#curve-plot svg').focus()")
    browser.press("ArrowLeft")
    assert browser.run("document.getElementById('tip').textContent").startswith("step 48\n")
    assert "run0: 0.0204\n" in browser.run("document.getElementById('tip').textContent")  # 1 / 49
    browser.run("document.activeElement.blur()")
    assert browser.run("document.getElementById('tip').hidden")
    choose(browser, "curve-key", "val/miou")
    choose(browser, "curve-by", "1")
    assert "at epoch 5" in browser.run("document.getElementById('curve-legend').innerText")


def test_confusion_by_keyboard(browser: Browser) -> None:
    choose(browser, "confusion-kind", "pixels")
    browser.run("document.querySelector('#confusion-grid tbody').rows[0].cells[1].focus()")
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    at = browser.run("[document.activeElement.dataset.truth, document.activeElement.dataset.prediction]")
    assert at == ["1", "1"]
    row = int(browser.run("document.getElementById('confusion-row').value"))
    pixels = browser.run(f"data.rows[{row}].matrix[1][1]")
    assert f"{pixels:,} pixels" in browser.run("document.getElementById('confusion-detail').innerText")
    # Each image that is named there has a button; Enter opens the first.
    name = browser.run("document.querySelector('#confusion-detail button').innerText.split(':')[0]")
    browser.press("Enter")
    browser.wait(f"document.getElementById('shot-canvas').dataset.shot === {name!r}")
    assert browser.run("document.activeElement.id") == "gallery-strip"


def canvas(browser: Browser) -> np.ndarray:
    pixels = browser.run(
        "Array.from(document.getElementById('shot-canvas').getContext('2d')"
        f".getImageData(0, 0, {SIZE[1]}, {SIZE[0]}).data)"
    )
    return np.array(pixels, dtype=np.uint8).reshape(*SIZE, 4)[:, :, :3]


def open_shot(browser: Browser, name: str) -> None:
    shots = "[...document.querySelectorAll('#gallery-strip figure')]"
    browser.run(f"{shots}.find(f => f.querySelector('img').alt === {name!r}).click()")
    browser.wait(f"document.getElementById('shot-canvas').dataset.shot === {name!r}")


def test_every_image_shows_and_the_slider_divides_it(browser: Browser, given: list[Scene]) -> None:
    choose(browser, "shot-opacity", "100")
    runs = browser.run("data.rows.map(row => data.runs[row.run].name)")
    choose(browser, "gallery-a", str(runs.index("run3")))
    choose(browser, "gallery-b", str(runs.index("run5")))
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(CLASSES)] = list(CLASSES.values())
    below = slice(24, None)  # without the names of the layers, which stand at the top
    for scene in given:
        open_shot(browser, scene.name)
        known = scene.truth != 255
        for seed, left, errors in ((3, "a", "errors-a"), (5, "b", "errors-b")):
            ids = predict(scene, seed, 0.1 + 0.05 * seed)
            choose(browser, "shot-left", left)
            choose(browser, "shot-right", "truth")
            browser.run("document.getElementById('shot-slider').focus()")
            choose(browser, "shot-slider", "500")
            middle = canvas(browser)
            assert np.array_equal(middle[below, :46], table[ids][below, :46])
            half = np.zeros(SIZE, dtype=bool)
            half[below, 50:] = True
            assert np.array_equal(middle[half & known], table[scene.truth][half & known])
            # Ignored pixels are striped.
            assert {tuple(pixel) for pixel in middle[half & ~known].tolist()} == {(255,) * 3, (136,) * 3}
            for _ in range(3):
                browser.press("ArrowRight")
            assert int(browser.run("document.getElementById('shot-slider').value")) > 500
            choose(browser, "shot-slider", "0")
            choose(browser, "shot-right", errors)
            wrong = (canvas(browser)[below] == (230, 40, 40)).all(axis=2)
            expected = ((ids != scene.truth) & known)[below]
            assert np.array_equal(wrong[:, 2:], expected[:, 2:])
    images = "[...document.querySelectorAll('#gallery-strip img')]"
    browser.wait(f"{images}.every(image => image.complete)")
    assert browser.run(f"{images}.map(image => image.naturalWidth)") == [SIZE[1]] * len(given)
    # The classes of a pixel, by pointer.
    scene = given[-1]
    browser.run("document.getElementById('shot-canvas').scrollIntoView()")
    box = browser.run(
        "(b => [b.left, b.top, b.width, b.height])(document.getElementById('shot-canvas').getBoundingClientRect())"
    )
    x, y = 40, 50
    browser.mouse("mouseMoved", box[0] + (x + 0.5) / SIZE[1] * box[2], box[1] + (y + 0.5) / SIZE[0] * box[3])
    names = list(CLASSES)
    text = f"Pixel {x}, {y}: truth {names[scene.truth[y, x]]}, A {names[predict(scene, 3, 0.25)[y, x]]}"
    assert text in browser.run("document.getElementById('shot-pixel').textContent")


def test_the_worst_comes_first(browser: Browser) -> None:
    captions = "[...document.querySelectorAll('#gallery-strip figcaption')].map(e => e.innerText)"
    for order, place in (("a", 0), ("b", 1)):
        choose(browser, "gallery-order", order)
        scores = [float(text.replace("%", "").split(",")[place].split()[1]) for text in browser.run(captions)]
        assert scores == sorted(scores)
        assert len(scores) == 4
    choose(browser, "gallery-order", "loss")
    pairs = [text.replace("%", "").replace(",", "").split() for text in browser.run(captions)]
    differences = [float(pair[3]) - float(pair[1]) for pair in pairs]
    assert differences == pytest.approx(sorted(differences), abs=0.11)
    browser.run("document.getElementById('gallery-strip').focus()")
    browser.press("ArrowRight")
    chosen = "[...document.querySelectorAll('#gallery-strip figure')].findIndex(f => f.ariaSelected === 'true')"
    assert browser.run(chosen) == 1


def test_settings_show_what_differs(browser: Browser) -> None:
    names = browser.run("data.runs.map(run => run.name)")
    choose(browser, "settings-a", str(names.index("run0")))
    choose(browser, "settings-b", str(names.index("run1")))
    rows = "[...document.querySelectorAll('#settings-table tbody tr')].map(row => [...row.cells].map(c => c.innerText))"
    assert browser.run(rows) == [
        ["backbone.name", "tu-unet_small", "tu-fcn_small"],
        ["choices.model", "unet", "fcn"],
        ["optimizer.lr", "0.001", "0.003"],
        ["seed", "0", "1"],
    ]
    choose(browser, "settings-filter", "optim")
    assert len(browser.run(rows)) == 1
    click(browser, "#settings-all")
    assert len(browser.run(rows)) == 2


def test_cost_has_a_point_per_row(browser: Browser) -> None:
    for key in ("gflops", "minutes", "parameters"):
        choose(browser, "cost-key", key)
        assert browser.run("document.querySelectorAll('#cost-plot circle').length") == 9


def test_keyboard_reaches_every_part(browser: Browser) -> None:
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    seen = set()
    for _ in range(120):
        browser.press("Tab")
        seen.add(browser.run("document.activeElement.closest('section')?.id ?? document.activeElement.tagName"))
    assert {"runs", "curves", "classes", "confusion", "cost", "folds", "images", "settings"} <= seen


def test_epochs_are_whole(browser: Browser) -> None:
    choose(browser, "curve-by", "1")
    texts = browser.run("[...document.querySelectorAll('#curve-plot text')].map(each => each.textContent)")
    below = browser.run(
        "[...document.querySelectorAll('#curve-plot text[text-anchor=middle]')].map(each => each.textContent)"
    )
    ticks = [text for text in below if text not in ("epoch", "val/miou")]
    assert "epoch" in texts
    assert len(ticks) > 1
    assert all(text.isdecimal() for text in ticks), ticks


@pytest.mark.parametrize("width", [400, 1600])
def test_numbers_beside_points_cover_nothing(browser: Browser, width: int) -> None:
    """All nine points of equal cost, so that they stand one above the other."""
    browser.resize(width)
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    number, covered = browser.run(
        """(() => {
            const box = each => each.getBoundingClientRect();
            const texts = [...document.querySelectorAll('#cost-plot text')]
                .filter(each => /^[1-9]$/.test(each.textContent)).slice(-9);
            const points = [...document.querySelectorAll('#cost-plot circle')];
            const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
                && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
            const all = [...texts, ...points];
            return [texts.length, texts.flatMap(one => all.filter(other => other !== one && meet(box(one), box(other)))
                .map(other => one.textContent + ' ' + other.textContent))];
        })()"""
    )
    assert number == 9
    assert covered == []


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_wide_are_readable(browser: Browser, width: int, scheme: str) -> None:
    """Nothing hangs over the side, no text is smaller than 11 pixels, and all has a contrast of 4.5 (WCAG AA)."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.resize(width)
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.run("document.documentElement.scrollWidth") <= width
    found = browser.run(
        """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility()
            && !e.closest('.hidden, .skip, .tip')
            && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
            const style = getComputedStyle(e), box = e.getBoundingClientRect();
            let back = e;
            const isClear = each => /, 0\\)$|transparent/.test(getComputedStyle(each).backgroundColor);
            while (back && isClear(back)) back = back.parentElement;
            return [e.textContent.trim().slice(0, 40), parseFloat(style.fontSize), box.right,
                !!e.closest('.scroll, .strip'), e instanceof SVGElement ? style.fill : style.color,
                back ? getComputedStyle(back).backgroundColor : 'none', e.tagName]; })"""
    )
    assert len(found) > 200
    for text, size, right, may_scroll, colour, back, tag in found:
        assert size >= 11, (text, size)
        assert may_scroll or right <= width + 1, (text, right)
        if tag not in ("OPTION", "TD") and "rgba" not in back:  # cells of the matrix are half transparent
            assert contrast(rgb(colour), rgb(back)) >= 4.5, (text, colour, back, tag)
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.resize(1600)


def rgb(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.partition("(")[2].rstrip(")").split(",")[:3])


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_fifty_runs_are_small_and_quick(tmp_path: Path) -> None:
    """Of 101 images each, with pictures of CamVid's size: seconds of processor, whatever else the machine does."""
    import time

    given = [Scene(f"{scene.name}{n}", scene.image, scene.truth) for scene in scenes(3, (360, 480)) for n in range(33)]
    run = write_run(tmp_path / "runs" / "run0", given, epochs=60)
    for number in range(1, 50):
        copy_run(run, tmp_path / "runs" / f"run{number}")
    start = time.process_time()
    page = write_report(read_content([tmp_path / "runs"], "t", 24, 512), tmp_path / "out")
    assert time.process_time() - start < 2
    assert page.stat().st_size < 30e6
    with Browser() as browser:
        assert browser.open(page) < 2
        browser.wait("document.getElementById('shot-canvas').dataset.shot")
        assert browser.run("document.querySelectorAll('#runs-table tbody tr').length") == 50
        assert browser.problems == []
