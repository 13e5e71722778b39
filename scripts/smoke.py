"""Runs the commands on built-in data, as a user would, two at a time.

Left out are src.reproduce and src.import_labels; src.crossval and src.aggregate are run within src.stages. The tests
train the network of every recipe (tests/config/test_recipes.py); a sweep here trains two for each kind of backbone.

python scripts/smoke.py
"""

import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = ["trainer=cpu", "data.dataset.size=[64,128]", "data.crop_size=[64,128]", "data.num_workers=0", "logger=csv"]
TINY = [*SMALL, "trainer.max_epochs=1", "data.dataset.num_train=8", "data.dataset.num_val=3"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for chain in [pool.submit(work, Path(folder)) for work in (commands_of_one_run, commands_of_many_runs)]:
            chain.result()


def commands_of_one_run(folder: Path) -> None:
    """Runs each command that needs one run or none."""
    runs, zoo = folder / "runs", folder / "zoo"
    defaults = ["trainer=cpu", "trainer.max_epochs=1", "data.dataset.num_train=8", "data.dataset.num_val=3"]
    call("src.train", *defaults, f"runs={runs}", "name=smoke")
    call("src.train", *defaults, f"runs={runs}", "name=smoke")  # it is finished and says so
    steps = ["lr_range.steps=20", "lr_range.lowest=1e-4", "data.dataset.num_train=40"]
    call("src.find_lr", *TINY, f"runs={runs}", *steps)
    call("src.eval", f"run={runs / 'smoke'}", "accelerator=cpu", "split=test")
    picture = next((runs / "smoke" / "panels").glob("*.png"))
    call("src.predict", f"run={runs / 'smoke'}", f"input={picture}", "accelerator=cpu")
    call("src.draw", f"folder={runs / 'smoke'}")
    call("src.report", str(runs), f"out={folder}/report")
    call("src.publish", f"run={runs / 'smoke'}", "name=smoke_net", f"zoo={zoo}", "accelerator=cpu")
    published = zoo / "smoke_net"
    call("src.predict", f"run={published}", f"input={picture}", f"output={folder}/pictures", "accelerator=cpu")
    call("src.export", f"run={published}", f"out={folder}/smoke.onnx")
    call("src.eval", f"run={published}", f"engine={folder}/smoke.onnx")
    own = ["data=folder", f"data.root={write_own_data(folder / 'own')}"]
    call("src.check", *own, f"out={folder}/check")
    call("src.pack", *own)
    folds = ["data.num_folds=3", "data.fold=1", "data.crop_size=[64,96]", "data.batch_size=2", "logger=csv"]
    start = ["trainer=cpu", "trainer.max_epochs=1", f"init_from={runs / 'smoke'}", "averaging=ema"]
    call("src.train", *start, "scheduler=poly", f"runs={runs}", *own, *folds, "name=own")


def commands_of_many_runs(folder: Path) -> None:
    """Trains in stages, by src.crossval, src.train, src.eval and src.aggregate; and in sweeps."""
    runs = folder / "many"
    stages = ["stages=two", "stages.first.epochs=1", "stages.second.epochs=1"]
    stages += ['stages.second.overrides=["crossval.official_val=false"]']
    folds = ["data.num_folds=2", "data.dataset.num_train=24", "data.dataset.num_val=3", "data.batch_size=2"]
    call("src.stages", *SMALL, f"runs={runs}", *stages, *folds)
    sweeps = models_by_backbone()
    for backbone, models in sweeps.items():
        call("src.train", "-m", *TINY, f"runs={runs}", *backbone, f"model={','.join(models)}")
    summaries = list((runs / "sweeps").glob("*/summary.md"))
    assert len(summaries) == len(sweeps), summaries
    for summary in summaries:
        assert "not finished" not in summary.read_text(), summary.read_text()


def write_own_data(root: Path) -> Path:
    """Writes built-in scenes as a user's files: images/ and masks/ of three drives, with a list of classes."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image

    from src.data.streets.source import Streets

    scenes = Streets(seed=0, size=[64, 128], num_train=9, num_val=2, num_test=1)
    for split in ("train", "val"):
        for number, sample in enumerate(scenes.samples(split)):
            for kind, pixels in zip(("images", "masks"), scenes.read(sample), strict=True):
                path = root / kind / split / f"drive{number % 3}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    colours = "".join(f"{name}: {' '.join(map(str, colour))}\n" for name, colour in scenes.classes.items())
    (root / "classes.txt").write_text(colours + "ignore: 0 0 0 255\n")
    return root


def models_by_backbone() -> dict[tuple[str, ...], list[str]]:
    """Returns two networks for each override that chooses their backbone; it is empty if the small default fits."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for path in sorted((ROOT / "conf" / "model").glob("*.yaml")):
        small = re.search(r"^# Small: (backbone=\w+)\.$", path.read_text(), re.M)
        groups.setdefault((small[1],) if small else (), []).append(path.stem)
    return {backbone: models[:2] for backbone, models in groups.items()}


def call(module: str, *arguments: str) -> None:
    """Runs a command, then prints it with its output and time."""
    start = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    words = f"$ python -m {module} {' '.join(arguments)}"
    print(f"{words}\n{result.stdout}  {time.perf_counter() - start:.1f} s\n", flush=True)
    if result.returncode != 0:
        raise SystemExit(f"status {result.returncode}: {words}")


if __name__ == "__main__":
    main()
