"""Figures of runs, folds, averages and stages, from their folders alone. `python -m src.draw --help`"""

import json
import logging
import os
from contextlib import AbstractContextManager
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.cli import launch
from src.errors import UserError
from src.machine import GROUP_VARIABLE, environment
from src.runs.folder import RunFolder

log = logging.getLogger(__name__)
FOLDS, AVERAGE, STAGES = "crossval.json", "aggregate.json", "stages.json"
Pictures = dict[str, Path]


def draw_all(cfg: DictConfig) -> int:
    """Draws again what `cfg.folder` and the folders beneath it have records of; returns how many figures.

    Raises:
        UserError: there is nothing to draw.
    """
    found = sorted({path.parent for name in ("results.json", FOLDS, STAGES) for path in Path(cfg.folder).rglob(name)})
    pictures = [path for folder in found for path in draw(folder).values()]
    if not pictures:
        raise UserError(f"folder={cfg.folder}: no finished run, folds, average or stages there or beneath it")
    for path in pictures:
        log.info("%s", path)
    return len(pictures)


def draw(folder: Path) -> Pictures:
    """Draws what a folder is of; the figures by their names."""
    if (folder / STAGES).is_file():
        return draw_stages(folder, json.loads((folder / STAGES).read_text()))
    if (folder / FOLDS).is_file():
        return draw_folds(folder, json.loads((folder / FOLDS).read_text()))
    run = RunFolder(folder)
    results = run.read_results()
    own, *others = results["evaluations"].values()
    pictures: Pictures = {}
    if (folder / AVERAGE).is_file():
        pictures = draw_average(run, json.loads((folder / AVERAGE).read_text()), own)
    elif results["finished"]:
        pictures = draw_run(run, own)
    else:
        others = [own, *others]
    for evaluation in others:
        pictures |= draw_evaluation(run, evaluation)
    return pictures


def draw_run(run: RunFolder, own: dict) -> Pictures:
    """Curves of the training and its own evaluation."""
    from src.reports.run_plots import plot_class_curves, plot_curves
    from src.reports.tables import mark_title

    pictures = {name: run.path / f"{name}.png" for name in ("curves", "class_curves")}
    title = mark_title(run.path.name, own)
    plot_curves(run.metrics, pictures["curves"], title)
    plot_class_curves(run.metrics, _palette(run), pictures["class_curves"], title)
    return pictures | draw_own(run, own)


def draw_own(run: RunFolder, own: dict) -> Pictures:
    """The evaluation that finished a run."""
    return _draw_evaluation(run, own, run.path.name, "")


def draw_evaluation(run: RunFolder, evaluation: dict) -> Pictures:
    """A later evaluation, its split in the names of the files."""
    # A fold's split is a sentence.
    split = "fold" if evaluation["protocol"]["split"].startswith("fold ") else evaluation["protocol"]["split"]
    return _draw_evaluation(run, evaluation, f"{run.path.name}: {evaluation['protocol']['split']}", f"_{split}")


def _draw_evaluation(run: RunFolder, evaluation: dict, title: str, suffix: str) -> Pictures:
    from src.reports.fold_plots import plot_confusion, plot_shares
    from src.reports.run_plots import plot_classes
    from src.reports.tables import mark_title

    names = [f"{name}{suffix}" for name in ("classes", "confusion", "shares")]
    pictures, palette = {name: run.path / f"{name}.png" for name in names}, _palette(run)
    classes, confusion, shares = pictures.values()
    plot_classes(evaluation, palette, classes, mark_title(title, evaluation))
    plot_confusion(evaluation, confusion, title)
    plot_shares(evaluation, palette, shares, title)
    return pictures


def draw_average(run: RunFolder, record: dict, own: dict) -> Pictures:
    """The averages that were compared, and the winner's evaluation."""
    from src.reports.fold_plots import plot_averages

    path = run.path / "averages.png"
    plot_averages([(run.path.parent.name, record)], path, run.path.name)
    return {"averages": path, **draw_own(run, own)}


def draw_folds(folder: Path, record: dict) -> Pictures:
    """mIoU of all folds, and their curves; nothing where no fold is done."""
    from src.reports.fold_plots import plot_folds, plot_history

    pictures: Pictures = {}
    if record["summaries"]:
        pictures["folds"] = folder / "folds.png"
        plot_folds(record, pictures["folds"], folder.name)
    if any(each["own"] for each in record["folds"]):
        pictures["history"] = folder / "history.png"
        plot_history([_history(folder, record)], pictures["history"], folder.name)
    return pictures


def draw_stages(folder: Path, records: list[dict]) -> Pictures:
    """The averages of each stage, the classes of its winners, and the curves of all folds through all stages."""
    from src.reports.fold_plots import plot_averages, plot_history, plot_progress

    pictures = {name: folder / f"{name}.png" for name in ("averages", "progress", "history")}
    averages = [(record["stage"], record["averages"]) for record in records]
    winners = [(record["stage"], record["winner"]) for record in records]
    palette = _palette(RunFolder(folder / records[-1]["stage"] / records[-1]["run"]))
    plot_averages(averages, pictures["averages"], folder.name)
    plot_progress(winners, palette, pictures["progress"], folder.name)
    history = [_history(folder / record["stage"], record["folds"]) for record in records]
    plot_history(history, pictures["history"], folder.name)
    return pictures


def grouped(name: str) -> AbstractContextManager:
    """W&B runs that begin meanwhile, in this process and in those it starts, are of a group, the outermost's."""
    return environment(GROUP_VARIABLE, os.environ.get(GROUP_VARIABLE, name))


def publish(
    logger: DictConfig | None, folder: Path, kind: str, pictures: Pictures, table: str, figures: dict[str, float | str]
) -> None:
    """Shows in W&B, as a run of its own, what was made of runs, where they were logged there (`logger.wandb`).

    An average, of which another one may be made, has no logger: it was not trained.
    """
    if logger is not None and "wandb" in logger:
        with instantiate(logger.wandb, run_dir=str(folder), job_type=kind) as dashboard:
            dashboard.publish(pictures, table, figures)


def _history(folder: Path, record: dict) -> tuple[str, list]:
    """What `plot_history` asks for of a cross-validation, whose folder may have been moved."""
    from src.runs.metrics_csv import read_metrics

    done = [each for each in record["folds"] if each["own"]]
    runs = [RunFolder(folder / Path(each["run"]).name) for each in done]
    return folder.name, [(read_metrics(run.metrics), each["own"]) for run, each in zip(runs, done, strict=True)]


def _palette(run: RunFolder) -> dict[str, list[int]]:
    return OmegaConf.to_container(OmegaConf.load(run.config).data.classes)


if __name__ == "__main__":
    launch(draw_all, "draw")
