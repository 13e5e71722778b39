"""Averages the weights of several runs, and keeps the best average as a run. `python -m src.aggregate --help`"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.cli import launch
from src.config.flat import digest, flatten
from src.config.identity import identity
from src.config.reopen import AS_RUN, load_data, load_run
from src.data.source import Source
from src.draw import AVERAGE, draw_average, grouped, publish
from src.errors import UserError
from src.files import atomic_path, write_json, write_text
from src.reports.tables import candidate_table, marked_figures
from src.runs.folder import RunFolder
from src.runs.leakage import Exposure, exposure_before, image_ids, write_exposure
from src.runs.origin import find_origin

if TYPE_CHECKING:
    from src.folds.compare import Candidate, Judge

log = logging.getLogger(__name__)
SELECTIONS = ("fold_val", "official_val", "holdout")


@dataclass(frozen=True)
class Given:
    """A run to average: its folder, its config, its data, and the digest of its best checkpoint."""

    run: RunFolder
    config: DictConfig
    source: Source
    digest: str

    @property
    def has_folds(self) -> bool:
        return self.config.data.get("num_folds") is not None


def aggregate(cfg: DictConfig) -> float:
    """Averages, compares, keeps the winner; returns its mIoU. The same command finds what it kept."""
    given = open_runs(cfg)
    check_selection(cfg, given)
    wanted = command_digest(cfg, given)
    run = RunFolder(Path(cfg.out) if cfg.out else given[0].run.path.parent / f"aggregate-{wanted}")
    kept = OmegaConf.load(run.config).get("aggregate") if run.config.is_file() else {"digest": wanted}
    if kept is None or kept["digest"] != wanted:
        raise UserError(f"out={run.path}: holds another run; give another out=FOLDER, or leave it out")
    if run.read_results()["finished"]:
        log.info("%s is finished", run.path)
    else:
        run.path.mkdir(parents=True, exist_ok=True)
        # Runs of one folder are one command's; others have nothing but this average in common.
        with run.lock(), grouped((run.path if cfg["from"] is None else Path(cfg["from"])).name):
            keep_best(cfg, given, run)
    record = json.loads((run.path / AVERAGE).read_text())
    evaluation = next(iter(run.read_results()["evaluations"].values()))
    log.info("%s\n%s", candidate_table(record), run.path)
    return evaluation["miou"]


def open_runs(cfg: DictConfig) -> list[Given]:
    """The runs of `runs` or of the folder `from`, in order of their names; all that can be known without torch.

    Raises:
        UserError: neither or both given, fewer than two, one that is not finished, or that differs from the first in
            labels, network, normalisation, data or protocol: names both.
    """
    if (cfg.runs is None) == (cfg["from"] is None):
        raise UserError("give runs=[runs/A,runs/B,...] or from=FOLDER of run folders, and not both")
    paths = [Path(path) for path in cfg.runs] if cfg.runs is not None else _runs_in(Path(cfg["from"]))
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        told = ", ".join(map(str, paths)) or "none"
        raise UserError(f"an average needs two runs or more, each once; given: {told}")
    given = [_open(cfg, path) for path in paths]
    for other in given[1:]:
        check_same(given[0], other)
    return given


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"from={folder}: no such folder")
    found = sorted(path.parent for path in folder.glob("*/config.yaml"))
    return [path for path in found if not (path / AVERAGE).is_file()]


def _open(cfg: DictConfig, path: Path) -> Given:
    shared = {key: cfg[key] for key in ("inference", "precision", "data")}
    wanted = OmegaConf.create({"run": str(path), "checkpoint": "best", "split": AS_RUN, **shared})
    run, config = load_run(wanted)
    if not run.read_results()["finished"]:
        raise UserError(f"{path} is not finished; give the command that began it again, or leave it out of runs=[...]")
    source, _, _ = load_data(wanted, run, config)
    return Given(run, config, source, find_origin(str(path)).digest)


def check_same(first: Given, other: Given) -> None:
    """UserError, naming both runs, where their weights or figures do not belong together."""
    one, two = first.run.path, other.run.path
    if (first.source.labels, first.source.classes) != (other.source.labels, other.source.classes):
        raise UserError(
            f"{one} and {two} have different label sets: {first.source.labels} and {other.source.labels}; average runs "
            "of one label set"
        )
    for key, what in (
        ("task.network", "different networks"),
        ("task.inference", "different protocols"),
        ("datamodule.dataset", "different data"),
    ):
        ours, theirs = (_leaves(each.config, key) for each in (first, other))
        if differing := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
            name = differing[0]
            remedy = "give inference....=... for all" if key == "task.inference" else "average runs that share it"
            raise UserError(
                f"{one} and {two} have {what}: {key}.{name} is {ours.get(name)} and {theirs.get(name)}; {remedy}"
            )


def _leaves(config: DictConfig, key: str) -> dict[str, Any]:
    """What matters of a part of a config: not from what a network once started, nor where the data are."""
    leaves = flatten(OmegaConf.to_container(OmegaConf.select(config, key)))
    return {name: value for name, value in leaves.items() if name.split(".")[-1] not in ("weights", "init", "root")}


def check_selection(cfg: DictConfig, given: Sequence[Given]) -> None:
    """UserError where `select_on`, `holdout`, `top_k` or `batchnorm_images` cannot be done."""
    if cfg.select_on not in SELECTIONS:
        raise UserError(f"select_on={cfg.select_on}: must be one of {', '.join(SELECTIONS)}")
    for key, least in {"top_k": 2, "batchnorm_images": 1}.items():
        if not isinstance(cfg[key], int) or isinstance(cfg[key], bool) or cfg[key] < least:
            raise UserError(f"{key}={cfg[key]}: must be a whole number, at least {least}")
    source = given[0].source
    if cfg.select_on == "fold_val" and (without := [each.run.path for each in given if not each.has_folds]):
        raise UserError(
            f"select_on=fold_val: {without[0]} held no fold of train out (data.num_folds); choose select_on=holdout "
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


def command_digest(cfg: DictConfig, given: Sequence[Given]) -> str:
    """Stands for the runs' weights and all that decides the winner."""
    keys = ("top_k", "select_on", "holdout", "batchnorm_images", "inference", "precision")
    return digest([[each.digest for each in given], {key: OmegaConf.to_container(cfg)[key] for key in keys}])


def keep_best(cfg: DictConfig, given: Sequence[Given], run: RunFolder) -> None:
    """Compares the averages and writes the winner's run folder; what makes it finished is written last."""
    from src.evaluation.measure import evaluate
    from src.evaluation.quiet import quieten

    quieten()
    config = winner_config(cfg, given, run)
    judge = build_judge(cfg, given, config)
    winner, candidates = judge.record(cfg.top_k)
    # The folder first: its figure is measured on what was kept, as src.eval will.
    judge.load(winner.members)
    save_weights(judge, winner, run.path / "checkpoints" / "best.ckpt")
    write_exposure(run.path, [], judge.seen(winner, is_chosen=True))
    record = {"select_on": cfg.select_on, "winner": winner.name, "candidates": candidates}
    write_json(run.path / AVERAGE, record)  # before the config: a folder with both is never taken for a run to average
    write_json(run.identity, identity(config))
    write_text(run.config, OmegaConf.to_yaml(config))
    run.note_session("src.aggregate")
    table = candidate_table(record)
    write_text(run.path / "aggregate.md", table + "\n")
    if judge.official is None:
        evaluation = next(each["selection"] for each in candidates if each["is_winner"])
    else:
        evaluation = evaluate(judge.trainer, judge.task, judge.training, run, "val", "best")
    pictures = draw_average(run, record, evaluation)
    publish(given[0].config.logger, run.path, "aggregate", pictures, table, marked_figures("winner", evaluation))
    run.add_evaluation(evaluation, finished=True)


def winner_config(cfg: DictConfig, given: Sequence[Given], run: RunFolder) -> DictConfig:
    """The first run's config as that of a run on all of train, of no training of its own."""
    config = OmegaConf.create(OmegaConf.to_container(given[0].config))
    for key in ("datamodule.folds.num_folds", "datamodule.folds.fold", "data.num_folds", "data.fold"):
        if OmegaConf.select(config, key) is not None:
            OmegaConf.update(config, key, None)
    for key in ("init_from", "init_source", "callbacks", "logger", "averaging"):
        config[key] = None
    config.name, config.runs, config.run_dir = run.path.name, str(run.path.parent), str(run.path)
    config.aggregate = {
        "digest": command_digest(cfg, given),
        "runs": [str(each.run.path) for each in given],
        **{key: cfg[key] for key in ("select_on", "holdout", "top_k", "batchnorm_images")},
    }
    return config


def build_judge(cfg: DictConfig, given: Sequence[Given], config: DictConfig) -> "Judge":
    """The judge of these runs, on what `select_on` says."""
    import lightning as L

    from src.evaluation.measure import evaluation_trainer
    from src.folds.compare import Judge, Part, read_member

    L.seed_everything(config.seed, verbose=False)
    trainer = evaluation_trainer(cfg.accelerator, config.trainer.precision, with_progress=False)
    training = instantiate(config.datamodule)
    official = Part(training, "val") if "val" in training.source.splits else None
    members = []
    for each in given:
        data = instantiate(each.config.datamodule, augmentation=None)
        trained = Exposure(trained=frozenset(image_ids(data.source, data.samples("train"))))
        seen = trained | exposure_before(each.run.path)
        own = Part(data, data.validation_split)
        members.append(read_member(each.run.path.name, each.run.checkpoint("best"), seen, own))
    if cfg.select_on == "fold_val":
        # Runs of one fold share it: its images count once.
        parts = {part.data.folds.describe(part.data.source, part.split): part for part in (m.own for m in members)}
        selection = list(parts.values())
    else:
        selection = [official] if cfg.select_on == "official_val" else [Part(training, cfg.holdout)]
    task = instantiate(config.task)
    return Judge(trainer, task, members, training, cfg.batchnorm_images, selection, official)


def save_weights(judge: "Judge", winner: "Candidate", path: Path) -> None:
    """The loaded weights as a checkpoint that evaluation, prediction and `init_from` take; nothing resumes from it."""
    import torch

    progress = judge.progress(winner)
    state = {name: value.cpu() for name, value in judge.task.state_dict().items()}
    content = {"state_dict": state, "epoch": progress["epoch"] - 1, "global_step": progress["step"]}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


if __name__ == "__main__":
    launch(aggregate, "aggregate")
