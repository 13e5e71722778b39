"""What several tests need: the command line in this process, CamVid in its true layout, the real data where it is."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("STREETSEG_DATA", ROOT.parent / "shared" / "data"))
# Nothing may look for a network: weights and dashboards are tested in their offline form.
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline")
os.environ.pop("HYDRA_FULL_ERROR", None)

TINY = (
    "trainer=cpu", "logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "data.num_workers=0",
    "data.dataset.num_train=4", "data.dataset.num_val=3", "data.dataset.size=[64,96]", "data.crop_size=[64,96]",
    "data.batch_size=2", "data.eval_batch_size=1", "model.decoder_channels=[32,16,16,8,8]",
)  # fmt: skip


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Calls an entry point in this process as its command line would: `cli("train", "model=unet", ...)`.

    Returns what the entry point returned; SystemExit on an error that is told in one line.
    """
    from src import cli as command_line

    def call(name: str, *arguments: str) -> object:
        module = __import__(f"src.{name}", fromlist=["train", "evaluate_run", "predict"])
        function = {"train": "train", "eval": "evaluate_run", "predict": "predict"}[name]
        returned = []
        monkeypatch.setattr(sys, "argv", [f"src.{name}", *arguments])
        command_line.launch(lambda cfg: returned.append(getattr(module, function)(cfg)), name)
        return returned[-1] if len(returned) == 1 else returned

    return call


@pytest.fixture
def fails(cli: Callable[..., object], capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls an entry point that must fail, and returns the one line it told on stderr."""

    def call(name: str, *arguments: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli(name, *arguments)
        assert stop.value.code == 1
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, lines
        return lines[0].removeprefix("error: ")

    return call


def write_camvid(root: Path, counts: dict[str, int], size: tuple[int, int] = (72, 96)) -> Path:
    """CamVid's layout with noise images and masks of all labels 0..11, void included."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for index in range(count):
            name = f"{'0016E5' if index % 2 else '0001TP'}_{index:05d}"
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / split / f"{name}.png")
            blocks = rng.integers(0, 12, (size[0] // 8, size[1] // 8), dtype=np.uint8)
            Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(root / f"{split}annot" / f"{name}.png")
    return root


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid", {"train": 4, "val": 3, "test": 2})


@pytest.fixture(scope="session")
def real_camvid() -> Path:
    """The real CamVid of the acceptance runs."""
    if not (DATA / "camvid").is_dir():
        # Its licence keeps it out of this repository; whoever has it runs the test, everyone else is told how to.
        pytest.skip(f"no CamVid in {DATA}; set STREETSEG_DATA to the folder that holds camvid/")  # not ours to ship
    return DATA / "camvid"
