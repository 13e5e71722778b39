"""Every recipe of conf/experiment: its header, its composed configuration, two steps at scale=tiny; and their table."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from scripts import list_recipes
from scripts.list_recipes import base_of, read_header, read_recipe, recipe_names
from src.config.build import build
from src.config.complete import complete
from src.config.flat import flatten
from src.errors import UserError
from tests.support.paths import ROOT

NAMES = recipe_names()
# Recipes per folder: none may go missing unnoticed.
COUNTS = {"r0": 6, "r1": 7, "r2": 13, "r3": 8, "r4": 37, "beyond": 9, "camvid": 7}
# Keys that scale=tiny may change.
SMALLER = (
    "backbone.name", "backbone.weights", "data.", "trainer.max_epochs", "trainer.check_val_every_n_epoch",
    "trainer.accelerator", "trainer.precision", "trainer.accumulate_grad_batches", "augmentation.geometry.resize",
    "inference.", "init_from", "model.weights",
)  # fmt: skip
# scale=tiny, and smaller still.
QUICK = (
    "scale=tiny", "data.dataset.size=[64,96]", "data.dataset.num_train=2", "data.dataset.num_val=1",
    "data.num_workers=0", "data.crop_size=[32,32]", "data.batch_size=2", "data.eval_batch_size=1",
    "inference.size=[64,96]", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "logger=csv",
)  # fmt: skip
GROUPS = ("data", "model", "backbone", "augmentation", "loss", "optimizer", "scheduler")
# Two steps of these in the fast tests: with their groups, aux heads, layer decay, warm-up and init they cover most.
FAST = ("beyond/cityscapes_upernet_convnext", "r0/sct_resnet_r152", "r3/fcn_weighted_ce")


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The configuration of src.train, with the groups' choices under `hydra`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def full(name: str) -> DictConfig:
    """The configuration of the command in the header."""
    words = shlex.split(read_recipe(name).commands[0])
    assert words[:3] == ["python", "-m", "src.train"]
    return composed(*words[3:])


def leaves(cfg: DictConfig) -> dict[str, object]:
    content = OmegaConf.to_container(cfg)
    return flatten({key: value for key, value in content.items() if key != "hydra"})


@functools.cache
def stated(name: str) -> dict[str, str]:
    """Groups that a recipe and its bases choose, and their choices."""
    base = base_of(name)
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    return (stated(base) if base else {}) | dict(re.findall(r"^  - override /(\w+): (\w+)", text, re.M))


def first_of_each_choice() -> set[str]:
    """The first recipe with each choice of each group that scale=tiny keeps; the others vary numbers."""
    seen: set[tuple[str, str]] = set()
    first = set()
    for name in NAMES:
        choices = {(group, choice) for group, choice in stated(name).items() if group not in ("data", "backbone")}
        if not choices <= seen:
            first.add(name)
        seen |= choices
    return first


@functools.cache
def known_keys() -> dict[tuple[str, str], set[str]]:
    """The keys that each choice of a group has, before any recipe: a few compositions hold all choices."""
    choices = {group: sorted({stated(name)[group] for name in NAMES}) for group in GROUPS}
    found: dict[tuple[str, str], set[str]] = {}
    for number in range(max(map(len, choices.values()))):
        chosen = {group: names[number % len(names)] for group, names in choices.items()}
        keys = leaves(composed(*(f"{group}={name}" for group, name in chosen.items()))).keys()
        for group, name in chosen.items():
            found.setdefault((group, name), set()).update(key for key in keys if key.split(".")[0] == group)
        found.setdefault(("", ""), set()).update(key for key in keys if key.split(".")[0] not in GROUPS)
    return found


SOON = first_of_each_choice()


def test_every_row_of_the_reports_has_a_recipe() -> None:
    assert {folder: sum(name.startswith(f"{folder}/") for name in NAMES) for folder in COUNTS} == COUNTS


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_all_fields_and_repeats_none_of_its_base(name: str) -> None:
    recipe = read_recipe(name)
    assert set(recipe.fields) == {"Command", "Cost", "Report", "Protocol", "Errors"}
    for command in recipe.commands:
        assert f"experiment={name}" in shlex.split(command)
    assert "." in recipe.fields["Protocol"] or "," in recipe.fields["Protocol"]
    own, base = read_header(name)[1], base_of(name)
    while base:
        for field, text in read_header(base)[1].items():
            assert text not in own.get(field, ""), f"{name}: '# {field}:' repeats {base}"
            assert text not in own.get(f"{field}+", ""), f"{name}: '# {field}+:' repeats {base}"
        base = base_of(base)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_composes_and_changes_only_known_keys(name: str) -> None:
    # If a recipe left a group open, it would depend on other choices (data=streets has its own augmentation).
    missing = set(GROUPS) - stated(name).keys()
    assert not missing, f"{name} leaves {missing} to the defaults"
    cfg = full(name)
    choices = cfg.hydra.runtime.choices
    # A key that no part of the program reads would be accepted silently.
    known = known_keys()[("", "")].union(*(known_keys()[(group, choices[group])] for group in GROUPS))
    if choices["averaging"] != "none":  # a recipe need not state this group
        known |= leaves(composed(f"averaging={choices['averaging']}")).keys()
    free = ("augmentation.geometry.resize", "init_source")
    unknown = [key for key in leaves(cfg).keys() - known if not key.startswith(free)]
    assert not unknown, f"{name}: not keys of this configuration"


@pytest.mark.parametrize(
    "name", [name if name in SOON else pytest.param(name, marks=pytest.mark.e2e) for name in NAMES]
)
def test_scale_tiny_changes_sizes_only(name: str) -> None:
    whole, tiny = full(name), composed(f"experiment={name}", "scale=tiny")
    for group in ("model", "augmentation", "loss", "optimizer", "scheduler", "averaging", "experiment"):
        assert tiny.hydra.runtime.choices[group] == whole.hydra.runtime.choices[group]
    before, after = leaves(whole), leaves(tiny)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert not [key for key in changed if not key.startswith(SMALLER)]
    epochs = tiny.trainer.max_epochs
    assert epochs == 4
    assert tiny.scheduler.get("warmup_epochs", 0) <= epochs / 4


def test_the_command_line_wins_over_scale_tiny() -> None:
    cfg = composed(
        "experiment=r1/pspnet_ppm", "scale=tiny", "data=camvid", "data.root=x", "trainer=gpu", "trainer.max_epochs=7",
        "backbone.name=resnet18", "data.crop_size=[80,80]", "init_from=y", "loss=dice",
    )  # fmt: skip
    assert cfg.hydra.runtime.choices.data == "camvid"
    assert (cfg.trainer.accelerator, cfg.trainer.max_epochs, cfg.backbone.name) == ("gpu", 7, "resnet18")
    assert (cfg.data.crop_size, cfg.data.root, cfg.init_from, list(cfg.loss.terms)) == ([80, 80], "x", "y", ["dice"])


def test_values_given_as_shares_follow_the_number_of_epochs() -> None:
    for epochs, warmup, every in ((100, 10.0, 10), (4, 0.4, 1)):
        assert composed("experiment=r0/deeplab_r50", f"trainer.max_epochs={epochs}").scheduler.warmup_epochs == warmup
        assert composed("experiment=r3/fcn", f"trainer.max_epochs={epochs}").scheduler.every_epochs == every


def test_the_recipes_of_fast_and_e2e_tests_cover_every_choice() -> None:
    assert set(FAST) <= SOON
    for group in ("model", "loss", "augmentation", "optimizer", "scheduler"):
        assert {stated(name)[group] for name in SOON} == {stated(name)[group] for name in NAMES}


def tier(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if name in FAST else (pytest.mark.e2e,) if name in SOON else (pytest.mark.slow,)


@pytest.mark.parametrize("name", [pytest.param(name, marks=tier(name)) for name in NAMES])
def test_two_steps_at_scale_tiny(name: str, tmp_path: Path) -> None:
    cfg = composed(f"experiment={name}", *QUICK, f"runs={tmp_path}").copy()
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    prepared = complete(cfg)
    cfg = prepared.config
    cfg.run_dir = str(tmp_path / "run")
    cfg.logger = None
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    cfg.callbacks = {"progress": None}
    data, task, _ = build(cfg, prepared.source, continues=False)
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


def test_the_table_of_recipes_is_current(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["list_recipes.py", "--check"])
    list_recipes.main()
    assert f"{len(NAMES)} recipes" in capsys.readouterr().out


HEADER = """# @package _global_
# Title.
# Command:  python -m src.train experiment=set/a
# Cost:     none
# Report:   none
# Errors+:  One.
defaults:
  - set/_base
  - _self_
"""
BASE = """# @package _global_
# Shared settings.
# Protocol: val, whole
# Errors:   Two, in
#           two lines
seed: 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes with one recipe `set/a` on a base."""
    monkeypatch.setattr(list_recipes, "FOLDER", tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.yaml").write_text(HEADER)
    (tmp_path / "set" / "_base.yaml").write_text(BASE)
    return tmp_path / "set"


def test_a_header_inherits_fields_and_adds_to_them(folder: Path) -> None:
    recipe = read_recipe("set/a")
    assert recipe.fields["Protocol"] == "val, whole"
    assert recipe.fields["Errors"] == "One. Two, in two lines"
    (folder / "a.yaml").write_text(HEADER.replace("Errors+: ", "Errors:  "))
    assert read_recipe("set/a").fields["Errors"] == "One."


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("a", "# Cost:", "# Price:", r"a\.yaml: its header and those of its bases have no '# Cost: \.\.\.'"),
        ("a", "# @package _global_\n", "", "must begin with '# @package _global_'"),
        ("a", "# Cost:", "# Cost: x\n# Cost:", "'# Cost:' is there twice"),
        ("_base", "# Errors: ", "# Report: ", r"_base\.yaml: '# Report:' belongs in the recipes"),
        ("_base", "# Errors: ", "# Error:", r"a\.yaml: '# Errors\+:' adds to a field that no base has"),
    ],
)
def test_a_header_with_a_fault_is_refused(folder: Path, file: str, old: str, new: str, message: str) -> None:
    path = folder / f"{file}.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        read_recipe("set/a")


def test_scale_tiny_refuses_a_backbone_chosen_by_name(fails) -> None:
    message = fails("train", "experiment=r1/pspnet_ppm", "scale=tiny", "backbone=resnet18")
    assert message.startswith("backbone=resnet18: scale=tiny puts the smallest of its family in its place")


@pytest.mark.parametrize("name", ["r0/deeplab_r50", "r0/deeplab_r101", "r0/deeplab_r152", "r0/deeplab_resnext101"])
def test_r0s_deeplab_is_that_of_its_code(name: str) -> None:
    """Plain convolutions, corners aligned, and in all of layer4 the rate of a stride of 16."""
    model = full(name).model
    assert (model.align_corners, model.contract_dilation, model.output_stride) == (True, False, 16)
    assert (model.aspp_separable, model.decoder_separable, model.num_decoder_convs) == (False, False, 2)


@pytest.mark.usefixtures("no_random_weights")
def test_every_3x3_of_layer4_is_dilated_in_r0s_deeplab() -> None:
    cfg = OmegaConf.merge(full("r0/deeplab_r50"))
    with open_dict(cfg):
        cfg.data.classes = {f"class {index}": [index, 0, 0] for index in range(19)}
        cfg.backbone.weights = None
    network = instantiate(cfg.model, _convert_="all")
    assert network.align_corners
    convs = {name: module for name, module in network.encoder.named_modules() if isinstance(module, torch.nn.Conv2d)}
    rates = {name: conv.dilation for name, conv in convs.items() if "layer4" in name and conv.kernel_size == (3, 3)}
    assert len(rates) == 3
    assert set(rates.values()) == {(2, 2)}
    assert not [name for name, conv in convs.items() if "layer4" in name and conv.stride != (1, 1)]
