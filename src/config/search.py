"""A search by optuna in the place of Hydra's sweep: chooses the words of each job by the figures of those before it."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from src.config.grid import RecipeSweeper
from src.config.sweep import following_sweep, plan_sweep
from src.errors import UserError, whole
from src.machine import TRIAL_VARIABLE, environment
from src.runs.study import PRUNED, Place, claimed, open_study
from src.runs.sweep import Plan, note_job

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

log = logging.getLogger(__name__)


class Search(RecipeSweeper):
    """Trains jobs whose values optuna chooses by the results of the earlier ones, until `trials` of them are finished.

    The journal is a file, so that a search that was killed goes on: a trial without an end whose process is gone is
    trained on, with the same words, from its last checkpoint. Several processes may run the same command at a time.
    Before the first, each choice and both ends of each interval are checked.
    A search maximises what the command returns, the val/miou of the best checkpoint.

    Args:
        trials: number to finish or prune in all; failed ones count too.
        startup_trials: number chosen at random first; none of them is pruned.
        prune: whether a training is ended whose val/miou is below the median of the others at its epoch.
        seed: of the choices.
        params: as of `RecipeSweeper`.

    Raises:
        UserError: optuna is missing, no word has several values, or one of them is wrong, before the first trial; a
            trial failed, after all others were run.
    """

    def __init__(
        self, trials: int, startup_trials: int, prune: bool, seed: int, params: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(params)
        self.trials = whole("hydra.sweeper.trials", trials, 1)
        self.startup_trials = whole("hydra.sweeper.startup_trials", startup_trials, 0)
        self.prune, self.seed = bool(prune), whole("hydra.sweeper.seed", seed, 0)

    def sweep(self, arguments: list[str]) -> float:
        """Runs the search; returns the best figure."""
        if importlib.util.find_spec("optuna") is None:
            raise UserError(
                "hydra/sweeper=optuna: needs the package optuna; pip install it into this program's environment"
            )
        overrides = self.overrides(arguments)
        space = {each.get_key_element(): distribution(each) for each in overrides if each.is_sweep_override()}
        if not space:
            raise UserError(
                "hydra/sweeper=optuna: no word has several values, such as optimizer.lr=interval(1e-4,1e-2)"
            )
        fixed = [each.input_line or "" for each in overrides if not each.is_sweep_override()]
        for words in corners(space):
            with self.checked([*fixed, *words]):
                pass
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        plan_sweep(Plan([key.lstrip("+~") for key in space], self.trials))
        study, faults = open_study(folder, None), 0  # it is the trainings that prune
        with following_sweep(self.composed):
            while (number := self._next(study, space, folder)) is not None:
                with claimed(folder, number) as is_own:
                    if is_own:
                        faults += self._run(study, number, fixed, folder)
        finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        log.info("search: %d trials, %d pruned", len(finished), sum(t.state.name == "PRUNED" for t in finished))
        if faults or not any(trial.state.name == "COMPLETE" for trial in finished):
            raise UserError(f"{faults} of the trials failed; the table says why")
        return study.best_value

    def _next(self, study: "Study", space: Mapping[str, "BaseDistribution"], folder: Path) -> int | None:
        """Returns the number of a trial to run: one whose process has ended, or a new one; None if there are enough."""
        from optuna.samplers import TPESampler

        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.name == "RUNNING":
                with claimed(folder, trial.number) as is_own:
                    if is_own:
                        return trial.number
        if len(trials) >= self.trials:
            return None
        # The choices follow from the seed and the number of the trial, not from how often the search was started.
        seed = int(np.random.SeedSequence([self.seed, len(trials)]).generate_state(1)[0])
        study.sampler = TPESampler(n_startup_trials=self.startup_trials, seed=seed, constant_liar=True)
        return study.ask(dict(space)).number

    def _run(self, study: "Study", number: int, fixed: Sequence[str], folder: Path) -> int:
        """Trains a trial and records its result in the study; returns 1 if it failed."""
        from optuna.trial import TrialState

        trial = study.get_trials(deepcopy=False)[number]
        if trial.state.is_finished():
            return 0  # by a process beside this one
        words = [*fixed, *(f"{key}={value}" for key, value in trial.params.items())]
        place = Place(folder.absolute(), number, self.startup_trials if self.prune else None)
        with environment(TRIAL_VARIABLE, str(place)):
            (result,) = self.start.launch([words], initial_job_idx=number)
        if result.status.name == "COMPLETED":
            study.tell(number, result.return_value)
            return 0
        is_pruned = PRUNED in study.get_trials(deepcopy=False)[number].user_attrs
        study.tell(number, state=TrialState.PRUNED if is_pruned else TrialState.FAIL)
        if is_pruned:
            note_job(folder / str(number), is_pruned=True)
        return int(not is_pruned)


def corners(space: Mapping[str, "BaseDistribution"]) -> list[list[str]]:
    """Returns the words of as few trials as have each choice, and both ends of each interval, at least once."""
    values = {key: getattr(each, "choices", None) or (each.low, each.high) for key, each in space.items()}  # pyright: ignore
    return [
        [f"{key}={levels[number % len(levels)]}" for key, levels in values.items()]
        for number in range(max(map(len, values.values())))
    ]


def distribution(override: Override) -> "BaseDistribution":
    """Returns optuna's distribution for a word with several values; `tag(log,...)` makes an interval logarithmic."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        is_log = "log" in value.tags
        start, end = (cast(float, side) for side in (value.start, value.end))
        if isinstance(start, int) and isinstance(end, int):
            return IntDistribution(start, end, log=is_log)
        return FloatDistribution(start, end, log=is_log)
    levels = list(value.range()) if isinstance(value, RangeSweep) else []
    if levels and all(isinstance(level, int) for level in levels):
        return IntDistribution(min(levels), max(levels), step=abs(int(value.step)))
    return CategoricalDistribution(list(override.sweep_string_iterator()))
