"""Messages of one line for the errors that a user can mend: this project's, and Hydra's in a shorter form."""

import difflib
import re
import sys
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from src.config.flat import flatten, to_dict
from src.errors import UserError, shortened

CONF = Path(__file__).parents[2] / "conf"


def user_message(error: BaseException, config_name: str) -> str | None:
    """Returns one line for an error that the user can mend; None for a bug."""
    chain = [error]
    while (link := chain[-1].__cause__ or chain[-1].__context__) is not None and link not in chain:
        chain.append(link)
    for link in chain:
        if isinstance(link, UserError):
            return " ".join(str(link).split())
    if isinstance(error, ConfigAttributeError) and GlobalHydra.instance().is_initialized():  # within the command
        return None  # a key that this program asks for and the configuration has not: no user wrote it
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return " ".join(_with_nearest(" ".join(str(link) for link in chain[:2]), config_name).split())
    return None


def _with_nearest(message: str, config_name: str) -> str:
    """Shortens a message of Hydra's about an unknown group, choice or key, and adds the nearest names."""
    if found := re.search(r"Could not find '(.+?)/([^/']+)'", message):
        group, given = found.groups()
        options = {path.stem for path in (CONF / group).glob("**/*.yaml") if not path.stem.startswith("_")}
        options |= set(re.findall(r"\t(\S+)", message))
        return f"{group}={given} is unknown; {_nearest(given, options)}"
    if found := re.match(r"(?:Could not override|Key) '(.+?)'", message):
        key = found.group(1)
        return f"{key} is not a key of this configuration; {_nearest(key, _keys(config_name))}; --help lists all"
    return message


def _keys(config_name: str) -> set[str]:
    """Returns the keys of a command's configuration, with the groups that the command line chooses."""
    words = [word.split(",")[0] for word in sys.argv[1:] if (CONF / word.partition("=")[0]).is_dir()]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose(config_name, words)
    return {*flatten(to_dict(cfg)), *map(str, cfg)}


def _nearest(given: str, options: set[str]) -> str:
    names = sorted(options)
    near = difflib.get_close_matches(given, names, 3, cutoff=0.5)
    return f"the nearest are {', '.join(near)}" if near else f"allowed are {shortened(names, 30)}"
