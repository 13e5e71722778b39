"""Runs every entry point for a moment on built-in data, as a user would: `python scripts/smoke.py`."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ["trainer=cpu", "trainer.max_epochs=1", "data.dataset.num_train=8", "data.dataset.num_val=3"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        tiny = [*TINY, f"runs={runs}"]
        call("src.train", *tiny, "name=smoke")
        call("src.train", *tiny, "name=smoke")  # finished: told at once
        call("src.eval", f"run={runs / 'smoke'}", "accelerator=cpu", "split=test")
        picture = next((runs / "smoke" / "panels").glob("*.png"))
        call("src.predict", f"run={runs / 'smoke'}", f"input={picture}", "accelerator=cpu")
        call("src.train", "-m", *tiny, "model=unet,deeplabv3plus", "logger=csv")
        summaries = list((runs / "sweeps").glob("*/summary.md"))
        assert len(summaries) == 1, summaries
        assert "not finished" not in summaries[0].read_text(), summaries[0].read_text()


def call(module: str, *arguments: str) -> None:
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=True)
    print(f"  {time.perf_counter() - start:.1f} s\n", flush=True)


if __name__ == "__main__":
    main()
