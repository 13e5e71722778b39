"""The resolvers of conf/: functions that a yaml calls as `${name:...}`."""

from omegaconf import OmegaConf

from src.config.words import home_path


def register_resolvers() -> None:
    """Registers `${len:...}`, `${home:...}`, `${share:...}` and `${whole_share:...}` of conf/.

    `${share:0.1}` is a tenth of the training, in epochs; `${whole_share:0.1}` is the same as a whole number of at least
    1. So the warm-up or the decay of a recipe keeps its place if scale=tiny, or the user, changes trainer.max_epochs.
    """
    OmegaConf.register_new_resolver("len", len, replace=True)
    OmegaConf.register_new_resolver("home", home_path, replace=True)
    OmegaConf.register_new_resolver("share", lambda part, *, _root_: part * _root_.trainer.max_epochs, replace=True)
    OmegaConf.register_new_resolver(
        "whole_share", lambda part, *, _root_: max(1, round(part * _root_.trainer.max_epochs)), replace=True
    )
