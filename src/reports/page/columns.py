"""Tables of a report as cells, which the page, its Markdown and its CSV share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from src.reports.page.content import Content, ReportRow, ReportRun
from src.reports.page.gallery import group_of
from src.reports.tables import Table, figure, percent
from src.runs.details import Details, Interval
from src.runs.marks import mark, notes
from src.runs.records import Evaluation

Value = float | str | None  # that a column is sorted by; None is last


@dataclass(frozen=True)
class Column:
    """A column of the table of runs."""

    key: str
    title: str
    text: Callable[[ReportRun, Evaluation | None], str]
    value: Callable[[ReportRun, Evaluation | None], Value]
    best: str = ""  # `max` or `min` if the best of comparable rows is marked
    help: str = ""


def _score(key: str, title: str, text: str) -> Column:
    return Column(
        key,
        title,
        lambda run, each: "" if each is None else figure(each, key),
        lambda run, each: None if each is None else getattr(each, key),
        "max",
        text,
    )


def _fact(key: str, title: str, value: Callable[[ReportRun], Value], form: str = "{}", best: str = "") -> Column:
    def text(run: ReportRun, each: Evaluation | None) -> str:
        return "" if (found := value(run)) is None else form.format(found)

    return Column(key, title, text, lambda run, each: value(run), best)


def interval(evaluation: Evaluation | None) -> Interval | None:
    """Returns the 95 % interval of the mIoU over images, if it was measured."""
    details = None if evaluation is None else evaluation.details
    return None if details is None or math.isnan(details.miou_interval.low) else details.miou_interval


def _interval_text(run: ReportRun, each: Evaluation | None) -> str:
    found = interval(each)
    return "" if found is None else f"{100 * found.low:.1f} to {100 * found.high:.1f}{mark(each)}"


def _detail(key: str, title: str, value: Callable[[Details], float], best: str, text: str) -> Column:
    def found(run: ReportRun, each: Evaluation | None) -> float | None:
        number = math.nan if each is None or each.details is None else value(each.details)
        return None if math.isnan(number) else number

    def shown(run: ReportRun, each: Evaluation | None) -> str:
        number = found(run, each)
        return "" if number is None else f"{percent(number)}{mark(each)}"

    return Column(key, title, shown, found, best, text)


def _images(run: ReportRun, each: Evaluation | None) -> str:
    if each is not None:
        return f"{each.protocol.split} ({each.protocol.images})"
    epochs = [row["epoch"] for row in run.metrics if "epoch" in row]
    return f"not evaluated yet; {max(epochs) + 1:g} epochs begun" if epochs else "not evaluated yet"


def _backbone(run: ReportRun) -> str:
    return run.facts.backbone.removeprefix("tu-")


COLUMNS = (
    Column("run", "run", lambda run, each: run.name, lambda run, each: run.name),
    _score("miou", "mIoU", "Mean of the IoU of all classes, from one confusion matrix over all pixels of the images."),
    Column(
        "interval",
        "95 % interval, %",
        _interval_text,
        lambda run, each: None if (found := interval(each)) is None else found.low,
        "",
        "Of the mIoU, by bootstrap over the images: what other images of the same kind would give. It holds no noise "
        "of training: for this, compare several seeds.",
    ),
    _score("pixel_accuracy", "pixel acc.", "Share of the labelled pixels that are right."),
    _score("mean_accuracy", "mean acc.", "Mean over the classes of the share of their pixels that are right."),
    _score("frequency_weighted_iou", "fwIoU", "Mean of the IoU, weighted by the classes' pixels."),
    _detail("dice", "mean Dice", lambda details: details.mean_dice, "max", "Mean of Dice, 2 TP / (2 TP + FP + FN)."),
    _detail(
        "boundary",
        "boundary IoU",
        lambda details: details.boundary[0].miou if details.boundary else math.nan,
        "max",
        "Mean IoU of the pixels near boundaries, at the narrowest width that was measured.",
    ),
    _detail(
        "ece",
        "ECE",
        lambda details: details.ece,
        "min",
        "Expected calibration error: mean distance of confidence from accuracy.",
    ),
    Column("images", "images", _images, _images),
    Column(
        "inference",
        "inference",
        lambda run, each: "" if each is None else ", ".join(_method(each)),
        lambda run, each: "" if each is None else ", ".join(_method(each)),
        "",
        "How the images were given to the network; precision and checkpoint if they are not 32 bits and the best.",
    ),
    _fact("model", "model", lambda run: run.facts.model),
    _fact("backbone", "backbone", _backbone),
    _fact("recipe", "recipe", lambda run: run.facts.recipe),
    _fact("seed", "seed", lambda run: run.facts.seed),
    Column(
        "epoch",
        "epoch",
        lambda run, each: "" if each is None else str(each.checkpoint.epoch),
        lambda run, each: None if each is None else each.checkpoint.epoch,
        "",
        "Epochs trained to the evaluated weights.",
    ),
    _fact("parameters", "M param.", lambda run: run.cost and run.cost.parameters / 1e6, "{:.2f}", "min"),
    _fact("gflops", "GFLOPs", lambda run: run.cost and run.cost.gflops, "{:.2f}", "min"),
    _fact("minutes", "minutes", lambda run: run.facts.minutes, "{:.4g}", "min"),
    _fact("date", "date", lambda run: run.facts.date),
)


def shown_columns(content: Content) -> list[Column]:
    """Returns the columns that any row has a text in."""
    rows = [(content.runs[row.run], row.evaluation) for row in content.rows]
    return [column for column in COLUMNS if any(column.text(*row) for row in rows)]


def _method(evaluation: Evaluation) -> list[str]:
    protocol, checkpoint = evaluation.protocol, evaluation.checkpoint
    return [
        protocol.inference,
        *([] if protocol.precision == "32-true" else [protocol.arithmetic]),
        *([] if checkpoint.name == "best" else [f"checkpoint {checkpoint.name}"]),
    ]


def best_rows(content: Content) -> dict[str, set[int]]:
    """Returns by column the rows that have the best value of all rows of the same images.

    A tainted figure is never best, nor is the only row of its images.
    """
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(content.rows):
        if row.evaluation is not None and not row.evaluation.protocol.taints:
            groups.setdefault(group_of(row.evaluation), []).append(index)
    found: dict[str, set[int]] = {}
    for column in COLUMNS:
        for indices in groups.values() if column.best else ():
            values = {index: _value(content, column, index) for index in indices}
            numbers = {i: v for i, v in values.items() if isinstance(v, int | float) and not math.isnan(v)}
            if len(numbers) > 1 and len(set(numbers.values())) > 1:
                best = (max if column.best == "max" else min)(numbers.values())
                found.setdefault(column.key, set()).update(i for i, v in numbers.items() if v == best)
    return found


def _value(content: Content, column: Column, index: int) -> Value:
    row = content.rows[index]
    return column.value(content.runs[row.run], row.evaluation)


@dataclass(frozen=True)
class Seeds:
    """Runs that differ only in their seeds, on the same images by the same method."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def mean(self) -> float:
        """Mean of the mIoU."""
        return sum(each.miou for each in self.evaluations) / len(self.evaluations)

    @property
    def deviation(self) -> float:
        """Sample standard deviation (n - 1) of the mIoU."""
        squares = sum((each.miou - self.mean) ** 2 for each in self.evaluations)
        return math.sqrt(squares / (len(self.evaluations) - 1))


def find_seeds(content: Content) -> list[Seeds]:
    """Groups the finished runs that differ only in their seeds; those with the highest mean first."""
    groups: dict[str, list[ReportRow]] = {}
    for row in content.rows:
        if row.is_own and row.evaluation is not None:
            run = content.runs[row.run]
            kept = {key: value for key, value in run.config.items() if key not in ELSEWHERE}
            method = f"{group_of(row.evaluation)} {_method(row.evaluation)}"
            groups.setdefault(f"{_without_seeds(kept)} {method}", []).append(row)
    found = [
        Seeds(
            tuple(content.runs[row.run].name for row in rows),
            tuple(content.runs[row.run].facts.seed for row in rows),
            tuple(row.evaluation for row in rows if row.evaluation is not None),
        )
        for rows in groups.values()
        if len({content.runs[row.run].facts.seed for row in rows}) == len(rows) > 1
    ]
    return sorted(found, key=lambda each: -each.mean)


# Keys of a configuration that do not decide the result: places, names, what is shown.
ELSEWHERE = ("name", "runs", "run_dir", "resume", "callbacks", "logger", "choices")


def _without_seeds(node: object) -> str:
    if isinstance(node, dict):
        is_folds = "num_folds" in node  # the seed that divides the data decides what is compared
        return repr({key: _without_seeds(value) for key, value in node.items() if key != "seed" or is_folds})
    return repr(node)


def runs_table(content: Content) -> Table:
    """Makes the table of runs for Markdown, the best of the same images in bold."""
    best, columns = best_rows(content), shown_columns(content)
    rows = []
    for index, row in enumerate(content.rows):
        texts = {column.key: column.text(content.runs[row.run], row.evaluation) for column in columns}
        rows.append([f"**{text}**" if index in best.get(key, ()) else text for key, text in texts.items()])
    lines = ["Bold: the best of the rows on the same images and labels.", *all_notes(content)]
    return Table([column.title for column in columns], rows, lines)


def seeds_table(seeds: Sequence[Seeds]) -> Table:
    """Makes the table of runs that differ only in their seeds."""
    rows = [
        [", ".join(each.names), ", ".join(map(str, each.seeds)), percent(each.mean), percent(each.deviation)]
        for each in seeds
    ]
    shown = (evaluation for each in seeds for evaluation in each.evaluations)
    return Table(["runs", "seeds", "mean mIoU", "standard deviation"], rows, notes(shown))


def all_notes(content: Content) -> list[str]:
    """Explains the marks in the table of runs."""
    return notes(row.evaluation for row in content.rows if row.evaluation is not None)
