"""Compares the time of a network's exported files with the network's own: `python scripts/bench_export.py` (minutes).

    python scripts/bench_export.py [--model deeplabv3plus] [--backbone mobilenetv2] [--size 360 480] [--threads 1]
    python scripts/bench_export.py --run zoo/camvid_unet_lite0

Random weights and 11 classes, or a run. Eager PyTorch in 32 bits and inference mode, channels_last as this project
sets it; torch.export, onnxruntime and OpenVINO on the CPU with as many threads. All take an image in turn in one
process, which makes the ratios least sensitive to other work on the machine; medians, the first two rounds left out.
torch.compile is timed in a process of its own beside eager (its compiler may crash), and its ratio is of that process.
Logits at the network's stride come out; reading files and bringing logits up are not timed.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from src.api import load
from src.config.cli import register_resolvers
from src.errors import UserError
from src.evaluation.engine import open_file
from src.evaluation.export import convert, export_onnx, write_file
from src.evaluation.exported import SUFFIXES, ExportOptions, parts
from src.files import HOME
from src.models.head import Head
from src.models.network import Network

K = 11
EAGER, COMPILED = "eager", "torch.compile"
FILES = ("torch_export fp32", "onnx fp32", "onnx fp16", "onnx int8", "openvino fp32", "openvino int8")
LEFT_OUT = 2  # rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deeplabv3plus")
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--run", help="a run folder, in place of a model")
    parser.add_argument("--size", type=int, nargs=2, default=[360, 480])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="engines to time beside eager", default=[*FILES, COMPILED])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head = Head(build(options), "logits")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, *options.size), dtype=torch.uint8, generator=generator)
    if options.child:
        times = measure({EAGER: head, COMPILED: torch.compile(head)}, image, options.repeats)
        print(statistics.median(times[EAGER]), statistics.median(times[COMPILED]))
        return
    title = options.run or f"{options.model}, {options.backbone}"
    print(f"{title}: 1x3x{options.size[0]}x{options.size[1]}, {options.threads} threads, medians of {options.repeats}")
    print(f"{'engine':<20}{'ms per image':>13}{'images/s':>10}{'ratio':>7}{'MB':>7}")
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[Tensor], Tensor]] = {EAGER: head}
        sizes, base = {EAGER: 0.0}, export_onnx(head, Path(folder) / "base.onnx")
        for name in (name for name in FILES if name in options.only):
            form, precision = name.split()
            path, kind = Path(folder) / f"{form}-{precision}{SUFFIXES[form]}", ExportOptions(form, precision)
            try:
                if form == "torch_export":
                    write_file(head, path, kind, [])
                else:
                    onnx = path.with_suffix(".onnx")
                    shutil.copyfile(base, onnx)
                    convert(onnx, path, kind, [image[0].permute(1, 2, 0).numpy()])
                runs[name] = open_file(path, kind, head.network)
            except UserError as error:
                print(f"{name:<20} {error}")
                continue
            sizes[name] = sum(part.stat().st_size for part in parts(path)) / 1e6
        times = measure(runs, image, options.repeats)
    eager = statistics.median(times[EAGER])
    for name in runs:
        line(name, statistics.median(times[name]), eager, sizes[name])
    if COMPILED in options.only:
        time_compiled()


def build(options: argparse.Namespace) -> Network:
    if options.run:
        return load(options.run, device="cpu").network
    register_resolvers()
    with initialize_config_dir(str(HOME / "conf"), version_base="1.3"):
        words = [f"model={options.model}", f"backbone={options.backbone}", "backbone.weights=null"]
        cfg = compose("train", words).copy()
    cfg.data.classes = {f"class {index}": [index] * 3 for index in range(K)}
    torch.manual_seed(0)
    return instantiate(cfg.task.network, _convert_="all").eval()


def measure(runs: dict[str, Callable[[Tensor], Tensor]], image: Tensor, repeats: int) -> dict[str, list[float]]:
    """Returns the seconds that each engine took, which have the image in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-LEFT_OUT, repeats):
        for name, run in runs.items():
            begin = time.perf_counter()
            with torch.inference_mode():
                run(image)
            if repeat >= 0:
                times[name].append(time.perf_counter() - begin)
    return times


def time_compiled() -> None:
    result = subprocess.run([sys.executable, *sys.argv, "--child"], capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"{COMPILED:<20} ended with status {result.returncode}")
        return
    eager, compiled = map(float, result.stdout.split()[-2:])
    line(COMPILED, compiled, eager, 0.0)


def line(name: str, seconds: float, eager: float, megabytes: float) -> None:
    size = f"{megabytes:7.1f}" if megabytes else f"{'':>7}"
    print(f"{name:<20}{1000 * seconds:13.1f}{1 / seconds:10.2f}{eager / seconds:7.2f}{size}", flush=True)


if __name__ == "__main__":
    main()
