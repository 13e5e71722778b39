"""Predictions of folders: threads, batches, outputs, and the record by which a second call skips what is done."""

import json
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.reading import read_image
from src.errors import UserError
from src.evaluation import predictions
from src.evaluation.inputs import Photo
from src.evaluation.ledger import RECORD, Ledger
from src.evaluation.segmenter import BUDGET, FULL, Segmenter
from src.evaluation.wanted import OUTPUTS, USUAL, Wanted
from tests.support.predict import PALETTE, SETTINGS, network_of, plain_scores, run, write_weights
from tests.support.small import CLASSES


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "best.ckpt")


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Eleven photos of three sizes, of which one is read only after its EXIF tag has turned it."""
    rng, folder, result = np.random.default_rng(0), tmp_path / "photos", []
    folder.mkdir()
    for number in range(11):
        size = [(40, 56), (33, 47), (40, 56), (56, 40)][number % 4]
        image, exif = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)), Image.Exif()
        exif[0x0112] = 6 if number == 3 else 1
        image.save(folder / f"{number:02d}.png", exif=exif)
        path = folder / f"{number:02d}.png"
        result.append(Photo(f"{number:02d}.png", path, partial(read_image, path)))
    return result


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_labels_are_those_of_the_network_whatever_is_beside_a_photo(
    weights: Path, photos: list[Photo], tmp_path: Path
) -> None:
    """By itself, in a folder by several threads, in batches: the same to 99.99 % of pixels; one by one bitwise."""
    for size in (1, 3):
        assert len(run(weights, photos, tmp_path / f"by{size}", size=size).names) == len(photos)
    run(weights, photos[4:5], tmp_path / "single")
    wrong = total = 0
    for photo in photos:
        expected = plain_scores(weights, photo).argmax(0).numpy()
        assert len(np.unique(expected)) >= 2, "the comparison would say nothing"
        for size in (1, 3):
            ids = read(tmp_path / f"by{size}" / "labels" / photo.name)
            assert ids.shape == photo.read().shape[:2]
            wrong, total = wrong + int((ids != expected).sum()), total + ids.size
    assert wrong <= 1e-4 * total
    name = photos[4].name
    assert np.array_equal(read(tmp_path / "single" / "labels" / name), read(tmp_path / "by1" / "labels" / name))


def test_every_output_by_an_independent_formulation(weights: Path, photos: list[Photo], tmp_path: Path) -> None:
    wanted = Wanted(OUTPUTS, PALETTE, opacity=0.25, palette=True)
    run(weights, photos[:2], tmp_path / "out", wanted)
    colours = np.array(list(PALETTE.values()))
    for photo in photos[:2]:
        shares = plain_scores(weights, photo).double().softmax(0).numpy()
        ids, image = shares.argmax(0), photo.read().astype(np.float64)
        with Image.open(tmp_path / "out" / "labels" / photo.name) as labels:
            assert labels.mode == "P"
            assert np.array_equal(np.asarray(labels), ids)
            assert np.array_equal(np.asarray(labels.convert("RGB")), colours[ids])
        assert np.array_equal(read(tmp_path / "out" / "colours" / photo.name), colours[ids])
        blended = image * 0.75 + colours[ids] * 0.25
        assert np.abs(read(tmp_path / "out" / "overlays" / photo.name) - blended).max() <= 0.5 + 1e-4
        confidence = read(tmp_path / "out" / "confidence" / photo.name)
        assert confidence.dtype == np.uint16
        assert confidence / FULL == pytest.approx(shares.max(0), abs=1e-4)
        with np.load(tmp_path / "out" / "probabilities" / f"{Path(photo.name).stem}.npz") as arrays:
            assert arrays["classes"].tolist() == CLASSES
            assert arrays["probabilities"] / FULL == pytest.approx(shares, abs=1e-4)


def test_classes_that_are_not_kept_become_255_and_show_the_photo(
    weights: Path, photos: list[Photo], tmp_path: Path
) -> None:
    ids = plain_scores(weights, photos[0]).argmax(0).numpy()
    kept = int(np.bincount(ids.ravel()).argmax())
    run(weights, photos[:1], tmp_path / "out", Wanted(USUAL, PALETTE, kept=(CLASSES[kept],)))
    labels = read(tmp_path / "out" / "labels" / photos[0].name)
    assert np.array_equal(labels, np.where(ids == kept, kept, 255))
    assert 0 < (labels == 255).sum() < labels.size
    overlay = read(tmp_path / "out" / "overlays" / photos[0].name)
    assert np.array_equal(overlay[labels == 255], photos[0].read()[labels == 255])
    assert not read(tmp_path / "out" / "colours" / photos[0].name)[labels == 255].any()


def test_a_second_call_does_what_is_new_or_has_changed(weights: Path, photos: list[Photo], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(weights, photos[:4], out).before == 0
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    photo, path = photos[1], photos[1].path
    assert path is not None
    before = read(out / "labels" / photo.name)
    Image.fromarray(255 - photo.read()).save(path)
    (out / "labels" / photos[2].name).unlink()
    outcome = run(weights, photos[:6], out)
    assert (len(outcome.names), outcome.before, outcome.unread) == (6, 2, [])
    assert "2 were done before" in str(outcome)
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {photo.name, photos[2].name}
    after = read(out / "labels" / photo.name)
    assert np.array_equal(after, plain_scores(weights, photo).argmax(0).numpy())
    assert not np.array_equal(after, before)
    more = run(weights, photos[:6], out, Wanted(("labels", "confidence"), PALETTE))
    assert more.before == 0, "confidence is new"
    assert run(weights, photos[:6], out).before == 6, "and the pictures are still known"


def test_nothing_that_somebody_changed_is_replaced(weights: Path, photos: list[Photo], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(weights, photos[:2], out)
    first, second = photos[:2]
    Image.new("L", (3, 3)).save(out / "labels" / first.name)  # corrected by hand
    assert first.path is not None
    Image.fromarray(255 - first.read()).save(first.path)
    (out / "labels" / photos[2].name).write_text("a note")
    outcome = run(weights, photos[:3], out)
    assert outcome.names == [second.name]
    assert all("is not as this program wrote it, and nothing is overwritten" in line for line in outcome.unread)
    assert read(out / "labels" / first.name).shape == (3, 3)
    assert (out / "labels" / photos[2].name).read_text() == "a note"
    twin = Photo(second.name, photos[5].path, photos[5].read)
    assert f"would replace those of {second.path}" in run(weights, [twin], out).unread[0]


def test_a_killed_call_is_continued(weights: Path, photos: list[Photo], tmp_path: Path) -> None:
    """A kill leaves files without a record of their end, and perhaps half a line."""
    out = tmp_path / "out"
    run(weights, photos[:3], out)
    record = out / RECORD
    lines = record.read_text().splitlines()
    last = json.loads(lines[-1])["name"]
    record.write_text("\n".join([*lines[:-1], lines[-1][:20]]))
    outcome = run(weights, photos[:3], out)
    assert (sorted(outcome.names), outcome.before) == (["00.png", "01.png", "02.png"], 2)
    assert json.loads(record.read_text().splitlines()[-1])["name"] == last


def test_other_settings_are_refused_by_name(weights: Path, photos: list[Photo], tmp_path: Path) -> None:
    run(weights, photos[:1], tmp_path / "out")
    with pytest.raises(
        UserError, match=r"other settings \(checkpoint: a -> b; opacity: 0.5 -> 0.7\); give another out"
    ):
        Ledger(tmp_path / "out", {"checkpoint": "b", "opacity": 0.7}).check()
    (tmp_path / "out" / RECORD).write_text("{}\n")
    with pytest.raises(UserError, match="is damaged or not a file of this program"):
        Ledger(tmp_path / "out", SETTINGS).check()


def test_bad_files_are_named_and_do_not_stop_the_rest(weights: Path, photos: list[Photo], tmp_path: Path) -> None:
    bad = []
    for number in range(5):
        path = tmp_path / f"bad{number}.png"
        path.write_bytes(photos[0].path.read_bytes()[: 60 + number] if number else b"text")
        bad.append(Photo(path.name, path, partial(read_image, path)))
    outcome = run(weights, [bad[0], photos[0], *bad[1:], photos[1]], tmp_path / "out")
    assert outcome.names == [photos[0].name, photos[1].name]
    assert len(outcome.unread) == 5
    assert all(f"bad{number}.png: cannot be read" in line for number, line in enumerate(outcome.unread))
    assert outcome.fault.startswith(f"5 of 7 files could not be read: {bad[0].path}: cannot be read (not an image)")
    assert outcome.fault.endswith("; and 2 more, named above")


def test_an_image_too_large_for_the_memory_is_named_and_does_not_stop_the_rest(
    weights: Path, photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Segmenter._segment

    def segment(self: Segmenter, batch: torch.Tensor):
        if batch.numel() > 40 * 56 * 3:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate: not enough memory"
            )
        return usual(self, batch)

    monkeypatch.setattr(Segmenter, "_segment", segment)
    big = tmp_path / "big.png"
    Image.new("RGB", (60, 60)).save(big)
    outcome = run(weights, [Photo("big.png", big, partial(read_image, big)), *photos], tmp_path / "out", size=4)
    assert len(outcome.names) == len(photos), "a batch that is too large is computed one by one"
    assert outcome.unread == [
        f"{big}: needs more memory than there is at 60x60 (HxW); give inference.window=[1024,1024], "
        "inference.short_side=N or a smaller batch_size"
    ]


def test_memory_is_bounded_by_the_pixels_in_work(weights: Path) -> None:
    """Items in work and results that wait never have more pixels than the budget, unless one has by itself."""
    segmenter = network_of(weights)
    segmenter.num_threads = 4
    weights_of = [BUDGET // 3, BUDGET // 3, BUDGET // 3, 2 * BUDGET, 10, *[BUDGET // 2] * 5, *[1] * 40]
    guard, load, most, alones = threading.Lock(), [0], [0], []

    def work(item: int, single: bool) -> int:
        with guard:
            load[0] += weights_of[item]
            most[0] = max(most[0], load[0] if load[0] > BUDGET and not single else 0)
            if single:
                alones.append((item, load[0]))
        return item

    seen = []
    for item in segmenter.in_order(work, range(len(weights_of)), lambda item: weights_of[item]):
        with guard:
            load[0] -= weights_of[item]
        seen.append(item)
    assert seen == list(range(len(weights_of)))
    assert most == [0]
    assert alones == [(3, 2 * BUDGET)], "the large one is computed by itself"


def test_batches_are_of_one_size_and_bounded(photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    def names(size: int) -> list[str]:
        return [
            " ".join(Path(photo.name).stem for photo, _ in batch) for batch in predictions._batches(photos, size, None)
        ]

    # Sizes as stored: 40x56, 33x47, 40x56, 56x40, and again.
    assert names(1) == [f"{number:02d}" for number in range(11)]
    assert names(3) == ["00 02 04", "01 05 09", "06 08 10", "03 07"]
    monkeypatch.setattr(predictions, "BUDGET", 2 * 40 * 56)
    assert names(3) == ["00 02", "01 05", "04 06", "03 07", "08 10", "09"]


def test_reading_stays_a_few_photos_ahead(weights: Path) -> None:
    segmenter, taken = network_of(weights), []
    items = (taken.append(number) or number for number in range(1000))
    results = segmenter.in_order(lambda item, single: item, items, lambda item: 1)
    assert next(results) == 0
    assert len(taken) <= 2 * segmenter.num_threads + 1
    results.close()
