"""Names of tensors: finds those of a network under the names that another program gave them in a file."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

State = Mapping[str, Tensor]
DEEPEST = 6  # parts of a name that may stand before a network's own
ENCODERS = ("", "encoder.", "encoder.model.")  # beginnings that a file of only an encoder leaves out
FIRST_BLOCK = "layer1.0.conv1.weight"  # what stands before it, stands before all names of a ResNet
Rules = tuple[tuple[str, str], ...]
# Names of other programs, as patterns from their beginning, and the names here. semseg (Zhao et al. 2017; hszhao/semseg
# on GitHub) has a stem of three convolutions with BatchNorm, in its PSPNet as `layer0`.
SEMSEG: Rules = (
    (r"(layer0\.0|conv1)\.", "conv1.0."),
    (r"(layer0\.1|bn1)\.", "conv1.1."),
    (r"(layer0\.3|conv2)\.", "conv1.3."),
    (r"(layer0\.4|bn2)\.", "conv1.4."),
    (r"(layer0\.6|conv3)\.", "conv1.6."),
    (r"(layer0\.7|bn3)\.", "bn1."),
    (r"ppm\.features\.(\d+)\.1\.", r"ppm.branches.\1.0."),
    (r"ppm\.features\.(\d+)\.2\.", r"ppm.branches.\1.1."),
    (r"cls\.", "head."),
    (r"aux\.", "aux_head."),
)
TORCHVISION: Rules = ((r"backbone\.", ""), (r"classifier\.", "head."), (r"aux_classifier\.", "aux_head."))


@dataclass(frozen=True)
class Renaming:
    """The way from the names of a file to those of a network."""

    stripped: str = ""  # beginning that the file's names have more
    added: str = ""  # beginning that they lack
    dialect: str = ""  # program whose names they are, if not this one's
    fitting: int = 0  # number of kernels and matrices that fit by name and shape

    def __str__(self) -> str:
        parts = [f"{self.dialect}'s names"] if self.dialect else []
        parts += [f"without the prefix {self.stripped}"] if self.stripped else []
        parts += [f"as those of the {self.added.split('.')[0]}"] if self.added else []
        return ", ".join(parts)


def rename(given: State, expected: State) -> tuple[dict[str, Tensor], Renaming]:
    """Renames tensors so that most of them fit a network; those that have no place in it keep their names.

    Args:
        given: tensors by the names of a file.
        expected: those of the network.
    """
    best, best_names = Renaming(), dict(given)
    for dialect, names in _dialects(given):
        translated = {names[name]: tensor for name, tensor in given.items()}
        votes = _votes(translated, expected)
        stripped, added = max(votes, key=lambda pair: votes[pair], default=("", ""))
        renamed = _replaced(translated, stripped, added, expected)
        fitting = sum(tensor.ndim > 1 and _fits(name, tensor, expected) for name, tensor in renamed.items())
        if fitting > best.fitting:  # the first of equal ones, which changes least
            best, best_names = Renaming(stripped, added, dialect, fitting), renamed
    return best_names, best


def _replaced(given: State, stripped: str, added: str, expected: State) -> dict[str, Tensor]:
    """Replaces the beginning of all names that have it."""
    kept, renamed = {}, {}
    for name, tensor in given.items():
        if name.startswith(stripped):
            bare = name.removeprefix(stripped)
            # The file may have a head beside the encoder.
            renamed[added + bare if added + bare in expected else bare] = tensor
        else:
            kept[name] = tensor
    return {**kept, **renamed}


def _fits(name: str, tensor: Tensor, expected: State) -> bool:
    return name in expected and expected[name].shape == tensor.shape


def _votes(given: State, expected: State) -> Counter[tuple[str, str]]:
    """Counts the kernels that fit for each pair of a beginning to strip and one to add."""
    votes: Counter[tuple[str, str]] = Counter()
    for added in ENCODERS:
        shapes = {name.removeprefix(added): tensor.shape for name, tensor in expected.items() if name.startswith(added)}
        for name, tensor in given.items():
            parts = name.split(".")
            for depth in range(min(DEEPEST, len(parts)) if tensor.ndim > 1 else 0):
                if shapes.get(".".join(parts[depth:])) == tensor.shape:
                    votes["".join(f"{part}." for part in parts[:depth]), added] += 1
    return votes


def _dialects(given: State) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the programs that may have named the tensors, and the names here by the names in the file."""
    yield "", {name: name for name in given}
    root = min((name for name in given if name.endswith(FIRST_BLOCK)), key=len, default=None)
    if root is None:
        return
    root = root.removesuffix(FIRST_BLOCK)
    if any(root + name in given for name in ("conv3.weight", "layer0.6.weight")):
        yield "semseg", {name: _translated(name, root, SEMSEG) for name in given}
    above = root.removesuffix("backbone.")
    if above != root and any(name.startswith(f"{above}classifier.") for name in given):
        yield "torchvision", {name: _translated(name, above, TORCHVISION) for name in given}


def _translated(name: str, root: str, rules: Rules) -> str:
    """Replaces the beginning of a name, after `root`, by the first rule that fits it."""
    if name.startswith(root):
        bare = name.removeprefix(root)
        for pattern, new in rules:
            if found := re.match(pattern, bare):
                return root + found.expand(new) + bare[found.end() :]
    return name


def with_deep_stem(state: State) -> dict[str, Tensor]:
    """Translates a ResNet in semseg's names into timm's, for `backbone.weights`; leaves others as they are."""
    names = dict(_dialects(state)).get("semseg", {})
    return {names.get(name, name): tensor for name, tensor in state.items()}
