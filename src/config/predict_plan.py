"""Plans a prediction: the run, the images by the names of their outputs, and the folder for these."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.build import image_form
from src.config.export_plan import find_engine
from src.config.flat import digest, flatten, to_dict
from src.config.kinds import is_number
from src.config.reopen import AS_RUN, load_data, load_run
from src.data.fingerprint import file_content
from src.data.frame import RGB
from src.data.reading import read_image
from src.errors import UserError, shortened, whole
from src.evaluation.exported import EngineFile
from src.evaluation.inputs import (
    Photo,
    film_of,
    film_size,
    find_inputs,
    is_camera,
    note_scale,
    read_sample,
    trained_short_side,
)
from src.evaluation.ledger import Ledger
from src.evaluation.optional import need
from src.evaluation.raster_files import is_raster
from src.evaluation.wanted import OUTPUTS, USUAL, USUAL_OF_FILM, Wanted
from src.files import claim
from src.runs.folder import RunFolder
from src.runs.zoo import output_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Everything that src.predict needs; `config` is the run's.

    Args:
        photos: the images; none if `film` is given.
        film: a video file or the device of a camera.
        settings: all that changes a prediction.
    """

    run: RunFolder
    config: DictConfig
    photos: list[Photo]
    film: Path | None
    wanted: Wanted
    output: Path
    settings: dict[str, Any]
    engine: EngineFile | None = None  # an exported file that runs in place of the network


def plan_prediction(cfg: DictConfig) -> Prediction:
    """Finds the images of a composed configuration; logs what is left out, and the scale of the training.

    Raises:
        UserError: no such run or images, an output folder of somebody else or with predictions by other settings, a
            value out of range, a package that is not installed.
    """
    for key in ("labels", "crop"):
        if cfg.inference[key] != AS_RUN:
            raise UserError(
                f"inference.{key}={cfg.inference[key]}: a prediction has the whole image's size; leave it out"
            )
    run, config = load_run(cfg)
    engine = find_engine(cfg, run, config)
    check_given_inputs(cfg)
    film = film_of(cfg.input) if isinstance(cfg.input, str) else None
    wanted = wanted_outputs(cfg, dict(config.data.classes), is_film=film is not None)
    if film is not None:
        need("av", "video", f"input={film}", "a video")
        if image_form(config.data) != RGB:
            raise UserError(f"input={film}: a film has 8 bits of red, green and blue, and this run learnt other images")
        photos, title = [], film.resolve().stem
        if not is_camera(film):
            note_trained_scale(config, [film], film_size)
    else:
        photos, title = list_photos(cfg, run, config)
    output = Path(cfg.output) if cfg.output else output_folder(run).path / "predictions" / title
    settings = describe_settings(cfg, run, config, wanted)
    if engine is not None:
        settings["engine"] = engine.record.digest
    claim(output, "output")
    Ledger(output, settings).check()
    return Prediction(run, config, photos, film, wanted, output, settings, engine)


def check_given_inputs(cfg: DictConfig) -> None:
    """Raises UserError for values out of range, or for an input and a split at once."""
    if cfg.format not in ("pictures", "labelids"):
        raise UserError(f"format={cfg.format}: must be pictures or labelids")
    if not (is_number(cfg.opacity) and 0 <= cfg.opacity <= 1):
        raise UserError(f"opacity={cfg.opacity}: must be a number in 0..1")
    if (cfg.input is None) == (cfg.split is None):
        raise UserError("give either input=FILE or FOLDER, or split=NAME of the run's dataset")
    for key in ("recursive", "palette"):
        if cfg[key] not in (True, False):
            raise UserError(f"{key}={cfg[key]}: must be true or false")
    if cfg.batch_size != "auto":
        whole("batch_size", cfg.batch_size, 1, also="auto")
    if cfg.frames is not None:
        whole("frames", cfg.frames, 1, also="null")
    film = film_of(cfg.input) if isinstance(cfg.input, str) else None
    if cfg.frames is not None and film is None:
        raise UserError(f"frames={cfg.frames}: counts those of a video or a camera, and input is none; leave it out")
    if cfg.batch_size != "auto" and film is not None:
        raise UserError(f"batch_size={cfg.batch_size}: frames of a film are seen one by one; leave it out")
    if cfg.palette and (cfg.format == "labelids" or (cfg.outputs is not None and "labels" not in cfg.outputs)):
        raise UserError("palette=true: is of the label PNGs of format=pictures, which are not asked for; leave it out")
    if cfg.format == "labelids":
        if cfg.input is not None:
            raise UserError("format=labelids: a server wants the names of its own dataset; give split=test, not input")
        for key in ("outputs", "classes"):
            if cfg[key] is not None:
                raise UserError(f"{key}={cfg[key]}: a server wants all label ids; leave it out with format=labelids")


def wanted_outputs(cfg: DictConfig, classes: dict[str, list[int]], *, is_film: bool) -> Wanted:
    """Returns the outputs that are asked for. UserError for a name that is none."""
    outputs = names_of("outputs", cfg.outputs, OUTPUTS) or (USUAL_OF_FILM if is_film else USUAL)
    kept = names_of("classes", cfg.classes, list(classes))
    ordered = tuple(name for name in OUTPUTS if name in outputs)
    return Wanted(ordered, classes, kept, cfg.opacity, cfg.palette)


def names_of(key: str, given: Any, known: Sequence[str]) -> tuple[str, ...] | None:
    """Returns the names that a key has, of which one may stand by itself; None for null. UserError for others."""
    if given is None:
        return None
    names = [str(name) for name in given] if isinstance(given, ListConfig) else [str(given)]
    if not names or (unknown := [name for name in names if name not in known]):
        raise UserError(
            f"{key}={given}: has {shortened(unknown) if names else 'no name'}; give some of {', '.join(known)}"
        )
    return tuple(names)


def describe_settings(cfg: DictConfig, run: RunFolder, config: DictConfig, wanted: Wanted) -> dict[str, Any]:
    """Returns all that changes a prediction, by dotted keys, the weights by their content."""
    return {
        "checkpoint": file_content(run.checkpoint(cfg.checkpoint)),
        "network": digest(to_dict(config.task.network)),
        "classes": list(wanted.kept) if wanted.kept is not None else None,
        "colours": digest(list(map(list, wanted.classes.items()))),
        **flatten(to_dict(config.inference, resolve=True), "inference"),
        "precision": str(config.trainer.precision),
        "images": str(image_form(config.data)),
        "format": cfg.format,
        "opacity": float(cfg.opacity),
        "palette": cfg.palette,
    }


def list_photos(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[list[Photo], str]:
    """Returns the images by the names of their outputs, and a title for the folder of these."""
    if cfg.split is not None:
        source, split, samples = load_data(cfg, run, config)
        is_official = cfg.format == "labelids"
        if is_official and source.grouping:
            raise UserError(
                f"format=labelids: the server wants the classes of {source.grouping.labels}, and this run learnt "
                "others (data.merge, data.ignore); use format=pictures"
            )
        photos = [
            Photo(
                source.official_path(sample) if is_official else f"{sample.name}.png", sample.image,
                partial(read_sample, source, sample), source.drawing(sample),
            )
            for sample in samples
        ]  # fmt: skip
        return photos, f"{split}_labelids" if is_official else split
    given = [str(each) for each in cfg.input] if isinstance(cfg.input, ListConfig) else cfg.input
    found = find_inputs(given, recursive=cfg.recursive)
    for line in found.left_out:
        log.warning("%s", line)
    files = list(found.files.values())
    if len(files) == 1 and is_raster(files[0]):
        need("rasterio", "geo", f"input={files[0]}", "a GeoTIFF or an image of this size")
    note_trained_scale(config, files)
    form = image_form(config.data)
    return [Photo(name, file, partial(read_image, file, form)) for name, file in found.files.items()], found.title


def note_trained_scale(
    config: DictConfig, files: list[Path], size_of: Callable[[Path], tuple[int, int]] | None = None
) -> None:
    """Logs the scale of the training's images, and which files the network would see at another one."""
    resize = OmegaConf.select(config, "augmentation.geometry.resize")
    plain = to_dict(resize) if isinstance(resize, DictConfig) else resize
    if trained := trained_short_side(config.data.image_size, plain):
        shown = config.inference.short_side or (min(config.inference.size) if config.inference.size else None)
        for line in note_scale(files, trained, shown, size_of):
            log.warning("%s", line)
