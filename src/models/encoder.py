"""Encoders for every architecture, from one place: smp's `get_encoder`, which reaches timm by `tu-` names."""

import difflib
import warnings
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from torch import Tensor, nn

# Prefixes under which other programs save an encoder.
PREFIXES = ("module.", "encoder.", "backbone.", "model.")


def build_encoder(backbone: dict, output_stride: int = 32) -> nn.Module:
    """An encoder with five stages; its `out_channels` lists the channels of its six maps, the image first.

    Args:
        backbone: `name` (smp's, or timm's with `tu-` before it) and `weights`: None for random ones, "imagenet" for
            those of smp or timm (downloaded once, then from the cache), or a .safetensors or .pth file.
        output_stride: of the deepest map; below 32 the last stages are dilated instead of strided.

    Raises:
        ValueError: unknown name, a backbone without a dilated form, weights that cannot be had or do not fit.
    """
    name, weights = backbone["name"], backbone["weights"]
    _check_name(name)
    options: dict = {} if output_stride == 32 else {"output_stride": output_stride}
    if weights == "imagenet":
        options["weights"] = "imagenet"
    elif weights is not None and name.startswith("tu-"):
        # timm itself turns a file's keys into those of its features-only networks.
        options |= {"weights": "file", "pretrained_cfg_overlay": {"file": str(_existing(weights)), "hf_hub_id": None}}
    try:
        with warnings.catch_warnings():
            # smp remarks that "weights" is but a flag for timm's encoders.
            warnings.filterwarnings("ignore", message="For 'tu-'", category=UserWarning)
            encoder = get_encoder(name, **options)
    except OSError as error:
        raise ValueError(
            f"backbone.weights={weights}: the weights of {name} are neither in this machine's cache nor can they be "
            f"downloaded ({type(error).__name__}); set backbone.weights=null to start from random weights, or "
            "backbone.weights=PATH to a .safetensors or .pth file"
        ) from error
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        if output_stride != 32 and weights is None:
            raise ValueError(_no_dilation(name, output_stride)) from error
        raise ValueError(f"backbone.weights={weights}: does not fit {name}: {_first_line(error)}") from error
    if output_stride != 32 and not _is_dilated(encoder, output_stride):
        raise ValueError(_no_dilation(name, output_stride))
    if weights not in (None, "imagenet") and not name.startswith("tu-"):
        _load(encoder, name, _existing(weights))
    return encoder


def _check_name(name: str) -> None:
    known = timm.list_models() if name.startswith("tu-") else get_encoder_names()
    bare = name.removeprefix("tu-").split(".")[0]
    if bare not in known:
        near = difflib.get_close_matches(bare, known, 3)
        raise ValueError(
            f"backbone.name={name} is unknown; {'the nearest are ' + ', '.join(near) + '; ' if near else ''}"
            "allowed are smp's encoders and, with tu- before the name, timm's models"
        )


def _no_dilation(name: str, output_stride: int) -> str:
    return (
        f"backbone.name={name} cannot be dilated to output stride {output_stride}; use a ResNet, or a model that keeps "
        "stride 32 (model=unet)"
    )


@torch.no_grad()
def _is_dilated(encoder: nn.Module, output_stride: int) -> bool:
    """Measured on a small image: smp takes a MiT's output stride without a word and gives it another."""
    side = 4 * output_stride
    training = encoder.training
    deepest = encoder.eval()(torch.zeros(1, 3, side, side))[-1]
    encoder.train(training)
    return deepest.shape[-1] == side // output_stride and not hasattr(encoder, "patch_embed1")


def _existing(weights: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ValueError(
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
        raise ValueError(
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
        raise ValueError(f"{path}: not a weights file ({_first_line(error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no state dict; save model.state_dict() there")
    return content


def _bare(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
