"""Images are normalised as the pretraining of the first weights did, whatever chose these weights."""

from pathlib import Path

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config import complete, normalisation
from src.config.identity import identity
from src.config.normalisation import settle_normalisation
from src.config.open import resolve
from src.errors import UserError
from src.models.statistics import DPN, HALF, IMAGENET, Statistics, pretrained_statistics, statistics_of
from tests.support.compose import composed
from tests.support.paths import ROOT

BACKBONES = sorted(path.stem for path in (ROOT / "conf" / "backbone").glob("*.yaml"))
QUICK = (
    "data=streets_tiny", "data.dataset.size=[64,64]", "data.dataset.num_train=1", "data.dataset.num_val=1",
    "data.crop_size=[32,32]", "data.pack=null",
)  # fmt: skip


def completed(*words: str) -> DictConfig:
    with composed("train", *QUICK, *words) as cfg:
        return complete.complete(cfg).config


def settled(*words: str) -> Statistics:
    cfg = resolve(completed(*words))
    network = cfg.task.network
    assert (network.mean, network.std) == (cfg.data.mean, cfg.data.std)
    return Statistics(tuple(network.mean), tuple(network.std))


def of_timm(name: str) -> Statistics:
    found = timm.get_pretrained_cfg(name.removeprefix("tu-"))
    return Statistics(tuple(found.mean), tuple(found.std))


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses to ask timm, which takes ten seconds to import."""

    def refuse(name: str) -> None:
        raise AssertionError(f"asked for {name}")

    monkeypatch.setattr(normalisation, "pretrained_statistics", refuse)


@pytest.mark.usefixtures("no_library")
def test_every_backbone_of_conf_has_its_own() -> None:
    with composed("train", *QUICK, "model=unet") as shared:
        for name in BACKBONES:
            stated = OmegaConf.load(ROOT / "conf" / "backbone" / f"{name}.yaml")
            expected = of_timm(stated.name) if stated.name.startswith("tu-") else IMAGENET
            for weights, right in (("imagenet", expected), ("some.pth", expected), (None, IMAGENET)):
                cfg = shared.copy()
                cfg.choices, cfg.backbone = {"backbone": name}, OmegaConf.merge(stated, {"weights": weights})
                settle_normalisation(cfg)
                assert Statistics(tuple(cfg.data.mean), tuple(cfg.data.std)) == right, name
                assert statistics_of({"name": stated.name, "weights": weights}) == right, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tu-vit_tiny_patch16_224", HALF),
        ("tu-tf_efficientnet_b0.ap_in1k", HALF),
        ("tu-tf_efficientnet_b0.aa_in1k", IMAGENET),
        ("tu-convnext_tiny.fb_in1k", IMAGENET),
        ("tu-inception_v4", HALF),
        ("resnet34", IMAGENET),
        ("xception", HALF),
        ("dpn68b", DPN),
    ],
)
def test_a_free_name_has_those_of_its_library(name: str, expected: Statistics) -> None:
    assert pretrained_statistics(name) == expected
    if name.startswith("tu-"):
        assert of_timm(name) == expected
    assert settled("model=unet", "backbone=resnet18", f"backbone.name={name}") == expected
    assert settled(
        "model=unet", "backbone=efficientnet_lite0", f"backbone.name={name}", "backbone.weights=imagenet"
    ) == (expected)


@pytest.mark.usefixtures("no_library")
def test_what_was_given_stays_and_the_rest_follows() -> None:
    words = ("model=unet", "backbone=efficientnet_lite0")
    given = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert settled(*words, "data.mean=[0.1,0.2,0.3]", "data.std=[0.4,0.5,0.6]") == given
    assert settled(*words, "data.std=[0.4,0.5,0.6]") == Statistics(HALF.mean, given.std)
    assert settled(*words, "backbone.mean=[0.1,0.2,0.3]", "backbone.std=[0.4,0.5,0.6]") == given
    assert settled("model=enet") == settled("model=unet_small") == IMAGENET
    with pytest.raises(UserError, match=r"^data.mean=\['a', 'b', 'c'\]: must be numbers, such as \[0.485, "):
        completed(*words, "data.mean=[a,b,c]")
    for wrong in ("data.mean=[0.1,0.2]", "data.mean=0.5", "data.std=[0.1,0,0.1]", "data.std=[a,b,c]"):
        with pytest.raises(UserError, match=rf"^{wrong.partition('=')[0]}="):
            completed(*words, wrong)


def test_the_banner_can_say_whose_they_are() -> None:
    lite = ("model=unet", "backbone=efficientnet_lite0")
    assert completed(*lite).normalised_by == "of the pretraining of tu-tf_efficientnet_lite0"
    assert completed(*lite, "backbone.weights=null").normalised_by == "of ImageNet, as the backbone has random weights"
    assert completed(*lite, "data.mean=[0,0,0]", "data.std=[1,1,1]").normalised_by == "data.mean and data.std"
    assert completed("model=enet").normalised_by == "of ImageNet"


def test_the_name_of_a_run_depends_on_the_numbers_and_not_on_whose_they_are() -> None:
    words = ("model=unet", "backbone=efficientnet_lite0")
    implied, given = completed(*words), completed(*words, "data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]")
    assert identity(implied) == identity(given)
    assert identity(implied) != identity(completed(*words, "data.mean=[0.4,0.5,0.5]"))


@pytest.mark.parametrize("kind", ["run", "safetensors", "ckpt", "without"])
def test_first_weights_of_another_training_keep_theirs(kind: str, tmp_path: Path) -> None:
    expected = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    buffers = {
        "network.mean": torch.tensor(expected.mean).view(1, 3, 1, 1) * 255,
        "network.std": torch.tensor(expected.std).view(1, 3, 1, 1) * 255,
    }
    source = tmp_path / "run" / "checkpoints" / "best.ckpt"
    source.parent.mkdir(parents=True)
    if kind == "run":
        torch.save({}, source)
        config = {"task": {"network": {"mean": list(expected.mean), "std": list(expected.std)}}}
        OmegaConf.save(OmegaConf.create(config), tmp_path / "run" / "config.yaml")
    else:
        torch.save({"state_dict": {"network.w": torch.ones(1)} | (buffers if kind != "without" else {})}, source)
    if kind == "safetensors":
        from safetensors.torch import save_file

        source = tmp_path / "weights.safetensors"
        save_file(buffers, source)
    cfg = completed("model=unet", "backbone=efficientnet_lite0", f"init_from={source}")
    found = Statistics(tuple(cfg.data.mean), tuple(cfg.data.std))
    assert found == (HALF if kind == "without" else expected)
    assert cfg.normalised_by == (
        "of the pretraining of tu-tf_efficientnet_lite0" if kind == "without" else "of init_from"
    )


@pytest.mark.parametrize(
    ("mean", "std", "is_taken"),
    [
        ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), True),
        ((25.5, 51.0, 76.5), (102.0, 127.5, 153.0), True),
        ((0.1, 0.2, 0.3, 0.4), (0.4, 0.5, 0.6, 0.7), False),
        ((0.1,), (0.4,), False),
    ],
)
def test_the_buffers_of_another_program_are_read_in_their_own_unit(
    mean: tuple[float, ...], std: tuple[float, ...], is_taken: bool, tmp_path: Path
) -> None:
    """smp's examples of Lightning keep `mean` and `std` in 0..1 beside the network."""
    buffers = {key: torch.tensor(values).view(1, -1, 1, 1) for key, values in (("mean", mean), ("std", std))}
    torch.save({"state_dict": {"model.encoder.w": torch.ones(1)} | buffers}, tmp_path / "smp.ckpt")
    found = settled("model=enet", f"init_from={tmp_path / 'smp.ckpt'}")
    assert found == (Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)) if is_taken else IMAGENET)


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "tiny"])
def test_a_network_that_is_built_without_numbers_has_those_of_its_encoder(backbone: str) -> None:
    cfg = completed("model=unet", f"backbone={backbone}")
    for mean in (cfg.data.mean, None):
        cfg.data.mean = cfg.data.std = mean if mean is None else cfg.data.mean
        network = instantiate(cfg.task.network, _convert_="all")
        usual = HALF if backbone == "efficientnet_lite0" else IMAGENET
        torch.testing.assert_close(network.mean.flatten() / 255, torch.tensor(usual.mean))
