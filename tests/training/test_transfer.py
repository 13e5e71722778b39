"""`init_from`: the tensors that are copied, those that are not and why; CamVid to KITTI road as in report R1."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from src.config.build import build_task
from src.config.open import resolve
from src.data.streets.source import Streets
from src.models import encoder
from src.runs.origin import Origin, find_origin
from src.training.transfer import class_tensors, copy_weights, describe, plan_transfer
from tests.config.test_configs import composed
from tests.support.architectures import build
from tests.support.paths import SMALL, TINY
from tests.support.trees import write_kitti_road

HEAD = {"head.weight", "head.bias"}


def state(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return {
        name.removeprefix("network.architecture."): value
        for name, value in content.get("state_dict", content).items()
        if name.startswith("network.architecture.")
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A run folder with CamVid's eleven classes and the checkpoint of an untrained network."""
    folder = tmp_path / "runs" / "source"
    (folder / "checkpoints").mkdir(parents=True)
    cfg = resolve(composed(tmp_path, *TINY))
    torch.save({"state_dict": instantiate(cfg.task).state_dict()}, folder / "checkpoints" / "best.ckpt")
    OmegaConf.save(cfg, folder / "config.yaml")
    (folder / "identity.json").write_text(json.dumps({f"data.classes.{name}": [0, 0, 0] for name in Streets.classes}))
    return folder


@pytest.fixture
def road(source: Path, tmp_path: Path) -> tuple[str, ...]:
    """The command that starts from it, on KITTI road."""
    return (
        *SMALL, "data=kitti_road", f"data.root={write_kitti_road(tmp_path / 'road')}", f"init_from={source}",
        f"runs={source.parent}", "name=road", "+callbacks.first._target_=tests.support.helpers.SaveFirstWeights",
        "+callbacks.first.folder=${run_dir}",
    )  # fmt: skip


@pytest.mark.e2e
def test_the_encoder_is_the_sources_and_the_classifier_is_new(source: Path, road, cli, capfd) -> None:
    cli("train", *road)
    printed = capfd.readouterr().out
    origin_weights, first = state(source / "checkpoints" / "best.ckpt"), state(source.parent / "road" / "first.ckpt")
    encoder = [name for name in first if name.startswith("encoder.")]
    assert len(encoder) == 90
    assert all(torch.equal(first[name], origin_weights[name]) for name in first if name not in HEAD)
    assert first["head.weight"].shape[0] == 2
    assert origin_weights["head.weight"].shape[0] == 11
    assert "skipped head.weight: 11x8x3x3 there, 2x8x3x3 here" in printed
    assert "made anew for 2 classes (Road, Not_Road); the source has 11 classes (Sky, Building, Pole, ...)" in printed
    assert re.search(r"encoder │ +90 │ +│ +│ +│", printed)
    assert f"from {source}/checkpoints/best.ckpt, as far as they fit" in printed
    trained = state(source.parent / "road" / "checkpoints" / "last.ckpt")
    assert not torch.equal(trained["encoder.model.conv1.0.weight"], first["encoder.model.conv1.0.weight"])


@pytest.mark.e2e
def test_it_applies_only_at_the_start_and_a_changed_source_is_refused(
    source: Path, road, cli, fails, monkeypatch
) -> None:
    cli("train", *road)
    run = source.parent / "road"
    (run / "results.json").unlink()  # killed before its evaluation

    def never(*_: object) -> None:
        raise AssertionError("weights were copied into a run that continues")

    monkeypatch.setattr("src.training.transfer.copy_weights", never)
    monkeypatch.setattr("src.training.transfer.plan_transfer", never)
    before = state(run / "checkpoints" / "last.ckpt")
    cli("train", *road)
    after = state(run / "checkpoints" / "last.ckpt")
    assert all(torch.equal(before[name], after[name]) for name in before)
    elsewhere = source.rename(source.with_name("moved"))
    cli("train", *road, f"init_from={elsewhere}")  # the same content: the same run
    with (elsewhere / "checkpoints" / "best.ckpt").open("ab") as file:
        file.write(b"0")
    message = fails("train", *road, f"init_from={elsewhere}")
    assert "holds a run of another configuration (init_source.digest: " in message


def test_sources_that_do_not_exist_are_refused_before_torch_is_needed(source: Path, tmp_path: Path, fails) -> None:
    message = fails("train", *TINY, f"init_from={source.parent}/sourc")
    assert message.endswith("no run folder or file there; the nearest are source; give one, or null")
    (tmp_path / "young").mkdir()
    with pytest.raises(ValueError, match="young: is no run folder"):
        find_origin(str(tmp_path / "young"))
    (tmp_path / "young" / "config.yaml").touch()
    with pytest.raises(ValueError, match="young: has no checkpoint yet"):
        find_origin(str(tmp_path / "young"))
    with pytest.raises(ValueError, match=r"identity\.json: must be a run folder or a file that ends in \.ckpt"):
        find_origin(str(source / "identity.json"))
    origin = find_origin(str(source))
    assert origin.classes == list(OmegaConf.load(source / "config.yaml").data.classes)
    assert origin == find_origin(f"{source}/checkpoints/best.ckpt")


@pytest.fixture(scope="module")
def networks() -> dict[int, nn.Module]:
    return {classes: build("unet_small", classes) for classes in (3, 4)}


def saved(network: nn.Module, path: Path, prefix: str = "network.") -> Origin:
    tensors = {f"{prefix}{name}": value.contiguous() for name, value in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return Origin(str(path), "", None)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("unet_small", HEAD),
        ("pspnet", {"head.4.weight", "head.4.bias", "aux_head.4.weight", "aux_head.4.bias"}),
        ("segnetwork", {"score.weight", "score.bias"}),
    ],
)
def test_class_tensors_are_those_of_the_classifiers(model: str, expected: set[str]) -> None:
    first, second = (build(model, classes).architecture for classes in (3, 4))
    assert class_tensors(first, second) == expected


def test_same_number_of_other_classes_makes_the_classifier_anew(networks, tmp_path: Path) -> None:
    target = networks[3].architecture
    origin = saved(build("unet_small", 3), tmp_path / "a.ckpt")
    classes = ["a", "b", "c"]
    kept = plan_transfer(target, origin, set())
    assert kept.loaded.keys() >= HEAD
    renewed = plan_transfer(target, origin, class_tensors(target, networks[4].architecture))
    assert set(renewed.anew) == HEAD
    assert renewed.loaded.keys() == kept.loaded.keys() - HEAD
    mean, std = networks[3].mean, networks[3].std
    same = describe(kept, Origin(origin.path, "", classes), classes, mean, std)
    assert "classifier: taken over, the source has the same 3 classes" in same
    assert "the classes of the source are unknown" in describe(kept, origin, classes, mean, std)
    assert "note" not in same
    note = describe(kept, origin, classes, mean + 2.55, std)
    assert "by this run's data.mean and data.std; the source's: data.mean=[0.485,0.456,0.406]" in note


def test_the_rule_goes_by_class_names_in_their_order(tmp_path: Path, source: Path) -> None:
    """Streets to streets keeps the classifier; the same number of classes by other names or in another order not."""
    learnt = list(find_origin(str(source)).classes)
    for names, is_kept in ((learnt, True), ([f"c{i}" for i in range(11)], False), (learnt[::-1], False)):
        cfg = composed(tmp_path, *TINY, f"init_from={source}")
        cfg.data.classes = {name: [0, 0, index] for index, name in enumerate(names)}
        cfg.init_source = vars(find_origin(str(source)))
        built = build_task(resolve(cfg), continues=False).network.architecture.state_dict()
        origin_weights = state(source / "checkpoints" / "best.ckpt")
        assert all(torch.equal(built[name], origin_weights[name]) for name in built if name not in HEAD)
        assert torch.equal(built["head.weight"], origin_weights["head.weight"]) == is_kept


@pytest.mark.parametrize("prefix", ["network.", "module.network.", "architecture.", ""])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_files_and_prefixes(networks, tmp_path: Path, prefix: str, name: str) -> None:
    source = build("unet_small", 3)
    prefix_of = prefix if prefix else "architecture."
    origin = saved(source, tmp_path / name, prefix_of)
    if prefix == "":  # a bare architecture's own state dict
        origin = saved(source.architecture, tmp_path / name, "")
    elif prefix == "architecture.":
        origin = saved(source.architecture, tmp_path / name, prefix)
    target = networks[3].architecture
    transfer = plan_transfer(target, origin, set())
    assert transfer.has_encoder
    assert not transfer.missing
    assert not transfer.unused
    copy_weights(target, transfer)
    origin_weights = source.architecture.state_dict()
    assert all(torch.equal(value, origin_weights[key]) for key, value in target.state_dict().items())


def test_nothing_that_was_learnt_fits(networks, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    norms = {name: value for name, value in networks[3].state_dict().items() if value.ndim < 2}
    torch.save({**norms, "network.conv.weight": torch.zeros(3, 3, 3, 3)}, path)
    assert any("running_mean" in name for name in norms), "only norms would fit"
    with pytest.raises(ValueError, match=r"other\.pth: no weights in it fit this network .* same model and backbone"):
        plan_transfer(networks[3].architecture, Origin(str(path), "", None), set())


def test_imagenet_weights_are_not_fetched_if_the_source_has_all(tmp_path: Path, monkeypatch) -> None:
    asked = []
    real = encoder.get_encoder

    def offline(name: str, **options: object) -> nn.Module:
        asked.append(options.pop("weights", None))
        return real(name, **options, weights=None)

    monkeypatch.setattr(encoder, "get_encoder", offline)
    path = tmp_path / "resnet18.pth"
    cfg = composed(tmp_path, *TINY, "backbone=resnet18", f"init_from={path}")
    cfg = resolve(cfg)
    assert cfg.task.network.architecture.backbone.weights == "imagenet"
    source = build("unet_small", 3, "backbone=resnet18", "model.decoder_channels=[32,16,16,8,8]")
    for is_whole, expected in ((True, [None]), (False, [None, "imagenet"])):
        asked.clear()
        whole = source.state_dict()
        torch.save({k: v for k, v in whole.items() if is_whole or "layer4" not in k}, path)
        cfg.init_source = vars(find_origin(str(path)))
        task = build_task(cfg, continues=False)
        assert asked == expected
        assert torch.equal(task.network.architecture.encoder.conv1.weight, source.architecture.encoder.conv1.weight)


@pytest.mark.slow
def test_camvid_to_kitti_road(cli, real_camvid: Path, real_kitti_road: Path, tmp_path: Path) -> None:
    """R1's transfer on real data: a tiny encoder from CamVid learns the 11 lanes to an IoU of .80 and more."""
    common = (
        "trainer=cpu", "trainer.precision=32-true",
        "logger=csv", "trainer.enable_progress_bar=false", "model=unet_small", "backbone=tiny",
        "augmentation=scale_crop_flip", "loss=ce_dice", "optimizer=adamw_scratch", f"runs={tmp_path}",
    )  # fmt: skip
    cli(
        "train", *common, "data=camvid", f"data.root={real_camvid}", "name=camvid", "trainer.max_epochs=1",
        "data.crop_size=[96,128]", "augmentation.geometry.resize=[120,160]", "inference.size=[120,160]",
    )  # fmt: skip
    # All 11 train; copies of them are val, so that the figure is that of the frames learnt.
    for folder in ("image_2", "gt_image_2"):
        (tmp_path / "road" / "training" / folder).mkdir(parents=True)
        for file in (real_kitti_road / "training" / folder).iterdir():
            stem, number = file.stem[:-6], int(file.stem[-6:])
            for copy in (number, number + 85):
                shutil.copyfile(file, tmp_path / "road" / "training" / folder / f"{stem}{copy:06d}.png")
    cli(
        "train", *common, "data=kitti_road", "data.task=lane", f"data.root={tmp_path / 'road'}", "name=road",
        f"init_from={tmp_path / 'camvid'}", "data.batch_size=4", "data.crop_size=[96,256]",
        "augmentation.geometry.resize=[96,320]", "augmentation.geometry.scale=[0.8,1.25]", "inference.size=[96,320]",
        "trainer.max_epochs=80", "trainer.check_val_every_n_epoch=80", "callbacks.panels.every_n_epochs=100",
        "+callbacks.first._target_=tests.support.helpers.SaveFirstWeights", "+callbacks.first.folder=${run_dir}",
    )  # fmt: skip
    origin_weights, first = (
        state(tmp_path / "camvid" / "checkpoints" / "best.ckpt"),
        state(tmp_path / "road" / "first.ckpt"),
    )
    assert all(torch.equal(first[name], origin_weights[name]) for name in first if name.startswith("encoder."))
    assert first["head.weight"].shape[0] == 2
    (evaluation,) = json.loads((tmp_path / "road" / "results.json").read_text())["evaluations"].values()
    assert evaluation["protocol"]["images"] == 11
    assert evaluation["iou"]["Lane"] > 0.8
