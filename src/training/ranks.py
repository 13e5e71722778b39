"""The processes (ranks) of a training on several devices: none waits for a lost one without a word."""

import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from src.errors import UserError
from src.machine import describe_end, is_stopped
from src.processes.signals import stop
from src.runs.folder import RunFolder
from src.training.sync_batchnorm import LayerSync

log = logging.getLogger(__name__)
GRACE = 10.0  # seconds for this process to find by itself that another one has ended; on a GPU it may wait for longer
START = 300.0  # seconds for all ranks to start: on a cold disk the imports take minutes
SEEN = 10.0  # seconds for a shared disk to show on every node what rank 0 has written
SLOW = 10.0  # seconds after which a rank says that it waits for others to start
LOST = ("timed out", "timeout", "connection", "broken pipe", "peer", "socket")  # in torch's errors of a lost rank
AGAIN = "the same command continues the run"


class Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks of this node, and ends the run with a line that names a rank if one has failed.

    Lightning's own kills every process, also itself, without a line and with status -9.
    """

    def _call_children_scripts(self) -> None:
        super()._call_children_scripts()
        self.ranks, self.procs = self.procs, []  # so that Lightning's own watch has nothing to do
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def kill(self, signum: Any) -> None:
        for process in self.ranks:
            process.send_signal(signum)

    def _watch(self) -> None:
        while any(process.poll() is None for process in self.ranks):
            if (text := describe_failed(self.ranks)) is not None:
                time.sleep(GRACE)
                print(f"error: {text}", file=sys.stderr, flush=True)
                os._exit(1)
            time.sleep(0.5)


class Strategy(DDPStrategy):
    """DDP whose processes are started by `Launcher`.

    Args:
        patience: seconds that ranks wait for each other, once all have started.
        options: of Lightning's strategy.
    """

    def __init__(self, patience: float, **options: Any) -> None:
        super().__init__(timeout=timedelta(seconds=max(patience, START)), **options)
        self.patience = patience

    def setup(self, trainer: L.Trainer) -> None:
        if self._layer_sync is not None:  # trainer.sync_batchnorm
            self._layer_sync = LayerSync(self.root_device)
        super().setup(trainer)

    def setup_distributed(self) -> None:
        note = threading.Timer(SLOW, log.info, ("waits up to %g s for all %d ranks to start", START, self.world_size))
        note.daemon = True
        note.start()
        super().setup_distributed()
        note.cancel()
        c10d = torch.distributed.distributed_c10d
        limit = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout  # its name before torch 2.15
        limit(timedelta(seconds=self.patience))

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


def register(timeout: float) -> None:
    """Puts `Strategy` in the place of Lightning's DDP; ranks wait for each other for `timeout` seconds at most."""
    StrategyRegistry.register("ddp", Strategy, override=True, patience=timeout)
    for name, value in (("true", True), ("false", False)):
        name = f"ddp_find_unused_parameters_{name}"
        StrategyRegistry.register(name, Strategy, override=True, find_unused_parameters=value, patience=timeout)


def describe_failed(processes: Sequence[subprocess.Popen]) -> str | None:
    """Describes the first failed one of the processes, which are ranks 1, 2, ...; None if none has failed."""
    for rank, process in enumerate(processes, 1):
        if (status := process.poll()) not in (None, 0):
            return f"rank {rank} (pid {process.pid}) {describe_end(status)}; {AGAIN}"
    return None


@dataclass(frozen=True)
class View:
    """A rank, and what it sees of the data and of the run folder; digests, None for a missing file."""

    rank: int
    host: str
    data: Mapping[str, Any] = field(default_factory=dict)  # fingerprints
    config: str | None = None
    last: str | None = None  # the checkpoint from which it continues


def compare(views: Sequence[View], run: RunFolder) -> None:
    """Raises UserError if a rank sees other files than rank 0; names it."""
    first = views[0]
    for view in views[1:]:
        who = f"rank {view.rank} (on {view.host}) and rank 0 (on {first.host})"
        share = "all nodes must share one folder of runs: give runs=FOLDER on a disk that all of them see"
        for path, here, there in ((run.config, view.config, first.config), (run.last, view.last, first.last)):
            if here == there:
                continue
            fault = "see different files of this name" if here and there else "do not both see this file"
            raise UserError(f"{path}: {who} {fault}; {share}")
        if view.data != first.data:
            raise UserError(f"data.root: {who} see different data; give all nodes the same files")


class Ranks(L.Callback):
    """Compares what the ranks see before anything is trained, and lets SIGTERM end each of them by itself.

    It notes their number in the checkpoints: `trainer.devices=auto` may be another one when a run continues, by which
    its total batch and the length of its schedule would change within the training.

    Args:
        last: digest of the checkpoint from which this rank continues; None if it begins.
        data: fingerprints of the data that this rank sees.

    Raises:
        UserError: ranks see different files, or their number is not that of the checkpoint.
    """

    def __init__(self, run: RunFolder, last: str | None, data: Mapping[str, Any]) -> None:
        self.run, self.last, self.data = run, last, data
        self.num_ranks = 1

    def state_dict(self) -> dict[str, int]:
        return {"num_ranks": self.num_ranks}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        if (before := state_dict["num_ranks"]) != self.num_ranks:
            raise UserError(
                f"{self.run.last}: was trained on {before} devices in all, and now there are {self.num_ranks}: the "
                "total batch and the schedule would be others; continue on as many (trainer.devices, trainer.num_nodes)"
                ", or train anew beside this run with resume=false"
            )

    def setup(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        self.num_ranks = trainer.world_size
        if trainer.world_size == 1 or stage != "fit":
            return
        limit = time.monotonic() + SEEN
        while not self.run.config.is_file() and time.monotonic() < limit:
            time.sleep(0.5)
        config = hashlib.sha256(self.run.config.read_bytes()).hexdigest() if self.run.config.is_file() else None
        views: list[Any] = [None] * trainer.world_size
        mine = View(trainer.global_rank, socket.gethostname(), self.data, config, self.last)
        torch.distributed.all_gather_object(views, mine)
        compare(views, self.run)

    # Lightning's handler ends the training before the next step, without a checkpoint of it, and broadcasts within the
    # handler, for which a rank that is in another step waits until a timeout.
    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        take_sigterm()

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        take_sigterm()


def take_sigterm() -> None:
    """Makes SIGTERM end this rank in place of Lightning's handler."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def digest_last(run: RunFolder) -> str | None:
    """Returns a digest of the last checkpoint's size and end, where its seal is; None if there is none."""
    if not run.last.is_file():
        return None
    with run.last.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 256))
        return hashlib.sha256(size.to_bytes(8, "little") + file.read()).hexdigest()


@contextmanager
def naming_lost_ranks(trainer: L.Trainer, timeout: float) -> Iterator[None]:
    """Raises a UserError that names the rank, if possible, for an error of torch that another rank has caused."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or any(word in str(error).lower() for word in LOST)
        if trainer.world_size == 1 or not lost:
            raise
        raise UserError(describe_lost(trainer, timeout)) from error


def describe_lost(trainer: L.Trainer, timeout: float) -> str:
    """Describes why this rank lost another: one that failed or is stopped on this machine, or else one unknown."""
    launcher = trainer.strategy.launcher
    ranks = launcher.ranks if isinstance(launcher, Launcher) and hasattr(launcher, "ranks") else []
    limit = time.monotonic() + 2
    while ranks and time.monotonic() < limit:  # its connection ends a moment before it does
        if (text := describe_failed(ranks)) is not None:
            return text
        time.sleep(0.1)
    began = torch.distributed.is_initialized()
    within = f"rank_timeout={timeout:g} seconds" if began else f"{max(timeout, START):g} seconds from the start"
    if stopped := stopped_ranks(trainer.global_rank):
        names = ", ".join(f"rank {rank} (pid {process}) is stopped" for rank, process in stopped.items())
        return f"{names}, and the others waited for {within}; {AGAIN}"
    return (
        f"rank {trainer.global_rank} (on {socket.gethostname()}) lost another rank, which ended or gave no answer "
        f"within {within}; that one's own output says why; {AGAIN}"
    )


def stopped_ranks(own: int) -> dict[int, int]:
    """Returns the process ids of stopped ranks on this machine: started by this process, its parent or beside it."""
    parents, found = {os.getpid(), os.getppid()}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            pairs = (pair.partition(b"=") for pair in (folder / "environ").read_bytes().split(b"\0"))
            values = {name: value for name, _, value in pairs}
        except (OSError, ValueError, IndexError):
            continue
        process = int(folder.name)
        rank = int(values.get(b"RANK") or values.get(b"LOCAL_RANK") or 0)
        is_rank = parent in parents and b"LOCAL_RANK" in values
        is_first = process == os.getppid() and b"TORCHELASTIC_RUN_ID" not in os.environb and own > 0
        if (is_rank or is_first) and rank != own and is_stopped(process):
            found[rank] = process
    return found
