"""Rounds an ONNX file to 8 or 16 bits, in place."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.errors import UserError
from src.evaluation.export_check import fit, to_batch
from src.evaluation.exported import ExportOptions

NEEDED = "needs the packages onnx and onnxruntime; pip install onnx onnxruntime"


def quantise(path: Path, images: Sequence[np.ndarray], options: ExportOptions) -> None:
    """Quantises convolutions and matrix products: weights in 8 bits per channel, activations in 8 bits per tensor.

    The ranges of the activations are those that the images reach. Scales stand in the graph as pairs of
    QuantizeLinear and DequantizeLinear (QDQ), which onnxruntime and OpenVINO read.

    Args:
        images: uint8 `(H, W, 3)` each, of any sizes that the file takes.

    Raises:
        UserError: onnxruntime is not installed.
    """
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise UserError(f"precision=int8: {NEEDED}") from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = _batches(images, options)

        def get_next(self) -> Any:
            return next(self.batches, None)

    prepared = path.with_name(f"prepared{path.suffix}")
    # Joins convolutions with the BatchNorm and the ReLU after them, which then share one range.
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it logs a warning for each tensor without a range
    try:
        quantize_static(
            prepared, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        )  # fmt: skip
    finally:
        root.setLevel(level)
        prepared.unlink()


def _batches(images: Sequence[np.ndarray], options: ExportOptions) -> Iterator[dict[str, np.ndarray]]:
    for pixels in images:
        image = to_batch(pixels)
        batch = fit(image, options.size or (image.shape[-2], image.shape[-1])).expand(options.batch_size, -1, -1, -1)
        yield {"image": batch.numpy()}


def to_fp16(path: Path) -> None:
    """Rounds weights and activations to 16 bits; input, output, resizing and sizes stay as they are.

    Raises:
        UserError: onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise UserError(f"precision=fp16: {NEEDED}") from error
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)
