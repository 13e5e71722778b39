"""Plans the publication of a run: its place in the zoo, and its configuration without the places of this machine."""

import re
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.build import build_data
from src.config.flat import to_dict
from src.config.reopen import load_data, load_run
from src.config.saved import config_text
from src.data.source import Source
from src.errors import UserError
from src.runs.folder import RunFolder
from src.runs.summary import without_place
from src.runs.zoo import entry_names, find_run

if TYPE_CHECKING:
    from src.evaluation.publish import PublishPlan

NAME = re.compile(r"[a-z0-9][a-z0-9_]{2,59}")


def plan_publication(cfg: DictConfig) -> "PublishPlan":
    """Plans a publication.

    Raises:
        UserError: a name that is taken or no name, a run that is not finished or published already, weights that
            are not in it, missing data.
    """
    zoo = find_run("zoo" if cfg.zoo is None else cfg.zoo)
    folder = check_name(cfg.name, zoo)
    run, config = load_run(cfg)
    if run.is_published:
        raise UserError(f"run={cfg.run}: is published already; give a run folder that has checkpoints")
    if not run.read_results().finished:
        raise UserError(f"run={cfg.run}: is not finished; repeat the command that began it")
    if RunFolder.of(run.checkpoint(cfg.checkpoint)).path.resolve() != run.path.resolve():
        raise UserError(
            f"checkpoint={cfg.checkpoint}: is not in {run.path}, whose records it would get; give best or last"
        )
    source, splits = find_splits(cfg, run, config)
    notes = read_notes(cfg.notes)
    published, start = clean_config(config, cfg.name), describe_start(config)

    from src.evaluation.publish import PublishPlan  # imports torch: everything given is known to be right

    return PublishPlan(
        run=run,
        checkpoint=cfg.checkpoint,
        folder=folder,
        config=config_text(OmegaConf.create(published)),
        splits=splits,
        accelerator=cfg.accelerator,
        precision=config.trainer.precision,
        start=start,
        notes=notes,
        build_data=partial(build_data, config.datamodule, source, augmentation=None),
        build_task=partial(instantiate, config.task),
    )


def check_name(name: Any, zoo: Path) -> Path:
    """Returns the folder of a new network. Raises UserError if the name is taken, or none for a folder of the zoo."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"name={name}: must be 3 to 60 of a-z, 0-9 and _, such as camvid_unet_lite0")
    if (zoo / name).exists():
        taken = ", ".join(entry_names(zoo))
        raise UserError(f"name={name}: is in the zoo already ({taken}); give another, or remove {zoo / name}")
    return zoo / name


def find_splits(cfg: DictConfig, run: RunFolder, config: DictConfig) -> tuple[Source, tuple[str, ...]]:
    """Returns the dataset, and the splits to evaluate on by their names.

    Raises:
        UserError: missing data, or a split that the dataset does not have or that has no labels.
    """
    if not cfg.splits or cfg.splits[0] != "run":
        raise UserError(f"splits={cfg.splits}: must begin with run, the split that the training validated on")
    loaded = [load_data(OmegaConf.create({"split": split}), run, config) for split in cfg.splits]
    for source, split, _ in loaded:
        source.check_labelled(split)
    return loaded[0][0], tuple(dict.fromkeys(split for _, split, _ in loaded))


def read_notes(given: Any) -> str:
    """Returns the notes, or the content of the file of this name. Raises UserError if a file is no text."""
    text = "" if given is None else str(given)
    if not text.endswith((".md", ".txt")):
        return text
    try:
        return Path(text).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"notes={text}: cannot be read as a text file ({error}); give one, or the text") from error


def clean_config(config: DictConfig, name: str) -> dict[str, Any]:
    """Returns a run's values without callbacks, loggers, folders of the data, and paths of this machine."""
    cleaned = deepcopy(config)
    for key in ("callbacks", "logger", "averaging", "init_source", "weight_digests", "runs", "run_dir"):
        cleaned[key] = None
    cleaned.name = name
    return _without_places(to_dict(cleaned))


def _without_places(node: Any) -> Any:
    if isinstance(node, dict):
        places = {"root": None, "pack": "auto"}  # wherever they are
        return {
            key: places[key] if key in places and node[key] is not None else _without_places(inner)
            for key, inner in node.items()
        }
    if isinstance(node, list):
        return [_without_places(inner) for inner in node]
    return without_place(node) if isinstance(node, str) else node


def describe_start(config: DictConfig) -> str:
    """Describes where the first weights of a run came from."""
    if OmegaConf.select(config, "aggregate.runs"):
        return f"an average of {', '.join(Path(run).name for run in config.aggregate.runs)}"
    if config.init_from is not None:
        return f"`{without_place(config.init_from)}`, as far as they fit"
    if config.backbone is None or config.backbone.weights is None:
        return "random"
    return f"backbone `{config.backbone.name}`: `{without_place(config.backbone.weights)}`; the rest random"
