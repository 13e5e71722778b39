"""Transfer: copies the weights of another training, `init_from=RUN|FILE`, as far as they fit by name and shape."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import lightning as L
import torch
from rich.table import Column, Table
from timm.models import adapt_input_conv
from torch import Tensor, nn

from src.errors import UserError, shortened
from src.machine import is_first_process
from src.models.names import rename
from src.models.network import Network
from src.models.weight_files import State, read_states
from src.models.weights import CONTAINERS, is_statistic, normalisation_of
from src.reports.tables import render
from src.runs.origin import Origin
from src.runs.seal import check_sound, is_archive
from src.task import SegmentationTask

log = logging.getLogger(__name__)
MOST_NAMED = 6  # tensors that are named in the table


def start_from(
    origin: Origin,
    task: SegmentationTask,
    seed: int,
    of_other_classes: Callable[[], nn.Module],
    with_weights: Callable[[], SegmentationTask],
) -> SegmentationTask:
    """Returns the task with the weights of `origin`, over pretrained ones if `origin` does not have the whole encoder.

    Args:
        task: built without pretrained weights.
        seed: of the weights that are drawn anew.
        of_other_classes: builds the same architecture for another number of classes.
        with_weights: builds the task with its pretrained weights.

    Raises:
        UserError: nothing that was learnt fits.
    """
    of_classes, network = set(), cast(Network, task.network)
    if origin.classes not in (None, task.classes):
        of_classes = class_tensors(network.architecture, of_other_classes())
    transfer = plan_transfer(network.architecture, origin, of_classes)
    if not transfer.has_encoder:
        L.seed_everything(seed, verbose=False)
        task = with_weights()
        network = cast(Network, task.network)
    copy_weights(network.architecture, transfer)
    if is_first_process():
        log.info(describe(transfer, origin, task.classes, network.mean, network.std))
    return task


@dataclass(frozen=True)
class Transfer:
    """The comparison of a source's tensors with those of a network, by the names of the architecture's tensors.

    Args:
        loaded: the tensors to copy.
        reshaped: those of another shape in the source: (shape there, shape here).
        anew: those that fit but belong to a classifier of other classes.
        missing: those that the source does not have.
        unused: names of the source that the architecture does not have.
        normalisation: the source's mean and standard deviation in 0..255, if it has them.
        names: the part of the source that the tensors are, and the way from its names to those here.
    """

    loaded: dict[str, Tensor]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    anew: list[str]
    missing: list[str]
    unused: list[str]
    normalisation: tuple[Tensor, Tensor] | None
    names: str

    @property
    def has_encoder(self) -> bool:
        """Whether every tensor of the encoder is among the loaded ones."""
        there = [name for name in self.loaded if name.startswith("encoder.")]
        counter = "num_batches_tracked"  # which files of weights may leave out
        lacking = [*self.reshaped, *self.anew, *(name for name in self.missing if not name.endswith(counter))]
        return bool(there) and not any(name.startswith("encoder.") for name in lacking)


def plan_transfer(architecture: nn.Module, origin: Origin, class_tensors: set[str]) -> Transfer:
    """Compares the source's tensors with the architecture's; copies nothing.

    Args:
        architecture: the network without its normalisation.
        class_tensors: names of tensors that must not be taken over, as they belong to other classes.

    Raises:
        UserError: nothing that was learnt fits.
    """
    path, expected = Path(origin.path), architecture.state_dict()
    if is_archive(path):
        check_sound(path, "put back a copy of it, or give another checkpoint as init_from=FILE")
    renamed = {key: (*rename(_learnt(state), expected), state) for key, state in read_states(path).items()}
    # A file may hold several state dicts, for example those of a network and of its average.
    container = max(renamed, key=lambda key: (renamed[key][1].fitting, -_place(key), len(renamed[key][0])))
    given, renaming, state = renamed[container]
    loaded, reshaped, anew, missing = {}, {}, [], []
    for name, tensor in expected.items():
        if name not in given:
            missing.append(name)
        elif _sees_a_fourth_channel(tensor, given[name]):
            loaded[name] = adapt_input_conv(tensor.shape[1], given[name])
        elif given[name].shape != tensor.shape:
            reshaped[name] = (tuple(given[name].shape), tuple(tensor.shape))
        elif name in class_tensors:
            anew.append(name)
        else:
            loaded[name] = given[name]
    # Kernels and matrices only: norms and biases of a width fit networks that have nothing else in common.
    if not any(tensor.ndim > 1 for tensor in loaded.values()):
        there, here = next(iter(given), "none"), next(iter(expected))
        raise UserError(
            f"init_from={origin.path}: no weights in it fit this network ({len(given)} tensors there, {len(expected)} "
            f"here; the first are {there} and {here}); give a source of the same model and backbone, or, for only a "
            "backbone, backbone.weights=FILE"
        )
    unused = [name for name in given if name not in expected]
    within = [f"{container} of the file"] if container else []
    names = ", ".join([*within, *([str(renaming)] if str(renaming) else [])])
    return Transfer(loaded, reshaped, anew, missing, unused, normalisation_of(state, renaming.stripped), names)


def _sees_a_fourth_channel(here: Tensor, there: Tensor) -> bool:
    """Returns whether a kernel differs from the source's only in that it takes a fourth channel of an image."""
    channels = (there.shape[1:2], here.shape[1:2])
    return (
        channels == ((3,), (4,))
        and here.ndim == 4
        and (here.shape[0], here.shape[2:]) == (there.shape[0], there.shape[2:])
    )


def _learnt(state: State) -> State:
    """Leaves out the counts of a validation, and mean and standard deviation, which are no network's."""

    def is_normalisation(name: str) -> bool:
        return name.rpartition(".")[2] in ("mean", "std") and is_statistic(state[name])

    return {key: value for key, value in state.items() if not (key.startswith("confusion.") or is_normalisation(key))}


def _place(container: str) -> int:
    """Returns the place of a state dict's key in the order of preference; unknown keys come last."""
    return CONTAINERS.index(container) if container in CONTAINERS else len(CONTAINERS)


def copy_weights(architecture: nn.Module, transfer: Transfer) -> None:
    """Copies the loaded tensors; all others stay as they are."""
    architecture.load_state_dict({**architecture.state_dict(), **transfer.loaded})


def class_tensors(first: nn.Module, second: nn.Module) -> set[str]:
    """Names the tensors that depend on the number of classes: those whose shapes differ between K and K + 1 classes."""
    others = second.state_dict()
    return {name for name, tensor in first.state_dict().items() if tensor.shape != others[name].shape}


def describe(transfer: Transfer, origin: Origin, classes: list[str], mean: Tensor, std: Tensor) -> str:
    """Tabulates what was loaded, what was not and why; then states the fate of classifier and normalisation."""
    skipped = {"skipped: shape": transfer.reshaped, "skipped: classes": transfer.anew}
    columns = {"loaded": transfer.loaded, **skipped, "new": transfer.missing}
    table = Table("part", *(Column(name, justify="right") for name in columns))
    counts = [Counter(name.split(".")[0] for name in names) for names in columns.values()]
    for part in dict.fromkeys(chain(*counts)):
        table.add_row(part, *(str(count[part] or "") for count in counts))
    lines = [f"init_from {origin.path}{f' ({transfer.names})' if transfer.names else ''}", render(table)]
    for name, (there, here) in list(transfer.reshaped.items())[:MOST_NAMED]:
        lines.append(f"skipped {name}: {'x'.join(map(str, there))} there, {'x'.join(map(str, here))} here")
    if (more := len(transfer.reshaped) - MOST_NAMED) > 0:
        lines.append(f"skipped {more} more for their shapes")
    if transfer.unused:
        lines.append(f"not used: {len(transfer.unused)} tensors that this network has not ({transfer.unused[0]}, ...)")
    lines.append(_describe_classifier(origin, classes))
    if transfer.normalisation is not None and transfer.normalisation[0].shape == mean.shape:
        lines += _describe_normalisation(transfer.normalisation, mean, std)
    return "\n".join(lines)


def _describe_classifier(origin: Origin, classes: list[str]) -> str:
    if origin.classes is None:
        return "classifier: the classes of the source are unknown; taken over if its shape fits"
    if origin.classes == classes:
        return f"classifier: taken over, the source has the same {len(classes)} classes"
    return f"classifier: made anew for {_short(classes)}; the source has {_short(origin.classes)}"


def _describe_normalisation(source: tuple[Tensor, Tensor], mean: Tensor, std: Tensor) -> list[str]:
    differing = [
        (name, there.flatten() / 255)
        for name, there, here in zip(("mean", "std"), source, (mean, std), strict=True)
        if not torch.allclose(there.flatten(), here.flatten().to(there), rtol=1e-4)
    ]
    keys = " ".join(f"data.{name}=[{','.join(f'{value:.4g}' for value in values)}]" for name, values in differing)
    return [f"note: images are normalised by this run's data.mean and data.std; the source's: {keys}"] if keys else []


def _short(names: list[str]) -> str:
    return f"{len(names)} classes ({shortened(names)})"
