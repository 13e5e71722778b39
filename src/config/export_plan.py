"""Plans an export: the run, the kind of file, its place, and the images by which it is compared."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.build import image_form
from src.config.checks import one_of
from src.config.kinds import is_number
from src.config.reopen import AS_RUN, load_data, load_run
from src.config.saved import ENSEMBLE
from src.data.frame import ImageForm
from src.data.listing import list_images
from src.data.reading import read_image
from src.errors import UserError, whole
from src.evaluation.exported import (
    ENGINES,
    HEADS,
    PRECISIONS,
    SUFFIXES,
    EngineFile,
    Examples,
    ExportOptions,
    parts,
    read_export,
)
from src.runs.folder import RunFolder
from src.runs.zoo import output_folder

TORCH = "torch"  # the value of `engine` that runs no exported file
DEVICES = ("auto", "cpu")  # of an engine


@dataclass(frozen=True)
class ExportPlan:
    """Everything that src.export needs; `config` is the run's."""

    run: RunFolder
    config: DictConfig
    path: Path
    options: ExportOptions
    examples: Examples


def plan_export(cfg: DictConfig) -> ExportPlan:
    """Plans the export of a composed `conf/export.yaml`.

    Raises:
        UserError: no such run, checkpoint or images, a value out of range, a file of that name.
    """
    options = read_options(cfg)
    # `precision` is that of the file here, and not that of an evaluation.
    run, config = load_run(OmegaConf.merge(cfg, {"precision": AS_RUN}))  # pyright: ignore[reportArgumentType]
    if config.task.network._target_ == ENSEMBLE:
        members = ", ".join(config.aggregate.runs)
        raise UserError(f"run={cfg.run}: is an ensemble, which is not exported as one file; export its runs: {members}")
    path = _free_path(cfg, options, run)
    return ExportPlan(run, config, path, options, find_examples(cfg, run, config))


def read_options(cfg: DictConfig) -> ExportOptions:
    """Returns the kind of file that a configuration asks for. Raises UserError for a value out of range."""
    form = one_of("format", cfg.format, tuple(SUFFIXES))
    if cfg.precision not in PRECISIONS[form]:
        formats = " or ".join(f"format={name}" for name, known in PRECISIONS.items() if cfg.precision in known)
        raise UserError(
            f"precision={cfg.precision}: format={form} takes {', '.join(PRECISIONS[form])}"
            + (f"; {formats} takes it" if formats else "")
        )
    head = one_of("head", cfg.head, HEADS)
    if form == "safetensors" and (head != HEADS[0] or cfg.size is not None):
        raise UserError("format=safetensors: holds weights only, without a head or a size; leave head= and size= out")
    if cfg.measured is not None:
        whole("measured", cfg.measured, 1, also="null")
    if cfg.most_lost is not None and not (is_number(cfg.most_lost) and 0 <= cfg.most_lost <= 1):
        raise UserError(f"most_lost={cfg.most_lost}: must be null or a share of 1, such as 0.01 for a point of mIoU")
    return ExportOptions(
        form, cfg.precision, head, _read_size(cfg.size), whole("batch_size", cfg.batch_size, 1),
        whole("calibration", cfg.calibration, 1), cfg.measured, cfg.most_lost,
    )  # fmt: skip


def _read_size(given: Any) -> tuple[int, int] | None:
    if given is None:
        return None
    if not isinstance(given, ListConfig) or len(given) != 2:
        raise UserError(f"size={given}: must be [H, W], the only size that the file takes, or null for any size")
    height, width = (whole("size", side, 1) for side in given)
    return height, width


def _free_path(cfg: DictConfig, options: ExportOptions, run: RunFolder) -> Path:
    """Returns the path of the file to be written. Raises UserError if something is there, or for a wrong suffix."""
    suffix = SUFFIXES[options.format]
    path = Path(cfg.out) if cfg.out else output_folder(run).path / file_name(options)
    if path.suffix != suffix:
        raise UserError(f"out={cfg.out}: must end in {suffix} for format={options.format}")
    for part in parts(path):
        if part.exists():
            raise UserError(f"{part}: exists, and nothing is overwritten; give another out=FILE, or remove it")
    return path


def file_name(options: ExportOptions) -> str:
    """Returns the name of an exported file: `network.onnx`, `network-int8.onnx`, `network-labels.onnx`."""
    marks = [options.precision] if options.precision != "fp32" else []
    marks += [options.head] if options.head != HEADS[0] else []
    marks += ["{}x{}".format(*options.size)] if options.size else []
    return "-".join(["network", *marks]) + SUFFIXES[options.format]


def find_examples(cfg: DictConfig, run: RunFolder, config: DictConfig) -> Examples:
    """Returns the images that compare a file: of the run's validation split, or of a folder, which have no labels.

    Raises:
        UserError: there are none; says how to give others.
    """
    if cfg.images != AS_RUN:
        folder = Path(str(cfg.images)).expanduser()
        files = list_images(folder) if folder.is_dir() else []
        if not files:
            raise UserError(f"images={cfg.images}: no folder with images there; give one, or leave it out")
        form = image_form(config.data)
        return Examples(f"{cfg.images} ({len(files)} images)", [partial(_read_file, file, form) for file in files])
    try:
        source, split, samples = load_data(OmegaConf.create({"split": AS_RUN}), run, config)
    except UserError as error:
        raise UserError(f"{error}; or give images=FOLDER of photos to compare the file by") from error
    return Examples(f"{split} ({len(samples)} images)", [partial(source.read, sample) for sample in samples])


def _read_file(path: Path, form: ImageForm) -> tuple[Any, None]:
    return read_image(path, form), None


def find_engine(cfg: DictConfig, run: RunFolder, config: DictConfig) -> EngineFile | None:
    """Returns the exported file that `cfg.engine` names, or None for `torch`; settles device and precision in both.

    Raises:
        UserError: no such file or a damaged one, another format, a device or a precision that an engine does not have.
    """
    if cfg.engine == TORCH:
        return None
    path = Path(str(cfg.engine))
    if cfg.engine in ENGINES:
        path = output_folder(run).path / file_name(ExportOptions(format=cfg.engine))
    form = next((form for form in ENGINES if SUFFIXES[form] == path.suffix), None)
    if form is None:
        suffixes = " or ".join(SUFFIXES[form] for form in ENGINES)
        raise UserError(
            f"engine={cfg.engine}: must be {TORCH}, {', '.join(ENGINES)}, or a {suffixes} file of src.export"
        )
    for key, known in (("accelerator", DEVICES), ("precision", (AS_RUN, "32-true"))):
        if cfg[key] not in known:
            raise UserError(
                f"{key}={cfg[key]}: an exported file has its own precision and runs on the CPU; leave {key}= out with "
                f"engine={cfg.engine}"
            )
    record = read_export(path, f"make it: python -m src.export run={cfg.run} format={form}")
    cfg.accelerator, config.trainer.precision = "cpu", "32-true"
    return EngineFile(path, record)
