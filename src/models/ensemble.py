"""Several networks as one, by the mean of their probabilities."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.network import Network
from src.upsampling import upsample


def mean_scores(scores: Iterable[Tensor]) -> Tensor:
    """Returns the logarithm of the mean of the probabilities of several logits `(B, K, H, W)`, at least one."""
    total, count = None, 0
    for each in scores:
        shares = each.float().softmax(dim=1)
        total, count = shares if total is None else total + shares, count + 1
    assert total is not None
    return (total / count).clamp_min(torch.finfo(torch.float32).tiny).log()


class Ensemble(nn.Module):
    """Networks of the same classes, which may have different architectures and normalise an image differently.

    `src.inference` upsamples each network's logits as it would for that network, and averages over all views.

    Raises:
        UserError: the networks take images of different channels.
    """

    align_corners = False

    def __init__(self, networks: Iterable[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        channels = [network.channels for network in self.members]
        if len(set(channels)) > 1:
            raise UserError(f"the networks of an ensemble take images of {' and '.join(map(str, channels))} channels")

    @property
    def members(self) -> list[Network]:
        return cast(list[Network], list(self.networks))

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return self.members[0].channels

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Computes the logarithm of the mean probabilities, `(B, K, H, W)`, of images `(B, C, H, W)` in 0..255."""
        size = (image.shape[-2], image.shape[-1])
        views = (upsample(network(image)[0], size, network.align_corners) for network in self.members)
        return (mean_scores(views),)
