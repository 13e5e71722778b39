"""Packs a dataset: decodes it once, so that training reads pixels instead of PNGs. `python -m src.pack --help`."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from src.config.build import build_dataset
from src.config.checks import check_form, check_has_files, count_workers, list_splits
from src.config.cli import launch
from src.data.packed import attach, default_folder
from src.data.source import FileSource
from src.data.tools.pack import pack_split, verify_split

log = logging.getLogger(__name__)


def pack(cfg: DictConfig) -> Path:
    """Packs `cfg.splits` of the dataset. Returns the folder of the pack."""
    check_has_files(cfg, "pack")
    check_form(cfg.data)
    source = build_dataset(cfg.data.dataset, cfg.data)
    assert isinstance(source, FileSource)
    folder = Path(cfg.out).expanduser() if cfg.out else default_folder(source)
    num_threads = count_workers("num_threads", cfg.num_threads)
    for split in list_splits(cfg.splits):
        log.info("%s: %s", split, pack_split(source, split, folder, num_threads))
        if cfg.verify:
            log.info("%s: %s", split, verify_split(source, split, folder, num_threads))
    attach(source, str(folder))
    used = "training with this data.root uses it" if folder == default_folder(source) else f"use it: data.pack={folder}"
    log.info("%s; %s", folder, used)
    return folder


if __name__ == "__main__":
    launch(pack, "pack")
