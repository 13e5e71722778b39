"""Dropout and drop path have the probabilities of their keys."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from timm.layers import DropPath
from torch import nn

from src.models.encoder import build_encoder, build_vit_encoder
from tests.config.test_configs import CONF, composed

KEYS = {
    "deeplabv3": "dropout", "deeplabv3plus": "dropout", "deeplabv3plus_r2": "dropout", "fcn_resnet": "dropout",
    "pspnet": "dropout", "segnetwork": "dropout", "sct_resnet": "dropout", "upernet": "dropout",
    "sctnet_s": "drop_path", "segformer": "dropout",
}  # fmt: skip


@pytest.mark.parametrize("model", KEYS)
def test_a_networks_dropout_is_its_key(model: str, tmp_path: Path) -> None:
    """The network has the probability of the key, and nothing else makes training random."""
    rate = 0.37
    small = ["model.channels=[4,4,4,4,4]"] if model == "segnetwork" else []
    cfg = composed(tmp_path, f"model={model}", f"model.{KEYS[model]}={rate}", *small)
    network = instantiate(cfg.task.network.architecture, _convert_="all")
    kinds = (nn.Dropout, nn.Dropout2d, DropPath)
    found = [module for module in network.modules() if isinstance(module, kinds)]
    rates = {getattr(module, "p", getattr(module, "drop_prob", None)) for module in found}
    assert rate in rates
    image = torch.rand(2, 3, 64, 64)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
    outputs = [torch.cat([logits.flatten() for logits in network.train()(image)]) for _ in range(2)]
    assert not torch.equal(*outputs)
    assert torch.equal(network.eval()(image)[0], network(image)[0])


@pytest.mark.parametrize("name", ["convnext_tiny", "swin_tiny", "vit_tiny", "tiny_vit"])
def test_drop_path_is_a_key_of_its_backbones(name: str) -> None:
    backbone = OmegaConf.to_container(OmegaConf.load(CONF / "backbone" / f"{name}.yaml"))
    assert backbone["options"]["drop_path_rate"] == 0
    backbone |= {"weights": None, "options": backbone["options"] | {"drop_path_rate": 0.3}}
    encoder = (build_vit_encoder if "vit" in name else build_encoder)(backbone)
    rates = [module.drop_prob for module in encoder.modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.3), "the last block's; timm lets them rise from 0"
    if name == "tiny_vit":
        image = torch.rand(2, 3, 64, 64)
        encoder.train()
        torch.manual_seed(0)
        first = encoder(image)[0][-1]
        assert not torch.equal(first, encoder(image)[0][-1])
        encoder.eval()
        assert torch.equal(encoder(image)[0][-1], encoder(image)[0][-1])


def test_options_that_a_backbone_would_ignore_are_refused() -> None:
    """smp ignores them silently for its own encoders."""
    with pytest.raises(ValueError, match=r"backbone.options.drop_path_rate=0.2: resnet18 takes no options"):
        build_encoder({"name": "resnet18", "weights": None, "options": {"drop_path_rate": 0.2}})
