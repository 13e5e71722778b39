"""Plans a prediction: the run, the images by the names of their outputs, and the folder for these."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from src.config.build import image_form
from src.config.flat import to_dict
from src.config.kinds import is_number
from src.config.reopen import AS_RUN, load_data, load_run
from src.data.reading import read_image
from src.errors import UserError
from src.evaluation.inputs import Images, check_output, find_images, note_scale, read_sample, trained_short_side
from src.runs.folder import RunFolder
from src.runs.zoo import output_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Everything that src.predict needs; `config` is the run's."""

    run: RunFolder
    config: DictConfig
    images: Images
    output: Path


def plan_prediction(cfg: DictConfig) -> Prediction:
    """Finds the images of a composed configuration; logs what is left out, and the scale of the training.

    Raises:
        UserError: no such run or images, an output folder that is not empty, a value out of range.
    """
    for key in ("labels", "crop"):
        if cfg.inference[key] != AS_RUN:
            raise UserError(
                f"inference.{key}={cfg.inference[key]}: a prediction has the whole image's size; leave it out"
            )
    run, config = load_run(cfg)
    images, title = list_images(cfg, run, config)
    output = check_output(Path(cfg.output) if cfg.output else output_folder(run).path / "predictions" / title)
    return Prediction(run, config, images, output)


def list_images(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[Images, str]:
    """Returns the images by the names of their outputs, and a title for the folder of these."""
    if cfg.format not in ("pictures", "labelids"):
        raise UserError(f"format={cfg.format}: must be pictures or labelids")
    if not (is_number(cfg.opacity) and 0 <= cfg.opacity <= 1):
        raise UserError(f"opacity={cfg.opacity}: must be a number in 0..1")
    if (cfg.input is None) == (cfg.split is None):
        raise UserError("give either input=FILE or FOLDER, or split=NAME of the run's dataset")
    if cfg.split is not None:
        source, split, samples = load_data(cfg, run, config)
        is_official = cfg.format == "labelids"
        if is_official and source.grouping:
            raise UserError(
                f"format=labelids: the server wants the classes of {source.grouping.labels}, and this run learnt "
                "others (data.merge, data.ignore); use format=pictures"
            )
        names = [source.official_path(sample) if is_official else f"{sample.name}.png" for sample in samples]
        reads = [partial(read_sample, source, sample) for sample in samples]
        return dict(zip(names, reads, strict=True)), f"{split}_labelids" if is_official else split
    if cfg.format == "labelids":
        raise UserError("format=labelids: a server wants the names of its own dataset; give split=test, not input")
    if cfg.recursive not in (True, False):
        raise UserError(f"recursive={cfg.recursive}: must be true or false")
    path = Path(cfg.input)
    found = find_images(path, recursive=cfg.recursive)
    for line in found.left_out:
        log.warning("%s", line)
    resize = OmegaConf.select(config, "augmentation.geometry.resize")
    plain = to_dict(resize) if isinstance(resize, DictConfig) else resize
    if trained := trained_short_side(config.data.image_size, plain):
        shown = config.inference.short_side or (min(config.inference.size) if config.inference.size else None)
        for line in note_scale(list(found.files.values()), trained, shown):
            log.warning("%s", line)
    return {
        name: partial(read_image, file, form=image_form(config.data)) for name, file in found.files.items()
    }, path.resolve().stem
