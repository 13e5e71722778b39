"""The measuring of BatchNorm, against naive float64 sums, and against torch's own statistics for a single batch."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from src.models.network import Network
from src.training.batchnorm import batchnorm_layers, remeasure


class Deep(nn.Module):
    """BatchNorm on a large mean (a float32 sum of squares would lose it), behind it, on pooled cells, and in a head
    that only training uses; dropout between."""

    align_corners = False
    divisor = 1

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.second = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU())
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
        self.aux_head = nn.BatchNorm2d(4)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.second(self.first(image * 0.01 + 1000))
        x = x + self.pooled(x)
        return (x, self.aux_head(x)) if self.training else (x,)


def network() -> Network:
    torch.manual_seed(0)
    return Network(Deep(), [0.5] * 3, [0.25] * 3)


def images(*sizes: tuple[int, int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (n, 3, h, w), dtype=torch.uint8, generator=generator) for n, h, w in sizes]


def naive(net: nn.Module, batches: list[torch.Tensor], skip: tuple[str, ...] = ()) -> dict[str, tuple]:
    """Computes mean and unbiased variance in float64 of the whole input of each layer."""
    net.eval()
    given: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for name, layer in batchnorm_layers(net).items():
        if name not in skip:
            layer.train()
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda m, x, name=name: given.setdefault(name, []).append(x[0].transpose(0, 1).flatten(1).double())
                )
            )
    with torch.no_grad():
        for batch in batches:
            net(batch)
    for hook in hooks:
        hook.remove()
    joined = {name: torch.cat(values, dim=1) for name, values in given.items()}
    return {name: (values.mean(1), values.var(1, correction=1)) for name, values in joined.items()}


def test_means_and_variances_are_exact() -> None:
    batches = images((4, 12, 16), (2, 20, 8), (3, 9, 9))  # of different weight: a mean of batches would be wrong
    net = network()
    assert remeasure(net, batches) == 9
    expected = naive(network(), batches)
    assert set(expected) == {"architecture.first", "architecture.second.2", "architecture.pooled.1"}
    layers = batchnorm_layers(net)
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(layers[name].running_mean.double(), mean, rtol=1e-6, atol=1e-6)
        # float32 holds 1000 to 6e-5: the inputs' own rounding
        torch.testing.assert_close(layers[name].running_var.double(), variance, rtol=1e-3, atol=1e-7)


def test_one_batch_is_torchs_own_statistic() -> None:
    (batch,) = images((4, 12, 16))
    net, reference = network(), network()
    remeasure(net, [batch])
    reference.eval()
    for layer in batchnorm_layers(reference).values():
        layer.train().momentum = 1.0
    with torch.no_grad():
        reference(batch)
    for name, layer in batchnorm_layers(reference).items():
        ours = batchnorm_layers(net)[name]
        torch.testing.assert_close(ours.running_mean, layer.running_mean)
        torch.testing.assert_close(ours.running_var, layer.running_var, rtol=1e-3, atol=1e-7)


def test_everything_else_stays_as_it_was() -> None:
    net = network().train()
    net.architecture.first.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = {name: module.training for name, module in net.named_modules()}
    random = torch.get_rng_state()
    remeasure(net, images((2, 12, 12)))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert net.architecture.second[2].momentum == 0.3
    assert not any(module._forward_pre_hooks for module in net.modules())
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {
        f"architecture.{layer}.running_{what}"
        for layer in ("first", "second.2", "pooled.1")
        for what in ("mean", "var")
    }


def test_layers_that_are_skipped_keep_and_use_their_statistics() -> None:
    batches = images((4, 12, 16))
    net, skip = network(), ("architecture.first",)
    net.architecture.first.running_mean.fill_(990.0)
    reference = network()
    reference.load_state_dict(net.state_dict())
    remeasure(net, batches, skip=skip)
    assert net.architecture.first.running_mean.tolist() == [990.0] * 3
    expected = naive(reference, batches, skip)
    torch.testing.assert_close(net.architecture.second[2].running_mean.double(), expected["architecture.second.2"][0])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((), r"on no images; give at least one batch"), (((1, 9, 9),), r"pooled.1 has one value per channel")],
)
def test_a_failed_measuring_leaves_the_network_as_it_was(sizes: tuple, message: str) -> None:
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        remeasure(net, images(*sizes))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def share(rank: int, port: int, folder: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    batches = images((4, 12, 16), (2, 20, 8), (3, 9, 9))
    net = network()
    remeasure(net, batches[:2] if rank == 0 else batches[2:])
    torch.save(net.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.e2e
def test_two_processes_measure_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(share, (port, tmp_path), nprocs=2)
    alone = network()
    remeasure(alone, images((4, 12, 16), (2, 20, 8), (3, 9, 9)))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-6, atol=1e-6)
