"""The parameters of a dense CRF. Without torch, so that a wrong value is refused at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DenseCRF:
    """A fully connected CRF over the pixels of an image (Kraehenbuehl & Koltun 2011), with Potts' compatibility.

    Two pixels with unlike labels cost `weight` times a Gaussian of their distance and of the difference of their
    colours, and `smooth_weight` times a Gaussian of their distance. The defaults are weaker than those of the authors'
    example (60, 20, 10, 3, 3), which wipe out thin objects that today's networks find (RESULTS.md).

    Args:
        iterations: steps of the mean field, at least 1.
        position: standard deviation of the first kernel in pixels of the labels.
        colour: the same in RGB, 0..255.
        weight: of the first kernel, at least 0.
        smooth_position: standard deviation of the second kernel in pixels.
        smooth_weight: of the second kernel, at least 0.
    """

    iterations: int = 5
    position: float = 20.0
    colour: float = 10.0
    weight: float = 3.0
    smooth_position: float = 1.0
    smooth_weight: float = 1.0

    def __str__(self) -> str:
        first = f"{self.weight:g} ({self.position:g} px, {self.colour:g} RGB)"
        return f"dense CRF x{self.iterations} {first} + {self.smooth_weight:g} ({self.smooth_position:g} px)"
