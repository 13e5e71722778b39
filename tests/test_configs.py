"""Every yaml under conf/ composes and instantiates; recipes change what they say, and nothing else."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config import flatten, identity
from src.data.streets import Streets
from tests.conftest import WRITERS

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
GROUPS = sorted(file for file in FILES if "/" in file and not Path(file).name.startswith("_"))


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


@pytest.mark.parametrize("choice", GROUPS)
def test_every_choice_composes_and_instantiates(choice: str, tmp_path: Path) -> None:
    group, _, name = choice.partition("/")
    # Plain vision transformers and DPT go together alone.
    is_vit = group == "backbone" and "vit" in name.split("_")
    partner = ["model=dpt"] if is_vit else ["backbone=tiny_vit"] if choice == "model/dpt" else []
    cfg = composed(tmp_path, f"{group}={name}", *partner)
    if cfg.backbone.weights == "imagenet":
        cfg.backbone.weights = None
    if group == "trainer" and name in ("gpu", "ddp"):
        assert cfg.trainer.accelerator in ("gpu", "auto")
        cfg.trainer.accelerator, cfg.trainer.devices, cfg.trainer.strategy = "cpu", 1, "auto"
    parts = {
        "data": ["datamodule"], "augmentation": ["augmentation"], "callbacks": ["callbacks"],
        "averaging": ["callbacks"], "logger": ["logger"], "trainer": ["trainer"],
    }.get(group, ["task"])  # fmt: skip
    if group == "experiment":
        parts = ["datamodule", "task"]
    for part in parts:
        # Loggers and callbacks apart: the trainer's own would warn of a logger that nobody asked for.
        options = {"logger": False, "enable_checkpointing": False} if part == "trainer" else {}
        assert instantiate(cfg[part], **options, _convert_="all") is not None


@pytest.mark.parametrize("config", ["eval", "predict"])
def test_other_entry_points_compose(config: str, tmp_path: Path) -> None:
    assert set(composed(tmp_path, config=config)) >= {"run", "checkpoint", "inference"}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("experiment/")])
def test_a_recipe_changes_known_keys_and_says_what_it_is(file: str, tmp_path: Path) -> None:
    text = (CONF / f"{file}.yaml").read_text()
    assert "# @package _global_" in text.splitlines()[:12], "without it a recipe changes nothing, silently"
    for field in ("# Command:", "# Cost:", "# Expect:", "# Protocol:"):
        assert field in text, f"{file}: a recipe's header has {field}"
    content = yaml.safe_load(text)
    chosen = [entry for entry in content.pop("defaults", []) if entry != "_self_"]
    choices = [f"{key.removeprefix('override /')}={value}" for entry in chosen for key, value in entry.items()]
    known = flatten(OmegaConf.to_container(composed(tmp_path, *choices)))
    for key in flatten(content):
        assert key in known or any(k.startswith(f"{key}.") for k in known), f"{file}: {key} is not a key of train.yaml"


def test_classes_are_stated_in_python_alone() -> None:
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
