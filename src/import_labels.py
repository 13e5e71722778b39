"""Turns an annotation tool's export into a dataset for `data=folder`. `python -m src.import_labels --help`."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from src.config.checks import check_given, one_of
from src.config.cli import launch
from src.config.words import shell_word
from src.data.grouping import IGNORE
from src.data.imports.find import read_export
from src.data.imports.write import BACKGROUND, describe, write_dataset
from src.data.sources.folder import SPLITS
from src.errors import UserError

log = logging.getLogger(__name__)


def import_labels(cfg: DictConfig) -> Path:
    """Draws the masks of an export once. Returns the folder, for data.root.

    Raises:
        UserError: a value out of range, a fault of the export, or something is in the folder already.
    """
    check_given(cfg)
    if cfg.split is not None:
        one_of("split", cfg.split, SPLITS)
    one_of("unlabelled", cfg.unlabelled, (IGNORE, BACKGROUND))
    if not isinstance(cfg.link, bool):
        raise UserError(f"link={cfg.link}: must be true or false")
    classes = None if cfg.classes is None else [str(name) for name in cfg.classes]
    images = None if cfg.images is None else Path(str(cfg.images)).expanduser()
    out = Path(cfg.out).expanduser()
    export = read_export(Path(cfg.input).expanduser(), cfg.format, images, classes)
    drawn, notes = write_dataset(export, out, cfg.split, cfg.unlabelled, classes, link=cfg.link)
    for line in (*notes, *describe(drawn, cfg.unlabelled)):
        log.info("%s", line)
    log.info("look at it: python -m src.check data=folder %s", shell_word("data.root", out))
    return out


if __name__ == "__main__":
    launch(import_labels, "import_labels")
