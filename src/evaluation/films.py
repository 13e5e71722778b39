"""Segments videos and the pictures of a camera frame by frame; writes videos and a table of class shares."""

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from src.errors import DataError, UserError
from src.evaluation.inputs import is_camera
from src.evaluation.ledger import Ledger, content_of
from src.evaluation.optional import need
from src.evaluation.segmenter import Segmented, Segmenter
from src.evaluation.speed import progress
from src.evaluation.wanted import FILMED, Wanted
from src.evaluation.writers import Pictures, draw, write_legend
from src.files import atomic_path
from src.processes.signals import StoppedError

CODEC, SETTINGS = "libx264", {"crf": "20", "preset": "veryfast"}  # visually without loss, at half of a core
CLOCK = 90_000  # ticks per second, MPEG's: whole for all usual rates
FPS = 25  # of a video that does not state its own


@dataclass(frozen=True)
class Frame:
    """One frame, upright: its number, its time in seconds, and its pixels uint8 `(H, W, 3)`."""

    number: int
    time: float
    image: np.ndarray
    aspect: Fraction  # width of a pixel by its height: not 1 in films that players stretch


@dataclass(frozen=True)
class Drawn:
    """One frame that is segmented: its pictures by the kind of the output, and the share of each class in 0..1."""

    frame: Frame
    pictures: dict[str, np.ndarray]
    shares: list[float]


def segment_film(
    source: Path, segmenter: Segmenter, writer: Pictures, ledger: Ledger, num_frames: int | None = None
) -> str:
    """Writes `<name>_overlays.mp4`, `<name>_shares.csv` and what else is wanted; describes them for the log.

    Frames keep their times; sound is left out. A camera is filmed until Ctrl-C, or for `num_frames`.

    Args:
        source: a video file, or the device of a camera.

    Raises:
        UserError: PyAV is not installed; the file cannot be decoded (what comes before is written); an output is not
            as this program left it.
    """
    need("av", "video", source, "a video")
    is_live = is_camera(source)
    name = f"{source.stem}-{time.strftime('%Y%m%d-%H%M%S')}" if is_live else source.stem
    films = {kind: writer.folder / f"{name}_{kind}.mp4" for kind in writer.wanted.outputs if kind in FILMED}
    files = [*films.values(), writer.folder / f"{name}_shares.csv"]
    content = "" if is_live else f"{content_of(source)} {num_frames} {' '.join(writer.wanted.outputs)}"
    place = str(source.resolve())
    if ledger.is_done(name, content, files) and all(file.is_file() for file in ledger.files_of(place, content)):
        return f"{source} was done before, in {writer.folder}"
    ledger.begin(name, place, files)
    begin = time.perf_counter()
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_path(file)) for file in files]
        targets = dict(zip([*films, "shares"], temporary, strict=True))

        def write_frame(frame: Frame, found: Segmented) -> None:
            label, kinds = (
                f"{name}_{frame.number:06d}.png",
                [kind for kind in writer.wanted.outputs if kind not in FILMED],
            )
            if kinds:
                ledger.begin(label, place, writer.files(label, kinds))
                writer.write(label, frame.image, found, kinds)
                ledger.finish(label, place, content, writer.files(label, kinds))

        count, fault = _write(source, segmenter, writer.wanted, targets, num_frames, write_frame)
    write_legend(writer.folder, writer.wanted)
    if fault is None:
        ledger.finish(name, place, content, files)
    if isinstance(fault, DataError):
        raise UserError(f"{fault}; the {count} frames before are in {writer.folder}") from fault
    seconds = time.perf_counter() - begin
    names = ", ".join(file.name for file in files)
    text = f"{count} frames in {seconds:.1f} s, {count / seconds:.2f} frames/s: {names} in {writer.folder}"
    if fault is not None:
        print(text, flush=True)  # the log is closed by a signal
        raise fault
    return text


def _write(
    source: Path,
    segmenter: Segmenter,
    wanted: Wanted,
    targets: Mapping[str, Path],
    num_frames: int | None,
    write_frame: Callable[[Frame, Segmented], None],
) -> tuple[int, BaseException | None]:
    """Writes the films and the table; returns the number of frames, and what has ended them before their end.

    Args:
        write_frame: writes the outputs that are a file per frame.
    """
    import av
    from av.error import FFmpegError

    is_live = is_camera(source)
    films = {kind: path for kind, path in targets.items() if kind in FILMED}

    def work(frame: Frame, all_cores: bool) -> Drawn:
        found = segmenter([frame.image], all_cores=all_cores)[0]
        write_frame(frame, found)
        counts = np.bincount(found.ids.ravel(), minlength=256)[: len(wanted.classes)]
        pictures = {kind: draw(kind, frame.image, found.ids, wanted) for kind in films}
        return Drawn(frame, pictures, (counts / found.ids.size).tolist())

    count = 0
    with ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(str(source), format="v4l2" if is_live else None))
            stream = container.streams.video[0]
        except (FFmpegError, IndexError, OSError) as error:
            raise DataError(source, "unreadable", f"cannot be read as a video ({error})") from error
        rate = stream.average_rate or Fraction(FPS)
        encoders = {kind: stack.enter_context(_Encoder(path, rate)) for kind, path in films.items()}
        file = stack.enter_context(targets["shares"].open("w", newline=""))
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["frame", "time", *wanted.classes])
        bar = stack.enter_context(progress(source.name, num_frames or stream.frames or None))
        try:
            frames = _frames(source, container, stream, num_frames)
            for drawn in segmenter.in_order(work, frames, lambda frame: frame.image.size // 3):
                for kind, encoder in encoders.items():
                    encoder.write(drawn.pictures[kind], drawn.frame)
                shares = (f"{share:.6f}" for share in drawn.shares)
                table.writerow([drawn.frame.number, f"{drawn.frame.time:.3f}", *shares])
                count += 1
                bar.advance(bar.task_ids[0])
        except (DataError, StoppedError) as error:
            if not count or (isinstance(error, StoppedError) and not is_live):
                raise
            return count, error
    if not count:
        raise DataError(source, "unreadable", "has no frame")
    return count, None


def _frames(source: Path, container: Any, stream: Any, num_frames: int | None) -> Iterator[Frame]:
    """Decodes the frames of a video stream and turns them upright. DataError if a frame cannot be decoded."""
    from av.error import FFmpegError

    stream.thread_type = "AUTO"
    decoded, last = container.decode(stream), 0.0
    number = 0
    while num_frames is None or number < num_frames:
        try:
            frame = next(decoded, None)
            if frame is None:
                return
            image = frame.to_ndarray(format="rgb24")
        except FFmpegError as error:
            raise DataError(source, "unreadable", f"frame {number} cannot be decoded ({error})") from error
        turns = round(frame.rotation / 90)
        image, aspect = np.ascontiguousarray(np.rot90(image, turns)), stream.sample_aspect_ratio or Fraction(1)
        last = last + 1 / FPS if frame.time is None else frame.time
        yield Frame(number, last, image, 1 / aspect if turns % 2 else aspect)
        number += 1


class _Encoder:
    """Writes an MP4 of H.264, of the size of the first picture, by a clock of `CLOCK` ticks per second."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate = path, rate
        self.container: Any = None
        self.last = -1

    def __enter__(self) -> "_Encoder":
        return self

    def write(self, picture: np.ndarray, of: Frame) -> None:
        """Adds a picture uint8 `(H, W, 3)` at the time of a frame, whose pixels have the same shape.

        Of an odd height or width the last line is repeated, as H.264 needs it.
        """
        import av
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

        picture = np.pad(picture, [(0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)], mode="edge")
        if self.container is None:
            # Written at the end, the index would be out of reach of a player that has not read the whole file.
            self.container = av.open(str(self.path), "w", options={"movflags": "faststart"})
            stream: Any = self.container.add_stream(CODEC, rate=self.rate, options=SETTINGS)
            stream.height, stream.width = picture.shape[:2]
            stream.pix_fmt, stream.codec_context.sample_aspect_ratio = "yuv420p", of.aspect
            stream.codec_context.time_base = Fraction(1, CLOCK)
            # Stated, since players guess the matrix by the size of the picture.
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_primaries = ColorPrimaries.BT709
            stream.codec_context.color_trc = ColorTrc.BT709
            stream.codec_context.color_range = ColorRange.MPEG
            self.stream = stream
        elif picture.shape[:2] != (self.stream.height, self.stream.width):
            size = (self.stream.width, self.stream.height)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709
        )
        self.last = max(self.last + 1, round(of.time * CLOCK))
        frame.pts, frame.time_base = self.last, Fraction(1, CLOCK)
        self.container.mux(self.stream.encode(frame))

    def __exit__(self, *error: object) -> None:
        if self.container is not None:
            self.container.mux(self.stream.encode())
            self.container.close()
