"""Every recipe of conf/experiment: its header, what it composes to, two steps of it at scale=tiny; their table."""

import functools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from src import train
from src.config.complete import complete
from src.config.flat import flatten
from src.config.recipes import read_recipe, recipe_names
from tests.support.paths import ROOT

NAMES = recipe_names()
# What the reports have: a row may not go missing unnoticed.
COUNTS = {"r0": 6, "r1": 7, "r2": 13, "r3": 8, "r4": 37, "beyond": 9}
# What scale=tiny may change.
SMALLER = (
    "backbone.name", "backbone.weights", "data.", "trainer.max_epochs", "trainer.check_val_every_n_epoch",
    "trainer.accelerator", "trainer.precision", "trainer.accumulate_grad_batches", "augmentation.geometry.resize",
    "inference.", "init_from", "model.weights",
)  # fmt: skip
# As scale=tiny, and smaller still.
QUICK = (
    "scale=tiny", "data.dataset.size=[64,96]", "data.dataset.num_train=2", "data.dataset.num_val=1",
    "data.num_workers=0", "data.crop_size=[32,32]", "data.batch_size=2", "data.eval_batch_size=1",
    "inference.size=[64,96]", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "logger=csv",
)  # fmt: skip
GROUPS = ("data", "model", "backbone", "augmentation", "loss", "optimizer", "scheduler")


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """With the groups' choices under `hydra`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def full(name: str) -> DictConfig:
    """What the command in the header composes to."""
    words = shlex.split(read_recipe(name).commands[0])
    assert words[:3] == ["python", "-m", "src.train"]
    return composed(*words[3:])


def leaves(cfg: DictConfig) -> dict[str, object]:
    content = OmegaConf.to_container(cfg)
    return flatten({key: value for key, value in content.items() if key != "hydra"})


def stated(name: str) -> dict[str, str]:
    """Groups that a recipe and its bases choose, and their choices."""
    found: dict[str, str] = {}
    for line in (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines():
        if line.startswith("  - override /"):
            group, _, choice = line.removeprefix("  - override /").partition(":")
            found[group] = choice.partition("#")[0].strip()
        elif line.startswith("  - ") and line.endswith(("/_base", "/_camvid", " _base")):
            found = stated(f"{name.split('/')[0]}/{line.removeprefix('  - ').split('/')[-1]}") | found
    return found


def first_of_each_choice() -> set[str]:
    """The first recipe with each choice of each group but those that scale=tiny changes; the others vary numbers."""
    seen: set[tuple[str, str]] = set()
    first = set()
    for name in NAMES:
        choices = {(group, choice) for group, choice in stated(name).items() if group not in ("data", "backbone")}
        if not choices <= seen:
            first.add(name)
        seen |= choices
    return first


SOON = first_of_each_choice()


def test_there_is_a_recipe_for_every_row() -> None:
    assert {folder: sum(name.startswith(f"{folder}/") for name in NAMES) for folder in COUNTS} == COUNTS


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_how_it_is_run_and_changes_known_keys(name: str) -> None:
    recipe = read_recipe(name)
    for command in recipe.commands:
        assert f"experiment={name}" in shlex.split(command)
    assert "." in recipe.fields["Protocol"] or "," in recipe.fields["Protocol"]
    cfg = full(name)
    choices = cfg.hydra.runtime.choices
    # Nothing hangs on what else a group chooses by itself (data=streets has its own augmentation and optimizer).
    missing = set(GROUPS) - stated(name).keys()
    assert not missing, f"{name} leaves {missing} to the defaults"
    # Keys that nobody reads would be accepted without a word.
    plain = composed(f"data={choices.data}", *(f"{group}={choices[group]}" for group in GROUPS[1:]))
    free = ("augmentation.geometry.resize", "init_source")
    unknown = [key for key in leaves(cfg).keys() - leaves(plain).keys() if not key.startswith(free)]
    assert not unknown, f"{name}: not keys of this configuration"


@pytest.mark.parametrize("name", NAMES)
def test_tiny_keeps_what_the_recipe_is_about(name: str) -> None:
    whole, tiny = full(name), composed(f"experiment={name}", "scale=tiny")
    for group in ("model", "augmentation", "loss", "optimizer", "scheduler", "averaging", "experiment"):
        assert tiny.hydra.runtime.choices[group] == whole.hydra.runtime.choices[group]
    before, after = leaves(whole), leaves(tiny)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert not [key for key in changed if not key.startswith(SMALLER)]
    epochs = tiny.trainer.max_epochs
    assert epochs == 4
    assert tiny.scheduler.get("warmup_epochs", 0) <= epochs / 4


def test_the_command_line_wins_over_scale() -> None:
    cfg = composed(
        "experiment=r1/pspnet_ppm", "scale=tiny", "data=camvid", "data.root=x", "trainer=gpu", "trainer.max_epochs=7",
        "backbone.name=resnet18", "data.crop_size=[80,80]", "init_from=y", "loss=dice",
    )  # fmt: skip
    assert cfg.hydra.runtime.choices.data == "camvid"
    assert (cfg.trainer.accelerator, cfg.trainer.max_epochs, cfg.backbone.name) == ("gpu", 7, "resnet18")
    assert (cfg.data.crop_size, cfg.data.root, cfg.init_from, list(cfg.loss.terms)) == ([80, 80], "x", "y", ["dice"])


def test_shares_follow_the_epochs() -> None:
    for epochs, warmup, every in ((100, 10.0, 10), (4, 0.4, 1)):
        assert composed("experiment=r0/deeplab_r50", f"trainer.max_epochs={epochs}").scheduler.warmup_epochs == warmup
        assert composed("experiment=r3/fcn", f"trainer.max_epochs={epochs}").scheduler.every_epochs == every


def test_the_fast_recipes_have_every_network_and_loss() -> None:
    for group in ("model", "loss", "augmentation", "optimizer", "scheduler"):
        assert {stated(name)[group] for name in SOON} == {stated(name)[group] for name in NAMES}


@pytest.mark.parametrize(
    "name", [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_two_steps_at_scale_tiny(name: str, tmp_path: Path) -> None:
    cfg = composed(f"experiment={name}", *QUICK, f"runs={tmp_path}").copy()
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    cfg = complete(cfg).config
    cfg.run_dir = str(tmp_path / "run")
    cfg.logger = None
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    cfg.callbacks = {"progress": None}
    data, task, _ = train.build(cfg)
    first = [parameter.detach().clone() for parameter in task.network.parameters()]
    trainer = instantiate(
        cfg.trainer, logger=False, enable_checkpointing=False, limit_val_batches=0, num_sanity_val_steps=0,
        default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(task, data)
    assert trainer.global_step == 2
    assert int(task.bad_step) < 0
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    moved = [not torch.equal(a, b) for a, b in zip(first, task.network.parameters(), strict=True)]
    assert sum(moved) > 0.5 * len(moved)


@pytest.mark.slow
def test_every_network_of_the_recipes_is_built_at_its_full_size() -> None:
    built = set()
    for name in NAMES:
        cfg = full(name).copy()
        key = str([value for leaf, value in sorted(leaves(cfg).items()) if leaf.startswith(("model.", "backbone."))])
        if key in built:
            continue
        built.add(key)
        cfg.backbone.weights = None
        if "weights" in cfg.model:
            cfg.model.weights = None
        cfg.data.classes = {f"class {index}": [index] * 3 for index in range(19)}
        network = instantiate(cfg.task.network, _convert_="all").eval()
        with torch.inference_mode():
            assert network(torch.zeros(1, 3, 64, 96))[0].shape[1] == 19


def test_the_table_of_recipes_is_current() -> None:
    command = [sys.executable, "scripts/list_recipes.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"{len(NAMES)} recipes" in result.stdout


def test_a_header_without_a_field_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.config.recipes.FOLDER", tmp_path)
    text = (ROOT / "conf" / "experiment" / "r3" / "fcn.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace("# Cost:", "# Price:"))
    with pytest.raises(ValueError, match=r"a\.yaml: its header has no '# Cost: \.\.\.'"):
        read_recipe("a")
    (tmp_path / "a.yaml").write_text(text.replace("# @package _global_\n", ""))
    with pytest.raises(ValueError, match="must begin with '# @package _global_'"):
        read_recipe("a")
    (tmp_path / "a.yaml").write_text(text.replace("# Cost:", "# Cost: x\n# Cost:"))
    with pytest.raises(ValueError, match="'# Cost:' is there twice"):
        read_recipe("a")


def test_a_backbone_by_name_is_not_replaced_without_a_word(fails) -> None:
    message = fails("train", "experiment=r1/pspnet_ppm", "scale=tiny", "backbone=resnet18")
    assert message.startswith("backbone=resnet18: scale=tiny puts the smallest of its family in its place")
