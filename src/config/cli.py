"""Starts a command: composes its configuration, calls it, and prints the errors that a user can mend in one line."""

import functools
import gc
import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from src.config.flat import digest
from src.config.kinds import check_kinds
from src.config.messages import printable, user_message
from src.config.resolvers import CONF, register_resolvers
from src.config.sweep import check_sweep_words, end_sweep
from src.config.words import PLAIN, check_options, gather_words, prepare_word, settle_paths
from src.machine import SWEEP_VARIABLE, drop_stray_ranks, ensure_home, environment
from src.processes.orphans import end_with_parent
from src.processes.signals import STATUS, ending_in_time

FULL_ERROR = "HYDRA_FULL_ERROR"
PLUGINS = Path(__file__).parents[1] / "plugins"
MULTIRUN = ("-m", "--multirun")


def launch(function: Callable[[DictConfig], Any], config_name: str) -> None:
    """Composes `conf/<config_name>.yaml` with the command line and calls `function`.

    An error that a user can mend (UserError, and all that Hydra has against the command line) is printed in one line
    and gives exit status 1; HYDRA_FULL_ERROR=1 shows its traceback. A process that was started to end with its parent
    does so.
    """
    # The imports make a million objects that stay; by default the collector goes over the young ones every 700.
    gc.set_threshold(10_000, 10, 10)
    end_with_parent()
    accept_any_text()
    ensure_home()
    drop_stray_ranks()
    register_resolvers()
    full = os.environ.get(FULL_ERROR)
    printed: list[Exception] = []

    def is_printed(error: Exception) -> bool:
        """Prints an error that a user can mend, once; False for one that is a bug."""
        if full != "1" and error not in printed and (message := user_message(error, config_name)):
            print(f"error: {printable(message)}", file=sys.stderr, flush=True)
            printed.append(error)
        return error in printed

    @functools.wraps(function)
    def job(cfg: DictConfig) -> Any:
        with environment(FULL_ERROR, full):
            try:
                check_sweep_words()
                settle_paths(cfg)
                check_kinds(cfg)
                return function(cfg)
            except Exception as error:
                if is_printed(error) and HydraConfig.get().mode == RunMode.RUN:
                    sys.exit(1)
                raise  # to Hydra, which lets the other jobs of a sweep run, and raises this at their end

    try:
        sys.argv[1:] = map(prepare_word, gather_words(sys.argv[1:], PLAIN.get(config_name)))
        # The same in every job of a sweep, and the next time: the folder of the sweep is named by it.
        os.environ[SWEEP_VARIABLE] = digest(sys.argv[1:])
        if any(word in MULTIRUN for word in sys.argv[1:]):
            register_plugins()
        main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)
        # Hydra prints its errors, at length, and exits, unless this is set; then it raises them.
        check_options(sys.argv[1:])
        with environment(FULL_ERROR, "1"), ending_in_time():
            try:
                main()
            finally:
                end_sweep()
    except SystemExit as stop:
        # Lightning's for SIGTERM has no status, which is that of success.
        sys.exit(STATUS if stop.code is None else stop.code)
    except Exception as error:
        if not is_printed(error):
            raise
        sys.exit(1)


def register_plugins() -> None:
    """Makes the classes of `src.plugins` known to Hydra, which takes only those of a package hydra_plugins."""
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    for plugin in importlib.import_module("hydra_plugins.streetseg").PLUGINS:
        Plugins.instance().register(plugin)


def accept_any_text() -> None:
    """Prints a character that the terminal's encoding lacks as `?`: a table's lines must not end a training."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
