"""Draws the figures of a folder from its records: a run, a cross-validation, an average, stages.

Plots are imported where they are drawn: matplotlib and scipy take a second, for which `--help` must not wait.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from src.files import damaged, has_file, walk
from src.reports.dashboard import Pictures
from src.runs.folder import AVERAGE, FOLDS, RESULTS, STAGES, RunFolder
from src.runs.marks import mark, notes
from src.runs.per_image import EVALUATIONS
from src.runs.records import AverageRecord, Evaluation, FoldsRecord, StageRecord
from src.runs.serial import read_record
from src.runs.zoo import output_folder

log = logging.getLogger(__name__)


def find_folders(folder: Path) -> list[Path]:
    """Returns the folders with records of which `draw` makes figures, at or beneath a folder."""
    return sorted(path for path, _, files in walk(folder) if {RESULTS, FOLDS, STAGES} & set(files))


def draw(folder: Path) -> Pictures:
    """Draws all figures of one folder; returns their files by name."""
    if has_file(folder / STAGES):
        return draw_stages(folder, read_record(folder / STAGES, tuple[StageRecord, ...]))
    if has_file(folder / FOLDS):
        return draw_folds(folder, read_record(folder / FOLDS, FoldsRecord))
    run = output_folder(RunFolder(folder))
    results = run.read_results()
    if not results.evaluations:
        return {}
    own, *others = results.evaluations.values()
    pictures: Pictures = {}
    if has_file(folder / AVERAGE):
        pictures = draw_average(run, read_record(folder / AVERAGE, AverageRecord), own)
    elif results.finished:
        pictures = draw_run(run, own)
    else:
        others = [own, *others]
    for evaluation in others:
        pictures |= draw_evaluation(run, evaluation)
    return pictures


def draw_or_note(folder: Path, drawing: Callable[[], Pictures]) -> Pictures:
    """Draws the figures of a result that is written already; logs a note in their place if that fails."""
    try:
        return drawing()
    except Exception as error:  # whatever matplotlib or a full disk raises: the result is worth more than its pictures
        text = " ".join(str(error).split())[:200]
        log.warning(
            "note: %s has its figures, but no pictures of them (%s: %s); python -m src.draw folder=%s draws them again",
            folder, type(error).__name__, text, folder,
        )  # fmt: skip
        return {}


def draw_run(run: RunFolder, own: Evaluation) -> Pictures:
    """Draws the curves of a training, which a published run does not have, and its own evaluation."""
    from src.reports.run_plots import plot_class_curves, plot_curves

    pictures: Pictures = {}
    if run.metrics.is_file():
        pictures = _files(run.path, ("curves", "class_curves"))
        title, lines = f"{run.path.name}{mark(own)}", notes([own])
        plot_curves(run.metrics, pictures["curves"], title, lines)
        plot_class_curves(run.metrics, run.palette, pictures["class_curves"], title, lines)
    return pictures | draw_evaluation(run, own, is_own=True)


def draw_evaluation(run: RunFolder, evaluation: Evaluation, *, is_own: bool = False) -> Pictures:
    """Draws the evaluation that finished a run, or a later one, with the name of its split in the file names."""
    from src.reports.evaluation_plots import plot_classes, plot_confusion, plot_reliability, plot_shares

    protocol = evaluation.protocol
    title = run.path.name if is_own else f"{run.path.name}: {protocol.split}"
    suffix = "" if is_own else f"_{protocol.splits[0].name}"
    pictures = _files(run.path, [f"{name}{suffix}" for name in ("classes", "confusion", "shares")])
    classes, confusion, shares = pictures.values()
    plot_classes(evaluation, run.palette, classes, title)
    plot_confusion(evaluation, confusion, title)
    plot_shares(evaluation, run.palette, shares, title)
    if evaluation.details:
        pictures[f"reliability{suffix}"] = run.path / EVALUATIONS / evaluation.key / "reliability.png"
        plot_reliability(
            evaluation.details, pictures[f"reliability{suffix}"], f"{title}{mark(evaluation)}", notes([evaluation])
        )
    return pictures


def draw_average(run: RunFolder, record: AverageRecord, own: Evaluation) -> Pictures:
    """Draws the averages that were compared, and the winner's evaluation."""
    from src.reports.fold_plots import plot_averages

    pictures = _files(run.path, ["averages"])
    plot_averages([(run.path.parent.name, record)], pictures["averages"], run.path.name)
    return pictures | draw_evaluation(run, own, is_own=True)


def draw_folds(folder: Path, record: FoldsRecord) -> Pictures:
    """Draws the mIoU of all folds, and their curves; nothing if no fold is done."""
    from src.reports.fold_plots import plot_folds, plot_history, read_history

    pictures: Pictures = {}
    if record.summaries:
        pictures = _files(folder, ["folds"])
        plot_folds(record, pictures["folds"], folder.name)
    if record.evaluations("own"):
        pictures |= _files(folder, ["history"])
        plot_history([read_history(folder, record)], pictures["history"], folder.name)
    return pictures


def draw_stages(folder: Path, records: Sequence[StageRecord]) -> Pictures:
    """Draws the averages of each stage, the classes of its winners, and the curves of all folds through all stages."""
    from src.reports.fold_plots import plot_averages, plot_history, plot_progress, read_history

    pictures = _files(folder, ("averages", "progress", "history"))
    if not records:
        raise damaged(folder / STAGES, "no stage in it")
    palette = RunFolder(folder / records[-1].stage / records[-1].run).palette
    plot_averages([(each.stage, each.averages) for each in records], pictures["averages"], folder.name)
    plot_progress([(each.stage, each.winner) for each in records], palette, pictures["progress"], folder.name)
    history = [read_history(folder / each.stage, each.folds) for each in records]
    plot_history(history, pictures["history"], folder.name)
    return pictures


def _files(folder: Path, names: Iterable[str]) -> Pictures:
    return {name: folder / f"{name}.png" for name in names}
