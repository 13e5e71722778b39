"""The outputs that a prediction is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OUTPUTS = ("labels", "colours", "overlays", "confidence", "probabilities")  # names of the folders, too
FILMED = ("colours", "overlays")  # those of them that are one video, not a file per frame
USUAL = OUTPUTS[:3]
USUAL_OF_FILM = ("overlays",)


@dataclass(frozen=True)
class Wanted:
    """The outputs of a prediction.

    Args:
        outputs: some of `OUTPUTS`.
        classes: names and RGB colours of all classes, in the order of the ids.
        kept: names of the classes to keep; pixels of others become 255. None: all.
        opacity: of the colours in overlays, 0 to 1.
        palette: whether label PNGs carry the colours as their palette.
    """

    outputs: tuple[str, ...]
    classes: Mapping[str, Sequence[int]]
    kept: tuple[str, ...] | None = None
    opacity: float = 0.5
    palette: bool = False

    @property
    def left_out(self) -> list[int]:
        """The ids whose pixels become 255."""
        return [number for number, name in enumerate(self.classes) if self.kept is not None and name not in self.kept]

    @property
    def shown(self) -> dict[str, Sequence[int]]:
        """Names and colours of the classes that are kept."""
        return {name: colour for name, colour in self.classes.items() if self.kept is None or name in self.kept}
