"""On a CUDA device: the figures of the CPU, a training with `trainer=gpu`, and a GPU whose memory is full.

`make test-gpu` runs these; a machine without such a device fails them all.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from src.inference import predict_scores
from src.metrics.confusion import count_images
from src.models.network import Network
from src.runs.folder import RunFolder
from tests.data.test_device import module
from tests.losses.test_bands import NAMES, build, make_batch, naive_combined
from tests.support import architectures
from tests.test_inference import PROTOCOLS, Blurred

pytestmark = pytest.mark.gpu
WORDS = ["trainer=gpu", "data=streets_tiny", "data.num_workers=2", "logger=csv", "trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def _in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in TF32 have ten bits of mantissa: too few to compare with a CPU."""
    assert torch.cuda.is_available(), "make test-gpu is for machines with a CUDA device; this one has none"
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("name", NAMES)
def test_losses_in_bands_are_those_of_the_whole(name: str) -> None:
    loss = build(name).to("cuda")
    logits, mask = make_batch((33, 50), [4, 8, 1], align_corners=False)
    dtype = torch.float64 if "lovasz" in loss.terms else torch.float32
    banded = [x.to("cuda", dtype, copy=True).requires_grad_() for x in logits]
    exact = [x.double().requires_grad_() for x in logits]
    value = loss(tuple(banded), mask.to("cuda"), False)["loss"]
    expected = naive_combined(build(name), exact, mask, False)
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(banded, exact, strict=True):
        torch.testing.assert_close(a.grad.cpu().double(), b.grad, rtol=1e-4, atol=1e-5 * b.grad.abs().max().item())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_the_scores_of_the_cpu(name: str) -> None:
    network = Network(Blurred(8), mean=[0.0] * 3, std=[64 / 255] * 3)
    image = torch.randint(0, 256, (2, 3, 75, 131), dtype=torch.uint8)
    expected = predict_scores(network, image, PROTOCOLS[name])
    scores = predict_scores(network.to("cuda"), image.to("cuda"), PROTOCOLS[name]).cpu()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_pixels_are_counted_as_on_a_cpu() -> None:
    prediction, mask = torch.randint(0, 19, (2, 5, 301, 199), dtype=torch.uint8)
    mask[torch.rand(mask.shape) < 0.1] = 255
    expected = count_images(prediction, mask, 19)
    assert torch.equal(count_images(prediction.to("cuda"), mask.to("cuda"), 19).cpu(), expected)
    assert int(expected.sum()) == int((mask != 255).sum())


def test_colours_are_changed_as_on_a_cpu() -> None:
    data = module("cityscapes", "device", 0)
    for batch in data.train_dataloader():
        expected = data.on_after_batch_transfer(batch, 0)
        moved = {name: value.to("cuda") if torch.is_tensor(value) else value for name, value in batch.items()}
        result = data.on_after_batch_transfer(moved, 0)
        assert (result["image"].cpu().int() - expected["image"]).abs().max() <= 1
        assert torch.equal(result["mask"].cpu(), expected["mask"])


@pytest.mark.parametrize("model", architectures.MODELS)
def test_a_step_of_every_network_with_bfloat16(model: str) -> None:
    """Every parameter that a CPU gives a gradient in 32 bits gets one, and outputs are near those of 32 bits."""
    network = architectures.build(model, 5).to("cuda").eval()
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, device="cuda")
    with torch.no_grad():
        exact = network(image)[0]
        with torch.autocast("cuda", torch.bfloat16):
            rounded = network(image)[0]
    assert (rounded.float() - exact).norm() <= 0.1 * exact.norm()
    network.train()
    with torch.autocast("cuda", torch.bfloat16):
        sum(output.float().square().mean() for output in network(image)).backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert len(gradients) > 0.9 * len(list(network.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_training_is_evaluated_alike_on_gpu_and_cpu(cli: Callable[..., object], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    cli("train", *WORDS, "data.crop_size=[64,96]", "trainer.max_epochs=2", f"runs={tmp_path}", "name=run")
    assert run.read_results().own.protocol.precision == "bf16-mixed"
    miou = {}
    for accelerator in ("cpu", "gpu"):
        cli("eval", f"run={run.path}", f"accelerator={accelerator}", "precision=32-true")
        (found,) = (e for e in run.read_results().evaluations.values() if e.protocol.precision == "32-true")
        miou[accelerator] = found.miou
    assert miou["gpu"] == pytest.approx(miou["cpu"], abs=1e-3)
    Image.new("RGB", (96, 64), (90, 120, 150)).save(tmp_path / "photo.png")
    cli("predict", f"run={run.path}", f"input={tmp_path / 'photo.png'}", f"output={tmp_path}/out", "accelerator=gpu")
    assert list((tmp_path / "out").rglob("photo*.png"))


@pytest.fixture
def little_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.usefixtures("little_memory")
def test_a_gpu_whose_memory_is_full(fails: Callable[..., str], tmp_path: Path) -> None:
    words = ["data.batch_size=8", "data.crop_size=[1024,1024]", "model=unet", "backbone=resnet50"]
    message = fails("train", *WORDS, *words, "backbone.weights=null", f"runs={tmp_path}")
    assert message.startswith("not enough GPU memory for a step with data.batch_size=8, data.crop_size=[1024, 1024]")
