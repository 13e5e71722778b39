"""Checks a dataset: reads every file, names all faults, shows its contents. `python -m src.check --help`."""

import logging
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.config.build import build_dataset
from src.config.checks import check_form, check_has_files, count_workers, list_splits
from src.config.cli import launch
from src.config.proposal import propose_training
from src.data.source import FileSource
from src.data.tools.check import Report, check
from src.errors import UserError, whole
from src.files import claim
from src.reports.data_check import as_text, summary, write_report

log = logging.getLogger(__name__)


def check_data(cfg: DictConfig) -> Report:
    """Checks the dataset of a composed config; writes report.json, report.md and contact_sheet.png to `cfg.out`.

    Raises:
        UserError: a value out of range, or a fault with which training would fail or its figures would be wrong.
    """
    check_has_files(cfg, "check")
    check_form(cfg.data)
    num_samples = whole("num_samples", cfg.num_samples, 0)
    processes = count_workers("num_processes", cfg.num_processes)
    splits = None if cfg.splits is None else list_splits(cfg.splits)
    start, folder = time.perf_counter(), Path(cfg.out).expanduser()
    claim(folder, "out")
    # Reports name files by paths that do not depend on the folder of the command.
    root = Path(cfg.data.root).expanduser().absolute()
    source = build_dataset(cfg.data.dataset, cfg.data, root=str(root))
    assert isinstance(source, FileSource)
    report = check(source, splits, processes)
    seconds = time.perf_counter() - start
    write_report(report, cfg.data.name, folder, num_samples)
    log.info(
        "%s\n%d images in %.1f s; report and contact sheet: %s", as_text(report), report.num_images, seconds, folder
    )
    if report.errors:
        raise UserError(f"{summary(report)} in {root}; {folder / 'report.md'} names every file")
    log.info("%s: %s", cfg.data.name, summary(report))
    if cfg.propose and (proposal := propose_training(cfg, report)) is not None:
        log.info("proposal for model=%s: %s", HydraConfig.get().runtime.choices["model"], proposal)
    return report


if __name__ == "__main__":
    launch(check_data, "check")
