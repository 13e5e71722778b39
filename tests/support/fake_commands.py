"""Stand-ins for the commands that crossval and stages run as child processes, in place of `children.run_module`."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.fingerprint import fingerprint
from src.data.folds import Split
from src.data.streets.source import Streets
from src.files import write_json
from src.folds.stages import WINNER
from src.processes.children import PROMPT
from src.runs.folder import AVERAGE, FOLDS, RunFolder
from src.runs.records import AverageRecord, CandidateRecord, FoldRecord, FoldsRecord, Taint
from src.runs.statistics import summarise
from tests.support.paths import TINY
from tests.support.records import evaluation

# Command lines whose commands these stand-ins take the place of.
THREE_FOLDS = (*TINY, "data.num_folds=3", "data.fold_gap=0")
WITHOUT_EPOCHS = tuple(word for word in TINY if "max_epochs" not in word)
TWO_STAGES = (*WITHOUT_EPOCHS, "stages=two", "data.num_folds=2", "data.fold_gap=0")


class FakeFolds:
    """In place of src.train and src.eval: notes commands and devices, and writes the results of runs.

    Fold k hits 10 + k of 40 pixels of each of two classes on its own part, and 20 + k on val.

    Attributes:
        commands: the module and the fold of each command.
        words: the arguments of each command.
        failing: modules and folds that fail.
        most: the most commands that ran at the same time.
    """

    def __init__(self) -> None:
        self.commands: list[tuple[str, int]] = []
        self.words: list[Sequence[str]] = []
        self.devices: list[str | None] = []
        self.failing: set[tuple[str, int]] = set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def run_module(self, command: Sequence[str], log: Path, device: str | None = None) -> int:
        """Writes what the command would write into the run folder of its fold, which lies beside its log."""
        (module, *words), run = command, RunFolder(log.with_suffix(""))
        fold = int(run.path.name.removeprefix("fold"))
        given = [f"data.fold={fold}", f"runs='{run.path.parent}'", f"name={run.path.name}"]
        assert set(given if module == "src.train" else [f"run='{run.path}'", "split=val"]) <= set(words)
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.05)
        with self.lock:
            self.at_once -= 1
            self.commands.append((module, fold))
            self.words.append(words)
            self.devices.append(device)
        with log.open("a") as file:
            file.write(f"{PROMPT}{' '.join(command)}\n")
            if (module, fold) in self.failing:
                file.write("error: data.batch_size=0: must be a whole number\n")
                return 1
        own = module == "src.train"
        hits = (10 if own else 20) + fold
        split = Split("fold", fold, 3, "block", gap=0) if own else "val"
        source = Streets(size=(64, 96), num_train=4, num_val=3)  # of TINY
        data = fingerprint(source, source.samples("train" if own else "val"))
        matrix = np.array([[hits, 40 - hits], [40 - hits, hits]])
        run.add_evaluation(evaluation(split, matrix=matrix, data=data), finished=own)
        run.metrics.write_text("step,epoch,val/miou\n9,0,0.5\n")
        return 0


class FakeStages:
    """In place of src.crossval and src.aggregate: notes their commands, and writes their records.

    Attributes:
        commands: the commands.
        failing: index of the command that fails.
        figures: mIoU of the folds.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failing: int | None = None
        self.figures = [0.7, 0.8]

    def run_module(self, command: Sequence[str], log: Path, device: str | None = None) -> int:
        """Writes what the command would write into the folder of its stage, which lies beside its log."""
        self.commands.append(list(command))
        folder, given = log.with_suffix(""), dict(word.partition("=")[::2] for word in command[1:])
        log.write_text(f"{PROMPT}{' '.join(command)}\n")
        if len(self.commands) - 1 == self.failing:
            log.write_text(f"{PROMPT}{' '.join(command)}\nerror: no space left\n")
            return 1
        own = Split("fold", 0, 2, "group", seed=42)
        if command[0] == "src.crossval":
            run = RunFolder(folder / "fold0")
            run.path.mkdir(parents=True, exist_ok=True)
            run.metrics.write_text("step,epoch,val/miou\n9,0,0.5\n")
            taints = [Taint("trained", 2)] if "init_from" in given else []
            fold = FoldRecord(0, str(run.path), str(log), "done", None, evaluation(own, taints), evaluation("val"))
            write_json(folder / FOLDS, FoldsRecord((fold,), {"own": summarise(self.figures)}))
        else:
            run = RunFolder(folder / WINNER)
            run.add_evaluation(evaluation("val"), finished=True)
            candidate = CandidateRecord("best run", ("fold0",), True, evaluation(own), evaluation("val"))
            write_json(run.path / AVERAGE, AverageRecord(given["select_on"], "best run", (candidate,)))
            run.config.write_text("data: {classes: {a: [1, 2, 3], b: [4, 5, 6]}}\n")
        return 0
