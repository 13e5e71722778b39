"""Segments images of any size in threads; reads, predicts and writes beside each other, and skips what is done."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from src.data.reading import read_size
from src.errors import DataError, UserError
from src.evaluation.inputs import Photo
from src.evaluation.ledger import Ledger, content_of
from src.evaluation.raster_files import is_raster
from src.evaluation.rasters import segment_raster
from src.evaluation.segmenter import BUDGET, Segmenter
from src.evaluation.speed import progress
from src.evaluation.writers import Pictures, Writer, draw

log = logging.getLogger(__name__)
DRAWN = 1_000_000  # pixels that an image without a file is taken for
BATCH = 8  # images per batch on a GPU; on a CPU a batch of four takes 1.2 times the time of four images
NAMED = 3  # errors in the last line; each is logged when it happens


@dataclass
class Outcome:
    """The end of a prediction of several images.

    Args:
        names: outputs that are there, those of earlier calls included.
        before: number of them that earlier calls have written.
        unread: an error for each of the others.
        seconds: of the work, without the loading of the network.
    """

    names: list[str] = field(default_factory=list)
    before: int = 0
    unread: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        new = len(self.names) - self.before
        speed = f"{new} images in {self.seconds:.1f} s, {new / max(self.seconds, 1e-9):.2f} images/s"
        return f"{speed}; {self.before} were done before" if self.before else speed

    @property
    def fault(self) -> str:
        """Describes the images that could not be predicted, the first of them by name."""
        total = len(self.names) + len(self.unread)
        more = f"; and {len(self.unread) - NAMED} more, named above" if len(self.unread) > NAMED else ""
        return f"{len(self.unread)} of {total} files could not be read: {'; '.join(self.unread[:NAMED])}{more}"


def predict_photos(
    segmenter: Segmenter, photos: Sequence[Photo], writer: Writer, ledger: Ledger, batch_size: int | str
) -> Outcome:
    """Writes the prediction for each photo that is not done yet; an image that cannot be read does not stop the rest.

    Photos are read, segmented and written in threads, so that decoding and compression go on beside the network. Those
    of equal size share a batch.

    Args:
        batch_size: number of images, or `auto`.
    """
    if isinstance(batch_size, str):
        batch_size = 1 if segmenter.is_cpu else BATCH
    outcome, begin = Outcome(), time.perf_counter()
    rasters: list[Photo] = []
    work = partial(_predict_batch, segmenter, writer, ledger)
    batches = _batches(photos, batch_size, rasters if isinstance(writer, Pictures) else None)
    with progress(f"{len(photos)} images", len(photos)) as bar:

        def note(photo: Photo, error: str | None, is_new: bool) -> None:
            if error is None:
                outcome.names.append(photo.name)
                outcome.before += not is_new
            else:
                outcome.unread.append(error)
                if len(photos) > 1:
                    log.warning("left out: %s", error)
            bar.advance(bar.task_ids[0])

        for results in segmenter.in_order(work, batches, _weigh, is_single=len(photos) == 1):
            for result in results:
                note(*result)
        for photo in rasters:
            assert isinstance(writer, Pictures)
            note(photo, *_predict_raster(segmenter, photo, writer, ledger))
    outcome.seconds = time.perf_counter() - begin
    return outcome


Sized = tuple[Photo, int]  # a photo and its number of pixels
Result = tuple[Photo, str | None, bool]  # a photo, the error that it has, and whether it was written now


def _weigh(batch: Sequence[Sized]) -> int:
    return sum(pixels for _, pixels in batch)


def _batches(photos: Iterable[Photo], batch_size: int, rasters: list[Photo] | None) -> Iterator[list[Sized]]:
    """Yields photos whose headers state the same size, up to `batch_size` at a time; collects rasters, if asked for.

    A batch has at most `BUDGET` pixels, or one photo. Of photos that wait for others of their size, there are at most
    eight batches.
    """
    waiting: dict[tuple[int, int], list[Sized]] = {}
    for photo in photos:
        try:
            if rasters is not None and photo.path is not None and is_raster(photo.path):
                rasters.append(photo)
                continue
            size = read_size(photo.path) if photo.path is not None else (1, DRAWN)
        except DataError:  # is raised again when the file is read
            size = (1, 1)
        batch, pixels = waiting.setdefault(size, []), size[0] * size[1]
        batch.append((photo, pixels))
        if len(batch) == batch_size or (len(batch) + 1) * pixels > BUDGET:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) > 8 * batch_size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def _predict_batch(
    segmenter: Segmenter, writer: Writer, ledger: Ledger, batch: Sequence[Sized], all_cores: bool
) -> list[Result]:
    """Reads, segments and writes a batch, in a thread."""
    results: list[Result] = []
    groups: dict[tuple[int, ...], list[tuple[Photo, str, np.ndarray]]] = {}
    for photo, _ in batch:
        files = writer.files(photo.name)
        try:
            content = content_of(photo.path) if photo.path is not None else photo.drawing
            if ledger.is_done(photo.name, content, files):
                results.append((photo, None, False))
                continue
            image = photo.read()
            ledger.begin(photo.name, photo.source, files)
        except ValueError as error:
            results.append((photo, str(error), False))
        else:
            groups.setdefault(image.shape, []).append((photo, content, image))
    waiting = list(groups.values())
    while waiting:
        group = waiting.pop(0)
        try:
            found = segmenter([image for _, _, image in group], all_cores=all_cores)
        except UserError as error:
            if len(group) > 1:  # the memory for a batch may be missing, and for one image be there
                waiting += [[each] for each in group]
            else:
                results.append((group[0][0], f"{group[0][0].source}: {error}", False))
            continue
        for (photo, content, image), segmented in zip(group, found, strict=True):
            files = writer.files(photo.name)
            writer.write(photo.name, image, segmented)
            ledger.finish(photo.name, photo.source, content, files)
            results.append((photo, None, True))
    return results


def _predict_raster(segmenter: Segmenter, photo: Photo, writer: Pictures, ledger: Ledger) -> tuple[str | None, bool]:
    """Segments a GeoTIFF or a large TIFF; returns its error, and whether it was written now."""
    assert photo.path is not None
    targets = {kind: writer.folder / kind / Path(photo.name).with_suffix(".tif") for kind in writer.wanted.outputs}
    files = list(targets.values())
    try:
        content = content_of(photo.path)
        if ledger.is_done(photo.name, content, files):
            return None, False
        ledger.begin(photo.name, photo.source, files)
        segment_raster(photo.path, segmenter, targets, partial(draw, wanted=writer.wanted))
    except UserError as error:
        return str(error), False
    ledger.finish(photo.name, photo.source, content, files)
    return None, True
