"""The resolvers that the files of conf/ use: `${len:...}`, `${share:...}` and `${whole_share:...}`."""

from omegaconf import OmegaConf


def register_resolvers() -> None:
    """Registers the resolvers with OmegaConf; calling it again changes nothing.

    `${share:0.1}` is a tenth of the training, in epochs; `${whole_share:0.1}` is the same as a whole number of at least
    1. So the warm-up or the decay of a recipe keeps its place if scale=tiny, or the user, changes trainer.max_epochs.
    """
    OmegaConf.register_new_resolver("len", len, replace=True)
    OmegaConf.register_new_resolver("share", lambda part, *, _root_: part * _root_.trainer.max_epochs, replace=True)
    OmegaConf.register_new_resolver(
        "whole_share", lambda part, *, _root_: max(1, round(part * _root_.trainer.max_epochs)), replace=True
    )
