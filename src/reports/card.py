"""The model card of a network in the zoo: its figures, its training, its data, and uses that it is not for."""

from collections.abc import Sequence
from dataclasses import dataclass

from src.reports.tables import markdown
from src.reports.zoo import ZooEntry
from src.runs.marks import mark, notes
from src.runs.records import Evaluation


@dataclass(frozen=True)
class CardFacts:
    """Facts of a card that are not in the records of the run."""

    terms: str  # of the data
    trained_on: int  # images
    full_miou: float  # mIoU of the same network with its 32-bit weights
    start: str  # where the first weights came from
    notes: str  # written by a person, Markdown; may be empty


def model_card(entry: ZooEntry, evaluations: Sequence[Evaluation], facts: CardFacts) -> str:
    """Writes the card as Markdown; the first evaluation is the one of `entry`."""
    own = evaluations[0]
    run = entry.facts
    backbone = f" on `{run.backbone}`" if run.backbone else ""
    parts = [
        f"# {entry.name}",
        f"`{run.model}`{backbone}, {entry.parameters / 1e6:.2f} M parameters, for the {entry.classes} classes of "
        f"{own.protocol.labels}. Kernels are stored in 16 bits ({entry.size / 1e6:.1f} MB) and computed in 32.",
        _commands(entry.name),
        "## Figures",
        _figures(evaluations),
        f"Measured with the weights of this folder. Before they were rounded to 16 bits the first mIoU was "
        f"{facts.full_miou:.4f}.",
        _classes(own),
        "\n".join(notes(evaluations)),
        "## Training",
        _training(entry, own, facts),
        "## Data and their terms",
        f"{facts.trained_on} images of `{run.data}`; fingerprint of the evaluated images `{own.protocol.data}`. "
        f"{facts.terms} None of the images is in this folder; the terms may also bind what was learnt from them.",
        "## Not for",
        "Nothing on which somebody's safety depends, such as driving, and no decisions about people. Expect worse "
        f"figures on other cities, cameras, weather and light than those of {own.protocol.labels}, and on images of "
        "another scale (`inference.short_side=` helps). The epoch of the weights was chosen on the images that "
        "training validated on, so that figures on these flatter a little.",
        facts.notes.strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(name: str) -> str:
    lines = (
        f"python -m src.predict run=zoo/{name} input=photo.jpg",
        f"python -m src.eval run=zoo/{name} data.root=DIR",
        f"python -m src.train init_from=zoo/{name} data=... model=... backbone=...",
    )
    return "\n".join(["```", *lines, "```"])


def _figures(evaluations: Sequence[Evaluation]) -> str:
    keys = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    rows = [[each.tag, *(f"{getattr(each, key):.4f}{mark(each)}" for key in keys)] for each in evaluations]
    return markdown(["protocol", "mIoU", "pixel accuracy", "mean accuracy", "fwIoU"], rows)


def _classes(own: Evaluation) -> str:
    sign = mark(own)
    rows = [
        [name, *(f"{value:.4f}{sign}" if value == value else "absent" for value in (iou, own.accuracy[name]))]
        + [f"{own.share[name]:.4f}"]
        for name, iou in own.iou.items()
    ]
    return markdown(["class", "IoU", "accuracy", "pixel share"], rows)


def _training(entry: ZooEntry, own: Evaluation, facts: CardFacts) -> str:
    run = entry.facts
    time = "" if run.minutes is None else f"{run.minutes:.4g} minutes, evaluation included"
    rows = {
        "command": f"`{run.command}`" if run.command else "",
        "recipe": f"`{run.recipe}`" if run.recipe else "",
        "first weights": facts.start,
        "seed": str(run.seed),
        "length": f"{own.checkpoint.epoch} epochs, {own.checkpoint.step} steps to these weights",
        "time": time,
        "machine": run.machine,
        "date": run.date,
        "commit": f"{run.commit.removesuffix('+')}{' with changes' if run.commit.endswith('+') else ''}",
    }
    return "\n".join(
        [
            "| | |",
            "| --- | --- |",
            *(f"| {key} | {text.replace('|', '&#124;')} |" for key, text in rows.items() if text),
        ]
    )
