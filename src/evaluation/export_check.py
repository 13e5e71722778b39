"""Compares an exported file with the network that it was made of, as another program would run it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from src.errors import UserError
from src.models.network import Network
from src.models.weights import read_weights

SIZES = ((97, 161), (160, 288))  # neither is that of the export's example
LEAST = 0.99  # share of the pixels of which both must name the same class
RUNTIMES = {"onnx": "onnxruntime", "torch_export": "torch", "safetensors": "safetensors"}  # by format


@dataclass(frozen=True)
class ExportCheck:
    """The comparison of two networks on one image of noise."""

    height: int
    width: int
    agreement: float  # share of the pixels of which both name the same class
    largest_difference: float  # of logits
    largest_logit: float

    def __str__(self) -> str:
        return (
            f"{self.height}x{self.width}: same class at {100 * self.agreement:.2f} % of the pixels, logits differ by "
            f"{self.largest_difference:.2g} at most (the largest is {self.largest_logit:.2g})"
        )


@dataclass(frozen=True)
class ExportRecord:
    """Content of the JSON file beside an exported file."""

    file: str
    format: str
    runtime: str  # that ran the file for the comparison
    size: int  # bytes
    checks: tuple[ExportCheck, ...]

    def __str__(self) -> str:
        return "\n".join([f"compared by {self.runtime}:", *(f"  {check}" for check in self.checks)])

    @property
    def fault(self) -> str | None:
        """The first comparison that shows another network, as text."""
        return next((str(check) for check in self.checks if not check.agreement >= LEAST), None)


def compare(network: Network, path: Path, form: str, batch_size: int) -> ExportRecord:
    """Runs the file and the network on noise at two sizes.

    Raises:
        UserError: the package that runs such files is not installed.
    """
    run = _runner(network, path, form)
    generator = torch.Generator().manual_seed(0)
    checks = []
    for height, width in SIZES:
        image = torch.randint(
            0, 256, (batch_size, network.channels, height, width), dtype=torch.uint8, generator=generator
        )
        with torch.no_grad():
            expected, found = network.eval().cpu()(image)[0], run(image)
        assert found.shape == expected.shape, f"{tuple(found.shape)} is not {tuple(expected.shape)}"
        agreement = (found.argmax(1) == expected.argmax(1)).float().mean().item()
        difference = (found - expected).abs().max().item()
        checks.append(ExportCheck(height, width, agreement, difference, expected.abs().max().item()))
    runtime = RUNTIMES[form]
    return ExportRecord(path.name, form, f"{runtime} {version(runtime)}", path.stat().st_size, tuple(checks))


def _runner(network: Network, path: Path, form: str) -> Callable[[Tensor], Tensor]:
    """Returns a function from images uint8 `(B, 3, H, W)` to logits, which uses only the file."""
    if form == "onnx":
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                "format=onnx: needs the package onnxruntime to compare; install this project's lock"
            ) from error
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    if form == "torch_export":
        program = torch.export.load(path).module()
        return lambda image: program(image)[0]
    other, state = copy.deepcopy(network), read_weights(path)
    for tensor in other.state_dict().values():
        tensor.zero_()
    names = {name: name if name in ("mean", "std") else f"architecture.{name}" for name in state}
    other.load_state_dict({names[name]: tensor for name, tensor in state.items()})
    return lambda image: other.eval().cpu()(image)[0]
