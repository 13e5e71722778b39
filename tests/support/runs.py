"""Run folders without a training."""

from pathlib import Path

import torch
from hydra.utils import instantiate

from src.config.build import build_data
from src.config.complete import complete
from src.config.open import open_run
from src.evaluation.measure import evaluate, evaluation_trainer
from src.runs.folder import RunFolder
from src.runs.seal import seal
from tests.support.compose import composed


def make_run(runs: Path, *words: str) -> RunFolder:
    """A finished run whose network has random weights: what a training writes, without the training."""
    with composed("train", *words, f"runs={runs}", "name=first") as cfg:
        prepared = complete(cfg)
        run, config = open_run(prepared)
    torch.manual_seed(0)
    task, data = instantiate(config.task), build_data(config.datamodule, prepared.source, augmentation=None)
    run.best.parent.mkdir()
    torch.save({"state_dict": task.state_dict(), "epoch": 2, "global_step": 6}, run.best)
    seal(run.best)
    run.note_session()
    run.note_end()
    trainer = evaluation_trainer("cpu", "32-true", with_progress=False)
    run.add_evaluation(evaluate(trainer, task, data, run, "val", "best"), finished=True)
    return run
