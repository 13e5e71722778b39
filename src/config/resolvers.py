"""The resolvers of conf/: functions that a yaml calls as `${name:...}`."""

from omegaconf import DictConfig, OmegaConf

from src.config.words import home_path
from src.files import HOME

CONF = HOME / "conf"


def choices_of(group: str) -> set[str]:
    """Returns the choices of a group in conf/, as they are written; none if there is no such group."""
    folder = CONF / group
    if not group or not folder.is_dir():
        return set()
    files = [path.relative_to(folder).with_suffix("") for path in folder.glob("**/*.yaml")]
    return {path.as_posix() for path in files if not path.name.startswith("_")}


def list_groups(*, _root_: DictConfig) -> str:
    """Returns a line for each group of the command, with its choices, for the text of --help."""
    groups = [group for group in sorted(map(str, _root_.hydra.runtime.choices)) if not group.startswith("hydra/")]
    return "\n".join(f"{group}: {', '.join(sorted(choices_of(group)))}" for group in groups)


def register_resolvers() -> None:
    """Registers `${len:...}`, `${home:...}`, `${groups:}`, `${share:...}` and `${whole_share:...}` of conf/.

    `${share:0.1}` is a tenth of the training, in epochs; `${whole_share:0.1}` is the same as a whole number of at least
    1. So the warm-up or the decay of a recipe keeps its place if scale=tiny, or the user, changes trainer.max_epochs.
    """
    OmegaConf.register_new_resolver("len", len, replace=True)
    OmegaConf.register_new_resolver("home", home_path, replace=True)
    OmegaConf.register_new_resolver("groups", list_groups, replace=True)
    OmegaConf.register_new_resolver("share", lambda part, *, _root_: part * _root_.trainer.max_epochs, replace=True)
    OmegaConf.register_new_resolver(
        "whole_share", lambda part, *, _root_: max(1, round(part * _root_.trainer.max_epochs)), replace=True
    )
