"""Messages about backbones that cannot be built: an unknown name, weights that do not fit or cannot be fetched."""

from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from src.errors import UserError
from tests.config.test_configs import composed
from tests.support.paths import TINY


def refusal(root: Path, *words: str) -> str:
    """Builds a network that must be refused, and returns the message for the user."""
    cfg = composed(root, *TINY, *words)
    with pytest.raises(InstantiationException) as error:
        instantiate(cfg.task.network)
    assert isinstance(error.value.__cause__, UserError)
    return str(error.value.__cause__)


def test_weights_file_of_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.safetensors"
    save_file(get_encoder("resnet34", weights=None).state_dict(), path)
    message = refusal(tmp_path, "backbone=resnet50", f"backbone.weights={path}")
    assert message.startswith(f"backbone.weights={path}: weights of another ")
    assert " than resnet50" in message
    path.write_bytes(b"\x00\xffno weights")
    message = refusal(tmp_path, "backbone=resnet18", f"backbone.weights={path}")
    assert message.startswith(f"{path}: not a weights file (")
    message = refusal(tmp_path, "backbone=resnet18", "backbone.weights=nowhere.pth")
    allowed = "a .safetensors or .pth file, imagenet, package, or null"
    assert message == f"backbone.weights=nowhere.pth: no such file; give {allowed}"


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3"])
def test_offline_weights_name_both_remedies(tmp_path: Path, backbone: str) -> None:
    message = refusal(tmp_path, f"backbone={backbone}")
    assert "are not in this machine's cache and cannot be downloaded" in message
    assert "set backbone.weights=null to start from random weights, or backbone.weights=PATH" in message


def test_unknown_backbone_name(tmp_path: Path) -> None:
    message = refusal(tmp_path, "backbone.name=resnet19")
    assert message.startswith("backbone.name=resnet19 is unknown; the nearest are resnet1")
    assert "convnext_tiny" in refusal(tmp_path, "backbone.name=tu-convnext_tinny")
