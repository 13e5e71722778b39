"""Costs of networks: counted against arithmetic, and the script as a user runs it."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from scripts.profile_models import main, model_jobs, parser, split
from src.config.saved import config_text
from src.reports.network_cost import cells, chart, count_flops, count_parameters, cpu_latency, profile
from src.runs.folder import RunFolder
from tests.config.test_configs import composed
from tests.support.paths import ROOT
from tests.support.records import evaluation


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


class WithAuxiliaryHead(nn.Module):
    """Inference uses 3 x 8 + 8 and 8 x 2 + 2 parameters; the auxiliary head has 8 x 2 + 2 more, one layer 64."""

    align_corners = False

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)
        self.aux_head = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 2, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image.float())
        return (self.head(x), self.aux_head(x)) if self.training else (self.head(x),)


@pytest.mark.parametrize(
    ("network", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 32, 48), 16 * 24 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False), (1, 8, 10, 12), 10 * 12 * 8 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 7), 5 * 7 * 4 * 6 * 4),
        (nn.Linear(16, 10), (1, 7, 16), 7 * 16 * 10),
        (Attention(), (1, 2, 12, 8), 2 * (2 * 12 * 12 * 8)),
        # Its four projections and its attention; fused on a CPU, FlopCounterMode sees none of it.
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (1, 12, 16), 12 * 16 * (4 * 16 + 2 * 32 + 2 * 12)),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Upsample(scale_factor=2)), (1, 3, 8, 8), 0),
    ],
)
def test_operations_by_hand(network: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_flops(network, torch.zeros(shape)) == 2 * macs
    assert all(not parameter.is_meta for parameter in network.parameters()), "counted on a copy"


def test_operations_of_a_known_network() -> None:
    """torchvision's own figure for it is 10.45 GMACs at 520x520 with 21 classes."""
    network = deeplabv3_mobilenet_v3_large(num_classes=19, weights=None, weights_backbone=None)
    assert count_flops(network, torch.zeros(1, 3, 375, 1242)) / 1e9 == pytest.approx(35.89, abs=0.005)
    network = deeplabv3_mobilenet_v3_large(num_classes=21, weights=None, weights_backbone=None, aux_loss=True)
    assert count_flops(network, torch.zeros(1, 3, 520, 520)) / 2e9 == pytest.approx(10.452, abs=0.005)


def test_an_auxiliary_head_is_not_among_the_parameters_of_inference() -> None:
    network = WithAuxiliaryHead()
    network.stem.weight.requires_grad_(False)  # frozen, but used
    assert count_parameters(network, torch.zeros(1, 3, 4, 4)) == (32 + 18, 64 + 18)
    assert not network.stem.weight.requires_grad
    assert network.training


def test_a_profile_has_the_figures_asked_for() -> None:
    network = WithAuxiliaryHead()
    assert len(cpu_latency(network, torch.zeros(1, 3, 8, 8), 4)) == 4
    result = profile(network, [8, 16], num_classes=2, latency=True, gpu=False, repeats=3, batch=2)
    assert result["gmacs"] == 8 * 16 * (24 + 16) / 1e9
    assert result["gflops"] == 2 * result["gmacs"]
    assert 0 < result["cpu_ms_min"] <= result["cpu_ms"]
    assert result["threads"] == torch.get_num_threads()
    assert "images_per_s" not in result
    cheap = profile(network, [8, 16], num_classes=2, latency=False, gpu=False, repeats=3, batch=2)
    assert set(cheap) == {"parameters", "training_parameters", "gmacs", "gflops"}


@pytest.mark.gpu
def test_a_profile_on_cuda() -> None:
    assert torch.cuda.is_available(), "make test-gpu is for machines with a CUDA device; this one has none"
    result = profile(WithAuxiliaryHead(), [64, 64], num_classes=2, latency=False, gpu=True, repeats=3, batch=2)
    assert result["images_per_s"] > 0
    # At least the two outputs in float32 and their gradients.
    assert result["training_gib"] * 2**30 > 4 * (2 * 2 * 64 * 64) * 4


def test_charts_of_one_point_and_of_points_in_one_place(tmp_path: Path) -> None:
    for points in ([(1.0, 2.0, "a", "g")], [(1.0, 2.0, "a", "g"), (1.0, 2.0, "b", "h"), (10.0, 2.0, "c", "h")]):
        chart(points, tmp_path / "a.png", "group", {"xscale": "log", "yscale": "log"})
        with Image.open(tmp_path / "a.png") as picture:
            assert min(picture.size) > 500


def test_a_table_has_the_columns_that_were_measured() -> None:
    rows = [{"model": "a", "backbone": "", "gflops": 1234.5}, {"model": "b", "backbone": "x", "error": "no"}]
    head, body = cells(rows)
    assert head == ["model", "backbone", "GFLOPs", "failed"]
    assert body == [["a", "-", "1,234.50", ""], ["b", "x", "", "no"]]


def test_models_are_named_with_their_options() -> None:
    assert split("a, b[c=[1,2],d=3],,e") == ["a", "b[c=[1,2],d=3]", "e"]
    given = "unet[decoder_channels=[64,48,32,24,16],backbone=resnet18],unet_small"
    jobs = model_jobs(parser().parse_intermixed_args(["backbone.weights=x", "--models", given, "--classes", "7"]))
    names = [(job.model, job.backbone) for job in jobs]
    assert names == [("unet[decoder_channels=[64,48,32,24,16]]", "resnet18"), ("unet_small", "tiny")]
    assert '"num_classes": 7' in jobs[0].network
    assert '"decoder_channels": [64, 48, 32, 24, 16]' in jobs[0].network
    assert '"weights": null' in jobs[0].network
    both = parser().parse_args(["--models", "unet,unet", "--backbones", "resnet18,tiny"])
    assert [job.backbone for job in model_jobs(both)] == ["resnet18", "tiny"], "each once"


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--models", "unet_smal"], "model unet_smal is unknown; the nearest are unet_small"),
        (["--models", "unet", "--backbones", "tiny,resnet5"], "backbone resnet5 is unknown; the nearest are resnet50"),
        (["--models", "unet["], "must be NAME or NAME[KEY=VALUE,...]"),
        (["--models", "unet", "--backbones", "tiny", "backbone=tiny"], "--backbones chooses them already"),
        (["unet"], "unet: must be KEY=VALUE"),
        (["model.chanels=3", "--models", "unet"], "Could not override 'model.chanels'; model's keys are arch"),
        (["--models", "unet", "--runs", "nowhere"], "--runs nowhere: no such folder"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(
    arguments: list[str], printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert printed in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.e2e
def test_one_failure_does_not_stop_the_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cfg = composed(tmp_path, "model=unet_small", "backbone=tiny")
    run = RunFolder(tmp_path / "run")
    cfg.choices = {"model": "unet_small", "backbone": "tiny"}
    run.config.write_text(config_text(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))))
    run.add_evaluation(evaluation(), finished=True)
    (tmp_path / "unfinished").mkdir()
    out = tmp_path / "out"
    arguments = ["--models", "unet_small,deeplabv3plus[backbone=mit_b0]", "--size", "60", "100", "--classes", "11"]
    arguments += ["--no-latency", "--out", str(out), "--runs", str(run.path), str(tmp_path / "unfinished")]
    status, (printed, errors) = main(arguments), capfd.readouterr()
    assert status == 1, errors
    assert "failed: deeplabv3plus mit_b0: " in errors
    assert "cannot be dilated" in errors
    assert "Traceback" not in errors
    assert "unfinished has no results" in errors
    assert "unet_small" in printed
    assert sorted(file.name for file in out.iterdir()) == ["cost.png", "models.csv", "models.md", "models.png"]
    with (out / "models.csv").open() as file:
        first, second = csv.DictReader(file)
    # 60x100 is padded to 64x128.
    assert (first["model"], first["parameters"], first["error"]) == ("unet_small", "703915", "")
    assert float(first["gflops"]) == pytest.approx(0.3275, abs=1e-3)
    assert second["model"] == "deeplabv3plus"
    assert "cannot be dilated" in second["error"]
    table = (out / "models.md").read_text()
    assert "for images of 60x100, 11 classes, batch 1" in table
    assert "| unet_small | tiny | 703,915 | 0 | 0.16 | 0.33 |  |" in table
    assert f"`python scripts/profile_models.py --models '{arguments[1]}'" in table


@pytest.mark.e2e
def test_a_network_that_takes_too_long_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--models", "unet_small", "--timeout", "1", "--no-latency", "--out", str(tmp_path)]
    assert main(arguments) == 1
    assert "took longer than --timeout 1 s" in capsys.readouterr().err
    assert not (tmp_path / "models.png").exists(), "nothing to draw"
    assert "took longer" in (tmp_path / "models.md").read_text()


def test_help_is_quick_and_complete() -> None:
    options = ["--models", "--backbones", "--size", "--classes", "--batch", "--repeats", "--no-latency", "--timeout"]
    text = parser().format_help()
    assert all(option in text for option in [*options, "--out", "--runs", "KEY=VALUE"])
    code = "import sys, scripts.profile_models; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
