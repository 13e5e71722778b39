"""Plans an evaluation: the run, the split, the parts beside its confusion matrices, a run to compare with."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from src.config.export_plan import find_engine
from src.config.reopen import load_data, load_run
from src.data.source import Sample, Source
from src.errors import UserError, whole
from src.evaluation.against import comparable
from src.evaluation.exported import EngineFile
from src.evaluation.extras import Extras
from src.runs.folder import RunFolder
from src.runs.records import Evaluation
from src.runs.zoo import find_run, nearest_runs, output_folder

WIDEST = 100  # pixels of a boundary


@dataclass(frozen=True)
class EvaluationPlan:
    """Everything that src.eval needs; `config` is the run's."""

    run: RunFolder
    config: DictConfig
    source: Source
    split: str
    extras: Extras
    folder: RunFolder  # for the figures: the run's own, or that of a published one
    other: RunFolder | None  # a run to compare with
    candidates: list[Evaluation]  # its evaluations on the split
    engine: EngineFile | None  # an exported file that runs in place of the network


def plan_evaluation(cfg: DictConfig) -> EvaluationPlan:
    """Finds the run and the data of a composed `conf/eval.yaml`.

    Raises:
        UserError: no such run, data or split, a split without labels, a value out of range, nothing to compare with.
    """
    run, config = load_run(cfg)
    engine = find_engine(cfg, run, config)
    extras = read_extras(cfg)
    source, split, samples = load_data(cfg, run, config)
    source.check_labelled(split)
    if extras.birdseye:
        check_birdseye(source, samples, config.inference)
    other, candidates = None, []
    if cfg.against is not None:
        path = find_run(cfg.against)
        if not path.is_dir():
            raise UserError(f"against={cfg.against}: no run folder there{nearest_runs(Path(path))}")
        other = output_folder(RunFolder(path))
        candidates = comparable(other, split)
    return EvaluationPlan(run, config, source, split, extras, output_folder(run), other, candidates, engine)


def read_extras(cfg: DictConfig) -> Extras:
    """Returns the extras of a composed `conf/eval.yaml`. Raises UserError for a value out of range."""
    for key in ("predictions", "birdseye"):
        if cfg[key] not in (True, False):
            raise UserError(f"{key}={cfg[key]}: must be true or false")
    widths = cfg.boundary
    is_list = isinstance(widths, ListConfig) and all(type(each) is int and 1 <= each <= WIDEST for each in widths)
    if not is_list or len(set(widths)) != len(widths):
        raise UserError(f"boundary={widths}: must be a list of different widths in pixels, 1 to {WIDEST}, as [3,5]")
    whole("worst", cfg.worst, 0)
    whole("suspects", cfg.suspects, 0)
    return Extras(cfg.predictions, cfg.worst, tuple(widths), cfg.suspects, cfg.birdseye)


def check_birdseye(source: Source, samples: list[Sample], inference: DictConfig) -> None:
    """Raises UserError unless all samples have the calibration of a bird's-eye view, and are counted as they are."""
    if source.detected is None or any(source.read_road_plane(sample) is None for sample in samples):
        raise UserError(f"birdseye=true: is for data=kitti_road, not {source.labels}; leave it out")
    if inference.labels != "own" or inference.crop is not None:
        raise UserError(
            f"birdseye=true: the calibration is that of the whole image, not with inference.labels={inference.labels} "
            f"inference.crop={inference.crop}; add inference.labels=own inference.crop=null"
        )
