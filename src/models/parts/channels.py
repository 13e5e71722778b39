"""Lets a network that was built for RGB take images of other channels, as timm's `in_chans` does."""

import torch
from torch import Tensor, nn

from src.errors import UserError

SIDE = 64  # pixels of the image by which the first convolutions are found


def widen_input(architecture: nn.Module, channels: int) -> None:
    """Widens every convolution that sees the image: its weights are repeated in turn, times 3 / channels.

    The fourth channel so begins with the weights of red, and sums keep their size (timm's `adapt_input_conv`).

    Args:
        architecture: as `src.models.architecture.Architecture`, for normalised images `(B, 3, H, W)`.

    Raises:
        UserError: it uses the channels of the image elsewhere too.
    """
    from timm.models import adapt_input_conv

    divisor = getattr(architecture, "divisor", 1)
    side = -(-SIDE // divisor) * divisor + (1 if getattr(architecture, "corner_stride", None) else 0)
    image = torch.rand(1, max(3, channels), side, side, generator=torch.Generator().manual_seed(0))
    was_training = architecture.training
    architecture.eval()
    with torch.no_grad():
        for conv in _first_convolutions(architecture, image[:, :3].contiguous()):
            conv.weight = nn.Parameter(adapt_input_conv(channels, conv.weight.detach()), conv.weight.requires_grad)
            conv.in_channels = channels
        try:
            architecture(image[:, :channels].contiguous())
        except RuntimeError as error:
            name = type(architecture).__name__
            raise UserError(
                f"data.channels={channels}: {name} uses the three channels of RGB beyond its first convolution; choose "
                "another model="
            ) from error
    architecture.train(was_training)


def _first_convolutions(architecture: nn.Module, image: Tensor) -> list[nn.Conv2d]:
    """Finds the convolutions whose input is the image itself."""
    found: list[nn.Conv2d] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        given = inputs[0]
        if given.shape[1] == 3 and torch.equal(given[..., : image.shape[2], : image.shape[3]], image):
            found.append(module)

    convolutions = [module for module in architecture.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_pre_hook(note) for module in convolutions]
    try:
        architecture(image)
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(found))
