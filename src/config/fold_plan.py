"""Plans a cross-validation: checks its configuration, composes the commands of each fold, and claims its folder."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from src.config.complete import complete
from src.config.flat import changes, to_dict
from src.config.identity import derive_name, identity
from src.config.words import quoted
from src.data.fingerprint import fingerprint
from src.errors import UserError, shortened, whole
from src.files import check_name, claim, damaged, first_free, has_file, plain, read_json, sweep, write_json
from src.folds.crossval import Fold, FoldsPlan, fold_folder
from src.machine import num_cores
from src.runs.folder import RunFolder

THREADS = "OMP_NUM_THREADS"
OWN_KEYS = ("name", "runs", "resume", "crossval")  # not handed on to src.train as they stand on the command line


def plan_folds(cfg: DictConfig) -> FoldsPlan:
    """Plans all folds, and checks what src.train would check for fold 0 before it loads torch.

    Raises:
        UserError: no `data.num_folds`, or a `data.fold`; a sweep; a faulty value; two sources of first weights; missing
            data.
    """
    check_folds("src.crossval", cfg)
    shared = shared_overrides(OWN_KEYS)
    with open_dict(cfg):
        options = to_dict(cfg.pop("crossval"))
    cfg.data.fold = 0
    if (earlier := options["init_from"]) is not None:
        if cfg.init_from is not None:
            raise UserError(f"crossval.init_from={earlier}: init_from={cfg.init_from} is given too; give one of them")
        cfg.init_from = str(fold_folder(Path(earlier), 0))
    prepared = complete(cfg)
    cfg, numbers = prepared.config, range(prepared.config.data.num_folds)
    extra = {int(fold): list(words) for fold, words in (options["overrides"] or {}).items()}
    if unknown := [fold for fold in extra if fold not in numbers]:
        raise UserError(f"crossval.overrides: there is no fold {unknown[0]}, only 0 to {numbers[-1]}")
    devices = workers("crossval.", options["devices"], options["jobs"])
    has_official = options["official_val"] and "val" in prepared.source.splits
    # Raises for missing files now, instead of after the first fold.
    official_data = fingerprint(prepared.source, prepared.source.samples("val")) if has_official else None
    folder = choose_folder(cfg, cfg.name or derive_name(cfg, all_folds=True))
    folds = []
    for number in numbers:
        run, overrides = fold_folder(folder, number), extra.get(number, [])
        start = [] if earlier is None else [f"init_from={quoted(fold_folder(Path(earlier), number))}"]
        place = [f"data.fold={number}", f"runs={quoted(folder)}", f"name={run.name}"]
        evaluate = ["src.eval", f"run={quoted(run)}", "split=val", f"accelerator={cfg.trainer.accelerator}"]
        train, output = ["src.train", *shared, *start, *overrides, *place], folder / f"{run.name}.log"
        folds.append(Fold(number, RunFolder(run), output, overrides, train, evaluate if has_official else None))
    return FoldsPlan(
        folder,
        folds,
        identity(cfg),
        official_data,
        devices,
        cfg.trainer.max_epochs,
        with_progress=cfg.trainer.enable_progress_bar,
    )


@contextmanager
def claimed_folds(plan: FoldsPlan) -> Iterator[None]:
    """Locks the folder of a cross-validation and writes its identity: the shared part, and each fold's own overrides.

    Raises:
        UserError: another process has the folder, or folds in it have weights of another configuration.
    """
    folder = RunFolder(plan.folder)
    claim(folder.path, "name")
    with folder.lock():
        sweep(folder.path)
        new = plain({"all": plan.identity, "each": {fold.number: fold.overrides for fold in plan.folds}})
        if differences := _differences(plan, folder.identity, new):
            raise UserError(
                f"{plan.folder} holds folds of another configuration ({shortened(differences)}); give another "
                "name=, or resume=false, to start beside it"
            )
        write_json(folder.identity, new)
        folder.note_session("src.crossval")
        yield


def _differences(plan: FoldsPlan, path: Path, new: dict[str, Any]) -> list[str]:
    """Lists the differences from the identity in `path` that matter to folds with weights; none if no fold has any."""
    with_weights = [str(fold.number) for fold in plan.folds if fold.run.has_weights]
    if not (has_file(path) and with_weights):
        return []
    old = read_json(path)
    if not (isinstance(old, dict) and all(isinstance(old.get(key), dict) for key in ("all", "each"))):
        raise damaged(path, "no folds in it")
    return changes(old["all"], new["all"]) + [
        f"crossval.overrides of fold {fold}: {old['each'].get(fold)} -> {new['each'].get(fold)}"
        for fold in with_weights
        if old["each"].get(fold) != new["each"].get(fold)
    ]


def check_folds(module: str, cfg: DictConfig) -> None:
    """Raises UserError if a command that trains every fold is called in a sweep, without folds, or for one fold."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(f"{module} is no job of a sweep (-m); call it once for each configuration")
    if cfg.data.num_folds is None or cfg.data.fold is not None:
        raise UserError(f"{module} trains every fold: give data.num_folds=5, and no data.fold")


def shared_overrides(without: Sequence[str]) -> list[str]:
    """Returns the overrides of this command line, but for those of some groups or keys of the top level."""
    words = HydraConfig.get().overrides.task
    return [word for word in words if re.split("[=@.]", word.lstrip("+~"))[0] not in without]


def choose_folder(cfg: DictConfig, name: str) -> Path:
    """Returns the folder of this name in `runs`; with resume=false the first free one beside it."""
    folder = Path(cfg.runs) / check_name("name", name)
    return folder if cfg.resume else first_free(folder)


def workers(prefix: str, devices: Sequence[int] | None, jobs: int) -> list[str | None]:
    """Returns the devices of the runs that are trained side by side; None: a run has what this process has.

    Runs that share the cores get an equal number of threads each, unless OMP_NUM_THREADS gives it.

    Args:
        prefix: of the keys `devices` and `jobs` in messages.

    Raises:
        UserError: `devices` are no GPUs of this process, `jobs` is no number of runs; both are given.
    """
    named, count = name_devices(devices or [], f"{prefix}devices"), whole(f"{prefix}jobs", jobs, 1)
    if named and count > 1:
        raise UserError(
            f"{prefix}jobs={count}: is given beside {prefix}devices, which trains one run per GPU; give one"
        )
    if count > 1 and THREADS not in os.environ:
        os.environ[THREADS] = str(max(1, num_cores() // count))
    return [*named] or [None] * count


def name_devices(numbers: Sequence[int], key: str) -> list[str]:
    """Names GPUs for CUDA_VISIBLE_DEVICES; if a scheduler has set that, numbers count within it.

    Raises:
        UserError: not a list of whole numbers, or a number beyond the GPUs that the scheduler gave.
    """
    if any(type(number) is not int or number < 0 for number in numbers):
        raise UserError(f"{key}={numbers}: must be numbers of GPUs, such as [0,1], or null")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(number) for number in numbers]
    visible = [name.strip() for name in given.split(",") if name.strip()]
    if beyond := [number for number in numbers if number >= len(visible)]:
        raise UserError(f"{key}={numbers}: no GPU {beyond[0]} among CUDA_VISIBLE_DEVICES={given}, whose first is 0")
    return [visible[number] for number in numbers]
