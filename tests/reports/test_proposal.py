"""The proposal of crop and batch: crops that lie in every image, batches that the memory holds, counted activations."""

import pytest
import torch
from torch import nn

from src.reports.proposal import GIB, Cost, Memory, largest_crop, propose, training_cost


@pytest.mark.parametrize(
    ("sizes", "crop"),
    [
        ([(1024, 2048)], (512, 1024)),  # Cityscapes: the crop of mmsegmentation
        ([(360, 480)], (352, 480)),  # CamVid: as in conf/data/camvid.yaml
        ([(375, 1242), (370, 1226)], (352, 1216)),  # KITTI: the smallest sides of all
        ([(720, 960), (960, 720)], (704, 704)),
        ([(20, 30)], (32, 32)),
    ],
)
def test_the_crop_lies_in_every_image(sizes: list[tuple[int, int]], crop: tuple[int, int]) -> None:
    assert largest_crop(sizes) == crop
    assert crop[0] * crop[1] <= 512 * 1024


def test_the_batch_is_what_the_memory_holds() -> None:
    cost = Cost(fixed=GIB, per_pixel=GIB / (512 * 1024))  # 1 GiB per image, 1 GiB besides

    def asked(gib: float, images: int = 100) -> tuple[tuple[int, int], int, float]:
        found = propose([(1024, 2048)], images, cost, Memory("x", round(gib * GIB), is_gpu=True))
        assert found.needed <= max(0.9 * gib, 2) * GIB
        return found.crop, found.batch, found.needed / GIB

    assert asked(80) == ((512, 1024), 16, pytest.approx(17))
    assert asked(80, images=4) == ((512, 1024), 4, pytest.approx(5))
    assert asked(11.2) == ((512, 1024), 9, pytest.approx(10))
    crop, batch, _ = asked(8)  # 6.2 images of 512 x 1024 are too few: half the pixels
    assert (crop, batch) == ((352, 704), 13)
    crop, batch, _ = asked(2)  # nothing fits well
    assert (crop, batch) == ((224, 480), 3)


def test_the_text_is_a_command_line_and_a_warning() -> None:
    cost, memory = Cost(0, GIB / (512 * 1024)), Memory("a card", 40 * GIB, is_gpu=True)
    found = propose([(1024, 2048)], 100, cost, memory)
    assert str(found) == "data.crop_size=[512,1024] data.batch_size=16: about 16 GiB of the 40 GiB of a card"
    small = propose([(1024, 2048)], 100, Cost(0, 60 * cost.per_pixel), memory)
    assert (small.crop, small.batch) == ((224, 480), 2)
    assert "; BatchNorm over 2 images costs accuracy: for this, a smaller backbone=" in str(small)


class Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.layers(image),)


@pytest.mark.parametrize("autocast", [False, True])
def test_activations_are_counted_as_by_hand(autocast: bool) -> None:
    """Kept: the image of 3 channels (in 16 bits a cast copy), the ReLU's output of 8, and the logits of 5."""
    cost = training_cost(Three(), autocast=autocast)
    parameters = 3 * 8 * 9 + 8 + 8 * 5 + 5
    assert cost.fixed == 16 * parameters
    size = 2 if autocast else 4
    values = (3 + 8 + 5) * size
    weights = parameters * 2 / (2 * 128 * 256) if autocast else 0  # cast copies of the weights
    assert cost.per_pixel == pytest.approx(1.25 * (values + weights), rel=0.01)
