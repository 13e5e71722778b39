"""Encoders for every architecture: smp's `get_encoder`, which reaches timm by `tu-` names, and their dilation."""

import difflib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, cast

import timm
import timm.models
import torch
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import Tensor, nn

from src.errors import UserError
from src.models.architecture import Encoder
from src.models.names import with_deep_stem
from src.models.packaged import WEIGHTS as PACKAGE
from src.models.packaged import find_packaged, rename
from src.models.parts.rotary import free_rotary_embedding
from src.models.parts.same import pad_by_parity
from src.models.statistics import statistics_of
from src.models.swin import pad_before_shift
from src.models.weight_files import State, first_line
from src.models.weights import ENCODER_WRAPPERS, find_weights, load_weights, read_weights, strip

ALLOWED = "a .safetensors or .pth file, imagenet, package, or null"  # as backbone.weights
REMEDY = "give the file of this backbone, or name the backbone that the file was made for"

VIT_MODULES = ["vision_transformer", "eva"]  # of timm; DINOv2 is in the first, DINOv3 in the second
PATCHES = (8, 14, 16, 32)


def build_encoder(backbone: dict, output_stride: int = 32, contract_dilation: bool = True, depth: int = 5) -> Encoder:
    """Builds an encoder of `depth` stages, which gives one map more, the image first.

    Args:
        backbone: `name` (smp's, or timm's with `tu-` before it); `weights`: None for random ones, "imagenet" for those
            of smp or timm (downloaded once, then from the cache), "package" for those of an installed package, or a
            .safetensors or .pth file; `options` of timm's constructor, if any.
        output_stride: of the deepest map; below 32 the last stages are dilated instead of strided.
        contract_dilation: whether the first block of a dilated ResNet stage has half the rate, see `contract`.
        depth: 5, or fewer stages; the layers of the others are left away.

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
        encoder = cast(Encoder, get_encoder(name, depth=depth, **options, **_given_weights(backbone, "weights")))
    pad_before_shift(encoder)
    pad_by_parity(encoder)
    if output_stride != 32:
        # Measured, for smp takes the output stride of a MiT silently and gives it another.
        if map_sides(encoder, 128)[-1] != 128 // output_stride or hasattr(encoder, "patch_embed1"):
            raise UserError(no_dilation)
        contract(encoder, output_stride, contract_dilation)
    # A classifier in the file is not used.
    if weights == PACKAGE:
        path, model = find_packaged(name), cast(Any, encoder).model
        state = rename(read_weights(path), [len(stage) for stage in model.blocks])
        load_weights(model, state, f"backbone.weights={weights} ({path})", name, "install the package anew")
    elif weights not in (None, "imagenet") and not is_timm:
        path = find_weights("backbone.weights", weights, ALLOWED)
        load_weights(encoder, _read_encoder(weights), f"backbone.weights={path}", name, REMEDY)
    if is_timm:
        _check_loaded(encoder, backbone)
    if depth < 5:
        leave_away(encoder)
    encoder.divisor = find_divisor(encoder)
    encoder.pretrained = weights is not None
    encoder.statistics = statistics_of(backbone)
    return encoder


class Nothing(nn.Module):
    """Stands in place of a layer that was left away, whatever arguments it took."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


@torch.enable_grad()
def leave_away(encoder: Encoder) -> None:
    """Removes the layers that no map depends on; smp and timm keep those behind the deepest map, and may run them."""
    maps: list[Tensor] = encoder.eval()(torch.zeros(1, 3, 64, 64))
    torch.stack([one.sum() for one in maps[1:]]).sum().backward()
    encoder.train()
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            parameters = list(child.parameters())
            if parameters and all(parameter.grad is None for parameter in parameters):
                setattr(parent, name, Nothing())
    encoder.zero_grad(set_to_none=True)


def build_vit_encoder(backbone: dict) -> "ViTEncoder":
    """Builds a plain vision transformer (Dosovitskiy et al. 2021) that gives four maps of one stride, and tokens.

    The maps are taken evenly over the blocks. Position embeddings are brought to the size of an image by timm.

    Args:
        backbone: as of `build_encoder`; `name` is one of timm's ViTs with `tu-` before it, DINOv2 and DINOv3 among
            them.

    Raises:
        UserError: another kind of network, patches of another size than PATCHES, weights that cannot be had.
    """
    name = backbone["name"]
    _check_name(name)
    bare = name.removeprefix("tu-")
    if not name.startswith("tu-") or not timm.models.is_model_in_modules(bare.split(".")[0], VIT_MODULES):
        raise UserError(
            f"backbone.name={name}: this model takes only plain vision transformers: backbone=vit_tiny, vit_small, "
            "vit_base, dinov2_vits14, dinov3_vits16, or backbone.name=tu-vit_... of timm"
        )
    with _explained(backbone):
        options = {**_given_weights(backbone, "pretrained"), "dynamic_img_size": True}
        encoder = cast(ViTEncoder, TimmViTEncoder(bare, depth=4, **options))
    _check_loaded(encoder, backbone)
    if (patch := encoder.output_stride) not in PATCHES:
        allowed = ", ".join(map(str, PATCHES))
        raise UserError(f"backbone.name={name}: patches of {patch} pixels; they must have one of {allowed}")
    free_rotary_embedding(encoder)
    # The maps are taken before these, whose parameters would never have a gradient.
    encoder.model.norm = encoder.model.fc_norm = encoder.model.head = nn.Identity()
    if hasattr(encoder.model, "attn_pool"):
        encoder.model.attn_pool = None
    encoder.has_class_token = getattr(encoder.model, "cls_token", None) is not None
    encoder.divisor = 2 * patch
    encoder.pretrained = backbone["weights"] is not None
    encoder.statistics = statistics_of(backbone)
    return encoder


class ViTEncoder(Encoder):
    """The contract of `build_vit_encoder`: an encoder whose maps have one stride, and tokens beside them.

    Attributes:
        has_prefix_tokens: whether `forward` gives tokens `(B, N, C)` beside each map: the class token, if there is one,
            then registers.
        has_class_token: whether the first of them is a class token.
    """

    model: Any  # VisionTransformer or Eva
    output_stride: int
    output_strides: list[int]
    has_prefix_tokens: bool
    has_class_token: bool


def contract(encoder: nn.Module, output_stride: int, contract_dilation: bool) -> None:
    """Sets the dilation of a dilated ResNet's stages block by block; other families keep that of smp or timm.

    A stage that lost its stride has dilation r = 2 or 4. Its first block reads the map of the stage before, whose
    dilation is r / 2. Two conventions are in use:

    - contracted: the first block keeps r / 2 (torchvision, and mmsegmentation's `contract_dilation=True`);
    - not contracted: every block has r (semseg's PSPNet, reports R0 to R2).

    smp dilates its own ResNets in the second way and timm's in the first, so both are set here. MobileNetV3 follows
    torchvision, whose first block is dilated too (Howard et al. 2019, section 6.4).
    """
    model: Any = getattr(encoder, "model", encoder)  # timm's networks are inside smp's wrapper
    if hasattr(model, "layer4") and hasattr(model, "layer3"):
        stages = {8: (model.layer3, model.layer4), 16: (model.layer4,)}[output_stride]
        for rate, stage in zip((2, 4), stages, strict=False):
            for index, block in enumerate(stage):
                first = rate // 2 if contract_dilation and index == 0 else rate
                # All 3x3 of a bottleneck read the map of the stage before: Res2Net's branches stand side by side. Of a
                # basic block's two only the first does.
                _dilate(block, repeat(first) if hasattr(block, "conv3") else [first, rate])
    elif type(model).__name__.startswith("MobileNetV3") and output_stride == 16:
        _dilate(model.blocks[5], repeat(2))


def _dilate(block: nn.Module, rates: Iterable[int]) -> None:
    spatial = (module for module in block.modules() if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1)
    for convolution, rate in zip(spatial, rates, strict=False):
        convolution.dilation = (rate, rate)
        convolution.padding = (rate * (convolution.kernel_size[0] // 2),) * 2


@torch.no_grad()
def map_sides(encoder: nn.Module, side: int) -> list[int]:
    """Measures the sides of the maps that an encoder makes of a square image, and leaves it in training mode."""
    features: list[Tensor] = encoder.eval()(torch.zeros(1, 3, side, side))
    encoder.train()
    return [feature.shape[-1] for feature in features]


def find_divisor(encoder: Encoder) -> int:
    """Returns 1 if the maps of any image have ceil(side / stride) cells, as padded convolutions make them; else 32.

    Encoders without a map of stride 2 begin with patches of 4x4, and drop or refuse the pixels that do not fill one.
    """
    if encoder.out_channels[1] == 0:
        return 32
    even, odd = map_sides(encoder, 128), map_sides(encoder, 65)
    return 1 if all(b == -(-65 * a // 128) for a, b in zip(even, odd, strict=True)) else 32


def _given_weights(backbone: dict, flag: str) -> dict:
    """Builds the options of a constructor that takes weights by its argument `flag`; timm loads its own files."""
    weights, options = backbone["weights"], dict(backbone.get("options") or {})
    if weights == PACKAGE:
        find_packaged(backbone["name"])
        weights = None  # it is read into the network afterwards
    if weights == "imagenet":
        options[flag] = "imagenet" if flag == "weights" else True
    elif flag == "pretrained":
        options[flag] = weights is not None
    if weights not in (None, "imagenet") and backbone["name"].startswith("tu-"):
        # timm turns the keys of its own files into those of its networks.
        overlay = {"state_dict": _read_encoder(weights), "hf_hub_id": None}
        options |= {flag: True, "pretrained_cfg_overlay": overlay}
    return options


def _read_encoder(weights: str) -> State:
    """Reads the file `backbone.weights`; a classifier in it is not used."""
    path = find_weights("backbone.weights", weights, ALLOWED)
    return with_deep_stem(strip(read_weights(path), ENCODER_WRAPPERS))


def _check_loaded(encoder: nn.Module, backbone: dict) -> None:
    """Raises UserError if most kernels of one of timm's networks are not those of its file: timm passes over names."""
    config = getattr(encoder.model, "pretrained_cfg", None) or {}
    config.pop("state_dict", None)  # which would stay in memory
    weights, name = backbone["weights"], backbone["name"]
    if weights in (None, "imagenet", PACKAGE):
        return
    there = {_sign(tensor) for tensor in _read_encoder(weights).values()}
    kernels = [tensor for tensor in encoder.parameters() if tensor.ndim > 1]
    fitting = sum(_sign(kernel) in there for kernel in kernels)
    if 2 * fitting < len(kernels):
        raise UserError(
            f"backbone.weights={weights}: weights of another network than {name}, which has {len(kernels)} kernels: "
            f"{fitting} of them are in it; {REMEDY}"
        )


def _sign(tensor: Tensor) -> tuple[float, ...]:
    """Returns the size and the first values of a tensor, by which it is known whatever its name and shape."""
    return (tensor.numel(), *tensor.detach().flatten()[:8].float().tolist())


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
    except (AssertionError, RuntimeError, KeyError, TypeError, ValueError) as error:
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
