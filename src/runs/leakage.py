"""What weights have seen: images that they were trained on, and images that they were chosen on, through all ancestors.

A figure on such images flatters; it is told, and marked wherever it stands. `exposure.json` in a run folder keeps it.
Without torch.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from src.data.source import Sample, Source
from src.files import write_json

log = logging.getLogger(__name__)
FILE = "exposure.json"


@dataclass(frozen=True)
class Exposure:
    """Images by `image_ids`.

    Args:
        trained: those that weights were trained on.
        chosen: those whose figures decided which weights were kept (not: which epoch of one training, which every run
            decides on its validation).
    """

    trained: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()

    def __or__(self, other: "Exposure") -> "Exposure":
        return Exposure(self.trained | other.trained, self.chosen | other.chosen)

    def taints(self, images: Iterable[str]) -> list[str]:
        """What is wrong with a figure on these images; empty where nothing is."""
        images = set(images)
        counts = {"trained": len(images & self.trained), "chosen": len(images & self.chosen)}
        return [f"weights were {how} on {count} of these images" for how, count in counts.items() if count]


def image_ids(source: Source, samples: Iterable[Sample]) -> list[str]:
    """What `Source.image_id` calls them."""
    return [source.image_id(sample) for sample in samples]


def write_exposure(folder: Path, trained: Iterable[str], before: Exposure) -> None:
    """Writes what the run in this folder trains on, and what its first weights had seen before."""
    record = {"trained": list(trained), "before": {"trained": sorted(before.trained), "chosen": sorted(before.chosen)}}
    write_json(folder / FILE, record)


def note_exposure(folder: Path, trained: Iterable[str], start: Path | None) -> None:
    """The same for a run that starts from the checkpoint `start` of another, or, by None, from nothing.

    A file that is in no run folder, or in that of a version without exposures, tells nothing, which the log then says.
    """
    before = Exposure() if start is None else exposure_after(start.parent.parent)
    if start is not None and not has_exposure(start.parent.parent):
        log.info("note: init_from=%s does not tell what it was trained on; figures on such images have no mark", start)
    write_exposure(folder, trained, before)


def has_exposure(folder: Path) -> bool:
    return (folder / FILE).is_file()


def exposure_before(folder: Path) -> Exposure:
    """What a run's first weights had seen: what taints its figures. Nothing where the folder does not tell."""
    if not has_exposure(folder):
        return Exposure()
    before = json.loads((folder / FILE).read_text())["before"]
    return Exposure(frozenset(before["trained"]), frozenset(before["chosen"]))


def exposure_after(folder: Path) -> Exposure:
    """What a run's last weights have seen: what it hands on to a run that starts from them."""
    if not has_exposure(folder):
        return Exposure()
    own = json.loads((folder / FILE).read_text())["trained"]
    return exposure_before(folder) | Exposure(trained=frozenset(own))
