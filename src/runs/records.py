"""Records that run folders keep: evaluations, folds, averages, stages, and leakage.

Three words stand for three things: *leakage* is the record of the images that weights were trained or chosen on, a
*taint* is the finding that a figure is of such images, and the *mark* † is the sign beside such a figure.

`src.files.write_json` writes them, and `src.runs.serial` reads them back. Where the JSON has a text for readers (a
split, a taint), it has the fields of that text beside it, under `fields`, and only these are read back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from src.data.folds import Split, join_splits

KINDS = ("own", "official")  # evaluations of a fold: on the part that it held out, and on the dataset's val


@dataclass(frozen=True)
class Taint:
    """A reason why a figure flatters.

    Args:
        how: `trained` or `chosen`.
        images: number of the figure's images that the weights were trained or chosen on.
    """

    how: str
    images: int

    def __str__(self) -> str:
        return f"weights were {self.how} on {self.images} of these images"


@dataclass(frozen=True)
class Leakage:
    """Images that weights have seen, by `Source.image_id`.

    Args:
        trained: images that the weights were trained on.
        chosen: images whose figures decided which weights were kept. The choice of an epoch within one training does
            not count: every run makes it on its validation split.
    """

    trained: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()

    def __or__(self, other: "Leakage") -> "Leakage":
        return Leakage(self.trained | other.trained, self.chosen | other.chosen)

    def taints(self, images: Iterable[str]) -> tuple[Taint, ...]:
        """Returns the taints of a figure on these images."""
        images = set(images)
        counts = {"trained": len(images & self.trained), "chosen": len(images & self.chosen)}
        return tuple(Taint(how, count) for how, count in counts.items() if count)


@dataclass(frozen=True)
class LeakageRecord:
    """Content of `exposure.json`.

    Args:
        trained: images that the run itself trains on.
        before: leakage of the weights that the run starts from.
    """

    trained: tuple[str, ...]
    before: Leakage


@dataclass(frozen=True)
class Protocol:
    """The images and the method that a figure belongs to.

    Args:
        labels: name of the label set.
        splits: the splits whose images were counted together; usually one.
        inference: `src.inference.Protocol` as text.
        precision: precision of the trainer, such as `32-true`.
        taints: empty if the weights have seen none of the images.
    """

    labels: str
    splits: tuple[Split, ...]
    images: int
    inference: str
    precision: str
    taints: tuple[Taint, ...] = ()

    @property
    def split(self) -> str:
        """The splits as text."""
        return join_splits(self.splits)

    def add_texts(self, content: dict[str, Any]) -> dict[str, Any]:
        """Puts texts into the JSON object in place of splits and taints, which move to `fields`."""
        structured = {key: content.pop(key) for key in ("splits", "taints")}
        texts = {"taints": [str(taint) for taint in self.taints]} if self.taints else {}
        return {"labels": content.pop("labels"), "split": self.split, **content, **texts, "fields": structured}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were evaluated.

    Args:
        name: `best`, `last`, a file, or the name of an average.
        epoch: epochs trained.
        step: optimiser steps done.
    """

    name: str
    epoch: int
    step: int


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint by one protocol, each a fraction or NaN; per class by the class's name.

    Args:
        iou: NaN for a class in neither the truth nor the prediction.
        accuracy: NaN for a class that the truth does not have.
        share: share of the labelled pixels.
        matrix: int `(K, K)`, rows truth and columns prediction, from which all figures follow.
    """

    protocol: Protocol
    checkpoint: Checkpoint
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: dict[str, float]
    accuracy: dict[str, float]
    share: dict[str, float]
    matrix: list[list[int]]

    @property
    def tag(self) -> str:
        """The protocol and the checkpoint as text; the same ones in one run folder replace each other."""
        protocol = self.protocol
        tag = f"{protocol.labels} {protocol.split} ({protocol.images} images), {protocol.inference}"
        if protocol.precision != "32-true":
            tag += f", {protocol.precision}"
        if self.checkpoint.name != "best":
            tag += f", checkpoint {self.checkpoint.name}"
        if protocol.taints:
            tag += f"; TAINTED: {'; '.join(map(str, protocol.taints))}"
        return tag

    def add_texts(self, content: dict[str, Any]) -> dict[str, Any]:
        """Adds the tag to the JSON object."""
        return {"tag": self.tag, **content}


@dataclass(frozen=True)
class Results:
    """Content of `results.json`.

    Args:
        finished: whether the training has ended.
        evaluations: by their tags; that of a finished training comes first.
    """

    finished: bool
    evaluations: dict[str, Evaluation]

    @property
    def own(self) -> Evaluation:
        """The evaluation that finished the training, or the first of a run that is not finished."""
        return next(iter(self.evaluations.values()))


@dataclass(frozen=True)
class Summary:
    """Summary of several figures; deviation and interval are NaN if there is only one.

    Args:
        deviation: sample standard deviation (n - 1).
        low, high: the 95 % interval of the mean by Student's t.
    """

    count: int
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class FoldRecord:
    """State and figures of one fold.

    Args:
        run: its run folder, as it was when the record was written.
        state: `done` or `failed`.
        why: the reason of a failure, else None.
        own: evaluation on the part that the fold held out; None until it is trained.
        official: evaluation on the dataset's val; None until it is done, or if the dataset has none.
    """

    fold: int
    run: str
    log: str
    state: str
    why: str | None
    own: Evaluation | None
    official: Evaluation | None

    def evaluation(self, kind: str) -> Evaluation | None:
        """Returns the evaluation of a kind (`KINDS`)."""
        return self.own if kind == "own" else self.official


@dataclass(frozen=True)
class FoldsRecord:
    """Content of `crossval.json`.

    Args:
        summaries: summary of the mIoU of all folds, by the kind of evaluation (`KINDS`) that any fold has.
    """

    folds: tuple[FoldRecord, ...]
    summaries: dict[str, Summary]

    def evaluations(self, kind: str) -> list[Evaluation]:
        """Returns the evaluations of a kind, of the folds that have one."""
        found = (fold.evaluation(kind) for fold in self.folds)
        return [evaluation for evaluation in found if evaluation is not None]


@dataclass(frozen=True)
class CandidateRecord:
    """An average that was compared.

    Args:
        members: names of the runs averaged.
        selection: evaluation on the images that decide.
        official: evaluation on the dataset's val; None if the dataset has none.
    """

    name: str
    members: tuple[str, ...]
    is_winner: bool
    selection: Evaluation
    official: Evaluation | None

    @property
    def reported(self) -> Evaluation:
        """The evaluation on val, or on the images that decide if the dataset has no val."""
        return self.selection if self.official is None else self.official


@dataclass(frozen=True)
class AverageRecord:
    """Content of `aggregate.json`.

    Args:
        select_on: option that says which images decide.
        winner: name of the candidate that was kept.
    """

    select_on: str
    winner: str
    candidates: tuple[CandidateRecord, ...]


@dataclass(frozen=True)
class StageRecord:
    """Folds and averages of one stage. `stages.json` is a list of them (`tuple[StageRecord, ...]`).

    Args:
        stage: name of the stage, and of its folder.
        run: name of the winner's run folder within it.
    """

    stage: str
    run: str
    folds: FoldsRecord
    averages: AverageRecord
    winner: Evaluation
