"""The command line: composes a config, calls an entry point, and tells errors in one line."""

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from src.config.flat import digest, flatten
from src.errors import UserError
from src.processes.orphans import EXIT_STATUS, end_with_parent

CONF = Path(__file__).parents[2] / "conf"
SWEEP_VARIABLE = "STREETSEG_SWEEP"
FULL_ERROR = "HYDRA_FULL_ERROR"
WORKER = "in DataLoader worker process"


def launch(function: Callable[[DictConfig], Any], config_name: str) -> None:
    """Composes `conf/<config_name>.yaml` with the command line and calls `function`.

    What a user can mend (UserError, and everything Hydra says of the command line) is told in one line, exit status 1;
    HYDRA_FULL_ERROR=1 shows the traceback. A process that was started to end with its parent does so.
    """
    end_with_parent()
    full = os.environ.get(FULL_ERROR)
    told: list[Exception] = []

    def tell(error: Exception) -> bool:
        if full != "1" and error not in told and (message := _user_message(error, config_name)):
            print(f"error: {message}", file=sys.stderr, flush=True)
            told.append(error)
        return error in told

    @functools.wraps(function)
    def job(cfg: DictConfig) -> Any:
        with environment(FULL_ERROR, full):
            try:
                return function(cfg)
            except Exception as error:
                if tell(error) and HydraConfig.get().mode == RunMode.RUN:
                    sys.exit(1)
                raise  # to Hydra, which lets the other jobs of a sweep run, and raises this at their end

    # The same in every job of a sweep, and the next time: its folder is named by it.
    os.environ[SWEEP_VARIABLE] = digest(sys.argv[1:])
    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)
    try:
        # Hydra prints its errors, at length, and exits, unless this is set; then it raises them.
        with environment(FULL_ERROR, "1"):
            main()
    except SystemExit as stop:
        # Lightning's for SIGTERM has no status, which is that of success.
        sys.exit(EXIT_STATUS if stop.code is None else stop.code)
    except Exception as error:
        if not tell(error):
            raise
        sys.exit(1)


@contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """An environment variable set (or, by None, unset) for a while."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def quoted(path: Path) -> str:
    """A path as a value on a command line of ours, whatever signs it has."""
    return QuotedString(str(path), Quote.single).with_quotes()


def _user_message(error: BaseException, config_name: str) -> str | None:
    """One line for an error that the user can mend; None for one that is ours."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if isinstance(link, UserError):
            return _one_line(str(link))
    in_job = GlobalHydra.instance().is_initialized()
    if isinstance(error, ConfigAttributeError) and in_job:
        return None  # a key that this program asks for and the configuration has not: no user wrote it
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _one_line(_with_nearest(" ".join(str(link) for link in chain[:2]), config_name))
    return None


def _one_line(message: str) -> str:
    # A data worker's error comes with its traceback; the last line of it is the message.
    if WORKER in message:
        message = message[message.rindex("Error: ") + len("Error: ") :]
    return re.sub(r"\s+", " ", message).strip()


def _with_nearest(message: str, config_name: str) -> str:
    """Hydra's message, shorter, with the names that come nearest to the misspelt one."""
    if found := re.search(r"Could not find '(.+?)/([^/']+)'", message):
        group, given = found.groups()
        options = sorted(path.stem for path in (CONF / group).glob("**/*.yaml") if not path.stem.startswith("_"))
        options += re.findall(r"\t(\S+)", message)
        return f"{group}={given} is unknown; {_nearest(given, sorted(set(options)))}"
    if found := re.match(r"(?:Could not override|Key) '(.+?)'", message):
        key = found.group(1)
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            default = hydra.compose(config_name)
        keys = sorted(flatten(OmegaConf.to_container(default)) | dict(default.items()))
        return f"{key} is not a key of this configuration; {_nearest(key, keys)}; --help lists the groups"
    return message


def _nearest(given: str, options: list[str]) -> str:
    near = difflib.get_close_matches(given, options, 3, cutoff=0.5)
    if near:
        return f"the nearest are {', '.join(near)}"
    return f"allowed are {', '.join(options[:30])}{', ...' if len(options) > 30 else ''}"
