"""Cross-validation: a run a fold, each by src.train in its own process; the same command goes on. `--help`"""

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config.cli import launch, quoted
from src.config.complete import complete
from src.config.flat import changes
from src.config.identity import derive_name, identity
from src.draw import FOLDS, draw_folds, grouped, publish
from src.errors import UserError
from src.files import first_free, plain, write_json, write_text
from src.folds.intervals import summarise
from src.processes.children import last_error, start
from src.processes.progress import following
from src.reports.tables import fold_figures, fold_table
from src.runs.folder import RunFolder

log = logging.getLogger(__name__)
OURS = ("name", "runs", "resume")  # keys of src.train that are given to it anew


@dataclass(frozen=True)
class Plan:
    """What is to be done, known before the first fold is trained.

    Args:
        folder: of the runs `fold0`, `fold1`, ... and of their logs.
        overrides: the command line of each fold.
        identity: what must not change when the same folder is continued: of all folds, and of each its own words.
        has_official: whether each fold is evaluated on the dataset's own val too.
        accelerator: of that evaluation.
        devices: GPUs for folds side by side, as CUDA_VISIBLE_DEVICES names them; empty: one after another.
        epochs: of each fold.
        with_progress: whether they are followed on the terminal.
    """

    folder: Path
    overrides: list[list[str]]
    identity: dict[str, Any]
    has_official: bool
    accelerator: str
    devices: list[str]
    epochs: int
    with_progress: bool

    def run(self, fold: int) -> RunFolder:
        return RunFolder(fold_folder(self.folder, fold))

    def log(self, fold: int) -> Path:
        return self.folder / f"fold{fold}.log"


def crossval(cfg: DictConfig) -> float:
    """Trains and evaluates what is not done yet, tells the table; returns the mean mIoU of the folds' own parts.

    Raises:
        UserError: some folds failed; names them and their logs. The others are done all the same. Or the folder holds
            folds of another configuration.
    """
    plan = make_plan(cfg)
    plan.folder.mkdir(parents=True, exist_ok=True)
    folds, place = range(len(plan.overrides)), plan.folder / FOLDS
    with RunFolder(plan.folder).lock(), grouped(plan.folder.name):
        settle_identity(plan)
        RunFolder(plan.folder).note_session("src.crossval")
        failed = train_folds(plan)
        record = read_record(plan, failed)
        if not place.is_file() or json.loads(place.read_text()) != plain(record):
            write_text(plan.folder / "crossval.md", fold_table(record) + "\n")
            pictures = draw_folds(plan.folder, record)
            publish(cfg.logger, plan.folder, "crossval", pictures, fold_table(record), fold_figures(record))
            write_json(place, record)  # last: what it holds is drawn and shown
    log.info("%s\n%s", fold_table(record), plan.folder)
    if failed:
        told = "; ".join(f"fold {fold}: {why}; log: {plan.log(fold)}" for fold, why in sorted(failed.items()))
        raise UserError(
            f"{len(failed)} of {len(folds)} folds failed ({told}); the others are finished, and the same command runs "
            "these alone"
        )
    return record["summaries"]["own"]["mean"]


def make_plan(cfg: DictConfig) -> Plan:
    """Checks the configuration of every fold at once, as src.train would that of fold 0.

    Raises:
        UserError: no data.num_folds, or a data.fold; a sweep; an option out of range; all that src.train
            raises before it loads torch.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("src.crossval is no job of a sweep (-m); call it once for each configuration")
    if cfg.data.num_folds is None or cfg.data.fold is not None:
        raise UserError("src.crossval trains every fold: give data.num_folds=5, and no data.fold")
    with open_dict(cfg):
        options = OmegaConf.to_container(cfg.pop("crossval"))
    cfg.data.fold = 0
    if options["init_from"] is not None:
        cfg.init_from = str(fold_folder(Path(options["init_from"]), 0))
    prepared = complete(cfg)
    cfg, source = prepared.config, prepared.source
    extra = {int(fold): list(words) for fold, words in (options["overrides"] or {}).items()}
    if unknown := [fold for fold in extra if not 0 <= fold < cfg.data.num_folds]:
        raise UserError(f"crossval.overrides: there is no fold {unknown[0]}, only 0 to {cfg.data.num_folds - 1}")
    devices = name_devices(options["devices"] or [])
    has_official = options["official_val"] and "val" in source.splits
    if has_official:
        source.samples("val")  # missing files are told now, not after the first fold
    name = cfg.name or derive_name(cfg).replace(f"fold0of{cfg.data.num_folds}", f"{cfg.data.num_folds}folds")
    folder = Path(cfg.runs) / name
    folder = folder if cfg.resume else first_free(folder)
    shared = [word for word in HydraConfig.get().overrides.task if _key(word) not in OURS]
    shared = [word for word in shared if _key(word).partition(".")[0] != "crossval"]
    overrides = [
        [*shared, *starts(options["init_from"], fold), *extra.get(fold, []), *ours(folder, fold)]
        for fold in range(cfg.data.num_folds)
    ]
    own_words = {str(fold): extra.get(fold, []) for fold in range(cfg.data.num_folds)}
    return Plan(
        folder,
        overrides,
        plain({"all": identity(cfg), "each": own_words}),
        has_official,
        cfg.trainer.accelerator,
        devices,
        cfg.trainer.max_epochs,
        cfg.trainer.enable_progress_bar,
    )


def settle_identity(plan: Plan) -> None:
    """Notes what the folds are of. UserError where folds with weights are of something else."""
    place, runs = RunFolder(plan.folder).identity, [plan.run(fold) for fold in range(len(plan.overrides))]
    if place.is_file() and any(run.has_weights for run in runs):
        old, new = json.loads(place.read_text()), plan.identity
        told = changes(old["all"], new["all"])
        told += [
            f"crossval.overrides of fold {fold}: {old['each'].get(str(fold))} -> {new['each'].get(str(fold))}"
            for fold, run in enumerate(runs)
            if run.has_weights and old["each"].get(str(fold)) != new["each"].get(str(fold))
        ]
        if told:
            raise UserError(
                f"{plan.folder} holds folds of another configuration ({', '.join(told[:3])}"
                f"{', ...' if len(told) > 3 else ''}); give another name=, or resume=false, to start beside it"
            )
    write_json(place, plan.identity)


def name_devices(numbers: Sequence[int]) -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them; a number counts those that it has, where a scheduler has set it."""
    if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
        raise UserError(f"crossval.devices={numbers}: must be numbers of GPUs, such as [0,1], or null")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(number) for number in numbers]
    visible = [name.strip() for name in given.split(",") if name.strip()]
    if beyond := [number for number in numbers if number >= len(visible)]:
        raise UserError(
            f"crossval.devices={numbers}: no GPU {beyond[0]} among CUDA_VISIBLE_DEVICES={given}, whose first is 0"
        )
    return [visible[number] for number in numbers]


def ours(folder: Path, fold: int) -> list[str]:
    """What makes a command that of a fold."""
    return [f"data.fold={fold}", f"runs={quoted(folder)}", f"name={fold_folder(folder, fold).name}"]


def starts(earlier: str | None, fold: int) -> list[str]:
    """Where a fold starts from, if from the same fold of an earlier cross-validation."""
    return [] if earlier is None else [f"init_from={quoted(fold_folder(Path(earlier), fold))}"]


def fold_folder(folder: Path, fold: int) -> Path:
    return folder / f"fold{fold}"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def train_folds(plan: Plan) -> dict[int, str]:
    """Brings every fold to its end; of those that failed, why."""
    devices: SimpleQueue[str | None] = SimpleQueue()
    for device in plan.devices or [None]:
        devices.put(device)

    def work(fold: int) -> str | None:
        device = devices.get()
        try:
            return train_fold(plan, fold, device)
        finally:
            devices.put(device)

    folds = range(len(plan.overrides))
    runs = {f"fold {fold}": plan.run(fold) for fold in folds}
    with (
        following(runs, plan.epochs, shown=plan.with_progress),
        ThreadPoolExecutor(max_workers=len(plan.devices) or 1) as pool,
    ):
        return {fold: why for fold, why in zip(folds, pool.map(work, folds), strict=True) if why is not None}


def train_fold(plan: Plan, fold: int, device: str | None) -> str | None:
    """Trains a fold, or goes on with it, and evaluates it on val where that is not done; why it failed, or None."""
    run = plan.run(fold)
    commands = []
    if not run.read_results()["finished"]:
        commands.append(["src.train", *plan.overrides[fold]])
    if plan.has_official and official_evaluation(run) is None:
        commands.append(["src.eval", f"run={quoted(run.path)}", "split=val", f"accelerator={plan.accelerator}"])
    if not commands:
        log.info("fold %d: is done", fold)
    for command in commands:
        what = {"src.train": "trains", "src.eval": "is evaluated on val"}[command[0]]
        log.info("fold %d: %s; log: %s", fold, what, plan.log(fold))
        if (status := start(command, plan.log(fold), device)) != 0:
            why = last_error(plan.log(fold)) or f"{command[0]} ended with status {status}"
            log.info("fold %d: failed: %s", fold, why)
            return why
    return None


def official_evaluation(run: RunFolder) -> dict[str, Any] | None:
    """A run's evaluation on val by the protocol of its training; None before there is one."""
    evaluations = list(run.read_results()["evaluations"].values())
    for evaluation in evaluations:
        protocol, own = evaluation["protocol"], evaluations[0]["protocol"]
        same = all(protocol[key] == own[key] for key in ("inference", "precision", "labels"))
        if protocol["split"] == "val" and same and evaluation["checkpoint"]["name"] == "best":
            return evaluation
    return None


def read_record(plan: Plan, failed: dict[int, str]) -> dict[str, Any]:
    """What is known of every fold, from its run folder: figures on its own part and on val, kept apart."""
    folds = []
    for fold in range(len(plan.overrides)):
        run = plan.run(fold)
        results = run.read_results()
        own = next(iter(results["evaluations"].values())) if results["finished"] else None
        state = "failed" if fold in failed else "done"
        official = official_evaluation(run) if plan.has_official else None
        folds.append(
            {
                "fold": fold,
                "run": str(run.path),
                "log": str(plan.log(fold)),
                "state": state,
                "why": failed.get(fold),
                "own": own,
                "official": official,
            }
        )
    summaries = {}
    for kind in ("own", "official"):
        if figures := [each[kind]["miou"] for each in folds if each[kind] is not None]:
            summaries[kind] = vars(summarise(figures))
    return {"folds": folds, "summaries": summaries}


if __name__ == "__main__":
    launch(crossval, "crossval")
