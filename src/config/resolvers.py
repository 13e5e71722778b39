"""The resolvers of conf/: functions that a yaml calls as `${name:...}`."""

from omegaconf import OmegaConf

from src.config.words import home_path


def register_resolvers() -> None:
    """Registers `${len:...}`, `${home:...}`, `${share:...}` and `${whole_share:...}` of conf/.

    `${share:0.1}` is a tenth of the training, in epochs; `${whole_share:0.1}` is the same as a whole number of at least
    1. So the warm-up or the decay of a recipe keeps its place if scale=tiny, or the user, changes trainer.max_epochs.
    """
    # OmegaConf 2.4, of Hydra 1.4, gives the function another name and warns of this one.
    register = getattr(OmegaConf, "register_resolver", OmegaConf.register_new_resolver)
    register("len", len, replace=True)
    register("home", home_path, replace=True)
    register("share", lambda part, *, _root_: part * _root_.trainer.max_epochs, replace=True)
    register("whole_share", lambda part, *, _root_: max(1, round(part * _root_.trainer.max_epochs)), replace=True)
