"""SCTNet's alignment with a teacher, and its loss."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.losses.alignment import AlignedLoss, channel_wise_divergence
from src.losses.combined import CombinedLoss
from src.losses.cross_entropy import CrossEntropy
from src.models.architecture import AlignedLogits
from src.models.network import Network
from src.models.sctnet import SCTNet
from src.models.smp_network import SMPNetwork
from tests.support.paths import TINY as SCENES

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
WEIGHTS = {"stage3": 15.0, "stage4": 15.0, "decoder": 15.0, "logits": 3.0}
MIT = {"name": "mit_b0", "weights": None}
TINY = {"name": "tu-test_resnet", "weights": None}
K = 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(**options: object) -> SCTNet:
    return SCTNet(K, base_channels=8, spp_channels=8, **options)


def save_teacher(path: Path, num_classes: int = K, backbone: dict = TINY, **options: object) -> SMPNetwork:
    """Writes a checkpoint like Lightning's of a SegmentationTask with smp's Segformer."""
    network = Network(SMPNetwork("Segformer", backbone, num_classes, **options), MEAN, STD)
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "pytorch-lightning_version": "2.6.6", "loops": {"fit_loop": {}}}, path)
    return network.architecture.eval()


@pytest.fixture(scope="module")
def mit(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, SMPNetwork]:
    """A value of `model.teacher`, and its network."""
    path = tmp_path_factory.mktemp("mit") / "best.ckpt"
    return {"backbone": MIT, "weights": str(path)}, save_teacher(path, backbone=MIT)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A value of `model.teacher` with a faster backbone than MiT-B0."""
    path = tmp_path_factory.mktemp("tiny") / "best.ckpt"
    save_teacher(path)
    return {"backbone": TINY, "weights": str(path)}


def aligned_loss(**options: object) -> AlignedLoss:
    base = CombinedLoss({"ce": {"weight": 1.0, "loss": CrossEntropy()}}, aux_weight=0.4)
    return AlignedLoss(base, WEIGHTS, **options)


def batch(size: tuple[int, int] = (64, 96)) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8), torch.randint(0, K, (2, *size), dtype=torch.uint8)


def test_teacher_is_frozen_and_no_part_of_the_student(mit: tuple[dict, SMPNetwork]) -> None:
    network = Network(small(teacher=mit[0]), MEAN, STD).train()
    plain = Network(small(), MEAN, STD)
    own = {
        f"architecture.alignment.{name}.{what}"
        for name in ("stage3", "stage4", "decoder")
        for what in ("weight", "bias")
    }
    assert set(network.state_dict()) - set(plain.state_dict()) == own
    assert {name for name, _ in network.named_parameters()} - {name for name, _ in plain.named_parameters()} == own
    (module,) = network.architecture.alignment._teacher
    before = {key: value.clone() for key, value in module.state_dict().items()}
    image, mask = batch()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    outputs = network(image)
    assert all(not target.requires_grad for _, target in outputs.pairs.values())
    aligned_loss()(outputs, mask)["loss"].backward()
    optimizer.step()
    network.eval().train()
    assert not any(part.training for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert len(network.eval()(image)) == 1
    network.to("meta")
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}, (
        "it moves to a device with its student"
    )


@pytest.mark.parametrize("size", [(64, 96), (70, 101)])
def test_pairs_are_those_of_the_paper(mit: tuple[dict, SMPNetwork], size: tuple[int, int]) -> None:
    model = small(teacher=mit[0]).train()
    reference = mit[1]
    projected = []
    model.alignment.decoder.register_forward_hook(lambda *given: projected.append(given[-1]))
    image = torch.randn(2, 3, *size)
    outputs = model(image)
    assert [tuple(logits.shape) for logits in outputs] == [(2, K, -(-size[0] // 8), -(-size[1] // 8))] * 2
    padded = F.pad(image, (0, -size[1] % 32, 0, -size[0] % 32))
    with torch.no_grad():
        features = reference.encoder(padded)
        expected = {
            "stage3": (16, features[4]), "stage4": (32, features[5]), "decoder": (4, reference.decoder(features)),
            "logits": (4, reference(padded)[0]),
        }  # fmt: skip
    assert outputs.pairs.keys() == expected.keys()
    for name, (stride, target) in expected.items():
        shape = -(-size[0] // stride), -(-size[1] // stride)
        mine, theirs = outputs.pairs[name]
        assert mine.shape == theirs.shape == (*target.shape[:2], *shape)
        torch.testing.assert_close(theirs, target[..., : shape[0], : shape[1]], atol=1e-5, rtol=1e-4)
    # The student's map at stride 4, with the teacher's statistics, through the teacher's fusion and classifier.
    module, target = model.alignment._teacher[0], model.alignment._teacher[0](image)[2]
    up = F.interpolate(projected[0], scale_factor=2, mode="bilinear")[..., : target.shape[-2], : target.shape[-1]]
    flat, flat_target = (x.transpose(0, 1).flatten(1).double() for x in (up, target))
    normalised = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-6)
    matched = normalised * flat_target.std(1, keepdim=True) + flat_target.mean(1, keepdim=True)
    joined = matched.float().view(target.shape[1], 2, *target.shape[-2:]).transpose(0, 1)
    feature = module.network.decoder.fuse_stage(joined)
    torch.testing.assert_close(outputs.pairs["decoder"][0], feature, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(outputs.pairs["logits"][0], module.network.head(feature), atol=1e-4, rtol=1e-3)


def test_gradients_reach_every_aligned_map_and_all_parameters(teacher: dict) -> None:
    model = small(teacher=teacher).train()
    _, *maps = model.encoder(torch.randn(2, 3, 64, 96))
    for x in maps:
        x.retain_grad()
    x3, x5, x_out = maps
    pairs = model.alignment(torch.randn(2, 3, 64, 96), x3, x5, x_out)
    reached = {"stage3": x3, "stage4": x5, "decoder": x_out, "logits": x_out}
    for name, (mine, theirs) in pairs.items():
        for x in maps:
            x.grad = None
        channel_wise_divergence(mine, theirs, 4.0).backward(retain_graph=True)
        assert reached[name].grad.abs().sum() > 0, name
        projection = getattr(model.alignment, "decoder" if name == "logits" else name)
        assert projection.weight.grad.abs().sum() > 0, name
    network = Network(model, MEAN, STD)
    network.zero_grad()
    image, mask = batch()
    aligned_loss()(network(image), mask)["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_aligned_training_brings_the_student_nearer(teacher: dict) -> None:
    torch.manual_seed(0)
    network = Network(small(teacher=teacher, drop_path=0.0), MEAN, STD).train()
    loss = aligned_loss().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    image, mask = batch()
    history = []
    for _ in range(6):
        result = loss(network(image), mask)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in result.items()})
    assert all(history[-1][f"align_{name}"] < history[0][f"align_{name}"] for name in WEIGHTS)
    with torch.autocast("cpu", torch.bfloat16):
        result = loss(network(image), mask)
    assert result["loss"].dtype == torch.float32
    assert result["loss"].item() == pytest.approx(history[-1]["loss"], rel=0.2)


def test_checkpoint_of_an_aligned_student_loads_without_the_teacher(teacher: dict) -> None:
    source = small(teacher=teacher).eval()
    model = small(teacher=teacher | {"weights": None}).eval()
    model.load_state_dict(source.state_dict())
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(model(image)[0], source(image)[0])
    with pytest.raises(ValueError, match=r"model.teacher.weights is null: .*best.ckpt, or model.teacher=null"):
        model.train()(torch.randn(2, 3, 64, 96))


def test_student_starts_the_same_with_and_without_a_teacher(teacher: dict) -> None:
    torch.manual_seed(1)
    plain = small().state_dict()
    torch.manual_seed(1)
    aligned = small(teacher=teacher).state_dict()
    assert all(torch.equal(value, aligned[key]) for key, value in plain.items())


def test_teachers_that_do_not_fit_are_refused(teacher: dict, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    given = {"backbone": TINY, "weights": str(path)}
    with pytest.raises(ValueError, match=r"model.teacher.weights=.*other.ckpt: no such file; give runs/NAME"):
        small(teacher=given)
    save_teacher(path, num_classes=K + 1)
    with pytest.raises(
        ValueError,
        match=r"weights of another network than smp's Segformer on tu-test_resnet .*: 2 of another shape \(first",
    ):
        small(teacher=given)
    # A deeper encoder of the same width has all of a shallower one's tensors, as MiT-B3 has MiT-B2's.
    content = torch.load(teacher["weights"], weights_only=True)
    content["state_dict"]["network.architecture.encoder.model.layer3.9.bn1.weight"] = torch.ones(48)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r": 1 unknown \(first: encoder.model.layer3.9"):
        small(teacher=given)
    save_teacher(path, decoder_segmentation_channels=64)
    assert small(teacher=given | {"decoder_segmentation_channels": 64}).alignment.decoder.out_channels == 5 * 64
    with pytest.raises(ValueError, match=r"model.teacher.backbone.weights=imagenet: must be null"):
        small(teacher=given | {"backbone": TINY | {"weights": "imagenet"}})
    for wrong in ("best.ckpt", {"weights": None}, given | {"channels": 64}):
        with pytest.raises(ValueError, match=r"model.teacher=.*: must be null, or have backbone and weights"):
            small(teacher=wrong)


# The loss


def test_divergence_equals_naive_float64_and_is_0_for_equal_maps() -> None:
    student, teacher = torch.randn(2, 3, 4, 6) * 5, torch.randn(2, 3, 4, 6) * 5
    total = 0.0
    for image in range(2):
        for channel in range(3):
            p, q = (np.exp(x[image, channel].numpy().astype(np.float64).ravel() / 4) for x in (teacher, student))
            p, q = p / p.sum(), q / q.sum()
            total += float((p * np.log(p / q)).sum())
    expected = total * 4**2 / (2 * 3)
    assert channel_wise_divergence(student, teacher, 4.0).item() == pytest.approx(expected, rel=1e-5)
    assert channel_wise_divergence(teacher, teacher, 4.0).item() == 0
    # Adding a constant to a channel changes nothing; a smaller student is brought up.
    assert channel_wise_divergence(teacher + 3, teacher, 4.0).item() == pytest.approx(0, abs=1e-5)
    up = F.interpolate(student[..., :2, :3], (4, 6), mode="bilinear", align_corners=False)
    assert channel_wise_divergence(student[..., :2, :3], teacher, 4.0) == channel_wise_divergence(up, teacher, 4.0)


def test_aligned_loss_adds_weighted_divergences() -> None:
    logits = (torch.randn(1, K, 8, 8), torch.randn(1, K, 8, 8))
    mask = torch.randint(0, K, (1, 8, 8))
    pairs = {name: (torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)) for name in WEIGHTS}
    loss = aligned_loss(temperature=2.0)
    result = loss(AlignedLogits(logits, pairs), mask)
    base = loss.base(logits, mask)
    expected = base["loss"] + sum(w * channel_wise_divergence(*pairs[name], 2.0) for name, w in WEIGHTS.items())
    assert result["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert set(result) == {"loss", "ce", "aux", *(f"align_{name}" for name in WEIGHTS)}
    assert torch.equal(loss.eval()(logits, mask)["loss"], base["loss"]), "in validation only the base loss"


def test_loss_and_network_that_do_not_match_are_refused() -> None:
    logits, mask = (torch.randn(1, K, 8, 8),), torch.randint(0, K, (1, 8, 8))
    loss = aligned_loss()
    with pytest.raises(ValueError, match=r"the network has none; set model.teacher"):
        loss(logits, mask)
    with pytest.raises(ValueError, match=r"model.teacher is set, and this loss does not use it; choose loss=ce_siam"):
        loss.base(AlignedLogits(logits, {}), mask)
    with pytest.raises(ValueError, match=r"loss.weights names stage3, .*; this network compares stage9"):
        loss(AlignedLogits(logits, {"stage9": (logits[0], logits[0])}), mask)
    with pytest.raises(ValueError, match=r"loss.weights.stage3=-1: must not be negative"):
        AlignedLoss(loss.base, {"stage3": -1})
    with pytest.raises(ValueError, match=r"loss.temperature=0: must be above 0"):
        aligned_loss(temperature=0)


@pytest.mark.e2e
def test_a_teacher_is_trained_then_a_student_by_it(cli, tmp_path: Path) -> None:
    """Trains both from the command line, and evaluates without the teacher's file."""
    scenes = [option for option in SCENES if not option.startswith("model.")]
    where = [*scenes, f"runs={tmp_path}"]
    cli("train", *where, "model=segformer", "name=teacher")
    teacher = tmp_path / "teacher" / "checkpoints" / "best.ckpt"
    model = f"model.teacher={{backbone:{{name:tu-test_resnet,weights:null}},weights:{teacher}}}"
    weights = "loss.base.terms.ce.loss.class_weights=enet"
    logging = "trainer.log_every_n_steps=1"
    miou = cli("train", *where, "model=sctnet_s", "loss=ce_siam", model, weights, logging, "name=student")
    assert "train/align_decoder" in (tmp_path / "student" / "metrics.csv").read_text().splitlines()[0]
    teacher.unlink()
    assert cli("eval", f"run={tmp_path / 'student'}", "accelerator=cpu") == miou
