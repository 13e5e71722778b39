"""A sweep over all combinations of values, each of which is checked before the first job begins."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from src.config.checks import check_given, check_ranges
from src.config.complete import settle_backbone
from src.config.flat import to_dict
from src.config.kinds import check_kinds
from src.config.messages import printable, user_message
from src.config.reopen import forget_weights
from src.config.sweep import check_sweep_words, following_sweep, plan_sweep
from src.config.words import settle_paths
from src.errors import UserError, whole
from src.runs.sweep import Plan

NETWORK = {"model", "backbone"}  # groups whose choices may not fit together


class RecipeSweeper(Sweeper):
    """A sweeper whose words with several values are those of the command line, and those of a recipe of conf/sweep.

    Args:
        params: the words of the recipe, by key; the command line wins over them.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.composed, self.folder, self.loader = config, Path(config.hydra.sweep.dir), hydra_context.config_loader
        self.start: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def overrides(self, arguments: Sequence[str]) -> list[Override]:
        """Parses the words of the recipe and of the command line."""
        parser = OverridesParser.create(config_loader=self.loader)
        given = parser.parse_overrides(list(arguments))
        keys = {each.key_or_group for each in given}
        recipe = parser.parse_overrides([f"{key}={value}" for key, value in self.params.items()])
        return [*(each for each in recipe if each.key_or_group not in keys), *given]

    @contextmanager
    def checked(self, job: Sequence[str]) -> Iterator[DictConfig]:
        """Composes a job and checks its values; yields its configuration, while that of Hydra is set."""
        before = HydraConfig.instance().cfg
        cfg = self.loader.load_sweep_config(self.composed, list(job))
        try:
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                cfg.pop("hydra")
            check_sweep_words()
            settle_paths(cfg)
            check_kinds(cfg)
            if "trainer" in cfg:  # of a training
                check_given(cfg)
                check_ranges(cfg)
            yield cfg
        finally:
            HydraConfig.instance().cfg = before


class Grid(RecipeSweeper):
    """Runs a job per combination, after all of them were composed and their values checked.

    Args:
        params: as of `RecipeSweeper`.
        drop_impossible: whether combinations that are no network, such as a backbone for a network without one, are
            left out; they are refused otherwise.
        max_batch_size: number of jobs that the launcher gets at a time; None: all.

    Raises:
        UserError: there is no job, a value of a wrong kind, an impossible combination; and Hydra's errors for words
            that cannot be composed. After all jobs, the error of the first that failed.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        drop_impossible: bool = False,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__(params)
        self.batch = None if max_batch_size is None else whole("hydra.sweeper.max_batch_size", max_batch_size, 1)
        if not isinstance(drop_impossible, bool):
            raise UserError(f"hydra.sweeper.drop_impossible={drop_impossible}: must be true or false")
        self.drop_impossible = drop_impossible

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Runs the sweep; returns what each job returned."""
        overrides = self.overrides(arguments)
        factors = [each.get_key_element() for each in overrides if each.is_sweep_override()]
        jobs = [list(job) for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]
        if not jobs:
            raise UserError(
                "this sweep has no job: glob(...) takes only the choices directly in a group, range(...) may be empty; "
                "give the choices with commas, such as experiment=r2/a,r2/b"
            )
        dropped = self._check(jobs, factors)
        kept = [job for job in jobs if _differing(job, factors) not in dropped]
        plan_sweep(Plan([key.lstrip("+~") for key in factors], len(kept), dropped))
        size = self.batch or len(kept)
        with following_sweep(self.composed):
            batches = [self.start.launch(kept[first : first + size], first) for first in range(0, len(kept), size)]
        return [result.return_value for batch in batches for result in batch]  # raises the error of a failed job

    def _check(self, jobs: Sequence[Sequence[str]], factors: Sequence[str]) -> dict[str, str]:
        """Checks all jobs; returns the reason of each impossible combination, by its words."""
        pairs = bool(NETWORK & {key.lstrip("+~").partition(".")[0].partition("@")[0] for key in factors})
        known: dict[str, str | None] = {}
        impossible: dict[str, str] = {}
        for job in jobs:
            with self.checked(job) as cfg:
                if pairs and (why := _no_network(cfg, known)):
                    impossible[_differing(job, factors)] = why
        if impossible:
            first = ": ".join(next(iter(impossible.items())))
            if len(impossible) == len(jobs):
                raise UserError(f"this sweep has no job: all {len(jobs)} combinations are impossible: {first}")
            if not self.drop_impossible:
                raise UserError(
                    f"{first}; no job was started, for {len(impossible)} of {len(jobs)} combinations cannot be "
                    "trained; hydra.sweeper.drop_impossible=true leaves them out"
                )
        for words, why in impossible.items():
            print(printable(f"left out: {words}: {why}"), flush=True)  # the log is set up in the jobs only
        return impossible


def _no_network(cfg: DictConfig, known: dict[str, str | None]) -> str | None:
    """Returns why no network can be built for a job, or None. `known` has the answers of the jobs before."""
    if "model" not in cfg or "backbone" not in cfg:
        return None
    try:
        settle_backbone(cfg)
    except UserError as error:
        return str(error)
    if not cfg.data.classes:
        cfg.data.classes = {"a": [0, 0, 0], "b": [1, 1, 1]}  # their number does not matter here
    forget_weights(cfg.model)
    if cfg.backbone is not None:
        cfg.backbone.weights = None  # whether they can be had is another question
    key = str(to_dict(cfg.model, resolve=True))
    if key not in known:
        try:
            instantiate(cfg.model, _convert_="all")
            known[key] = None
        except Exception as error:
            if (message := user_message(error, "train")) is None:
                raise
            known[key] = message
    return known[key]


def _differing(job: Sequence[str], factors: Sequence[str]) -> str:
    """Returns the words of a job that differ between the jobs."""
    return " ".join(word for word in job if word.partition("=")[0] in factors)
