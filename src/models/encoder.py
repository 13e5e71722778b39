"""Encoders for every architecture, from one place: smp's `get_encoder`, which reaches timm by `tu-` names."""

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import timm
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from src.errors import UserError
from src.models.architecture import Encoder
from src.models.parts.dilation import contract, find_divisor, map_sides
from src.models.weights import ENCODER_WRAPPERS, find_weights, first_line, load_weights, read_weights, strip

ALLOWED = "a .safetensors or .pth file, imagenet, or null"  # as backbone.weights


def build_encoder(backbone: dict, output_stride: int = 32, contract_dilation: bool = True) -> Encoder:
    """Builds an encoder of five stages, which gives six maps, the image first.

    Args:
        backbone: `name` (smp's, or timm's with `tu-` before it); `weights`: None for random ones, "imagenet" for those
            of smp or timm (downloaded once, then from the cache), or a .safetensors or .pth file; `options` of timm's
            constructor, if any.
        output_stride: of the deepest map; below 32 the last stages are dilated instead of strided.
        contract_dilation: whether the first block of a dilated ResNet stage has half the rate, see `dilation.contract`.

    Raises:
        UserError: unknown name, a backbone without a dilated form, weights that cannot be had or do not fit.
    """
    name, weights = backbone["name"], backbone["weights"]
    _check_name(name)
    options: dict = {} if output_stride == 32 else {"output_stride": output_stride}
    is_timm = name.startswith("tu-")
    if not is_timm and (given := backbone.get("options")):
        key, value = next(iter(given.items()))
        raise UserError(f"backbone.options.{key}={value}: {name} takes no options; timm's backbones (tu-...) do")
    no_dilation = (
        f"backbone.name={name} cannot be dilated to output stride {output_stride}; use a ResNet, ResNeXt, RegNet, "
        "MobileNet, EfficientNet or ConvNeXt, or a model that keeps stride 32 (model=unet, upernet, segformer)"
    )
    with _explained(backbone, no_dilation if output_stride != 32 else None):
        encoder = cast(Encoder, get_encoder(name, **options, **_given_weights(backbone, "weights")))
    if output_stride != 32:
        # Measured, for smp takes the output stride of a MiT silently and gives it another.
        if map_sides(encoder, 128)[-1] != 128 // output_stride or hasattr(encoder, "patch_embed1"):
            raise UserError(no_dilation)
        contract(encoder, output_stride, contract_dilation)
    if weights not in (None, "imagenet") and not is_timm:
        # A classifier in the file is not used.
        path = find_weights("backbone.weights", weights, ALLOWED)
        state = strip(read_weights(path), ENCODER_WRAPPERS)
        remedy = "give the file of this backbone, or name the backbone that the file was made for"
        load_weights(encoder, state, f"backbone.weights={path}", name, remedy)
    encoder.divisor = find_divisor(encoder)
    encoder.pretrained = weights is not None
    return encoder


def build_vit_encoder(backbone: dict) -> "ViTEncoder":
    """Builds a plain vision transformer (Dosovitskiy et al. 2021) that gives four maps of one stride, and tokens.

    The maps are taken evenly over the blocks.

    Args:
        backbone: as of `build_encoder`; `name` is one of timm's ViTs with `tu-` before it.

    Raises:
        UserError: another kind of network, patches of other than 8, 16 or 32 pixels, weights that cannot be had.
    """
    name = backbone["name"]
    _check_name(name)
    bare = name.removeprefix("tu-")
    if not name.startswith("tu-") or not timm.models.is_model_in_modules(bare.split(".")[0], ["vision_transformer"]):
        raise UserError(
            f"backbone.name={name}: this model takes only plain vision transformers: backbone=vit_tiny, vit_small, "
            "vit_base, or backbone.name=tu-vit_... of timm"
        )
    with _explained(backbone):
        options = {**_given_weights(backbone, "pretrained"), "dynamic_img_size": True}
        encoder = cast(ViTEncoder, TimmViTEncoder(bare, depth=4, **options))
    if (patch := encoder.output_stride) not in (8, 16, 32):
        raise UserError(f"backbone.name={name}: patches of {patch} pixels; they must have 8, 16 or 32")
    # The maps are taken before these, whose parameters would never have a gradient.
    encoder.model.norm = encoder.model.fc_norm = encoder.model.head = nn.Identity()
    encoder.divisor = 2 * patch
    encoder.pretrained = backbone["weights"] is not None
    return encoder


class ViTEncoder(Encoder):
    """The contract of `build_vit_encoder`: an encoder whose maps have one stride, and tokens beside them."""

    model: VisionTransformer
    output_stride: int
    output_strides: list[int]
    has_prefix_tokens: bool


def _given_weights(backbone: dict, flag: str) -> dict:
    """Builds the options of a constructor that takes weights by its argument `flag`; timm loads its own files."""
    weights, options = backbone["weights"], dict(backbone.get("options") or {})
    if weights == "imagenet":
        options[flag] = "imagenet" if flag == "weights" else True
    elif flag == "pretrained":
        options[flag] = weights is not None
    if weights not in (None, "imagenet") and backbone["name"].startswith("tu-"):
        # timm turns the keys of a file into those of its networks.
        path = find_weights("backbone.weights", weights, ALLOWED)
        options |= {flag: True, "pretrained_cfg_overlay": {"file": str(path), "hf_hub_id": None}}
    return options


@contextmanager
def _explained(backbone: dict, otherwise: str | None = None) -> Iterator[None]:
    """Turns errors of smp and timm into UserErrors that say what to do: `otherwise` if no weights were asked for."""
    name, weights = backbone["name"], backbone["weights"]
    try:
        with warnings.catch_warnings():
            # smp warns that "weights" is only a flag for timm's encoders.
            warnings.filterwarnings("ignore", message="For 'tu-'", category=UserWarning)
            yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"backbone.weights={weights}: the weights of {name} are not in this machine's cache and cannot be "
            f"downloaded ({type(error).__name__}); set backbone.weights=null to start from random weights, or "
            "backbone.weights=PATH to a .safetensors or .pth file"
        ) from error
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        if weights is None:
            raise UserError(otherwise or f"backbone.name={name}: cannot be built: {first_line(error)}") from error
        raise UserError(f"backbone.weights={weights}: does not fit {name}: {first_line(error)}") from error


def _check_name(name: str) -> None:
    known = timm.list_models() if name.startswith("tu-") else get_encoder_names()
    bare = name.removeprefix("tu-").split(".")[0]
    if bare not in known:
        near = difflib.get_close_matches(bare, known, 3)
        raise UserError(
            f"backbone.name={name} is unknown; {'the nearest are ' + ', '.join(near) + '; ' if near else ''}"
            "allowed are smp's encoders and, with tu- before the name, timm's models"
        )
