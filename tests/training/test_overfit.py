"""Every network can overfit four images (slow): gradients reach all that matters, and logits lie where they belong."""

import numpy as np
import pytest
import torch

from src.data.streets.source import Streets
from src.losses.combined import CombinedLoss
from src.losses.cross_entropy import CrossEntropy
from src.upsampling import upsample
from tests.support.architectures import MODELS, build, read_header

SIZE = (64, 128)
MOST_STEPS = 600


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_overfits_four_images(model: str) -> None:
    torch.manual_seed(0)
    scenes = Streets(seed=0, size=list(SIZE), num_train=4, num_val=1, num_test=1)
    pairs = [scenes.read(sample) for sample in scenes.samples("train")]
    image = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image, _ in pairs]))
    mask = torch.from_numpy(np.stack([mask for _, mask in pairs]))
    network = build(model, scenes.num_classes).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0  # by heart: what dropout is there to prevent
    loss = CombinedLoss({"ce": {"weight": 1.0, "loss": CrossEntropy()}})
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    valid = mask != 255
    # A map of stride s cannot follow outlines finer than s: what the truth itself keeps at that stride is the ceiling.
    coarse = torch.nn.functional.one_hot(mask.where(valid, torch.tensor(0)).long(), scenes.num_classes).float()
    coarse = torch.nn.functional.avg_pool2d(coarse.permute(0, 3, 1, 2), read_header(model).stride)
    ceiling = float((upsample(coarse, SIZE, False).argmax(dim=1) == mask)[valid].float().mean())
    best = 0.0
    for _ in range(MOST_STEPS):
        logits = network(image)
        ids = upsample(logits[0].detach(), SIZE, network.align_corners).argmax(dim=1)
        best = max(best, float((ids == mask)[valid].float().mean()))
        if best > 0.9 * ceiling:
            break
        optimizer.zero_grad()
        loss(logits, mask, network.align_corners)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert best > 0.9 * ceiling, f"accuracy {best:.3f} of {ceiling:.3f}"
