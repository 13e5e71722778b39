"""Output stride: the dilation of an encoder's last stages, and the measured sides of its maps."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from src.models.architecture import Encoder


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
                # A bottleneck has one 3x3. A basic block has two, and only the first reads the map of the stage before.
                _dilate(block, [rate // 2 if contract_dilation and index == 0 else rate, rate])
    elif type(model).__name__.startswith("MobileNetV3") and output_stride == 16:
        _dilate(model.blocks[5], repeat(2))


def _dilate(block: nn.Module, rates: Iterable[int]) -> None:
    spatial = (module for module in block.modules() if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1)
    for convolution, rate in zip(spatial, rates, strict=False):
        convolution.dilation = (rate, rate)
        convolution.padding = (rate * (convolution.kernel_size[0] // 2),) * 2


@torch.no_grad()
def map_sides(encoder: nn.Module, side: int) -> list[int]:
    """Measures the sides of the maps that an encoder makes of a square image."""
    training = encoder.training
    image = torch.zeros(1, 3, side, side)
    features: list[Tensor] = encoder.eval()(image)
    encoder.train(training)
    return [feature.shape[-1] for feature in features]


def find_divisor(encoder: Encoder) -> int:
    """Returns 1 if the maps of any image have ceil(side / stride) cells, as padded convolutions make them; else 32.

    Encoders without a map of stride 2 begin with patches of 4x4, and drop or refuse the pixels that do not fill one.
    """
    if encoder.out_channels[1] == 0:
        return 32
    even, odd = map_sides(encoder, 128), map_sides(encoder, 65)
    return 1 if all(b == -(-65 * a // 128) for a, b in zip(even, odd, strict=True)) else 32
