"""The initialisation of weights that are not pretrained. Its names are checked before torch is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.errors import UserError

if TYPE_CHECKING:
    from torch import nn

SCHEMES = ("default", "xavier", "kaiming")


def check_scheme(scheme: str) -> None:
    """Raises UserError for an unknown scheme."""
    if scheme not in SCHEMES:
        raise UserError(f"init={scheme}: must be one of {', '.join(SCHEMES)}")


def initialise(architecture: nn.Module, scheme: str) -> None:
    """Draws the weights of convolutions and linear layers anew, except those of a pretrained `encoder`.

    - `xavier`: normal with variance 2 / (n_in + n_out) (Glorot & Bengio 2010; report R3);
    - `kaiming`: normal with variance 2 / n_out (He et al. 2015, fan_out; report R2);
    - `default`: as the constructors drew them.

    With the first two, biases start at 0, and normalisation layers at weight 1 and bias 0.

    Raises:
        UserError: unknown scheme.
    """
    from torch import nn

    check_scheme(scheme)
    if scheme == "default":
        return
    encoder = getattr(architecture, "encoder", None)
    kept = set(encoder.modules()) if encoder is not None and encoder.pretrained else set()
    for module in (module for module in architecture.modules() if module not in kept):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if scheme == "xavier":
                nn.init.xavier_normal_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
