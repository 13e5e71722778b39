"""Encoders for every architecture, from one place: smp's `get_encoder`, which reaches timm by `tu-` names."""

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import Tensor, nn

from src.errors import UserError
from src.models.parts.dilation import contract, find_divisor, map_sides

# Prefixes under which other programs save an encoder.
PREFIXES = ("module.", "encoder.", "backbone.", "model.")


def build_encoder(backbone: dict, output_stride: int = 32, contract_dilation: bool = True) -> nn.Module:
    """An encoder with five stages; its `out_channels` lists the channels of its six maps, the image first.

    Its attribute `divisor` says what sides of an image it takes, `pretrained` whether its weights were given.

    Args:
        backbone: `name` (smp's, or timm's with `tu-` before it), `weights`: None for random ones, "imagenet" for those
            of smp or timm (downloaded once, then from the cache), or a .safetensors or .pth file; and `options` of
            timm's constructor, if any.
        output_stride: of the deepest map; below 32 the last stages are dilated instead of strided.
        contract_dilation: the first block of a dilated ResNet stage keeps half the rate, see `dilation.contract`.

    Raises:
        UserError: unknown name, a backbone without a dilated form, weights that cannot be had or do not fit.
    """
    name, weights = backbone["name"], backbone["weights"]
    _check_name(name)
    options: dict = {} if output_stride == 32 else {"output_stride": output_stride}
    is_timm = name.startswith("tu-")
    if not is_timm and (given := backbone.get("options")):
        key, value = next(iter(given.items()))
        raise UserError(
            f"backbone.options.{key}={value}: {name} takes no options; those of timm's backbones do (tu-...)"
        )
    with _explained(backbone, _no_dilation(name, output_stride) if output_stride != 32 else None):
        encoder = get_encoder(name, **options, **_given_weights(backbone, "weights"))
    if output_stride != 32:
        # Measured: smp takes a MiT's output stride without a word and gives it another.
        if map_sides(encoder, 128)[-1] != 128 // output_stride or hasattr(encoder, "patch_embed1"):
            raise UserError(_no_dilation(name, output_stride))
        contract(encoder, output_stride, contract_dilation)
    if weights not in (None, "imagenet") and not is_timm:
        _load(encoder, name, _existing(weights))
    encoder.divisor = find_divisor(encoder)
    encoder.pretrained = weights is not None
    return encoder


def build_vit_encoder(backbone: dict, depth: int = 4) -> nn.Module:
    """A plain vision transformer (Dosovitskiy et al. 2021) that gives `depth` maps of one stride, and their tokens.

    Args:
        backbone: as of `build_encoder`; `name` is one of timm's ViTs with `tu-` before it.
        depth: maps, taken evenly over the blocks.

    Raises:
        UserError: another kind of network, a patch size that is no power of two, weights that cannot be had.
    """
    name = backbone["name"]
    _check_name(name)
    bare = name.removeprefix("tu-")
    if not name.startswith("tu-") or not timm.models.is_model_in_modules(bare.split(".")[0], ["vision_transformer"]):
        raise UserError(
            f"backbone.name={name}: this model takes plain vision transformers alone: backbone=vit_tiny, vit_small, "
            "vit_base, or backbone.name=tu-vit_... of timm"
        )
    with _explained(backbone):
        encoder = TimmViTEncoder(bare, depth=depth, dynamic_img_size=True, **_given_weights(backbone, "pretrained"))
    if (patch := encoder.output_stride) not in (8, 16, 32):
        raise UserError(f"backbone.name={name}: patches of {patch} pixels; they must have 8, 16 or 32")
    # Maps are taken before these, so that their parameters would never see a gradient.
    encoder.model.norm = encoder.model.fc_norm = encoder.model.head = nn.Identity()
    encoder.divisor = 2 * patch
    encoder.pretrained = backbone["weights"] is not None
    return encoder


def _given_weights(backbone: dict, flag: str) -> dict:
    """Options of a constructor, which asks for weights by the argument `flag`; timm loads its own files."""
    weights, options = backbone["weights"], dict(backbone.get("options") or {})
    if weights == "imagenet":
        options[flag] = "imagenet" if flag == "weights" else True
    elif flag == "pretrained":
        options[flag] = weights is not None
    if weights not in (None, "imagenet") and backbone["name"].startswith("tu-"):
        # timm itself turns a file's keys into those of its networks.
        options |= {flag: True, "pretrained_cfg_overlay": {"file": str(_existing(weights)), "hf_hub_id": None}}
    return options


@contextmanager
def _explained(backbone: dict, otherwise: str | None = None) -> Iterator[None]:
    """Turns smp's and timm's errors into UserErrors that say what to do: `otherwise` where no weights are at fault."""
    name, weights = backbone["name"], backbone["weights"]
    try:
        with warnings.catch_warnings():
            # smp remarks that "weights" is but a flag for timm's encoders.
            warnings.filterwarnings("ignore", message="For 'tu-'", category=UserWarning)
            yield
    except OSError as error:
        raise UserError(
            f"backbone.weights={weights}: the weights of {name} are neither in this machine's cache nor can they be "
            f"downloaded ({type(error).__name__}); set backbone.weights=null to start from random weights, or "
            "backbone.weights=PATH to a .safetensors or .pth file"
        ) from error
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        if weights is None:
            raise UserError(otherwise or f"backbone.name={name}: cannot be built: {_first_line(error)}") from error
        raise UserError(f"backbone.weights={weights}: does not fit {name}: {_first_line(error)}") from error


def _check_name(name: str) -> None:
    known = timm.list_models() if name.startswith("tu-") else get_encoder_names()
    bare = name.removeprefix("tu-").split(".")[0]
    if bare not in known:
        near = difflib.get_close_matches(bare, known, 3)
        raise UserError(
            f"backbone.name={name} is unknown; {'the nearest are ' + ', '.join(near) + '; ' if near else ''}"
            "allowed are smp's encoders and, with tu- before the name, timm's models"
        )


def _no_dilation(name: str, output_stride: int) -> str:
    return (
        f"backbone.name={name} cannot be dilated to output stride {output_stride}; use a ResNet, ResNeXt, RegNet, "
        "MobileNet, EfficientNet or ConvNeXt, or a model that keeps stride 32 (model=unet, upernet, segformer)"
    )


def _existing(weights: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(
            f"backbone.weights={weights}: no such file; give a .safetensors or .pth file, imagenet, or null"
        )
    return path


def _load(encoder: nn.Module, name: str, path: Path) -> None:
    """Loads a file into one of smp's encoders; the file may hold a classifier beside it, but must hold all of it."""
    expected = encoder.state_dict()
    given = {_bare(key): value for key, value in read_weights(path).items()}
    missing = [key for key in expected if key not in given and not key.endswith("num_batches_tracked")]
    misfits = [key for key in expected if key in given and given[key].shape != expected[key].shape]
    if missing or misfits:
        what = f"{len(missing)} of its {len(expected)} tensors are missing" if missing else ""
        shapes = f"{len(misfits)} have another shape" if misfits else ""
        raise UserError(
            f"backbone.weights={path}: weights of another architecture than {name}: "
            f"{' and '.join(filter(None, (what, shapes)))} (first: {(missing + misfits)[0]}); "
            "give the file of this backbone, or name the backbone it was made for"
        )
    nn.Module.load_state_dict(encoder, {key: given.get(key, expected[key]) for key in expected})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors or .pth file, never unpickling anything but tensors."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a weights file ({_first_line(error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict; save model.state_dict() there")
    return content


def _bare(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
