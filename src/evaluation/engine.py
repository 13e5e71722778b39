"""Runs exported files: for their comparison, and in place of a network in `src.eval` and `src.predict`."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.evaluation.exported import EngineFile, ExportOptions
from src.models.half import digest
from src.models.head import Head
from src.models.network import Network
from src.models.weights import read_weights, strip

Run = Callable[[Tensor], Tensor]  # images uint8 (batch_size, 3, H, W) to the output of the file's head


class Engine(nn.Module):
    """An exported file in the place of the network that it was made of, for any protocol of `src.inference`.

    A file takes whole pixel values: images that a protocol has resized are rounded, as they are when a program resizes
    an image before it calls the file.

    Args:
        run: as of `open_file`.
        align_corners: how its logits are to be brought up to the image.
    """

    def __init__(self, run: Run, options: ExportOptions, align_corners: bool) -> None:
        super().__init__()
        self.run, self.options, self.align_corners = run, options, align_corners

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Returns the output of the file's head, `(B, ...)`, of images `(B, 3, H, W)` in 0..255.

        Raises:
            UserError: images of another size than the file takes.
        """
        size = (image.shape[-2], image.shape[-1])
        if self.options.size is not None and size != self.options.size:
            height, width = self.options.size
            raise UserError(
                f"engine: the exported file takes images of {height}x{width} only, and was given {size[0]}x{size[1]}; "
                f"give inference.size=[{height},{width}], or export without size="
            )
        whole = image if image.dtype == torch.uint8 else image.round().clamp(0, 255).to(torch.uint8)
        batches = whole.cpu().contiguous().split(self.options.batch_size)
        return (torch.cat([self.run(_fill(batch, self.options.batch_size))[: len(batch)] for batch in batches]),)


def use_engine(file: EngineFile, network: nn.Module) -> Network:
    """Returns an exported file in place of the network whose weights it has.

    Raises:
        UserError: the file has other weights, or the package that runs it is not installed.
    """
    assert isinstance(network, Network)
    options, facts = file.record.options, file.record.facts
    if facts.weights != weights_digest(network):
        raise UserError(
            f"{file.path}: was made of other weights ({facts.run}, checkpoint {facts.checkpoint}) than those of this "
            f"run and checkpoint; move it away and export anew: python -m src.export run=RUN format={options.format}"
        )
    return cast(Network, Engine(open_file(file.path, options, network), options, file.record.align_corners))


def weights_digest(network: Network) -> str:
    """Returns a digest of a network's tensors by name."""
    return digest({name: tensor.detach().cpu().contiguous() for name, tensor in strip(network.state_dict()).items()})


def open_file(path: Path, options: ExportOptions, network: Network) -> Run:
    """Returns a function that runs an exported file on the CPU, with as many threads as torch.

    Args:
        network: gives a file of weights its layers, and no tensor.

    Raises:
        UserError: the package that runs such files is not installed.
    """
    if options.format == "onnx":
        return _open_onnx(path)
    if options.format == "openvino":
        return _open_openvino(path)
    if options.format == "torch_export":
        program = torch.export.load(path).module()
        return lambda image: program(image)
    other, state = copy.deepcopy(network), read_weights(path)
    for tensor in other.state_dict().values():
        tensor.zero_()
    names = {name: name if name in ("mean", "std") else f"architecture.{name}" for name in state}
    other.load_state_dict({names[name]: tensor for name, tensor in state.items()})
    return Head(other.cpu(), options.head)


def _open_onnx(path: Path) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path.name}: needs the package onnxruntime to run; pip install onnxruntime") from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3  # errors
    # On a CPU without VNNI, sums of two products of 8 bits overflow 16 bits, without an error. This takes a slower way.
    settings.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(cast(Any, session.run(None, {"image": image.numpy()})[0]))


def need_openvino(what: str) -> ModuleType:
    """Imports OpenVINO. Raises UserError if it is not installed; names `what` needs it."""
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"{what}: needs the package openvino, which is not installed; pip install openvino") from error
    return openvino


def _open_openvino(path: Path) -> Run:
    openvino = need_openvino(path.name)
    # In 32 bits: on some processors it would otherwise round to bfloat16, which no other format does unasked.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.compile_model(path, "CPU", settings)
    # A request of its own for each call, as src.predict calls from several threads.
    return lambda image: torch.from_numpy(model.infer_new_request([image.numpy()])[0].copy())


def _fill(batch: Tensor, size: int) -> Tensor:
    """Repeats the last image of a batch that is too short for a file."""
    missing = size - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)]) if missing else batch
