"""Reopens a finished or interrupted run for evaluation, prediction or averaging: its configuration and its data."""

from omegaconf import DictConfig, OmegaConf

from src.config.build import build_source
from src.config.checks import ACCELERATORS, PRECISIONS, check_given, check_inference, check_workers, one_of
from src.config.flat import flatten, literal, to_dict
from src.config.saved import load_config
from src.data.folds import HELD_OUT
from src.data.source import Sample, Source
from src.errors import UserError, shortened, whole
from src.files import damaged, has_file
from src.runs.folder import RunFolder
from src.runs.zoo import find_run, nearest_runs

AS_RUN = "run"  # in eval.yaml, predict.yaml and aggregate.yaml: the value that the run had


def load_run(cfg: DictConfig) -> tuple[RunFolder, DictConfig]:
    """Returns the run folder `cfg.run` and its configuration, changed where `cfg` asks for another value.

    Raises:
        UserError: no run folder there (names the nearest), no such checkpoint, a damaged or foreign config, a value out
            of range, a root for data without one.
    """
    check_given(cfg)
    run = RunFolder(find_run(cfg.run))
    if not has_file(run.config):
        raise UserError(f"run={cfg.run}: no run folder there (no config.yaml){nearest_runs(run.path)}")
    run.checkpoint(cfg.checkpoint)
    config = load_config(run.config)
    changes = {key: value for key, value in cfg.inference.items() if value != AS_RUN}
    if changes.get("short_side") is not None:
        changes = {"size": None, **changes}  # which it stands in place of
    for key, value in changes.items():
        config.task.inference[key] = config.inference[key] = value
    check_inference(config.inference)
    one_of("accelerator", cfg.accelerator, ACCELERATORS)
    if cfg.precision != AS_RUN:
        config.trainer.precision = one_of("precision", cfg.precision, PRECISIONS)
    _change_data(cfg.data, config)
    forget_weights(config.task.network)
    return run, config


def forget_weights(network: DictConfig) -> None:
    """Removes the weights that a network once started from, which a checkpoint replaces, so that none are fetched."""
    for key in flatten(to_dict(network)):
        if key.rpartition(".")[2] == "weights":
            OmegaConf.update(network, key, None)


def _change_data(given: DictConfig, config: DictConfig) -> None:
    """Changes where a run's data are read from, and by how many processes."""
    for key in ("pack", "num_workers", "worker_timeout"):
        if given.get(key, AS_RUN) != AS_RUN:
            config.datamodule[key] = literal(given[key])
    check_workers(config.datamodule.num_workers)
    whole("data.worker_timeout", config.datamodule.worker_timeout, 1)
    if given.root != AS_RUN:
        if "root" not in config.datamodule.dataset:
            raise UserError(f"data.root={given.root}: {config.data.name} has no root; leave it out")
        config.datamodule.dataset.root = literal(given.root)


def check_classes(run: RunFolder, learnt: list[str], source: Source) -> None:
    """Raises UserError unless a dataset has the classes that a run learnt, in the same order."""
    given = list(source.classes)
    if given == learnt:
        return
    if changed := [f"{name!r} is missing" for name in learnt if name not in given]:
        pass
    elif not (changed := [f"{name!r} is new" for name in given if name not in learnt]):
        place = next(index for index, name in enumerate(learnt) if given[index] != name)
        changed = [f"class {place} is {given[place]!r} and was {learnt[place]!r}"]
    raise UserError(
        f"{run.path}: the data have other classes than this run learnt, or another order ({shortened(changed)}); give "
        f"data with the classes {', '.join(learnt)}, in this order"
    )


def load_data(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[Source, str, list[Sample]]:
    """Returns the dataset of a run, and the name and the samples of `cfg.split`.

    Raises:
        UserError: missing data, other classes than the run learnt, a split that the dataset does not have, other files
            in a fold than the run had.
    """
    if config.datamodule.dataset.get("root", "") is None:  # of a published run, which names no place on a machine
        raise UserError(f"data.root=run: {run.path} does not say where its data are; give data.root=DIR")
    source, folds = build_source(config)
    check_classes(run, list(config.data.classes), source)
    split = folds.validation_split if cfg.split == AS_RUN else cfg.split
    lists = folds.lists(source) if split in ("train", HELD_OUT) else {}
    for name, text in lists.items():
        path = run.path / "folds" / f"{name}.txt"
        try:
            is_same = path.read_bytes() == text.encode()
        except OSError as error:
            raise damaged(path, error.strerror) from error
        if not is_same:
            raise UserError(
                f"{path}: names other files than the data have now, or is damaged; give data.root= of the data that "
                "the run was trained on, or put back a copy of the list"
            )
    return source, split, folds.samples(source, split)
