"""The W&B logger's mode: online only with a key and a server that can be reached."""

from pathlib import Path

import pytest

from src.callbacks import wandb_logger


@pytest.mark.parametrize(
    ("environment", "reachable", "mode"),
    [
        ({}, True, "offline"),
        ({"WANDB_API_KEY": "k"}, True, "online"),
        ({"WANDB_API_KEY": "k"}, False, "offline"),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, True, "offline"),
    ],
)
def test_wandb_is_online_only_with_a_key_and_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], reachable: bool, mode: str
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wandb_logger, "reachable", lambda server: reachable)
    (tmp_path / "environment.json").write_text('{"id": "1a2b", "sessions": []}')
    logger = wandb_logger.build_wandb_logger(str(tmp_path), "p", None, "auto")
    assert logger._wandb_init["mode"] == mode
    assert logger._wandb_init["id"] == f"{tmp_path.name}-1a2b"
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb_logger, "reachable", lambda server: False)
    with pytest.raises(ValueError, match=r"logger.wandb.mode=online: .*set logger.wandb.mode=auto to log offline"):
        wandb_logger.build_wandb_logger(str(tmp_path), "p", None, "online")
