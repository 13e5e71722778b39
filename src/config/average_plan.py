"""Plans an average: opens its runs, checks that they belong together, and derives the configuration of the winner."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.build import build_data
from src.config.checks import one_of
from src.config.flat import differing_keys, digest, flatten, literal, to_dict
from src.config.identity import identity
from src.config.reopen import AS_RUN, load_data, load_run
from src.config.saved import ENSEMBLE, config_text, read_config
from src.data.fingerprint import fingerprint, training_fingerprints
from src.data.folds import Folds
from src.data.source import Source
from src.errors import UserError, whole
from src.files import has_file
from src.folds.aggregate import AveragePlan, RunToAverage
from src.runs.folder import AVERAGE, RunFolder
from src.runs.origin import find_origin
from src.runs.zoo import OUTPUTS, find_run

# Parts of configurations, and the words for a difference. Averages of probabilities need not share the first.
SHARED = (
    ("task.network", "different networks"),
    ("task.inference", "different protocols"),
    ("datamodule.dataset", "different data"),
    ("data.fingerprint", "different data"),
)
REMEDIES = {
    "task.inference": "give inference....=... for all",
    "task.network": "average runs that share it, or their probabilities by keep=ensemble",
}
# Last parts of keys that say where such a part began.
PLACES = {"task.network": ("weights", "init"), "datamodule.dataset": ("root",)}
SELECTIONS = ("fold_val", "official_val", "holdout")
KEPT = ("network", "ensemble")
# Options that decide the winner.
QUESTION = ("top_k", "select_on", "holdout", "batchnorm_images", "inference", "precision")


@dataclass(frozen=True)
class OpenedRun:
    """A run to average with its configuration, its dataset, and a digest of its best checkpoint."""

    run: RunFolder
    config: DictConfig
    source: Source
    digest: str


def plan_average(cfg: DictConfig) -> tuple[AveragePlan, DictConfig | None]:
    """Plans an average, as far as that needs no torch; also returns the logger of its runs.

    Raises:
        UserError: see `open_runs` and `check_selection`; the folder `out` holds something else.
    """
    runs = open_runs(cfg)
    check_selection(cfg, runs)
    question = question_digest(cfg, runs)
    first = runs[0].run
    beside = OUTPUTS if first.is_published else first.path.parent
    run = RunFolder(Path(cfg.out) if cfg.out else beside / f"aggregate-{question}")
    if has_file(run.config) and OmegaConf.select(read_config(run.config), "aggregate.digest") != question:
        raise UserError(f"out={run.path}: holds another run; give another out=FOLDER, or leave it out")
    config = winner_config(cfg, runs, run, question)
    plan = AveragePlan(
        run,
        # Runs of one folder are those of one command; others have only this average in common.
        group=(run.path if cfg["from"] is None else Path(cfg["from"])).name,
        members=[
            RunToAverage(
                each.run,
                partial(build_data, each.config.datamodule, each.source, augmentation=None),
                partial(instantiate, each.config.task),
            )
            for each in runs
        ],
        select_on=cfg.select_on,
        holdout=cfg.holdout,
        top_k=cfg.top_k,
        batchnorm_images=cfg.batchnorm_images,
        is_one_network=_is_one_network(runs),
        keeps_ensemble=cfg.keep == "ensemble",
        accelerator=cfg.accelerator,
        precision=config.trainer.precision,
        seed=config.seed,
        build_data=partial(build_data, config.datamodule, runs[0].source),
        build_task=partial(instantiate, config.task),
        identity=identity(config),
        config=config_text(config),
    )
    return plan, runs[0].config.logger


def open_runs(cfg: DictConfig) -> list[OpenedRun]:
    """Opens the runs of `runs`, in that order, or of the folder `from`, in the order of their names.

    Raises:
        UserError: neither or both given; fewer than two runs, or one twice; a run that is not finished, or that differs
            from the first in labels, network, normalisation, data or protocol.
    """
    one_of("keep", cfg.keep, KEPT)
    if (cfg.runs is None) == (cfg["from"] is None):
        raise UserError("give runs=[runs/A,runs/B,...] or from=FOLDER of run folders, and not both")
    if cfg.runs is not None:
        paths = [find_run(path) for path in cfg.runs]
    elif Path(cfg["from"]).is_dir():
        found = sorted(path.parent for path in Path(cfg["from"]).glob("*/config.yaml"))
        paths = [path for path in found if not (path / AVERAGE).is_file()]
    else:
        raise UserError(f"from={cfg['from']}: no such folder")
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        given = ", ".join(map(str, paths)) or "none"
        raise UserError(f"an average needs two runs or more, each once; given: {given}")
    runs = [open_run_to_average(cfg, path) for path in paths]
    for other in runs[1:]:
        check_same(runs[0], other, SHARED[1:] if cfg.keep == "ensemble" else SHARED)
    return runs


def open_run_to_average(cfg: DictConfig, path: Path) -> OpenedRun:
    """Opens one run under the protocol and with the place of the data that `cfg` asks for.

    Raises:
        UserError: it is not finished, or the data there are not those that it was trained on.
    """
    shared = {key: cfg[key] for key in ("inference", "accelerator", "precision", "data")}
    wanted = OmegaConf.create({"run": literal(str(path)), "checkpoint": "best", "split": AS_RUN, **shared})
    run, config = load_run(wanted)
    if not run.read_results().finished:
        raise UserError(f"{path} is not finished; repeat the command that began it, or leave it out of runs=[...]")
    source, _, _ = load_data(wanted, run, config)
    data = training_fingerprints(source, Folds(**config.datamodule.folds))  # as the files are now
    if "val" in source.splits and "val" not in source.unlabelled:
        data["val"] = fingerprint(source, source.samples("val"))
    trained = to_dict(config.data).get("fingerprint") or {}
    if changed := [split for split in trained if data.get(split, trained[split]) != trained[split]]:
        root = to_dict(config.datamodule.dataset).get("root", "its dataset")
        raise UserError(
            f"{path} was trained on other data than {root} has now: fingerprint of {changed[0]}: "
            f"{trained[changed[0]]} -> {data[changed[0]]}; give data.root= of its data, or leave it out of runs=[...]"
        )
    config.data.fingerprint = data
    return OpenedRun(run, config, source, find_origin(str(path)).digest)


def check_same(first: OpenedRun, other: OpenedRun, parts: Sequence[tuple[str, str]] = SHARED) -> None:
    """Raises UserError, with the names of both runs, if they have other labels or differ in a part of their settings.

    Args:
        parts: keys of the configuration, each with what a difference is called.
    """
    one, two = first.run.path, other.run.path
    if _label_set(first.source) != _label_set(other.source):
        raise UserError(
            f"{one} and {two} have different label sets: {first.source.labels} and {other.source.labels}; average runs "
            "of one label set"
        )
    for key, subject in parts:
        values, others = (_leaves(each.config, key) for each in (first, other))
        if differing := differing_keys(values, others):
            name = differing[0]
            remedy = REMEDIES.get(key, "average runs that share it")
            raise UserError(
                f"{one} and {two} have {subject}: {key}.{name} is {values.get(name)} and {others.get(name)}; {remedy}"
            )


def _names(values: Iterable[str | None]) -> str:
    return " + ".join(dict.fromkeys(value for value in values if value))


def _is_one_network(runs: Sequence[OpenedRun]) -> bool:
    first, *others = (_leaves(each.config, "task.network") for each in runs)
    return not any(differing_keys(first, other) for other in others)


def _label_set(source: Source) -> tuple[str, list[str]]:
    return source.labels, list(source.classes)


def _leaves(config: DictConfig, key: str) -> dict[str, Any]:
    """Returns the values of a part of a configuration but for first weights and the folder of the data."""
    leaves = flatten(OmegaConf.to_container(OmegaConf.select(config, key)))
    return {name: value for name, value in leaves.items() if name.split(".")[-1] not in PLACES.get(key, ())}


def check_selection(cfg: DictConfig, runs: Sequence[OpenedRun]) -> None:
    """Raises UserError if `select_on`, `holdout`, `top_k` or `batchnorm_images` is not possible with these runs."""
    if cfg.select_on not in SELECTIONS:
        raise UserError(f"select_on={cfg.select_on}: must be one of {', '.join(SELECTIONS)}")
    whole("top_k", cfg.top_k, 2)
    whole("batchnorm_images", cfg.batchnorm_images, 1)
    for word in HydraConfig.get().overrides.task:
        if word.partition("=")[0] in ("top_k", "batchnorm_images") and not _is_one_network(runs):
            raise UserError(f"{word}: is for averages of weights, and these are different networks; leave it out")
    source = runs[0].source
    without = next((each.run.path for each in runs if each.config.data.num_folds is None), None)
    if cfg.select_on == "fold_val" and without is not None:
        raise UserError(
            f"select_on=fold_val: {without} held out no fold of train (data.num_folds); choose select_on=holdout "
            "holdout=SPLIT, or select_on=official_val"
        )
    if cfg.select_on == "official_val" and "val" not in source.splits:
        raise UserError(f"select_on=official_val: {source.labels} has no val, only {', '.join(source.splits)}")
    taken = ("train", "val", *source.extra_splits, *source.unlabelled)
    free = [split for split in source.splits if split not in taken]
    if cfg.select_on == "holdout" and cfg.holdout not in free:
        raise UserError(
            f"holdout={cfg.holdout}: must be a labelled split that is neither trained on nor val: "
            f"{', '.join(free) or 'this dataset has none, choose another select_on'}"
        )
    if cfg.select_on != "holdout" and cfg.holdout is not None:
        raise UserError(f"holdout={cfg.holdout}: is for select_on=holdout, and select_on={cfg.select_on}")


def question_digest(cfg: DictConfig, runs: Sequence[OpenedRun]) -> str:
    """Hashes the weights of the runs, the data as they are now, and every option that decides the winner."""
    content = to_dict(cfg)
    data = [to_dict(each.config.data.fingerprint) for each in runs]
    if cfg.holdout is not None:
        data.append({cfg.holdout: fingerprint(runs[0].source, runs[0].source.samples(cfg.holdout))})
    options = {key: content[key] for key in QUESTION} | ({} if cfg.keep == KEPT[0] else {"keep": cfg.keep})
    return digest([[each.digest for each in runs], data, options])


def winner_config(cfg: DictConfig, runs: Sequence[OpenedRun], run: RunFolder, question: str) -> DictConfig:
    """Derives the winner's configuration from that of the first run: a run on all of train, without a training."""
    config = deepcopy(runs[0].config)
    for key in ("datamodule.folds.num_folds", "datamodule.folds.fold", "data.num_folds", "data.fold"):
        OmegaConf.update(config, key, None)
    for key in ("init_from", "init_source", "weight_digests", "callbacks", "logger", "averaging"):
        config[key] = None
    config.name, config.runs, config.run_dir = run.path.name, str(run.path.parent), str(run.path)
    config.aggregate = {
        "digest": question,
        "runs": [str(each.run.path) for each in runs],
        **{key: cfg[key] for key in ("keep", "select_on", "holdout", "top_k", "batchnorm_images")},
    }
    if cfg.keep == "ensemble":
        # Each without its first weights: `load_run` has removed them.
        networks = [deepcopy(each.config.task.network) for each in runs]
        config.task.network = {"_target_": ENSEMBLE, "networks": networks}
        config.choices.model = f"ensemble of {_names(each.config.choices.get('model') for each in runs)}"
        config.backbone = {"name": _names(OmegaConf.select(each.config, "backbone.name") for each in runs)}
    return config
