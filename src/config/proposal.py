"""The proposal of crop and batch size that `src.check` prints: builds the network that the command line chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from src.data.tools.check import Report

if TYPE_CHECKING:
    from src.reports.proposal import Proposal


def propose_training(cfg: DictConfig, report: Report) -> Proposal | None:
    """Returns a proposal for the train split of a dataset and the network of a composed config; None without images."""
    found = (reading.size for reading in report.readings.get("train", ()))
    sizes = [(size[0], size[1]) for size in found if size]
    if not sizes:
        return None
    from src.reports.proposal import machine_memory, propose, training_cost  # imports torch

    with open_dict(cfg):
        cfg.data.classes = {name: list(colour) for name, colour in report.source.classes.items()}
        cfg.backbone.weights = None  # the memory is the same without
    memory = machine_memory()
    architecture = instantiate(cfg.model, _convert_="all")
    return propose(sizes, len(sizes), training_cost(architecture, autocast=memory.is_gpu), memory)
