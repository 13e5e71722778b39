"""Every yaml under conf/ composes and instantiates; the identity of a run holds what changes its result."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config.flat import flatten, to_dict
from src.config.identity import identity
from src.data.streets.source import Streets
from tests.support.trees import WRITERS

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
# Recipes, stages, sweeps, tables and networks have tests of their own.
APART = ("experiment/", "stages/", "sweep/", "table/", "model/", "hydra/")
EXTRAS = ("logger/mlflow", "logger/trackio")  # their packages are not in the lock
GROUPS = sorted(
    file for file in FILES if "/" in file and not Path(file).name.startswith("_") and not file.startswith(APART)
)


def composed(root: Path, *overrides: str, config: str = "train") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(config, list(overrides))
    if config == "train":
        cfg.data.classes = {name: list(colour) for name, colour in Streets.classes.items()}
        cfg.run_dir = str(root / "run")
        (root / "run").mkdir(exist_ok=True)
        (root / "run" / "environment.json").write_text('{"id": "0", "sessions": []}')
        if OmegaConf.is_missing(cfg.data, "root"):
            cfg.data.root = str(WRITERS[cfg.data.name](root / "data"))
    return cfg


def test_the_help_of_src_train_lists_every_choice_that_it_takes_and_no_other() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        text = compose("train", return_hydra_config=True).hydra.help.template
    lines = re.findall(r"^(\w+): (.+)$", text.partition("== Groups")[2], re.M)
    taken = {file for file in FILES if re.fullmatch(r"(?!stages|table|hydra)\w+/(\w+/)*(?!_)[^/]+", file)}
    assert {f"{group}/{name}" for group, names in lines for name in names.split(", ")} == taken


def test_the_readme_counts_the_choices_of_each_group() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) and (\d+) more: ", (CONF.parent / "README.md").read_text(), re.M)
    assert {group for group, _, _ in rows} == {"data", "model", "backbone", "loss"}
    for group, text, more in rows:
        choices = {path.stem for path in (CONF / group).glob("[!_]*.yaml")}
        named = set(re.findall(r"`(\w+)`", text))
        assert named <= choices
        assert len(choices) == len(named) + int(more), f"README.md, Choices: the number of {group}"


@pytest.mark.parametrize("choice", GROUPS)
@pytest.mark.usefixtures("no_random_weights")
def test_every_choice_composes_and_instantiates(choice: str, tmp_path: Path) -> None:
    group, _, name = choice.partition("/")
    # Only DPT takes plain vision transformers.
    partner = ["model=dpt"] if group == "backbone" and "vit" in name else []
    cfg = composed(tmp_path, f"{group}={name}", *partner)
    if choice in EXTRAS:
        with pytest.raises(InstantiationException, match=f"{choice.replace('/', '=')}: needs the package {name}"):
            instantiate(cfg[group])
        return
    if cfg.backbone.weights == "imagenet":
        cfg.backbone.weights = None
    if group == "trainer" and name in ("gpu", "ddp"):
        assert cfg.trainer.accelerator in ("gpu", "auto")
        cfg.trainer.accelerator, cfg.trainer.devices, cfg.trainer.strategy = "cpu", 1, "auto"
    if choice == "trainer/cpu":  # src.config.precision replaces it
        assert cfg.trainer.precision == "auto"
        cfg.trainer.precision = "32-true"
    for key, given in flatten(to_dict(cfg.loss, resolve=True), "loss").items():
        if key.endswith(".class_weights") and isinstance(given, str):  # a weighting; `complete` puts its numbers
            OmegaConf.update(cfg, key, [1.0] * len(cfg.data.classes))
    parts = {
        "data": ["datamodule"], "augmentation": ["augmentation"], "callbacks": ["callbacks"],
        "averaging": ["callbacks"], "logger": ["logger"], "trainer": ["trainer"],
    }.get(group, ["task"])  # fmt: skip
    for part in parts:
        # The trainer's own logger would warn that nobody asked for it.
        options = {"logger": False, "enable_checkpointing": False} if part == "trainer" else {}
        assert instantiate(cfg[part], **options, _convert_="all") is not None


@pytest.mark.parametrize("config", ["eval", "predict"])
def test_other_entry_points_compose(config: str, tmp_path: Path) -> None:
    assert set(composed(tmp_path, config=config)) >= {"run", "checkpoint", "inference", "precision", "accelerator"}


def test_the_aggregate_composes_with_the_same_protocol(tmp_path: Path) -> None:
    aggregate, evaluation = (composed(tmp_path, config=config) for config in ("aggregate", "eval"))
    assert aggregate.inference == evaluation.inference
    assert "run" not in aggregate


def test_find_lr_adds_its_range_to_the_configuration_of_a_training(tmp_path: Path) -> None:
    found, training = composed(tmp_path, config="find_lr"), composed(tmp_path)
    assert set(found) - set(training) == {"lr_range"}


def test_classes_are_stated_only_in_python() -> None:
    for path in CONF.rglob("*.yaml"):
        assert not re.search(r"num_classes: \d|Bicyclist", path.read_text()), path


def test_identity_leaves_out_what_does_not_change_the_result(tmp_path: Path) -> None:
    same = ["data.num_workers=3", "trainer.accelerator=cpu", "resume=false", "logger=csv", "runs=elsewhere", "name=x"]
    base = identity(composed(tmp_path))
    for override in same:
        assert identity(composed(tmp_path, override)) == base, override
    for override in ("seed=1", "optimizer.lr=0.1", "model=deeplabv3plus", "data.dataset.seed=1", "trainer.devices=2"):
        assert identity(composed(tmp_path, override)) != base, override
    moved = composed(tmp_path)
    moved.run_dir = "somewhere/else"
    assert identity(moved) == base, "the run's folder does not matter"
