"""Logs to W&B, which a run never waits for."""

import html
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import wandb
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from src.callbacks.background import Background
from src.callbacks.wandb_server import check_helper, end_helper, missing_for_online
from src.errors import UserError
from src.labels import IGNORE_INDEX
from src.machine import environment
from src.reports.dashboard import Dashboard, Description, Example, Examples, Publication, confusion_shares
from src.runs.folder import RunFolder
from src.runs.marks import MARK, mark
from src.runs.records import Evaluation, Taint

log = logging.getLogger(__name__)
Call = Callable[[Any], object]
INIT_S, FINISH_S = 10.0, 15.0  # seconds to begin online, and to send the rest after the training
STOP_S = 6.0  # seconds for both after an error; a signal leaves 10 (src/processes/signals.py)
WIDEST = 640  # pixels of an example's longer side: a page of full-size masks takes a browser minutes
GLOBAL_STEP = "trainer/global_step"  # the key of Lightning's own logger
DATA_VARIABLE = "WANDB_DATA_DIR"
# Curves over epochs. Only the best of val/miou is of use in a table of runs.
METRICS = {"*": {"step_metric": "epoch"}, "val/miou": {"step_metric": "epoch", "summary": "max,last"}}


class WandbDashboard(Dashboard, Logger):
    """One W&B run per training, written by a thread of its own.

    It replaces Lightning's WandbLogger (2.6.6), whose calls wait for W&B: for minutes if its server is silent, and for
    ever if its helper process is stopped. Here the training hands over each call and goes on. A run that cannot begin
    online begins offline, one whose helper process dies goes on offline, and what was not sent `FINISH_S` seconds after
    the training stays in the run folder for `wandb sync`. Each is logged.

    It begins with its first figure and ends with its `with` block, so that the next job of a sweep does not log into
    it.

    Args:
        mode: `auto` (online if the server knows the key, else offline), `online`, `offline` or `disabled`.
        options: the arguments of `wandb.init`.
    """

    def __init__(self, mode: str, **options: Any) -> None:
        super().__init__()
        self._mode, self._options = mode, options
        self._share: Callable[[], float] = lambda: 0.0
        self._background: Background | None = None
        self._run: Any = None
        self._is_left = False  # whether the thread has had its time
        self._data_folder = ExitStack()

    @property
    def _folder(self) -> str:
        return self._options["dir"]

    @property
    def name(self) -> str:
        return self._options["name"]

    @property
    def version(self) -> str:
        return self._options["id"]

    def __enter__(self) -> Self:
        # W&B keeps the tables of its charts in the user's home otherwise, where a run folder that moves leaves them.
        place = os.environ.get(DATA_VARIABLE, f"{self._folder}/wandb")
        self._data_folder.enter_context(environment(DATA_VARIABLE, place))
        return self

    def describe(self, description: Description) -> None:
        self._options["config"] = dict(description.config)
        self._options["tags"] += description.tags

    def mark(self, taints: Sequence[Taint]) -> None:
        self._options["name"] += f" {MARK}"
        self._options["tags"] += ["tainted"]
        self._options["notes"] = f"{MARK} {'; '.join(map(str, taints))}"

    def count_epochs(self, share: Callable[[], float]) -> None:
        self._share = share

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing; `describe` takes the configuration."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {name: float(value) for name, value in metrics.items()}
        row = {name: value for name, value in row.items() if not math.isnan(value)}  # of an absent class: no point
        # Lightning counts whole epochs from 0; a curve over epochs says how much training was done.
        done = {"epoch": row.get("epoch", 0.0) + self._share(), GLOBAL_STEP: step}
        self._give(lambda run: run.log(row | done))

    def show_examples(self, examples: Examples) -> None:
        labels = {**dict(enumerate(examples.classes)), IGNORE_INDEX: "ignored"}
        done = {"epoch": examples.epoch, GLOBAL_STEP: examples.step}
        self._give(lambda run: run.log({"val/examples": [_overlaid(each, labels) for each in examples.images], **done}))

    def publish(self, results: Publication) -> None:
        def show(run: Any) -> None:
            shown: dict[str, Any] = {
                f"figures/{name}": wandb.Image(str(path)) for name, path in results.pictures.items()
            }
            table = f"<pre>{html.escape(results.table)}</pre>"
            shown["figures/table"] = wandb.Html(table, inject=False, data_is_not_path=True)
            run.log(shown | (_charts(results.evaluation) if results.evaluation is not None else {}))
            run.summary.update(dict(results.figures))

        self._give(show)

    @rank_zero_only
    def _give(self, call: Call) -> None:
        """Hands a call with the W&B run to the thread, which begins the run if this is the first."""
        if self._background is None:
            self._background = Background("wandb")
            self._background.give(self._begin)
        self._background.give(lambda: self._make(call))

    def __exit__(self, error: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        """Ends the run, with the exit status that the process will have: 0, 1, or the one of SystemExit."""
        with self._data_folder:
            if self._background is None:
                return
            code = 0 if error is None else value.code if isinstance(value, SystemExit) else 1
            seconds = INIT_S + FINISH_S if error is None else STOP_S
            self._background.give(lambda: self._finish(code if isinstance(code, int) else 1))
            if not self._background.close(seconds):
                self._note(f"has not ended after {seconds:g} s, and is stopped")
                self._is_left = True
                end_helper()
            self._background = self._run = None

    # The rest is called by the thread only.

    def _begin(self) -> None:
        missing = missing_for_online() if self._mode == "auto" else None
        mode = {"auto": "offline" if missing else "online"}.get(self._mode, self._mode)
        if missing:
            self._note(f"is offline: {missing}")
        try:
            self._open(mode)
        except Exception as error:  # of W&B, its helper, the network or the server
            self._go_offline(error, "is offline", lambda run: None)

    def _open(self, mode: str) -> None:
        settings = wandb.Settings(init_timeout=INIT_S, finish_timeout=FINISH_S, silent=True)
        # An agent's run has an id of the agent's.
        resume = "allow" if mode == "online" and "WANDB_SWEEP_ID" not in os.environ else None
        self._run = wandb.init(**self._options, mode=cast(Any, mode), resume=resume, settings=settings)
        for name, options in METRICS.items():
            self._run.define_metric(name, **options)

    def _make(self, call: Call) -> None:
        """Makes a call; if W&B fails, goes on in a new offline run and makes it there."""
        if self._run is None or self._is_left:
            return
        try:
            check_helper()
            call(self._run)
        except Exception as error:
            self._go_offline(error, "goes on offline", call)

    def _go_offline(self, error: Exception, words: str, call: Call) -> None:
        """Makes a call in a new offline run of the same id; gives W&B up if that fails too."""
        if self._is_left:
            return
        try:
            end_helper()
            self._open("offline")
            call(self._run)
            self._note(f"{words}: {_short(error)}")
        except Exception as second:
            self._run = None
            log.warning("note: W&B is off from here on (%s; then %s)", _short(error), _short(second))

    def _finish(self, code: int) -> None:
        self._make(lambda run: None)  # a helper process that has died in the meantime is replaced
        if self._run is None or self._is_left:
            return
        is_online = self._run.settings.mode == "online"
        try:
            self._run.finish(exit_code=code)
            if getattr(self._run, "_finish_timed_out", False):
                end_helper(gently=True)
                self._note(f"has not got everything within {FINISH_S:g} s")
            elif is_online and (missing := missing_for_online()):  # W&B gives up without a word if its key is refused
                self._note(f"may not have got everything: {missing}")
        except Exception as error:
            if not self._is_left:
                end_helper()
                self._note(f"could not end the run: {_short(error)}")

    def _note(self, what: str) -> None:
        log.warning("note: W&B %s; to send what is in the run folder: wandb sync %s/wandb/*run-*", what, self._folder)


def build_wandb_logger(
    run_dir: str, project: str, entity: str | None, mode: str, job_type: str = "train"
) -> WandbDashboard:
    """Builds a logger that is online with a key and a server that knows it, else offline.

    The group of the run is W&B's own variable WANDB_RUN_GROUP.

    Args:
        run_dir: the run folder, which W&B's files go to; its id becomes that of the W&B run, which a continued run
            continues.
        entity: W&B's user or team; None for that of the key.
        mode: `auto`, `online` or `offline`; WANDB_MODE decides if it is set.

    Raises:
        UserError: the mode is unknown, or online without a key or a server.
    """
    mode = os.environ.get("WANDB_MODE", mode)
    if mode not in ("auto", "online", "offline", "disabled"):
        raise UserError(f"logger.wandb.mode={mode}: must be auto, online or offline")
    if mode == "online" and (missing := missing_for_online()):
        raise UserError(f"logger.wandb.mode=online: {missing}; set logger.wandb.mode=auto to log offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    run, group = RunFolder(Path(run_dir)), os.environ.get("WANDB_RUN_GROUP")
    place = _within_group(run.path, group)
    return WandbDashboard(
        mode,
        project=project,
        entity=entity,
        name="/".join(place),
        id=f"{run.path.name}-{run.read_environment()['id']}",
        dir=run_dir,
        group=group,  # W&B itself reads it only once per process, at the first run
        job_type=job_type,
        tags=list(place) if len(place) > 1 else [],
    )


def _short(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _within_group(path: Path, group: str | None) -> tuple[str, ...]:
    """Returns the parts of a run's path below the folder of its group, such as a stage and a fold; else its name."""
    parts = path.parts
    below = parts[len(parts) - parts[::-1].index(group) :] if group in parts else ()
    return below or (path.name,)


def _overlaid(example: Example, labels: Mapping[int, str]) -> Any:
    """Makes an image with two masks that can be switched on and off."""
    height, width = example.truth.shape
    scale = min(1.0, WIDEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def resized(array: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(array).resize(size, how))

    masks = {
        name: {"mask_data": resized(ids, Image.Resampling.NEAREST), "class_labels": dict(labels)}
        for name, ids in (("prediction", example.prediction), ("truth", example.truth))
    }
    image = resized(example.image, Image.Resampling.BILINEAR)
    return wandb.Image(image, masks=masks, caption=example.name)


def _charts(evaluation: Evaluation) -> dict[str, Any]:
    """Makes W&B's own charts of an evaluation: IoU per class as bars, and the confusion matrix in per cent."""
    sign = mark(evaluation)
    rows = [[name, value] for name, value in evaluation.iou.items() if not math.isnan(value)]
    bars = wandb.plot.bar(wandb.Table(["class", "IoU"], rows), "class", "IoU", title=f"IoU per class{sign}")
    fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
    cells = wandb.Table(list(fields), [list(cell) for cell in confusion_shares(evaluation)])
    title = {"title": f"Pixels of each true class by prediction, %{sign}"}
    matrix = wandb.plot_table("wandb/confusion_matrix/v1", cells, fields, title)
    return {"figures/iou": bars, "figures/confusion_matrix": matrix}
