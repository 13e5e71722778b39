"""Exports a network for images of any size, as a `torch.export` program and as ONNX; or only its weights.

Both are in evaluation mode and return the main logits at the network's stride. Mean, standard deviation, padding and
cropping are inside: the uint8 image goes in as it was read. What was written is read back and compared.
"""

import warnings
from pathlib import Path

import torch
import torch.fx.experimental._config as symbolic_shapes
from torch.export import Dim, ExportedProgram, export

from src.errors import UserError
from src.evaluation.export_check import ExportRecord, compare
from src.files import atomic_path, write_json
from src.models.half import write_safetensors
from src.models.network import Network
from src.models.weight_files import first_line
from src.models.weights import strip

# No stride divides the example's sides, so that no network is traced without its padding.
EXAMPLE_SIZE = (150, 203)
OPSET = 20


def export_program(network: Network, batch_size: int = 1) -> ExportedProgram:
    """Exports the network for uint8 images `(batch_size, 3, H, W)` with free H and W.

    Raises:
        UserError: the network cannot be exported; gives the reason.
    """
    image = torch.zeros(batch_size, network.channels, *EXAMPLE_SIZE, dtype=torch.uint8)
    sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    # Otherwise the question whether cropping changes the map is answered for the example, and becomes a guard.
    with symbolic_shapes.patch(backed_size_oblivious=True):  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return export(network.eval().cpu(), (image,), dynamic_shapes=sizes)
        except Exception as error:
            raise UserError(f"{_name(network)} cannot be exported: {first_line(error)}") from error


def export_onnx(network: Network, path: Path, batch_size: int = 1) -> Path:
    """Writes the network as ONNX: input `image`, uint8 `(batch_size, 3, height, width)`; output `logits`.

    Raises:
        UserError: the network cannot be exported, or has an operator that ONNX lacks; names it.
    """
    program = export_program(network, batch_size)
    try:
        onnx = torch.onnx.export(
            program, input_names=["image"], output_names=["logits"], opset_version=OPSET, dynamo=True, verbose=False
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"{_name(network)} cannot be exported to ONNX: {first_line(error)}") from error
    assert onnx is not None
    with atomic_path(path) as temporary:
        onnx.save(temporary)
    return path


def export_weights(network: Network, path: Path) -> Path:
    """Writes the weights in 32 bits by the names of the architecture's tensors, with `mean` and `std` (of 0..255)."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in strip(network.state_dict()).items()}
    write_safetensors(path, state, {})
    return path


def export_checked(network: Network, path: Path, form: str, batch_size: int = 1) -> ExportRecord:
    """Writes the network in a format, compares what was written with it, and writes the comparison beside the file.

    Raises:
        UserError: the network cannot be exported; or what was written computes something else, and is removed.
    """
    if form == "onnx":
        export_onnx(network, path, batch_size)
    elif form == "torch_export":
        program = export_program(network, batch_size)
        with atomic_path(path) as temporary, warnings.catch_warnings():
            # So torch calls weights in the memory format channels_last; they are whole, and the comparison shows it.
            warnings.filterwarnings("ignore", message="No complete tensor found in the group")
            torch.export.save(program, temporary)
    else:
        export_weights(network, path)
    record = compare(network, path, form, batch_size)
    if wrong := record.fault:
        path.unlink()
        raise UserError(f"{_name(network)} cannot be exported as {form}: {wrong}; choose another format=")
    write_json(path.with_name(f"{path.name}.json"), record)
    return record


def _name(network: Network) -> str:
    return type(network.architecture).__name__
