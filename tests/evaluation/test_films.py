"""Videos: every frame upright, at its time, with its class shares; the written film shows what was predicted."""

import csv
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from src.errors import UserError
from src.evaluation.films import segment_film
from src.evaluation.inputs import film_of, find_images
from src.evaluation.ledger import Ledger
from src.evaluation.segmenter import Segmenter
from src.evaluation.wanted import USUAL_OF_FILM, Wanted
from src.evaluation.writers import Pictures
from src.files import claim
from tests.support.predict import PALETTE
from tests.support.small import CLASSES, small_task

TICKS = [0, 40, 80, 120, 400, 440]  # milliseconds: a gap as phones leave it
QUARTER = bytes.fromhex("00000000000100000000000000000000ffff0000")  # of a track's matrix: turned by 90° to the right
STRAIGHT = bytes.fromhex("0001000000000000000000000000000000010000")


class ByBrightness(torch.nn.Module):
    """Class 0 for a dark pixel, 1 for a bright one: a network whose answer can be seen."""

    align_corners, divisor = False, 1

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        bright = image.mean(dim=1, keepdim=True)
        others = torch.full_like(bright, -9.0).repeat(1, len(CLASSES) - 2, 1, 1)
        return (torch.cat([-bright, bright, others], dim=1),)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Six frames of 62x44 whose upper rows are white, one more band of 4 rows per frame; pixels are 4:3."""
    path = tmp_path / "drive.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 62, 44, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for number, ticks in enumerate(TICKS):
            picture = np.zeros((44, 62, 3), dtype=np.uint8)
            picture[: 4 * (number + 1)] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = ticks, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def segment(film: Path, folder: Path, outputs: tuple[str, ...] = USUAL_OF_FILM, frames: int | None = None) -> str:
    task = small_task(architecture=ByBrightness)
    checkpoint = folder.parent / "best.ckpt"
    torch.save({"state_dict": task.state_dict(), "epoch": 0, "global_step": 1}, checkpoint)
    wanted = Wanted(outputs, PALETTE)
    claim(folder, "output")
    with Ledger(folder, {}) as ledger:
        segmenter = Segmenter(task, checkpoint, "cpu", "32-true", wanted)
        return segment_film(film, segmenter, Pictures(folder, wanted), ledger, frames)


def decode(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def pixel_shape(path: Path) -> Fraction | None:
    with av.open(str(path)) as container:
        return container.streams.video[0].sample_aspect_ratio


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_film_keeps_times_size_and_shows_the_classes(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = segment(film, out, ("labels", "colours", "overlays"))
    assert text.startswith("6 frames in ")
    assert "frames/s: drive_colours.mp4, drive_overlays.mp4, drive_shares.csv" in text
    rows = rows_of(out / "drive_shares.csv")
    assert list(rows[0]) == ["frame", "time", *CLASSES]
    assert [float(row["time"]) for row in rows] == [ticks / 1000 for ticks in TICKS]
    assert [float(row[CLASSES[1]]) for row in rows] == pytest.approx([4 * (n + 1) / 44 for n in range(6)], abs=1e-6)
    assert len(sorted((out / "labels").iterdir())) == 6
    frames = decode(out / "drive_colours.mp4")
    assert pixel_shape(out / "drive_colours.mp4") == Fraction(4, 3)
    assert [time for time, _ in frames] == pytest.approx([ticks / 1000 for ticks in TICKS], abs=1e-3)
    for number, (_, picture) in enumerate(frames):
        assert picture.shape == (44, 62, 3)
        edge = 4 * (number + 1)
        for part, colour in ((picture[: edge - 2], 1), (picture[edge + 2 :], 0)):
            assert np.abs(part.mean((0, 1)) - PALETTE[CLASSES[colour]]).max() < 6, "H.264 blurs, within a few steps"


def test_a_film_that_a_phone_marks_as_turned_is_upright(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    assert data.count(STRAIGHT) >= 1
    place = data.index(STRAIGHT, data.index(b"tkhd"))
    film.write_bytes(data[:place] + QUARTER + data[place + len(QUARTER) :])
    segment(film, tmp_path / "out", ("colours",))
    assert pixel_shape(tmp_path / "out" / "drive_colours.mp4") == Fraction(3, 4)
    for number, (_, picture) in enumerate(decode(tmp_path / "out" / "drive_colours.mp4")):
        assert picture.shape == (62, 44, 3)
        # The upper rows are on the right after a quarter turn to the right.
        edge = 44 - 4 * (number + 1)
        assert np.abs(picture[:, edge + 2 :].mean((0, 1)) - PALETTE[CLASSES[1]]).max() < 6
        assert np.abs(picture[:, : edge - 2].mean((0, 1)) - PALETTE[CLASSES[0]]).max() < 6


def test_frames_limits_a_film_and_a_second_call_skips_it(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment(film, out, frames=2).startswith("2 frames in ")
    assert len(decode(out / "drive_overlays.mp4")) == 2
    assert "was done before" in segment(film, out, frames=2)
    assert segment(film, out).startswith("6 frames in ")
    (out / "drive_shares.csv").write_text("mine")
    film.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"drive_shares\.csv is not as this program wrote it, and nothing is overwr"):
        segment(film, out)
    assert (out / "drive_shares.csv").read_text() == "mine"


def test_files_of_frames_are_kept_and_mended_as_those_of_photos(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(film, out, ("labels",))
    first, second = (out / "labels" / f"drive_00000{number}.png" for number in (0, 1))
    pixels = first.read_bytes()
    first.unlink()
    assert segment(film, out, ("labels",)).startswith("6 frames in "), "one of them was lost"
    assert first.read_bytes() == pixels
    assert "was done before" in segment(film, out, ("labels",))
    second.write_bytes(b"mine")
    film.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"drive_000001\.png is not as this program wrote it, .* the 1 frames before"):
        segment(film, out, ("labels",))
    assert second.read_bytes() == b"mine"


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"text" * 100)
    with pytest.raises(UserError, match=r"drive\.mp4: cannot be read as a video"):
        segment(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("drive*"))


def test_a_film_in_a_folder_is_left_out_with_the_remedy(film: Path) -> None:
    assert film_of(str(film)) == film
    assert film_of(str(film.parent)) is None
    assert film_of("/dev/null") == Path("/dev/null"), "a character device, as cameras are"
    (film.parent / "a.png").touch()
    (line,) = find_images(film.parent).left_out
    assert line.endswith(f"drive.mp4; give the video by itself, input={film.name}")
