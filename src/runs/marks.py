"""The mark † beside every figure on images that its weights were trained or chosen on."""

from collections.abc import Iterable

from src.data.folds import Split, join_splits
from src.runs.records import Evaluation, Taint

MARK = "†"


def mark(*evaluations: Evaluation | None) -> str:
    """Returns the mark of a figure that these evaluations enter, or an empty text if none of them is tainted."""
    return MARK if any(each is not None and each.protocol.taints for each in evaluations) else ""


def notes(evaluations: Iterable[Evaluation]) -> list[str]:
    """Explains the marks in a table or plot, in one line per protocol and kind of taint; folds share a line."""
    found = {(each.protocol.splits, taint) for each in evaluations for taint in each.protocol.taints}
    lines: dict[tuple[str, str], list[tuple[tuple[Split, ...], Taint]]] = {}
    for splits, taint in sorted(found, key=lambda pair: (join_splits(pair[0]), pair[1].how, pair[1].images)):
        is_fold = len(splits) == 1 and splits[0].is_held_out
        kind = splits[0].division if is_fold else join_splits(splits)
        lines.setdefault((kind, taint.how), []).append((splits, taint))
    return [_note(pairs) for pairs in lines.values()]


def _note(pairs: list[tuple[tuple[Split, ...], Taint]]) -> str:
    """Writes one line for pairs of one kind: the same splits, or folds of one division."""
    pairs = sorted(pairs, key=lambda pair: pair[0][0].fold or 0)
    has_one_name = len({splits for splits, _ in pairs}) == 1
    name = join_splits(pairs[0][0] if has_one_name else [splits[0] for splits, _ in pairs])
    counts = ", ".join(str(taint.images) for _, taint in pairs)
    return f"{MARK} {name}: weights were {pairs[0][1].how} on {counts} of these images"
