"""The tests that every yaml of conf/model has to pass; a new network is found by its yaml."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.evaluation.export import export_onnx, export_program
from src.models.network import Network
from tests.support.architectures import CONF, MODELS, build, read_header

# Exported in the fast tests: pyramid pooling, DAPPM; both pad. The others in the slow ones.
SOON = ("pspnet", "sctnet_s")
SIZES = [(65, 97), (94, 310)]  # odd; KITTI's 375x1242 scaled down
K = 11


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """Every network in turn; pytest runs all tests of one before those of the next, so that each is built once."""
    return request.param


@pytest.fixture(scope="module")
def network(model: str) -> Network:
    torch.manual_seed(0)
    return build(model, K).eval()


def images(count: int, size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compares relative to the largest logit: random networks have logits of 0.1 or of 1000."""
    torch.testing.assert_close(actual, expected, atol=tolerance * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_any_size(model: str, network: Network, size: tuple[int, int]) -> None:
    stride = read_header(model).stride
    with torch.no_grad():
        (logits,) = network(images(1, size))
    corner = network.architecture.corner_stride is not None  # a cell on either edge
    assert logits.shape == (1, K, *(-(-(side - corner) // stride) + corner for side in size))
    assert logits.isfinite().all()
    assert logits.std() > 0, "logits are constant"


def test_the_rest_of_the_batch_does_not_matter(network: Network) -> None:
    batch = images(3, (64, 96))
    with torch.no_grad():
        (together,) = network(batch)
        (alone,) = network(batch[1:2])
    assert_same(together[1:2], alone, 1e-4)


def test_normalisation_layers_are_synchronisable(network: Network) -> None:
    """SyncBN replaces BatchNorm by class; a network with a class of its own would train on shares of the batch."""
    for name, module in network.named_modules():
        own = type(module).__name__.lower().startswith("batchnorm") and not isinstance(module, nn.BatchNorm2d)
        assert not own, name


def test_every_parameter_has_a_finite_gradient(model: str) -> None:
    """Plain DDP waits for all of them. With two classes, the smallest number."""
    torch.manual_seed(0)
    trained = build(model, 2).train()
    outputs = trained(images(2, SIZES[0]))
    assert all(logits.shape[:2] == (2, 2) for logits in outputs)
    assert all(logits.isfinite().all() and logits.std() > 0 for logits in outputs)
    sum(logits.square().mean() for logits in outputs).backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    has_aux = getattr(trained.architecture, "aux_head", None) is not None
    assert len(outputs) == 1 + has_aux, "auxiliary logits come from `aux_head`"


@pytest.mark.usefixtures("no_random_weights")
def test_recorded_parameters_and_strides(model: str) -> None:
    header = read_header(model)
    chosen = [f"backbone={header.backbone}"] if header.backbone else []
    # Without data, but for smp's MiT, whose constructor reads a value.
    with torch.device("cpu" if model == "segformer" else "meta"):
        whole = build(model, 19, *chosen).eval().to("meta")
    with torch.device("meta"):
        image = torch.zeros(1, 3, 256, 384, dtype=torch.uint8)
        (logits,) = whole(image)
        # Inference uses the parameters in which its logits have a gradient.
        logits.sum().backward()
        maps = whole.architecture.encoder(torch.zeros(1, 3, 256, 384)) if header.backbone else None
    used = sum(p.numel() for p in whole.parameters() if p.grad is not None)
    total = sum(p.numel() for p in whole.parameters())
    assert (used, total - used) == (header.parameters, header.training_only), f"{used:,}; {total - used:,} more"
    corner = whole.architecture.corner_stride is not None
    assert tuple(logits.shape[-2:]) == (256 // header.stride + corner, 384 // header.stride + corner)
    if maps is not None and isinstance(maps[0], Tensor):  # a plain vision transformer gives tokens beside its maps
        deepest = maps[-1].shape[-2:]
        assert tuple(deepest) == (256 // header.encoder_stride, 384 // header.encoder_stride)


@pytest.mark.slow
def test_export_at_another_size(network: Network) -> None:
    exported = export_program(network).module()
    for size in [(134, 262), (160, 288)]:
        image = images(1, size)
        with torch.no_grad():
            assert_same(exported(image)[0], network(image)[0])


def check_onnx(network: Network, path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(export_onnx(network, path)), providers=["CPUExecutionProvider"])
    for size in [(134, 262), (160, 288), (150, 203)]:
        image = images(1, size)
        found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        with torch.no_grad():
            expected = network(image)[0]
        assert_same(found, expected, 1e-4)
        # With random weights one class has the largest logit everywhere: at the same mean and scale each has some.
        mean, scale = expected.mean((0, 2, 3), keepdim=True), expected.std((0, 2, 3), keepdim=True)
        ids, own = (((logits - mean) / scale).argmax(1) for logits in (found, expected))
        assert len(own.unique()) > 2
        assert (ids == own).float().mean() > 0.999


@pytest.mark.slow
def test_onnx_at_another_size(network: Network, tmp_path: Path) -> None:
    check_onnx(network, tmp_path / "model.onnx")


@pytest.mark.e2e
@pytest.mark.parametrize("name", SOON)
def test_onnx_of_two_networks_at_another_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    check_onnx(build(name, K).eval(), tmp_path / "model.onnx")


@pytest.mark.slow
def test_compiled_at_another_size(network: Network) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(network, dynamic=True)
    for size in [(64, 96), (134, 262)]:
        image = images(1, size)
        with torch.no_grad():
            assert_same(compiled(image)[0], network(image)[0], 1e-4)


@pytest.mark.slow
def test_bf16_forward_and_backward(model: str) -> None:
    trained = build(model, K).train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = trained(images(2, (64, 96)))
    sum(logits.float().square().mean() for logits in outputs).backward()
    assert all(p.grad.isfinite().all() for p in trained.parameters())


def test_readme_lists_every_network() -> None:
    table = (CONF.parent / "docs" / "networks.md").read_text()
    for model in MODELS:
        row = next((line for line in table.splitlines() if line.startswith(f"| `{model}` |")), None)
        assert row, f"docs/networks.md: no row of {model}"
        assert f"| {read_header(model).parameters / 1e6:.2f} M |" in row, row
