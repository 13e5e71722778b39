"""Staged training: cross-validation, an average, and the next stage from there. `python -m src.stages --help`"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config.cli import launch, quoted
from src.config.flat import digest
from src.config.identity import identity
from src.crossval import fold_folder
from src.draw import AVERAGE, FOLDS, STAGES, draw_stages, grouped, publish
from src.errors import UserError
from src.files import first_free, plain, write_json, write_text
from src.processes.children import last_error, start
from src.processes.progress import following
from src.reports.tables import stage_figures, stage_table
from src.runs.folder import RunFolder

log = logging.getLogger(__name__)
LINEAGES = ("aggregate", "separate")
OURS = (
    "stages",
    "lineage",
    "aggregate",
    "name",
    "runs",
    "resume",
)  # keys that src.crossval does not take, or takes anew
WINNER = "aggregate"  # run folder in a stage's folder


@dataclass(frozen=True)
class Stage:
    """A cross-validation and its average.

    Args:
        folder: of its folds, and of its winner.
        train, average: command lines of src.crossval and src.aggregate.
        epochs: of each of its folds.
    """

    folder: Path
    train: list[str]
    average: list[str]
    epochs: int

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")


def stages(cfg: DictConfig) -> float:
    """Does what is not done yet of every stage, tells the table; returns the mIoU of the last winner."""
    folder, plan = make_plan(cfg)
    folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder).lock(), grouped(folder.name):
        RunFolder(folder).note_session("src.stages")
        for stage in plan:
            for module, words in (("src.crossval", stage.train), ("src.aggregate", stage.average)):
                log.info("%s: %s; log: %s", stage.folder.name, module, stage.log)
                folds = range(cfg.data.num_folds if module == "src.crossval" else 0)
                runs = {f"fold {fold}": RunFolder(fold_folder(stage.folder, fold)) for fold in folds}
                with following(runs, stage.epochs, shown=cfg.trainer.enable_progress_bar):
                    status = start([module, *words], stage.log, None)
                if status != 0:
                    why = last_error(stage.log) or f"{module} ended with status {status}"
                    raise UserError(
                        f"stage {stage.folder.name} failed, and the next ones start from it: {why}; log: {stage.log}; "
                        "the same command goes on here"
                    )
        records = [read_record(stage) for stage in plan]
        place = folder / STAGES
        if not place.is_file() or json.loads(place.read_text()) != plain(records):
            write_text(folder / "stages.md", stage_table(records) + "\n")
            pictures = draw_stages(folder, records)
            publish(cfg.logger, folder, "stages", pictures, stage_table(records), stage_figures(records))
            write_json(place, records)  # last: what it holds is drawn and shown
    log.info("%s\n%s", stage_table(records), folder)
    return records[-1]["winner"]["miou"]


def make_plan(cfg: DictConfig) -> tuple[Path, list[Stage]]:
    """The folder, and every stage; each composes, so that a wrong word is told before the first one.

    Raises:
        UserError: no folds, a sweep, epochs or a start that stages choose, a lineage that is unknown, a stage without
            epochs.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("src.stages is no job of a sweep (-m); call it once for each configuration")
    given = HydraConfig.get().overrides.task
    for key, remedy in {
        "trainer.max_epochs": "give stages.NAME.epochs",
        "init_from": "the first stage alone could take it: stages.NAME.overrides=[init_from=...]",
    }.items():
        if any(word.startswith(f"{key}=") for word in given):
            raise UserError(f"{key}: is each stage's own; {remedy}")
    if cfg.lineage not in LINEAGES:
        raise UserError(f"lineage={cfg.lineage}: must be one of {', '.join(LINEAGES)}")
    if cfg.data.num_folds is None or cfg.data.fold is not None:
        raise UserError("src.stages trains every fold: give data.num_folds=5, and no data.fold")
    with open_dict(cfg):
        options = {key: OmegaConf.to_container(cfg)[key] for key in ("stages", "lineage", "aggregate")}
        for key in (*options, "crossval"):
            cfg.pop(key)
    choice = HydraConfig.get().runtime.choices.stages
    name = cfg.name or f"stages-{choice}-{cfg.data.num_folds}folds-s{cfg.seed}-{digest([identity(cfg), options])}"
    folder = Path(cfg.runs) / name
    folder = folder if cfg.resume else first_free(folder)
    shared = [word for word in given if word.partition("=")[0].lstrip("+~").partition(".")[0] not in OURS]
    plan: list[Stage] = []
    for number, (key, stage) in enumerate(options["stages"].items(), 1):
        epochs = stage.get("epochs")
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
            raise UserError(f"stages.{key}.epochs={epochs}: must be a whole number, at least 1")
        place = folder / f"{number}_{key}"
        words = [*(stage.get("overrides") or []), *shared, f"trainer.max_epochs={epochs}"]
        words += _start_of(plan, options["lineage"]) + [f"runs={quoted(folder)}", f"name={place.name}"]
        try:
            compose("crossval", words)
        except HydraException as error:
            raise UserError(f"stages.{key} with this command line: {' '.join(str(error).split())[:300]}") from error
        plan.append(Stage(place, words, average_words(place, options["aggregate"], cfg), epochs))
    return folder, plan


def _start_of(plan: Sequence[Stage], lineage: str) -> list[str]:
    """Where a stage starts from, after those of the plan."""
    if not plan:
        return []
    before = plan[-1].folder
    return [
        f"init_from={quoted(before / WINNER)}" if lineage == "aggregate" else f"crossval.init_from={quoted(before)}"
    ]


def average_words(place: Path, options: dict[str, Any], cfg: DictConfig) -> list[str]:
    """The command line of src.aggregate."""
    chosen = [f"{key}={'null' if value is None else value}" for key, value in options.items()]
    out = f"out={quoted(place / WINNER)}"
    return [f"from={quoted(place)}", out, *chosen, f"accelerator={cfg.trainer.accelerator}"]


def read_record(stage: Stage) -> dict[str, Any]:
    """What a stage's folds and its averages came to."""
    folds = json.loads((stage.folder / FOLDS).read_text())
    averages = json.loads((stage.folder / WINNER / AVERAGE).read_text())
    winner = next(iter(RunFolder(stage.folder / WINNER).read_results()["evaluations"].values()))
    return {"stage": stage.folder.name, "run": WINNER, "folds": folds, "averages": averages, "winner": winner}


if __name__ == "__main__":
    launch(stages, "stages")
