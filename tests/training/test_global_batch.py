"""Two processes train as one with the whole batch: BatchNorm and losses are over the images of both."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from src.losses.combined import CombinedLoss
from src.losses.cross_entropy import CrossEntropy
from src.losses.dice import Dice
from src.runs.metrics_csv import read_metrics
from src.training.sync_batchnorm import CPUSyncBatchNorm, LayerSync
from tests.support.paths import ROOT, TINY
from tests.support.small import differing

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=None), nn.Conv2d(6, 6, 3), BatchNormAct2d(6)
    return nn.Sequential(*layers, nn.Conv2d(6, 3, 3)).double()


def train(rank: int, world_size: int, folder: Path) -> None:
    """Ten steps on a batch of four images, of which each rank has its share; two are mostly ignored."""
    net = LayerSync(CPU).apply(network())
    module = DistributedDataParallel(net) if world_size > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    loss = CombinedLoss(
        {
            "ce": {"weight": 1.0, "loss": CrossEntropy(class_weights=[1.0, 2.0, 3.0])},
            "dice": {"weight": 1.0, "loss": Dice()},
        }
    )
    generator = torch.Generator().manual_seed(1)
    values = []
    for _ in range(10):
        images = torch.randn(4, 3, 12, 14, dtype=torch.float64, generator=generator) * torch.tensor([1, 2, 3, 4]).view(
            -1, 1, 1, 1
        )
        masks = torch.randint(0, 3, (4, 12, 14), generator=generator)
        masks[:2, 2:] = 255
        mine = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
        value = loss((module(images[mine]),), masks[mine])["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.detach())
    torch.save({**net.state_dict(), "losses": torch.stack(values)}, folder / f"{world_size}_{rank}.pt")


def start(rank: int, world_size: int, port: int, folder: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    train(rank, world_size, folder)
    dist.destroy_process_group()


@pytest.mark.e2e
def test_two_ranks_make_the_steps_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(start, (2, port, tmp_path), nprocs=2)
    train(0, 1, tmp_path)
    first, second, whole = (torch.load(tmp_path / name, weights_only=True) for name in ("2_0.pt", "2_1.pt", "1_0.pt"))
    assert differing(first, second) == []
    assert len(whole["losses"].unique()) == 10, "the weights move"
    for name, value in whole.items():
        torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-9)


def test_one_rank_is_torchs_own_batchnorm() -> None:
    one, other = network().train(), LayerSync(CPU).apply(network().train())
    assert [type(layer) for layer in other][1::2] == [CPUSyncBatchNorm] * 2
    x = torch.randn(4, 3, 12, 14, dtype=torch.float64) + 5
    for _ in range(2):
        torch.testing.assert_close(one(x), other(x))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    torch.testing.assert_close(one.eval()(x), other.eval()(x))


def test_one_value_per_channel_is_refused_as_by_torch() -> None:
    for layer in (nn.BatchNorm2d(3), LayerSync(CPU).apply(nn.BatchNorm2d(3))):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training, got input size"):
            layer(torch.ones(1, 3, 1, 1))


def test_the_activations_of_timms_layers_stay_on_gpus_too() -> None:
    """torch's own conversion drops them without a word."""
    net, x = network().eval(), torch.randn(2, 3, 12, 14, dtype=torch.float64)
    expected = net(x)
    torch.testing.assert_close(LayerSync(torch.device("cuda")).apply(net)(x), expected)
    assert not torch.allclose(nn.SyncBatchNorm.convert_sync_batchnorm(network().eval())(x), expected)


@pytest.mark.slow
def test_two_commands_of_four_images_train_as_one_of_eight(tmp_path: Path) -> None:
    """Ten steps of the default network, losses and AdamW, which needs float64: it magnifies rounding errors."""
    words = [word for word in TINY[1:] if not word.startswith(("data.batch_size", "data.dataset.num_train"))]
    words = [word.replace("32-true", "64-true") for word in words]
    ranks = {1: ["data.batch_size=8"], 2: ["data.batch_size=4", "trainer=ddp", "trainer.accelerator=cpu"]}
    states, losses = [], []
    for devices, own in ranks.items():
        command = [
            sys.executable, "-m", "src.train", "trainer=cpu", *words, "data.dataset.num_train=80", *own,
            f"trainer.devices={devices}", f"runs={tmp_path}", f"name={devices}",
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, timeout=600)
        last = torch.load(tmp_path / str(devices) / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] == 10
        states.append(last["state_dict"])
        rows = read_metrics(tmp_path / str(devices) / "metrics.csv")
        losses.append([row[name] for row in rows for name in ("val/loss", "train/loss_epoch") if name in row])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-9, msg=name)
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-6), "three images are validated: two and one"
