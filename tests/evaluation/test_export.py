"""An exported file is compared with its network on images before it is in its place; nothing is left of a bad one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from src.config.export_plan import file_name, find_examples, read_options
from src.config.saved import load_config
from src.data.streets.source import Streets
from src.errors import UserError
from src.evaluation import export as exporting
from src.evaluation.engine import weights_digest
from src.evaluation.export import export_checked
from src.evaluation.export_check import SCALES, compare
from src.evaluation.exported import Examples, ExportFacts, ExportLoss, ExportOptions, ExportRecord, spread
from src.models.network import Network
from src.models.weights import read_weights
from src.runs.folder import RunFolder
from tests.support.compose import composed
from tests.support.paths import ROOT
from tests.support.small import CLASSES, Small

FACTS = ExportFacts(
    "a", "best", "0", {name: [1, 2, 3] for name in CLASSES}, [127.5] * 3, [63.75] * 3, [66, 99], "whole"
)
NO_LOSS_LIMIT = {"most_lost": None}


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    network = Network(Small(), [0.5] * 3, [0.25] * 3).eval()
    with torch.no_grad():  # so that each class wins somewhere
        network.architecture.head[-1].weight.mul_(8)  # pyright: ignore
    return network


@pytest.fixture(scope="module")
def examples() -> Examples:
    source = Streets(size=(66, 99), num_train=2, num_val=5)
    return Examples("val (5 images)", [lambda sample=each: source.read(sample) for each in source.samples("val")])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ExportOptions("safetensors"), "a.safetensors"),
        (ExportOptions("safetensors", "fp16"), "a.safetensors"),
        pytest.param(ExportOptions("torch_export"), "a.pt2", marks=pytest.mark.e2e),
        pytest.param(ExportOptions("onnx", batch_size=2), "a.onnx", marks=pytest.mark.e2e),
        pytest.param(ExportOptions("onnx", size=(60, 80)), "a.onnx", marks=pytest.mark.e2e),
        pytest.param(ExportOptions("onnx", "fp16", **NO_LOSS_LIMIT), "a.onnx", marks=pytest.mark.e2e),
    ],
    ids=lambda given: f"{given.title} {given.size} {given.batch_size}" if isinstance(given, ExportOptions) else "",
)
def test_what_was_written_is_compared(
    options: ExportOptions, name: str, network: Network, examples: Examples, tmp_path: Path
) -> None:
    record = export_checked(network, tmp_path / name, options, examples, FACTS)
    own = [options.size] if options.size else [(66, 99), (round(66 * SCALES[1]), round(99 * SCALES[1]))]
    assert [(check.height, check.width) for check in record.checks] == own
    assert all(check.agreement > (0.99 if options.precision == "fp16" else 0.9999) for check in record.checks)
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert (content["options"]["format"], content["facts"]["classes"]) == (options.format, FACTS.classes)
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.json"}


@pytest.mark.e2e
@pytest.mark.parametrize("head", ["labels", "probabilities"])
def test_heads_of_onnx_by_another_way(head: str, network: Network, examples: Examples, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "a.onnx"
    export_checked(network, path, ExportOptions(head=head), examples, FACTS)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs() + session.get_outputs()] == ["image", head]
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == FACTS.classes
    image = examples.reads[0]()[0].transpose(2, 0, 1)[None]
    (found,) = session.run(None, {"image": image})
    with torch.no_grad():  # 68x100 pixels are 17x25 cells of 4
        logits = F.interpolate(network(torch.from_numpy(image))[0], size=(68, 100), mode="bilinear")[..., :66, :99]
    if head == "labels":
        assert found.dtype == np.uint8
        assert (found == logits.argmax(1).numpy()).mean() > 0.999
    else:
        np.testing.assert_allclose(found, logits.softmax(1).numpy(), atol=1e-5)


@pytest.mark.e2e
def test_int8_is_calibrated_and_its_loss_measured(network: Network, examples: Examples, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    options = ExportOptions(precision="int8", calibration=2, measured=None, most_lost=None)
    record = export_checked(network, tmp_path / "a.onnx", options, examples, FACTS)
    graph = onnx.load(tmp_path / "a.onnx").graph
    weights = {each.name: each for each in graph.initializer}
    kernels = [weights[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear" and
               node.input[0] in weights and len(weights[node.input[0]].dims) == 4]  # fmt: skip
    assert [each.data_type for each in kernels] == [onnx.TensorProto.INT8] * 3
    scales = [weights[node.input[1]] for node in graph.node if node.input and node.input[0] == kernels[0].name]
    assert list(scales[0].dims) == [8], "one scale per channel"
    assert record.loss is not None
    assert record.loss.images == 3, "those that calibrate are not measured"
    assert all(0 < check.largest_difference < 0.2 * check.largest_value for check in record.checks)
    with pytest.raises(UserError, match=r"Small cannot be exported as onnx int8: mIoU .* at most -100 are allowed"):
        export_checked(network, tmp_path / "b.onnx", replace(options, most_lost=-1.0), examples, FACTS)
    assert not [path for path in tmp_path.iterdir() if "b.onnx" in path.name]


@pytest.mark.e2e
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_has_its_weights_beside(precision: str, network: Network, examples: Examples, tmp_path: Path) -> None:
    if not exporting_to_openvino():
        with pytest.raises(UserError, match="needs the package openvino"):
            export_checked(network, tmp_path / "a.xml", ExportOptions("openvino", precision), examples, FACTS)
        assert not list(tmp_path.iterdir())
        return
    record = export_checked(
        network, tmp_path / "a.xml", ExportOptions("openvino", precision, most_lost=None), examples, FACTS
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a.xml", "a.bin", "a.xml.json"}
    assert record.size == sum((tmp_path / name).stat().st_size for name in ("a.xml", "a.bin"))


def exporting_to_openvino() -> bool:
    try:
        exporting.need_openvino("")
    except UserError:
        return False
    return True


def test_another_network_shows_and_is_not_left(
    network: Network, examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ExportOptions("safetensors")
    export_checked(network, tmp_path / "a.safetensors", options, examples, FACTS)
    assert {"encoder.0.weight", "head.0.weight", "mean", "std"} <= read_weights(tmp_path / "a.safetensors").keys()
    real = exporting.open_file

    def another(path: Path, given: ExportOptions, own: Network):
        run = real(path, given, own)
        return lambda image: run(image) + torch.arange(11.0)[:, None, None]

    monkeypatch.setattr(exporting, "open_file", another)
    with pytest.raises(UserError, match=r"Small cannot be exported as safetensors fp32: 66x99: same class at \d"):
        export_checked(network, tmp_path / "b.safetensors", options, examples, FACTS)
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "a.safetensors.json"}
    (check, _) = compare(
        exporting.Head(network, "logits"), another(tmp_path / "a.safetensors", options, network), options, examples
    )
    assert check.largest_difference == pytest.approx(10, abs=1e-3)
    assert check.images == 4


def test_the_record_finds_fault() -> None:
    loss = ExportLoss(images=4, network=0.7, file=0.68, low=-0.03, high=-0.01)
    record = ExportRecord("a", ExportOptions(precision="int8"), FACTS, False, "x", 1, "", "val", (), loss)
    assert record.fault is not None
    assert "mIoU 0.6800, of the network 0.7000, on 4 images (-2.00 points" in record.fault
    assert replace(record, loss=replace(loss, file=0.695)).fault is None
    assert replace(record, options=replace(record.options, most_lost=None)).fault is None
    unknown = replace(record, loss=replace(loss, file=float("nan")))
    assert unknown.fault is not None


def test_images_that_calibrate_are_not_measured() -> None:
    reads = [lambda number=number: (np.full((1, 1, 3), number, np.uint8), None) for number in range(10)]
    numbers = [[int(read()[0][0, 0, 0]) for read in part] for part in Examples("", reads).divide(3, 4)]
    assert numbers == [[0, 3, 6], [1, 2, 5, 8]]
    both = Examples("", reads[:1]).divide(3, None)
    assert [len(part) for part in both] == [1, 1], "a single image does both"
    assert spread(range(5), 9) == [0, 1, 2, 3, 4]


def test_the_digest_is_of_weights_not_of_their_layout(network: Network) -> None:
    before = weights_digest(network)
    assert weights_digest(network.to(memory_format=torch.contiguous_format)) == before  # pyright: ignore
    with torch.no_grad():
        network.mean.add_(1)
    assert weights_digest(network) != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["format=onx"], "format=onx: must be one of onnx, openvino, torch_export, safetensors"),
        (["precision=int8", "format=torch_export"], "format=torch_export takes fp32; format=onnx or format=openvino"),
        (["precision=fp8"], r"precision=fp8: format=onnx takes fp32, fp16, int8$"),
        (["head=softmax"], "head=softmax: must be one of logits, probabilities, labels"),
        (["head=labels", "format=safetensors"], "holds weights only, without a head or a size"),
        (["size=480"], r"size=480: must be \[H, W\]"),
        (["size=[480,0]"], "size=0: must be a whole number, at least 1"),
        (["most_lost=2"], "most_lost=2: must be null or a share of 1"),
        (["calibration=0"], "calibration=0: must be a whole number, at least 1"),
        (["measured=0"], "measured=0: must be null or a whole number"),
    ],
)
def test_wrong_options(words: list[str], message: str) -> None:
    with composed("export", "run=runs/a", *words) as cfg, pytest.raises(UserError, match=message):
        read_options(cfg)


def test_names_of_files() -> None:
    with composed("export", "run=runs/a", "precision=int8", "head=labels", "size=[360,480]") as cfg:
        assert file_name(read_options(cfg)) == "network-int8-labels-360x480.onnx"
    assert file_name(ExportOptions("openvino")) == "network.xml"


def test_photos_compare_where_there_are_no_data(tmp_path: Path) -> None:
    run = RunFolder(ROOT / "zoo" / "camvid_lraspp_lite0")
    with composed("export", f"run={run.path}") as cfg:
        config = load_config(run.config)
        with pytest.raises(UserError, match=r"give data\.root=DIR; or give images=FOLDER of photos"):
            find_examples(cfg, run, config)
        cfg.images = str(tmp_path)
        with pytest.raises(UserError, match="no folder with images there"):
            find_examples(cfg, run, config)
        Image.new("RGB", (7, 5), (1, 2, 3)).save(tmp_path / "a.png")
        found = find_examples(cfg, run, config)
    (read,) = found.reads
    image, mask = read()
    assert (image.shape, image[0, 0].tolist(), mask) == ((5, 7, 3), [1, 2, 3], None)
