"""An exported file is compared with its network by running it; one that computes something else is not left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.errors import UserError
from src.evaluation import export as exporting
from src.evaluation.export import export_checked
from src.evaluation.export_check import LEAST, SIZES, ExportRecord, compare
from src.models.network import Network
from src.models.weights import read_weights
from tests.support.small import Small


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(Small(), [0.5] * 3, [0.25] * 3).eval()


@pytest.mark.parametrize(
    ("form", "name"),
    [("safetensors", "a.safetensors"), pytest.param("torch_export", "a.pt2", marks=pytest.mark.e2e)],
)
def test_what_was_written_is_compared(form: str, name: str, network: Network, tmp_path: Path) -> None:
    record = export_checked(network, tmp_path / name, form)
    assert [(check.height, check.width) for check in record.checks] == list(SIZES)
    assert all(check.agreement == 1 and check.largest_difference < 1e-5 for check in record.checks)
    assert json.loads((tmp_path / f"{name}.json").read_text())["format"] == form
    assert "97x161: same class at 100.00 % of the pixels" in str(record)


@pytest.mark.e2e
def test_onnx_is_compared(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    record = export_checked(network, tmp_path / "a.onnx", "onnx", batch_size=2)
    assert record.runtime.startswith("onnxruntime ")
    assert all(check.agreement > 0.999 and check.largest_difference < 1e-4 for check in record.checks)


def test_another_network_shows(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_checked(network, tmp_path / "a.safetensors", "safetensors")
    names = read_weights(tmp_path / "a.safetensors")
    assert {"encoder.0.weight", "head.0.weight", "mean", "std"} <= names.keys()
    with torch.no_grad():
        network.architecture.head[-1].bias += torch.arange(11.0)  # pyright: ignore
    record = compare(network, tmp_path / "a.safetensors", "safetensors", 1)
    assert record.fault is not None
    assert record.checks[0].largest_difference == pytest.approx(10, abs=1e-4)

    def faulty(*given) -> ExportRecord:
        return replace(compare(*given), checks=(replace(record.checks[0], agreement=LEAST - 0.01),))

    monkeypatch.setattr(exporting, "compare", faulty)
    with pytest.raises(UserError, match=r"Small cannot be exported as safetensors: 97x161: .* at 98\.00 %"):
        export_checked(network, tmp_path / "b.safetensors", "safetensors")
    assert not list(tmp_path.glob("b.*"))
