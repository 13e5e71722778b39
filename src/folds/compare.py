"""Compares averages of the weights of runs on the same images, and records the leakage behind each figure."""

import copy
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import lightning as L
import numpy as np
import torch
from torch import Tensor

from src.data.datamodule import SegmentationDataModule
from src.data.folds import Split
from src.evaluation.checkpoint import load_weights
from src.evaluation.measure import count, describe_evaluation, protocol
from src.files import atomic_path
from src.folds.soup import check_same_tensors, greedy_soup, mean_state, rank
from src.metrics.figures import figures
from src.models.ensemble import Ensemble
from src.models.network import Network
from src.runs.folder import RunFolder
from src.runs.leakage import image_ids, leakage_before
from src.runs.records import CandidateRecord, Checkpoint, Evaluation, Leakage
from src.runs.seal import seal
from src.task import SegmentationTask
from src.training.batchnorm import batchnorm_layers, remeasure

log = logging.getLogger(__name__)
ENSEMBLE = "averaged probabilities"
MEAN = "mean of all"


@dataclass(frozen=True)
class Part:
    """Images to score on: one split of a data module."""

    data: SegmentationDataModule
    split: str

    @property
    def record(self) -> Split:
        """The split with the fold that it depends on."""
        return self.data.folds.describe(self.data.source, self.split)

    @property
    def ids(self) -> list[str]:
        """The ids of its images."""
        return image_ids(self.data.source, self.data.samples(self.split))


@dataclass(frozen=True)
class Member:
    """A run that is averaged with others."""

    name: str  # name of its run folder
    network: Network  # with the weights of `checkpoint`
    checkpoint: Checkpoint
    leakage: Leakage  # images that they were trained or chosen on, the run's own training images among them
    own: Part  # images that its training validated on


@dataclass(frozen=True)
class Candidate:
    """An average to compare."""

    name: str
    members: tuple[int, ...]  # sorted indices of the members that it averages
    is_ensemble: bool = False  # probabilities are averaged instead of weights


@dataclass(eq=False)
class AverageComparison:
    """Puts averages in the place of a task's network, and counts each on each part once.

    BatchNorm of a mean is measured again; a single member keeps its own. Weights are averaged unless the members are
    networks of different kinds, of which only the probabilities can be.

    Raises:
        UserError: weights to average that differ in their tensors.
    """

    trainer: L.Trainer
    task: SegmentationTask
    members: Sequence[Member]  # at least one
    training: SegmentationDataModule  # data module on whose training batches BatchNorm is measured
    batchnorm_images: int  # number of images that it is measured on, rounded up to whole batches
    selection: Sequence[Part]  # parts that decide; figures are of the images of all of them together
    official: Part | None  # the dataset's val, or None
    is_one_network: bool = True  # the members have the same network, whose weights are averaged
    keeps_ensemble: bool = False  # the averaged probabilities of all win, instead of the best single network

    def __post_init__(self) -> None:
        first, *others = self.members
        for other in others if self.is_one_network else ():
            check_same_tensors((first.name, first.network.state_dict()), (other.name, other.network.state_dict()))
        self._loaded: tuple[tuple[int, ...], bool] | None = None
        self._counts: dict[tuple[int, tuple[int, ...], bool], np.ndarray] = {}

    def load(self, members: tuple[int, ...], is_ensemble: bool = False) -> None:
        """Puts one member's network as it is, the mean of several, or an ensemble of all into the task."""
        if (members, is_ensemble) == self._loaded:
            return
        networks = [self.members[index].network for index in members]
        if is_ensemble:
            self.task.network = Ensemble(networks)
        elif len(networks) == 1:
            self.task.network = networks[0]
        else:
            mean = self.task.network = copy.deepcopy(networks[0])
            mean.load_state_dict(mean_state([network.state_dict() for network in networks]))
            if batchnorm_layers(mean):
                self.task.to(self.trainer.strategy.root_device)
                with self.trainer.precision_plugin.val_step_context():
                    remeasure(mean, self._training_images())
        self._loaded = (members, is_ensemble)

    def _training_images(self) -> Iterator[Tensor]:
        num_batches = math.ceil(self.batchnorm_images / self.training.batch_size)
        for batch in itertools.islice(self.training.train_dataloader(), num_batches):
            moved = {name: value.to(self.task.device) for name, value in batch.items()}
            yield self.training.on_after_batch_transfer(moved, 0)["image"]

    def count(self, part: Part, members: tuple[int, ...], is_ensemble: bool = False) -> np.ndarray:
        """Counts the confusion matrix int64 `(K, K)`, rows truth, of these members on a part."""
        key = (id(part), members, is_ensemble)
        if key not in self._counts:
            names = " ".join(self.members[index].name for index in members)
            log.info("%s of %s on %s", "probabilities" if is_ensemble else "weights", names, part.record)
            self.load(members, is_ensemble)
            self._counts[key] = count(self.trainer, self.task, part.data, part.split)
        return self._counts[key]

    def score(self, members: tuple[int, ...], is_ensemble: bool = False) -> float:
        """Returns the mIoU on the images that decide, all together."""
        return figures(self._sum(self.selection, members, is_ensemble)).miou

    def _sum(self, parts: Sequence[Part], members: tuple[int, ...], is_ensemble: bool) -> np.ndarray:
        return np.sum([self.count(part, members, is_ensemble) for part in parts], axis=0)

    def rank_members(self) -> list[int]:
        """Returns the indices of the members, best first.

        Each is scored on the images that it validated on if such images decide, else on those that decide.
        """
        if any(part is member.own for part in self.selection for member in self.members):
            scores = [figures(self.count(member.own, (index,))).miou for index, member in enumerate(self.members)]
        else:
            scores = [self.score((index,)) for index in range(len(self.members))]
        return rank(scores)

    def candidates(self, top_k: int) -> list[Candidate]:
        """Lists the averages to compare; that of the best `top_k` is among them if there are more members."""
        order, everyone = self.rank_members(), tuple(range(len(self.members)))
        found, ensemble = [Candidate("best run", (order[0],))], Candidate(ENSEMBLE, everyone, is_ensemble=True)
        if not self.is_one_network:
            return [*found, ensemble]
        found.append(Candidate(MEAN, everyone))
        if top_k < len(everyone):
            found.append(Candidate(f"mean of top {top_k}", tuple(sorted(order[:top_k]))))
        return [*found, Candidate("greedy soup", greedy_soup(order, self.score)), ensemble]

    def leakage(self, candidate: Candidate, *, is_chosen: bool) -> Leakage:
        """Returns the images that a candidate's weights were trained or chosen on.

        Those that decide are among them if `is_chosen`: if figures on them chose the candidate or its members.
        """
        deciding = self.selection if is_chosen else []
        found = Leakage(chosen=frozenset(image for part in deciding for image in part.ids))
        for index in candidate.members:
            found |= self.members[index].leakage
        return found

    def describe(self, candidate: Candidate, parts: Sequence[Part], *, is_chosen: bool) -> Evaluation:
        """Evaluates a candidate on all images of some parts together."""
        protocols = [protocol(self.trainer, self.task, part.data, part.split) for part in parts]
        leakage = self.leakage(candidate, is_chosen=is_chosen)
        joined = replace(
            protocols[0],
            splits=tuple(split for each in protocols for split in each.splits),
            images=sum(each.images for each in protocols),
            data=" ".join(each.data for each in protocols),
            taints=leakage.taints(image for part in parts for image in part.ids),
        )
        matrix = self._sum(parts, candidate.members, candidate.is_ensemble)
        return describe_evaluation(matrix, self.task.classes, joined, self.checkpoint(candidate))

    def checkpoint(self, candidate: Candidate) -> Checkpoint:
        """Returns a record of a candidate's weights, with epoch and step of the member that was trained longest."""
        longest = max((self.members[index].checkpoint for index in candidate.members), key=lambda each: each.step)
        return replace(longest, name=candidate.name)

    def compare(self, top_k: int) -> tuple[Candidate, tuple[CandidateRecord, ...]]:
        """Evaluates all candidates on the images that decide and on val; returns the winner and all records."""
        candidates = self.candidates(top_k)
        # The best candidate that is one network wins, the first of equal ones; or the ensemble, whatever it scores.
        allowed = [candidate for candidate in candidates if candidate.is_ensemble == self.keeps_ensemble]
        winner = allowed[rank([self.score(candidate.members, candidate.is_ensemble) for candidate in allowed])[0]]
        records = []
        for candidate in candidates:
            # The figures that decide settled which members it has, or that it won: not so if it has all members.
            is_chosen = (candidate == winner and not self.keeps_ensemble) or candidate.name not in (MEAN, ENSEMBLE)
            names = tuple(self.members[index].name for index in candidate.members)
            selection = self.describe(candidate, self.selection, is_chosen=is_chosen)
            official = self.describe(candidate, [self.official], is_chosen=is_chosen) if self.official else None
            records.append(CandidateRecord(candidate.name, names, candidate == winner, selection, official))
        return winner, tuple(records)

    def save(self, candidate: Candidate, path: Path) -> None:
        """Writes a checkpoint for evaluation, prediction and `init_from`; a training cannot continue from it."""
        self.load(candidate.members, candidate.is_ensemble)
        state = {name: value.cpu() for name, value in self.task.state_dict().items()}
        checkpoint = self.checkpoint(candidate)
        content = {"state_dict": state, "epoch": checkpoint.epoch - 1, "global_step": checkpoint.step}
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
            seal(temporary)


def read_member(run: RunFolder, task: SegmentationTask, data: SegmentationDataModule) -> Member:
    """Reads a run's best checkpoint into the network of its task, and its leakage.

    Raises:
        UserError: the checkpoint is damaged or does not fit.
    """
    checkpoint = Checkpoint("best", *load_weights(task, run.checkpoint("best")))
    leakage = Leakage(trained=frozenset(Part(data, "train").ids)) | leakage_before(run.path)
    return Member(run.path.name, cast(Network, task.network), checkpoint, leakage, Part(data, data.validation_split))
