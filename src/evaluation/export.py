"""Exports a network as ONNX, for OpenVINO, as a `torch.export` program, or only its weights; in 32, 16 or 8 bits.

Mean, standard deviation, padding and cropping are inside: the uint8 image goes in as it was read. A file is written
into a folder beside its place, run, and compared with the network on real images; only then is it moved.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.fx.experimental._config as symbolic_shapes
from torch import nn
from torch.export import Dim, ExportedProgram, export

from src.errors import UserError
from src.evaluation.engine import need_openvino, open_file, weights_digest
from src.evaluation.export_check import compare, measure_loss
from src.evaluation.exported import (
    Examples,
    ExportFacts,
    ExportOptions,
    ExportRecord,
    file_digest,
    parts,
    record_path,
)
from src.evaluation.quantise import quantise, to_fp16
from src.files import beside, plain, write_json
from src.inference import Protocol
from src.models.half import to_half, write_safetensors
from src.models.head import Head
from src.models.network import Network
from src.models.weight_files import first_line
from src.models.weights import strip
from src.task import SegmentationTask

# No stride divides the example's sides, so that no network is traced without its padding.
EXAMPLE_SIZE = (150, 203)
OPSET = 20
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch_export": "torch", "safetensors": "safetensors"}


def export_program(
    network: Network | Head, batch_size: int = 1, size: tuple[int, int] | None = None, name: str | None = None
) -> ExportedProgram:
    """Exports a network or a `Head` for uint8 images `(batch_size, 3, H, W)`, with free H and W if there is no `size`.

    Raises:
        UserError: the network cannot be exported; gives the reason, and `name` in place of that of its class.
    """
    image = torch.zeros(batch_size, network.channels, *(size or EXAMPLE_SIZE), dtype=torch.uint8)
    sizes = None if size else ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    # Otherwise the question whether cropping changes the map is answered for the example, and becomes a guard.
    with symbolic_shapes.patch(backed_size_oblivious=True):  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return export(network.eval().cpu(), (image,), dynamic_shapes=sizes)
        except Exception as error:
            raise UserError(f"{name or _name(network)} cannot be exported: {first_line(error)}") from error


def export_onnx(
    network: Network | Head,
    path: Path,
    batch_size: int = 1,
    size: tuple[int, int] | None = None,
    output: str = "logits",
    facts: ExportFacts | None = None,
) -> Path:
    """Writes ONNX: input `image`, uint8 `(batch_size, 3, height, width)`; output `logits`, or `output`.

    Args:
        facts: are put into the file's metadata, as JSON each.

    Raises:
        UserError: the network cannot be exported, or has an operator that ONNX lacks; names it.
    """
    program = export_program(network, batch_size, size)
    for name in ("onnx_ir", "onnxscript"):  # they log each constant that they join
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        onnx = torch.onnx.export(
            program, input_names=["image"], output_names=[output], opset_version=OPSET, dynamo=True, verbose=False
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"{_name(network)} cannot be exported to ONNX: {first_line(error)}") from error
    assert onnx is not None
    if facts is not None:
        onnx.model.metadata_props.update({key: json.dumps(value) for key, value in plain(facts).items()})
    onnx.save(path)
    return path


def describe(
    task: SegmentationTask, run: str, checkpoint: str, classes: dict[str, list[int]], image_size: list[int]
) -> ExportFacts:
    """Returns the facts that travel with an exported file; classes as name to colour."""
    network = task.network
    assert isinstance(network, Network)
    mean, std = ([round(value, 4) for value in each.flatten().tolist()] for each in (network.mean, network.std))
    return ExportFacts(
        run, checkpoint, weights_digest(network), classes, mean, std, image_size, inference=str(task.protocol)
    )


def export_checked(
    network: Network,
    path: Path,
    options: ExportOptions,
    examples: Examples,
    facts: ExportFacts,
    protocol: Protocol | None = None,
) -> ExportRecord:
    """Writes a file and the record beside it, after the file was run and compared with the network.

    Args:
        protocol: by which the loss of mIoU is measured; None: the whole image at its own size.

    Raises:
        UserError: the network cannot be exported; or the file computes something else, and is then not left.
    """
    calibration, measured = examples.divide(options.calibration, options.measured)
    with _draft(path) as file:
        head, needs_images = Head(network.cpu(), options.head), options.precision == "int8"
        write_file(head, file, options, [read()[0] for read in calibration] if needs_images else [], facts)
        run = open_file(file, options, network)
        checks = compare(head, run, options, examples)
        loss = None
        if _is_rounded(options) and options.format != "safetensors":
            loss = measure_loss(head, run, options, measured, protocol or Protocol(), len(facts.classes))
        runtime = RUNTIMES[options.format]
        record = ExportRecord(
            path.name, options, facts, network.align_corners, f"{runtime} {version(runtime)}",
            sum(part.stat().st_size for part in parts(file)), file_digest(file), examples.title, checks, loss,
        )  # fmt: skip
        if fault := record.fault:
            remedy = "precision=fp32, or another format=" if _is_rounded(options) else "another format="
            raise UserError(f"{_name(head)} cannot be exported as {options.title}: {fault}; choose {remedy}")
        write_json(record_path(file), record)
    return record


def _is_rounded(options: ExportOptions) -> bool:
    return options.precision != "fp32"


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Yields a path in a hidden folder; if the block ends without an error, its files move to `path`, itself last."""
    folder = beside(path)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    try:
        yield folder / path.name
        for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_file(
    head: Head, path: Path, options: ExportOptions, calibration: Sequence[np.ndarray], facts: ExportFacts | None = None
) -> None:
    """Writes a file without comparing it; `calibration` are images uint8 `(H, W, 3)`, which only int8 needs.

    Raises:
        UserError: the network cannot be exported, or a package is not installed.
    """
    if options.format == "safetensors":
        _write_weights(head.network, path, options.precision)
        return
    if options.format == "torch_export":
        program = export_program(head, options.batch_size, options.size)
        with warnings.catch_warnings():
            # So torch calls weights in the memory format channels_last; they are whole, and the comparison shows it.
            warnings.filterwarnings("ignore", message="No complete tensor found in the group")
            try:
                torch.export.save(program, path)
            except Exception as error:  # torch raises errors of many kinds
                raise UserError(f"{_name(head)} cannot be exported as torch_export: {first_line(error)}") from error
        return
    onnx = path.with_suffix(".onnx")
    export_onnx(head, onnx, options.batch_size, options.size, options.head, facts)
    convert(onnx, path, options, calibration)


def convert(onnx: Path, path: Path, options: ExportOptions, calibration: Sequence[np.ndarray]) -> None:
    """Makes the file that is asked for of an ONNX file in 32 bits, which it replaces.

    Raises:
        UserError: a package is not installed.
    """
    if options.precision == "int8":
        quantise(onnx, calibration, options)
    if options.format == "openvino":
        openvino = need_openvino(f"format={options.format}")
        model = openvino.Core().read_model(onnx)
        openvino.save_model(model, path, compress_to_fp16=options.precision == "fp16")
        onnx.unlink()
    elif options.precision == "fp16":
        to_fp16(onnx)


def _write_weights(network: Network, path: Path, precision: str) -> None:
    """Writes the weights by the names of the architecture's tensors, with `mean` and `std` (of 0..255)."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in strip(network.state_dict()).items()}
    write_safetensors(path, to_half(state) if precision == "fp16" else state, {})


def _name(network: nn.Module) -> str:
    inner = network.network if isinstance(network, Head) else network
    return type(inner.architecture if isinstance(inner, Network) else inner).__name__
