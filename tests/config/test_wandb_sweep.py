"""The search by `wandb agent`: the commands that W&B's own agent would start compose and pass the checks."""

import sys
from typing import Any

import yaml
from wandb.sdk.launch.sweeps import utils

from src.config.checks import check_ranges
from tests.support.compose import composed
from tests.support.paths import CONF

SWEEP: dict[str, Any] = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())


def agent_command(values: dict[str, Any]) -> list[str]:
    """Expands the command as `wandb agent` does (wandb_agent.py, `_command_run`)."""
    given = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    places = {
        "${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable], "${args_no_hyphens}": given["args_no_hyphens"]
    }  # fmt: skip
    words = utils.create_sweep_command(list(SWEEP["command"]))
    return [part for word in words for part in places.get(word, [word])]


def test_every_value_of_every_parameter_composes() -> None:
    choices = {name: each.get("values") or [each["min"], each["max"]] for name, each in SWEEP["parameters"].items()}
    for number in range(max(map(len, choices.values()))):
        values = {name: found[number % len(found)] for name, found in choices.items()}
        env, python, *words = agent_command(values)
        assert [env, python, *words[:2]] == ["/usr/bin/env", sys.executable, "-m", "src.train"]
        assert not [word for word in words if "${" in word]
        with composed("train", *words[2:]) as cfg:
            check_ranges(cfg)
            assert cfg.optimizer.lr == values["optimizer.lr"]
            assert cfg.logger.wandb.mode == "online"


def test_the_figure_that_is_searched_for_is_logged() -> None:
    assert SWEEP["metric"] == {"name": "val/miou", "goal": "maximize"}
