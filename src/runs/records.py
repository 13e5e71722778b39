"""Records that run folders keep: evaluations, folds, averages, stages, and leakage.

Three words stand for three things: *leakage* is the record of the images that weights were trained or chosen on, a
*taint* is the finding that a figure is of such images, and the *mark* † is the sign beside such a figure.

`src.files.write_json` writes them, and `src.runs.serial` reads them back. Where the JSON has a text for readers (a
split, a taint), it has the fields of that text beside it, under `fields`, and only these are read back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from src.data.folds import Split, join_splits
from src.runs.details import Details

KINDS = ("own", "official")  # the evaluations of a `FoldRecord`, by their fields


@dataclass(frozen=True)
class Taint:
    """A reason why a figure flatters."""

    how: str  # `trained` or `chosen`
    images: int  # number of the figure's images that the weights were trained or chosen on

    def __str__(self) -> str:
        return f"weights were {self.how} on {self.images} of these images"


@dataclass(frozen=True)
class Leakage:
    """Images that weights have seen, by `Source.image_id`."""

    trained: frozenset[str] = frozenset()  # images that the weights were trained on
    # Images whose figures decided which weights were kept. The choice of an epoch within one training does not count:
    # every run makes it on its validation split.
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
    """Content of `exposure.json`."""

    trained: tuple[str, ...]  # images that the run itself trains on
    before: Leakage  # leakage of the weights that the run starts from


@dataclass(frozen=True)
class Protocol:
    """The images and the method that a figure belongs to."""

    labels: str  # name of the label set
    splits: tuple[Split, ...]  # the splits whose images were counted together; usually one
    images: int
    data: str  # fingerprint of these images and their masks (`src.data.fingerprint`)
    inference: str  # `src.inference.Protocol` as text
    precision: str  # of the trainer, such as `32-true`; of an exported file with its format, such as `onnx int8`
    taints: tuple[Taint, ...] = ()  # empty if the weights have seen none of the images
    # Whether the run was evaluated before on other data of the same split: the tag then names the fingerprint.
    is_other_data: bool = False
    file: str = ""  # first digits of the digest of the exported file that was evaluated; empty for the network itself

    @property
    def split(self) -> str:
        """The splits as text."""
        return join_splits(self.splits)

    @property
    def arithmetic(self) -> str:
        """The precision, of an exported file with the digits of the file: `onnx int8 1a2b3c4d`."""
        return f"{self.precision} {self.file}".rstrip()

    def add_texts(self, content: dict[str, Any]) -> dict[str, Any]:
        """Puts texts into the JSON object in place of splits and taints, which move to `fields`."""
        structured = {key: content.pop(key) for key in ("splits", "taints")}
        texts = {"taints": [str(taint) for taint in self.taints]} if self.taints else {}
        return {"labels": content.pop("labels"), "split": self.split, **content, **texts, "fields": structured}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were evaluated."""

    name: str  # `best`, `last`, a file, or the name of an average
    epoch: int  # epochs trained
    step: int  # optimiser steps done


def evaluation_key(protocol: Protocol, checkpoint: str) -> str:
    """Returns the name of the folder that an evaluation by this protocol has in `evaluations/`."""
    facts = (protocol.labels, protocol.split, protocol.data, protocol.inference, protocol.arithmetic, checkpoint)
    return f"{protocol.splits[0].name}-{sha256(repr(facts).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint by one protocol, each a fraction or NaN; per class by the class's name."""

    protocol: Protocol
    checkpoint: Checkpoint
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: dict[str, float]  # NaN for a class in neither the truth nor the prediction
    accuracy: dict[str, float]  # NaN for a class that the truth does not have
    share: dict[str, float]  # of the labelled pixels
    matrix: list[list[int]]  # int `(K, K)`, rows truth and columns prediction, from which all figures follow
    details: Details | None = None  # None for a figure of an average that was compared, or of an earlier version

    @property
    def key(self) -> str:
        """The name of the folder of its images in `evaluations/`; the same ones share it, but for their taints."""
        return evaluation_key(self.protocol, self.checkpoint.name)

    @property
    def tag(self) -> str:
        """The protocol and the checkpoint as text; the same ones in one run folder replace each other."""
        protocol = self.protocol
        tag = f"{protocol.labels} {protocol.split} ({protocol.images} images), {protocol.inference}"
        if protocol.is_other_data:
            tag += f", other data {protocol.data}"
        if protocol.precision != "32-true":
            tag += f", {protocol.arithmetic}"
        if self.checkpoint.name != "best":
            tag += f", checkpoint {self.checkpoint.name}"
        if protocol.taints:
            tag += f"; TAINTED: {'; '.join(map(str, protocol.taints))}"
        return tag

    def add_texts(self, content: dict[str, Any]) -> dict[str, Any]:
        """Adds the tag to the JSON object."""
        return {"tag": self.tag, **content}


@dataclass(frozen=True)
class Cost:
    """Content of `cost.json`: what one image of `size` costs in evaluation mode; one scale, not mirrored."""

    parameters: int  # that inference uses
    training_parameters: int  # that only training uses (auxiliary heads)
    gflops: float  # two per multiply-accumulate
    size: tuple[int, ...]  # (H, W) of the image or window that the network is given


@dataclass(frozen=True)
class Results:
    """Content of `results.json`."""

    finished: bool  # whether the training has ended
    evaluations: dict[str, Evaluation]  # by their tags; that of a finished training comes first

    @property
    def own(self) -> Evaluation:
        """The evaluation that finished the training, or the first of a run that is not finished."""
        return next(iter(self.evaluations.values()))

    def place(self, evaluation: Evaluation) -> Evaluation:
        """Returns the evaluation with a word of its data if an earlier one is of other data of the same split."""
        protocol = evaluation.protocol
        earlier = [each.protocol for each in self.evaluations.values() if each.protocol.splits == protocol.splits]
        is_other = bool(earlier) and earlier[0].data != protocol.data
        return replace(evaluation, protocol=replace(protocol, is_other_data=is_other))


@dataclass(frozen=True)
class Summary:
    """Summary of several figures; deviation and interval are NaN if there is only one."""

    count: int
    mean: float
    deviation: float  # sample standard deviation (n - 1)
    low: float  # of the 95 % interval of the mean by Student's t
    high: float


@dataclass(frozen=True)
class FoldRecord:
    """State and figures of one fold."""

    fold: int
    run: str  # its run folder, as it was when the record was written
    log: str
    state: str  # `done` or `failed`
    why: str | None  # the reason of a failure, else None
    own: Evaluation | None  # on the part that the fold held out; None until it is trained
    official: Evaluation | None  # on the dataset's val; None until it is done, or if the dataset has none


@dataclass(frozen=True)
class FoldsRecord:
    """Content of `crossval.json`."""

    folds: tuple[FoldRecord, ...]
    # Summary of the mIoU of all folds, by the kind of evaluation (`KINDS`) that any fold has.
    summaries: dict[str, Summary]

    def evaluations(self, kind: str) -> list[Evaluation]:
        """Returns the evaluations of a kind (`KINDS`), of the folds that have one."""
        return [getattr(fold, kind) for fold in self.folds if getattr(fold, kind) is not None]


@dataclass(frozen=True)
class CandidateRecord:
    """An average that was compared."""

    name: str
    members: tuple[str, ...]  # names of the runs averaged
    is_winner: bool
    selection: Evaluation  # on the images that decide
    official: Evaluation | None  # on the dataset's val; None if the dataset has none

    @property
    def reported(self) -> Evaluation:
        """The evaluation on val, or on the images that decide if the dataset has no val."""
        return self.selection if self.official is None else self.official


@dataclass(frozen=True)
class AverageRecord:
    """Content of `aggregate.json`."""

    select_on: str  # option that says which images decide
    winner: str  # name of the candidate that was kept
    candidates: tuple[CandidateRecord, ...]
    keeps_ensemble: bool = False  # it was asked for, and not chosen by its figure


@dataclass(frozen=True)
class StageRecord:
    """Folds and averages of one stage. `stages.json` is a list of them (`tuple[StageRecord, ...]`)."""

    stage: str  # name of the stage, and of its folder
    run: str  # name of the winner's run folder within it
    folds: FoldsRecord
    averages: AverageRecord
    winner: Evaluation
