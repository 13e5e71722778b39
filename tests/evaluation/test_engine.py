"""An exported file stands in for its network in every protocol, and only for the network that it was made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from src.config.export_plan import find_engine
from src.errors import UserError
from src.evaluation.engine import Engine
from src.evaluation.exported import ExportOptions
from src.files import read_json
from src.inference import Protocol, predict_scores, resize
from src.models.network import Network
from src.runs.folder import RunFolder
from tests.support.compose import composed
from tests.support.paths import TINY
from tests.support.runs import make_run
from tests.support.small import Small


@pytest.fixture
def network() -> Network:
    return Network(Small(), [0.5] * 3, [0.25] * 3).eval()


def engine(network: Network, **options: Any) -> Network:
    kind = ExportOptions(**options)

    def run(image: Tensor) -> Tensor:
        assert image.dtype == torch.uint8
        assert len(image) == kind.batch_size
        assert image.is_contiguous()
        return network(image)[0]

    return cast(Network, Engine(run, kind, network.align_corners))


@torch.no_grad()
def test_windows_mirrors_and_batches_are_those_of_the_network(network: Network) -> None:
    image = torch.randint(0, 256, (3, 3, 70, 90), dtype=torch.uint8)
    protocol = Protocol(window=(32, 40), flip=True)
    expected = predict_scores(network, image, protocol)
    torch.testing.assert_close(predict_scores(engine(network), image, protocol), expected)
    torch.testing.assert_close(predict_scores(engine(network, batch_size=2), image, protocol), expected)


@torch.no_grad()
def test_a_resized_image_is_rounded(network: Network) -> None:
    image = torch.randint(0, 256, (1, 3, 70, 90), dtype=torch.uint8)
    rounded = network(resize(image, (35, 45)).round())[0]
    assert torch.equal(engine(network)(resize(image, (35, 45)))[0], rounded)
    exact = network(resize(image, (35, 45)))[0]
    assert not torch.equal(rounded, exact)


def test_a_file_of_one_size_names_it(network: Network) -> None:
    image = torch.zeros(1, 3, 70, 90, dtype=torch.uint8)
    with pytest.raises(
        UserError, match=r"takes images of 64x96 only, and was given 70x90; give inference.size=\[64,96"
    ):
        engine(network, size=(64, 96))(image)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs", *TINY)


def test_engines_that_cannot_run(run: RunFolder) -> None:
    for word, message in (
        ("engine=tensorrt", "engine=tensorrt: must be torch, onnx, openvino, or a .onnx or .xml file of src.export"),
        ("engine=onnx", rf"network.onnx: no such file; make it: python -m src.export run={run.path} format=onnx"),
        ("engine=other.xml", r"other.xml: no such file; make it: python -m src.export .* format=openvino"),
    ):
        with composed("eval", f"run={run.path}", word) as cfg, pytest.raises(UserError, match=message):
            find_engine(cfg, run, cfg)
    for word in ("accelerator=gpu", "precision=bf16-mixed"):
        with composed("eval", f"run={run.path}", "engine=onnx", word) as cfg, pytest.raises(UserError, match=word):
            find_engine(cfg, run, cfg)


@pytest.mark.e2e
def test_eval_and_predict_run_the_file(run: RunFolder, tmp_path: Path, cli, fails) -> None:
    at = (f"run={run.path}", "accelerator=cpu")
    path = cli("export", f"run={run.path}")
    assert path == run.path / "network.onnx"
    assert f"{path}: exists, and nothing is overwritten" in fails("export", f"run={run.path}")
    cli("eval", f"run={run.path}", "engine=onnx", "data.num_workers=0")
    own, other = run.read_results().evaluations.values()
    digest = read_json(run.path / "network.onnx.json")["digest"][:8]
    assert other.tag == f"{own.tag}, onnx fp32 {digest}"
    assert np.abs(np.array(own.matrix) - np.array(other.matrix)).sum() <= 0.001 * np.array(own.matrix).sum()
    assert (run.path / "evaluations" / other.key).is_dir()

    pairs = cli("export", f"run={run.path}", "batch_size=2", f"out={tmp_path / 'pairs.onnx'}")
    cli("eval", f"run={run.path}", f"engine={pairs}", "data.num_workers=0")
    assert list(run.read_results().evaluations.values())[:2] == [own, other], "another file's figures replace none"
    assert len(run.read_results().evaluations) == 3

    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(photo)
    for name in ("torch", "onnx"):
        cli("predict", *at, f"input={photo}", f"output={tmp_path / name}", f"engine={name}", "inference.flip=true")
    first, second = (np.asarray(Image.open(tmp_path / name / "labels" / "photo.png")) for name in ("torch", "onnx"))
    assert (first == second).mean() > 0.999

    content = torch.load(run.best, weights_only=True)
    key = next(key for key in content["state_dict"] if key.endswith("weight"))
    content["state_dict"][key] += 1
    last = run.best.with_name("last.ckpt")
    torch.save(content, last)
    assert "was made of other weights (first, checkpoint best)" in fails(
        "eval", *at, f"checkpoint={last}", f"engine={path}"
    )
    path.write_bytes(path.read_bytes()[:-1])
    assert "its content is not that of its record network.onnx.json" in fails("eval", *at, "engine=onnx")
    (run.path / "network.onnx.json").unlink()
    assert "has no record beside it (network.onnx.json); make it" in fails("eval", *at, "engine=onnx")
    assert replace(own.protocol, precision="onnx fp32", file=digest) == other.protocol
