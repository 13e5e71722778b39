"""Names of classes and paths of users go through a run's configuration as they are."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config.flat import literal, to_dict
from src.config.open import resolve
from src.config.saved import check_targets
from src.data.sources.folder import read_classes
from src.errors import UserError
from tests.config.test_configs import composed

NAMES = ["${seed}", "???", "a\\${b}", "$x$", "[bold]", "null", "1e3", "a.b: c"]


@pytest.mark.parametrize("text", ["${seed}", "\\${seed}", "\\\\${x}", "a${b}c${d}", "a\\b", "$x$", "{}"])
def test_a_literal_text_comes_back_from_a_yaml(text: str) -> None:
    cfg = OmegaConf.create(literal({"a": text, "b": [text]}))
    again = OmegaConf.create(OmegaConf.to_yaml(cfg))
    assert to_dict(again, resolve=True) == {"a": text, "b": [text]}


def test_classes_keep_their_names_in_a_run(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "model=unet_small")
    cfg.data.classes = {name: [index, 0, 0] for index, name in enumerate(NAMES)}
    cfg.run_dir = literal("/runs/${seed}")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(resolve(cfg)))
    config = OmegaConf.load(tmp_path / "config.yaml")
    check_targets(config, tmp_path)
    again = to_dict(config, resolve=True)
    assert list(again["task"]["classes"]) == list(again["data"]["classes"]) == NAMES
    assert again["callbacks"]["panels"]["folder"] == "/runs/${seed}/panels"


def test_a_class_cannot_be_a_key_by_which_hydra_builds(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("_target_: 1 2 3\nroad: 4 5 6\n")
    with pytest.raises(UserError, match=r"classes\.txt, line 1: the name '_target_' has a meaning in configurations"):
        read_classes(tmp_path / "classes.txt")
