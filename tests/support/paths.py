"""Where the tests find the project and the real data, and the overrides that make a training small."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
DATA = Path(os.environ.get("STREETSEG_DATA", ROOT.parent / "shared" / "data"))
REAL = ("camvid", "kitti_road")

TINY = (
    "trainer=cpu", "trainer.precision=32-true",
    "logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "data.num_workers=0",
    "data.dataset.num_train=4", "data.dataset.num_val=3", "data.dataset.size=[64,96]", "data.crop_size=[64,96]",
    "data.batch_size=2", "data.eval_batch_size=1", "model.decoder_channels=[32,16,16,8,8]",
)  # fmt: skip
# For small trees of the datasets that are read from files.
SMALL = (
    "trainer=cpu", "trainer.precision=32-true",
    "logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "data.num_workers=0",
    "data.crop_size=[32,64]", "data.batch_size=2", "model.decoder_channels=[32,16,16,8,8]",
)  # fmt: skip


def absent() -> list[str]:
    """Datasets whose licences forbid us to ship them, and which this machine does not have."""
    return [name for name in REAL if not (DATA / name).is_dir()]


def told(name: str) -> str:
    return f"no {name} in {DATA}; set STREETSEG_DATA to the folder that holds it"
