"""A proposal of crop and batch size from the sizes of a dataset's images, a network, and this machine's memory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

GIB = 2**30
STEP = 32  # crops are multiples of it: no network here pads them then
LARGEST = 512 * 1024  # pixels of a crop: the usual one of Cityscapes
SMALLEST = 256 * 256
MOST, ENOUGH = 16, 8  # images per batch: the field's usual most, and the least for BatchNorm
PROBE = (128, 256)  # size at which the activations are counted; they grow with the number of pixels
STATE = 16  # bytes per parameter: weight, gradient and the two moments of Adam, in 32 bits
HEADROOM = 1.25  # of activations, for gradients of activations and workspaces
SHARE = {"cuda": 0.9, "cpu": 0.5}  # of the memory that a training may take


@dataclass(frozen=True)
class Memory:
    """The memory that a training can have on this machine."""

    device: str  # its name
    size: int  # bytes
    is_gpu: bool

    @property
    def budget(self) -> float:
        """Bytes that a training may take, with some left for other processes."""
        return SHARE["cuda" if self.is_gpu else "cpu"] * self.size


@dataclass(frozen=True)
class Cost:
    """The memory that the training of a network needs."""

    fixed: int  # bytes of weights, gradients and moments
    per_pixel: float  # bytes of activations per pixel of a crop


@dataclass(frozen=True)
class Proposal:
    """Crop and batch size for a training, by an estimate."""

    crop: tuple[int, int]  # height and width
    batch: int
    needed: float  # bytes
    memory: Memory

    def __str__(self) -> str:
        crop = ",".join(map(str, self.crop))
        text = (
            f"data.crop_size=[{crop}] data.batch_size={self.batch}: about {self.needed / GIB:.2g} GiB of the "
            f"{self.memory.size / GIB:.3g} GiB of {self.memory.device}"
        )
        if self.batch < ENOUGH:
            text += (
                f"; BatchNorm over {self.batch} images costs accuracy: for this, a smaller backbone=, or pretrained "
                "weights and freeze.batchnorm_epochs"
            )
        return text


def propose(sizes: Sequence[tuple[int, int]], images: int, cost: Cost, memory: Memory) -> Proposal:
    """Proposes the largest usual crop, with a batch of 16 or of what the memory holds.

    The crop gets smaller as long as the batch would be too small for BatchNorm.

    Args:
        sizes: heights and widths of the training images.
        images: number of them; no batch is larger.
    """
    crop = largest_crop(sizes)
    while True:
        pixels = crop[0] * crop[1]
        fitting = int((memory.budget - cost.fixed) / (cost.per_pixel * pixels))
        batch = max(1, min(fitting, MOST, images))
        if batch >= min(ENOUGH, images) or pixels // 2 < SMALLEST:
            return Proposal(crop, batch, cost.fixed + batch * cost.per_pixel * pixels, memory)
        crop = _scaled(crop, pixels // 2)


def largest_crop(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Returns the largest crop that lies in every image, of at most 512 x 1024 pixels and of the images' shape."""
    size = min(height for height, _ in sizes), min(width for _, width in sizes)
    return _scaled(size, min(LARGEST, size[0] * size[1]))


def _scaled(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Shrinks a size to at most so many pixels, with sides that are multiples of 32."""
    scale = (pixels / (size[0] * size[1])) ** 0.5
    # A side of 511.9999 is one of 512.
    height, width = (max(STEP, int(side * scale + 1e-6) // STEP * STEP) for side in size)
    return height, width


def training_cost(architecture: nn.Module, *, autocast: bool) -> Cost:
    """Measures the memory of a training step but for the loss: what a forward pass on the CPU keeps for the backward.

    Args:
        architecture: `(B, 3, H, W)` to a tuple of logits.
        autocast: whether in bf16 where autocast has it.
    """
    architecture.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*architecture.parameters(), *architecture.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # the storages live as long as this, so that no address comes twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    image = torch.zeros(2, 3, *PROBE)
    counting = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with counting, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = architecture(image)
    held = sum(storage.nbytes() for storage in kept.values())
    held += sum(output.untyped_storage().nbytes() for output in outputs)
    parameters = sum(parameter.numel() for parameter in architecture.parameters())
    return Cost(STATE * parameters, HEADROOM * held / (2 * PROBE[0] * PROBE[1]))


def machine_memory() -> Memory:
    """Returns the memory of the first GPU, or what is free of this machine's."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Memory(properties.name, properties.total_memory, is_gpu=True)
    return Memory("this machine's free memory", _free_memory(), is_gpu=False)


def _free_memory() -> int:
    """Reads the bytes of memory that are free or can be freed."""
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
