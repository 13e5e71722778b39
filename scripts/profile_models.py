"""Measures the cost of every network, as a table and a chart: `python scripts/profile_models.py --help`"""

import argparse
import csv
import difflib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.config.resolvers import register_resolvers  # noqa: E402
from src.config.saved import load_config  # noqa: E402
from src.errors import UserError  # noqa: E402
from src.files import atomic_path, write_json, write_text  # noqa: E402
from src.machine import num_cores, processor  # noqa: E402
from src.reports.tables import render  # noqa: E402
from src.runs.folder import RunFolder  # noqa: E402

CONF = ROOT / "conf"
DESCRIPTION = """\
Measures the networks of conf/model: parameters, GMACs and GFLOPs, CPU latency and, if there is a CUDA device,
throughput and training memory (CUDA_VISIBLE_DEVICES= leaves them out). Writes OUT/models.md, models.csv, models.png."""
EPILOG = """\
examples:
  python scripts/profile_models.py --size 375 1242 --no-latency
  python scripts/profile_models.py --models unet,deeplabv3plus --backbones resnet50,resnet101
  python scripts/profile_models.py --models "deeplabv3plus,deeplabv3plus[output_stride=8,backbone=resnet101]"
  python scripts/profile_models.py --models deeplabv3plus backbone=resnet101 model.aspp_separable=false
  python scripts/profile_models.py --models unet,deeplabv3plus --no-latency --runs runs/*

Each network is measured in a process of its own. If one fails, the table states the reason, and the exit status
is 1; HYDRA_FULL_ERROR=1 shows its traceback."""
CAPTION = """\
Cost of a network for images of {size}, {classes} classes, batch 1{note}.

Parameters are those of inference; "more in training" are auxiliary heads. GMACs are the multiply-accumulates of
convolutions, matrix products and attention (torch.utils.flop_counter; not normalisation, activations, resizing);
GFLOPs = 2 x GMACs. From the pixels, padding included, to logits at the network's own stride.
"""
Row = dict[str, Any]  # "model", "backbone", and the figures of src.reports.network_cost.profile, or "error"


@dataclass(frozen=True)
class Job:
    """One network to measure: its names in the table, and `task.network` of its config, resolved, as JSON."""

    model: str
    backbone: str
    network: str


def main(arguments: list[str]) -> int:
    """Measures, writes and prints; returns the exit status."""
    register_resolvers()
    if arguments[:1] == ["--worker"]:
        return work(Path(arguments[1]))
    args = parser().parse_intermixed_args(arguments, argparse.Namespace(load=os.getloadavg()[0]))
    try:
        jobs, runs = model_jobs(args), run_jobs(args.runs)
        args.out.mkdir(parents=True, exist_ok=True)
    except (UserError, OSError, HydraException) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    from src.reports.network_cost import draw

    rows, costs = measure(jobs, runs, args)
    rows.sort(key=lambda row: row.get("gflops", float("inf")))
    written = write_tables(rows, args, f"python scripts/profile_models.py {shlex.join(arguments)}")
    written += draw(rows, [(costs[job], evaluation) for job, evaluation in runs], args.out, args.size, args.classes)
    print(terminal_table(rows), *written, sep="\n", flush=True)
    failed = [row for row in [*rows, *costs.values()] if "error" in row]
    for row in failed:
        print(f"failed: {row['model']} {row['backbone']}: {row['error']}", file=sys.stderr)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) == 0:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 1")
        return int(text)

    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    add = result.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="of every network's configuration, e.g. backbone=resnet50")
    models = "default: all; in brackets options of the model, or backbone=NAME (quote them for the shell)"
    add("--models", type=split, metavar="A,B[KEY=VALUE,...]", help=models)
    backbones = "each model with each; default: that of the parameter count in its yaml, else that of conf/train.yaml"
    add("--backbones", type=split, metavar="A,B", help=backbones)
    add("--size", type=count, nargs=2, default=[512, 1024], metavar=("H", "W"), help="of the images (512 1024)")
    add("--classes", type=count, default=19, metavar="K", help="of the logits (%(default)s)")
    add("--batch", type=count, default=8, metavar="B", help="images at once, only on CUDA (%(default)s)")
    add("--repeats", type=count, default=10, metavar="N", help="timed runs, after warm-up (%(default)s)")
    add("--no-latency", action="store_true", help="do not time on the CPU")
    add("--timeout", type=count, default=600, metavar="S", help="seconds per network (%(default)s)")
    add("--out", type=Path, default=Path("profile"), metavar="DIR", help="folder of the files (%(default)s)")
    runs = "run folders; also draws OUT/cost.png, mIoU by GFLOPs of their networks; only options may follow"
    add("--runs", type=Path, nargs="+", default=[], metavar="RUN", help=runs)
    return result


def split(text: str) -> list[str]:
    """Splits a list at the commas outside of brackets: `a,b[c,d]` is `a` and `b[c,d]`."""
    parts: list[str] = []
    for piece in text.split(","):
        is_open = bool(parts) and parts[-1].count("[") > parts[-1].count("]")
        parts = [*parts[:-1], f"{parts[-1]},{piece}"] if is_open else [*parts, piece]
    return [part.strip() for part in parts if part.strip()]


def model_jobs(args: argparse.Namespace) -> list[Job]:
    """Makes a job for every network asked for.

    Raises:
        UserError: a model, a backbone or an override is unknown.
    """
    known = {
        group: sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))
        for group in ("model", "backbone")
    }
    if wrong := [text for text in args.overrides if "=" not in text]:
        raise UserError(f"{wrong[0]}: must be KEY=VALUE; names of models follow --models")
    overrides, chosen = _without_backbone(args.overrides)
    if chosen and args.backbones:
        raise UserError(f"backbone={chosen}: --backbones chooses them already; leave one of the two out")
    jobs: list[Job] = []
    for given in args.models or known["model"]:
        found = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", given)
        if not found:
            raise UserError(f"--models {given}: must be NAME or NAME[KEY=VALUE,...]")
        name = _known("model", found[1], known)
        options, own = _without_backbone(split(found[2] or ""))
        shown = f"{name}[{','.join(options)}]" if options else name
        options = [option if "." in option.split("=")[0] else f"model.{option}" for option in options]
        for backbone in [own] if own else [chosen] if chosen else args.backbones or [_default_backbone(name)]:
            network = _compose(shown, name, _known("backbone", backbone, known), [*overrides, *options], args.classes)
            has_backbone = "backbone" in network["architecture"]
            if own and not has_backbone:
                raise UserError(f"{given}: {name} has no backbone to choose; leave it out")
            jobs.append(Job(shown, backbone if has_backbone else "", json.dumps(network, sort_keys=True)))
    return list(dict.fromkeys(jobs))


def _without_backbone(options: list[str]) -> tuple[list[str], str]:
    chosen = [option.removeprefix("backbone=") for option in options if option.startswith("backbone=")]
    return [option for option in options if not option.startswith("backbone=")], (chosen or [""])[-1]


def _known(group: str, name: str, known: dict[str, list[str]]) -> str:
    if name not in known[group]:
        near = difflib.get_close_matches(name, known[group], 3, cutoff=0.5)
        hint = f"the nearest are {', '.join(near)}" if near else f"allowed are {', '.join(known[group])}"
        raise UserError(f"{group} {name} is unknown; {hint}")
    return name


def _default_backbone(model: str) -> str:
    """Returns the backbone of the parameter count in the model's yaml, else that of conf/train.yaml."""
    if found := re.search(r"^# Parameters: .*\bbackbone=([\w-]+)", (CONF / f"model/{model}.yaml").read_text(), re.M):
        return found[1]
    return next(entry.backbone for entry in OmegaConf.load(CONF / "train.yaml").defaults if "backbone" in entry)


def _compose(shown: str, model: str, backbone: str, overrides: list[str], num_classes: int) -> dict[str, Any]:
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [f"model={model}", f"backbone={backbone}", *overrides])
        cfg.data.classes = {f"class {index}": [0, 0, 0] for index in range(num_classes)}
        cfg.backbone.weights = None
        return OmegaConf.to_container(cfg.task.network, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            options = ", ".join(key for key in compose("train", [f"model={model}"]).model if key != "_target_")
        raise UserError(f"{shown}: {_one_line(error).split('. To append')[0]}; model's keys are {options}") from error


def run_jobs(folders: list[Path]) -> list[tuple[Job, dict[str, Any]]]:
    """Makes a job for the network of each finished run, with the run's own evaluation; prints the runs left out."""
    jobs = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--runs {folder}: no such folder")
        run = RunFolder(folder)
        results = run.read_results()
        if not results.finished:
            print(f"left out: {folder} has no results of a finished training", file=sys.stderr)
            continue
        config = load_config(run.config)
        if config.backbone is not None:
            config.task.network.architecture.backbone.weights = None
        network = json.dumps(OmegaConf.to_container(config.task.network), sort_keys=True)
        job = Job(config.choices.model, config.choices.get("backbone", ""), network)
        jobs.append((job, results.own))
    return jobs


def measure(jobs: list[Job], runs: list[tuple[Job, Any]], args: argparse.Namespace) -> tuple[list[Row], dict[Job, Row]]:
    """Measures the models, and the networks of the runs, whose operations only are counted."""
    options = {"size": args.size, "num_classes": args.classes, "repeats": args.repeats, "batch": args.batch}
    networks = {job.network: {"latency": False, "gpu": False} for job, _ in runs}
    networks |= {job.network: {"latency": not args.no_latency, "gpu": True} for job in jobs}
    progress = track(networks.items(), f"{len(networks)} networks", console=Console(stderr=True))
    costs = {network: _measure_in_own_process(network, options | more, args.timeout) for network, more in progress}
    rows = {job: costs[job.network] | {"model": job.model, "backbone": job.backbone} for job in [*jobs, *dict(runs)]}
    return [rows[job] for job in jobs], {job: rows[job] for job, _ in runs}


def _measure_in_own_process(network: str, options: dict[str, Any], timeout: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        write_json(Path(folder) / "task.json", {"network": json.loads(network), "options": options})
        command = [sys.executable, __file__, "--worker", folder]
        output = None if os.environ.get("HYDRA_FULL_ERROR") == "1" else subprocess.PIPE
        try:
            status = subprocess.run(command, stdout=output, stderr=output, timeout=timeout, check=False).returncode
        except subprocess.TimeoutExpired:
            return {"error": f"took longer than --timeout {timeout} s"}
        if not result.is_file():
            return {"error": f"its process ended with status {status}; HYDRA_FULL_ERROR=1 shows its output"}
        return json.loads(result.read_text())


def work(folder: Path) -> int:
    """Measures the network of `task.json` in a process of its own, and writes `result.json`."""
    task = json.loads((folder / "task.json").read_text())
    try:
        from src.reports.network_cost import profile

        result = profile(instantiate(task["network"], _convert_="all"), **task["options"])
    except Exception as error:
        traceback.print_exc()
        # Hydra wraps the network's own error in one that names the config key.
        cause = error.__cause__ if type(error).__module__ == "hydra.errors" and error.__cause__ else error
        kind = "" if isinstance(cause, UserError) else f"{type(cause).__name__}: "
        result = {"error": f"{kind}{_one_line(cause)}"}
    write_json(folder / "result.json", result)
    return 0


def _one_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()


def write_tables(rows: list[Row], args: argparse.Namespace, command: str) -> list[Path]:
    """Writes models.csv and models.md; returns their paths."""
    from src.reports.network_cost import COLUMNS, TEXTS, cells

    with atomic_path(args.out / "models.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model", "backbone", "height", "width", "classes", *COLUMNS], "", "ignore")
        writer.writeheader()
        size = {"height": args.size[0], "width": args.size[1], "classes": args.classes}
        writer.writerows(row | size for row in rows)
    head, body = cells(rows)
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in [head, *body]]
    lines.insert(1, f"|{'|'.join('---' if title in TEXTS else '--:' for title in head)}|")
    note = f"; {' '.join(args.overrides)}" if args.overrides else ""
    text = [CAPTION.format(size="x".join(map(str, args.size)), classes=args.classes, note=note)]
    if threads := {row["threads"] for row in rows if "threads" in row}:
        text.append(f"CPU: float32, channels_last, {args.repeats} runs after warm-up, {max(threads)} threads.\n")
    if devices := {row["gpu"] for row in rows if "gpu" in row}:
        figures = (
            "images per second in eval mode; peak memory of forward, cross-entropy and backward, without optimizer"
        )
        text.append(f"{max(devices)}, bf16 autocast, batch {args.batch}: {figures}.\n")
    machine = f"{processor()}, {num_cores()} cores, load {args.load:.1f} at the start, torch {version('torch')}"
    text.append(f"Machine: {machine}, {date.today()}.\n")
    write_text(args.out / "models.md", "\n".join([*text, f"`{command}`\n", *lines, ""]))
    return [args.out / "models.md", args.out / "models.csv"]


def terminal_table(rows: list[Row]) -> str:
    from src.reports.network_cost import TEXTS, cells

    head, body = cells([{**row, "error": "yes"} if "error" in row else row for row in rows])
    table = Table()
    for title in head:
        table.add_column(title, justify="left" if title in TEXTS else "right", overflow="fold")
    for row in body:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return render(table)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # so that the process it waits for ends too
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
