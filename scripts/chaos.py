"""Kills a command at random moments, starts it again each time, and compares what it leaves with an undisturbed one.

python scripts/chaos.py [--command train|ddp|stages|sweep|ray] [--kills 20] [--seed 0] [--signal KILL|TERM|USR1]

All train on built-in data with two data processes and a checkpoint after every step. The whole process tree gets the
signal. If the command ends before there were enough kills, it begins once more in another folder. All best and last
weights and all logged figures but times must be the same bitwise; with two ranks, to 1e-6.
"""

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from src.runs.folder import RunFolder  # noqa: E402
from src.runs.metrics_csv import read_metrics  # noqa: E402

SMALL = (
    "scale=tiny", "trainer=cpu", "trainer.precision=32-true", "logger=csv", "data.num_workers=2",
    "data.dataset.num_train=24", "data.batch_size=2", "trainer.log_every_n_steps=3", "averaging=ema",
    "checkpoints.every_minutes=0",
)  # fmt: skip
COMMANDS = {
    "train": ("src.train", "trainer.max_epochs=6"),
    "ddp": ("src.train", "trainer.max_epochs=6", "trainer.strategy=ddp", "trainer.devices=2"),
    "stages": ("src.stages", "stages=two", "data.num_folds=2", "stages.first.epochs=2", "stages.second.epochs=1"),
    "sweep": ("src.train", "-m", "seed=0,1", "trainer.max_epochs=3"),
    "ray": ("src.train", "-m", "seed=0,1", "trainer.max_epochs=3", "hydra/launcher=ray"),
}  # fmt: skip
TOLERANCE = {"ddp": 1e-6}
VARYING = ("train/images_per_s", "train/step_s", "train/memory_gib")


def start(command: str, folder: Path, log: Path) -> subprocess.Popen:
    module, *words = COMMANDS[command]
    named = [] if "-m" in words else ["name=run"]
    with log.open("a") as file:
        line = [sys.executable, "-m", module, *words, *SMALL, *named, f"runs={folder}"]
        return subprocess.Popen(line, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)


def kill(process: subprocess.Popen, number: signal.Signals) -> None:
    """Sends a signal to a process tree and waits for its end."""
    os.killpg(process.pid, number)
    process.wait(60)


def disturb(command: str, folder: Path, seconds: float, kills: int, number: signal.Signals, rng: random.Random) -> int:
    """Kills the command until it ends by itself, or `kills` times and then no more; returns the number of kills."""
    done = 0
    while True:
        process = start(command, folder, folder.with_suffix(".log"))
        try:
            status = process.wait(rng.uniform(0.2, 0.9) * seconds if done < kills else None)
        except subprocess.TimeoutExpired:
            kill(process, number)
            done += 1
            print(f"kill {done} of this round, status {process.returncode}", flush=True)
            continue
        finally:
            if process.poll() is None:
                kill(process, signal.SIGKILL)
        if status != 0:
            raise SystemExit(f"status {status}; {folder.with_suffix('.log')}")
        return done


def left(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Reads the weights and figures of all runs in a folder, by their path."""
    found = {}
    for path in sorted(folder.rglob("checkpoints/*.ckpt")):
        if path.stem in ("best", "last"):
            found[str(path.relative_to(folder))] = torch.load(path, weights_only=True)["state_dict"]
    for path in sorted(folder.rglob("metrics.csv")):
        rows = [{name: row[name] for name in row if name not in VARYING} for row in read_metrics(path)]
        figures = {f"{row['step']} {name}": torch.tensor(value) for row in rows for name, value in row.items()}
        found[str(path.relative_to(folder))] = figures
    for path in sorted(folder.rglob("results.json")):
        evaluation = RunFolder(path.parent).read_results().own
        found[str(path.relative_to(folder))] = {"matrix": torch.tensor(evaluation.matrix)}
    return found


def differences(one: dict, other: dict, tolerance: float) -> list[str]:
    """Lists the files in which a value is not the same."""
    if one.keys() != other.keys():
        return sorted(one.keys() ^ other.keys())
    return [name for name in one if not _same(one[name], other[name], tolerance)]


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name].double(), other[name].double(), rtol=0, atol=tolerance, equal_nan=True) for name in one
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=COMMANDS, default="train")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--signal", choices=("KILL", "TERM", "USR1"), default="KILL")
    options = parser.parse_args()
    rng, number = random.Random(options.seed), signal.Signals[f"SIG{options.signal}"]
    with tempfile.TemporaryDirectory() as name:
        whole, began = Path(name) / "whole", time.monotonic()
        disturb(options.command, whole, math.inf, 0, number, rng)
        seconds = time.monotonic() - began
        print(f"{options.command}: {seconds:.0f} s undisturbed", flush=True)
        expected, kills, rounds = left(whole), 0, 0
        tolerance = TOLERANCE.get(options.command, 0.0)
        while kills < options.kills:
            rounds, began = rounds + 1, time.monotonic()
            folder = Path(name) / f"round{rounds}"
            found = disturb(options.command, folder, seconds, options.kills - kills, number, rng)
            if found == 0:  # the machine has become faster since
                seconds = time.monotonic() - began
            kills += found
            wrong = differences(expected, left(folder), tolerance)
            if wrong or not expected:
                raise SystemExit(f"not the same after {kills} kills: {', '.join(wrong) or 'there is nothing'}")
            same = f"the same to {tolerance}" if tolerance else "bitwise the same"
            print(f"{kills} times SIG{options.signal}, {rounds} rounds: {len(expected)} files are {same}", flush=True)


if __name__ == "__main__":
    main()
