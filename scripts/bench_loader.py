"""Measures the cost of a training sample: `python scripts/bench_loader.py` (a few minutes, a sparse file of 4 GB).

Frames of 1024x2048 PNG (2.5 MB, as those of Cityscapes), crop 512x1024, scale .5 to 2, mirror, colour jitter:
1. one thread, all ways in turn on the same frames: only decoding; decode, resize all, crop, albumentations (the
   baseline); crop first from the files; crop first from the pack;
2. the memory of 4 workers on a pack of 4 GB.
With `--step DIR` instead: the share of its time that a real training step waits for its batch, on CamVid in DIR.
Other work on the machine changes wall times; CPU times stay.
"""

import argparse
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
import torch
from PIL import Image

from src.data.augment.crop import Geometry
from src.data.augment.photometric import ColourJitter
from src.data.augment.pipeline import A, Augmentation
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import SegmentationDataset
from src.data.packed import PackedFrames, attach
from src.data.source import Sample
from src.data.sources.camvid import CamVid
from src.data.streets.source import draw_scene
from src.data.tools.pack import pack_split

SIZE, CROP = (1024, 2048), (512, 1024)
FACTORS, HUE = (0.7, 1.3), (-0.03, 0.03)
BASELINE = "decode, resize all, crop, albumentations"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3, help="of every way on every frame")
    parser.add_argument("--step", metavar="DIR", help="measure only the waiting of real training steps on this CamVid")
    parser.add_argument("--epochs", type=int, default=6, help="of --step, per setting")
    parser.add_argument("--steps", type=int, default=30, help="of --step, per epoch")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    if options.step:
        return wait_in_steps(options.step, options.epochs, options.steps)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, pack = Path(folder) / "frames", Path(folder) / "pack"
        write_frames(root, options.frames)
        pack_split(CamVid(str(root)), "train", pack, 2)
        compare(root, pack, options.repeats)
        measure_memory(Path(folder) / "large")


def write_frames(root: Path, count: int) -> None:
    """Writes scenes at twice their size with sensor noise: PNGs as large and as slow to decode as a camera's."""
    for name in ("train", "trainannot"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        image, mask = draw_scene(0, "train", index, (SIZE[0] // 2, SIZE[1] // 2))
        large = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
        noisy = np.clip(large + 0.6 * rng.standard_normal(large.shape, np.float32), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / "train" / f"{index:04d}.png")
        ids = cv2.resize(mask, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
        Image.fromarray(ids).save(root / "trainannot" / f"{index:04d}.png")
    size = np.mean([path.stat().st_size for path in (root / "train").iterdir()])
    print(f"{count} frames of {SIZE[0]}x{SIZE[1]}, {size / 1e6:.2f} MB per PNG")


def crop_first() -> Augmentation:
    jitter = ColourJitter(brightness=FACTORS, contrast=FACTORS, saturation=FACTORS, hue=HUE)
    return Augmentation(Geometry(CROP, scale=(0.5, 2.0), flip_p=0.5), colour=jitter)


def resize_all_first() -> A.Compose:
    """Returns the same augmentation as the documentation of albumentations would write it."""
    return A.Compose(
        [
            A.RandomScale((-0.5, 1.0), p=1.0),
            A.PadIfNeeded(*CROP, position="random", fill=(124, 116, 104), fill_mask=255),
            A.RandomCrop(*CROP, fill_mask=255),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(brightness=FACTORS, contrast=FACTORS, saturation=FACTORS, hue=HUE, p=1.0),
        ]
    )


def compare(root: Path, pack: Path, repeats: int) -> None:
    files, packed = CamVid(str(root)), attach(CamVid(str(root)), str(pack))
    samples, pipeline = files.samples("train"), resize_all_first()
    from_files = SegmentationDataset(files, samples, crop_first(), 0)
    from_pack = SegmentationDataset(packed, samples, crop_first(), 0)

    def decode(index: int) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.imread(str(samples[index].image), cv2.IMREAD_COLOR_RGB)
        mask = cv2.imread(str(samples[index].mask), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert mask is not None
        return image, mask

    def resize_all(epoch: int, index: int) -> None:
        image, mask = decode(index)
        result = pipeline(image=image, mask=mask)
        torch.from_numpy(np.ascontiguousarray(result["image"].transpose(2, 0, 1))), torch.from_numpy(result["mask"])

    ways: dict[str, Callable[[int, int], object]] = {
        "decode only, OpenCV": lambda epoch, index: decode(index),
        "decode only, this project (Pillow)": lambda epoch, index: files.read(samples[index]),
        BASELINE: resize_all,
        "crop first, files": lambda epoch, index: from_files[epoch, index],
        "crop first, pack": lambda epoch, index: from_pack[epoch, index],
    }
    times = {name: [] for name in ways}
    for epoch in range(-1, repeats):  # the first time is not counted
        for index in range(len(samples)):
            for name, way in ways.items():
                wall, cpu = time.perf_counter(), time.thread_time()
                way(epoch + 1, index)
                times[name].append((time.perf_counter() - wall, time.thread_time() - cpu))
    rows = {name: np.array(pairs)[len(samples) :] for name, pairs in times.items()}
    base = rows[BASELINE].mean(axis=0)
    print(f"\none thread, {repeats * len(samples)} samples each    wall ms   (median)  CPU ms  samples/s  x base (CPU)")
    for name, row in rows.items():
        wall, cpu = row.mean(axis=0)
        print(
            f"{name:<42}{1e3 * wall:8.2f} {1e3 * np.median(row[:, 0]):9.2f} {1e3 * cpu:9.2f} {1 / wall:9.1f}"
            f"{base[0] / wall:8.1f} {base[1] / cpu:6.1f}"
        )


def wait_in_steps(root: str, epochs: int, steps: int) -> None:
    """Prints the share of its time that a training loop of U-Net ResNet-18 (192x256, batch 4, CPU) waits for batches.

    From files and from a pack, with 1 and 2 workers. `steps` steps per epoch count, after the first batch, whose wait
    is printed separately; the first epoch is not counted.
    """
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from src.config.resolvers import register_resolvers

    register_resolvers()
    overrides = ["model=unet", "backbone=resnet18", "backbone.weights=null", "data=camvid", f"data.root={root}"]
    with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        cfg = compose("train", [*overrides, "data.crop_size=[192,256]", "data.batch_size=4"])
    cfg.data.classes = {name: list(colour) for name, colour in CamVid.classes.items()}
    task, augmentation = instantiate(cfg.task).train(), instantiate(cfg.augmentation, _convert_="all")
    optimizer = task.build_optimizer(task.network)
    print(f"{epochs} epochs of {steps} steps, medians   first wait ms   step ms   waits %  (every epoch)")
    with tempfile.TemporaryDirectory() as folder:
        pack_split(CamVid(root), "train", Path(folder), 2)
        for pack, workers in itertools.product((None, folder), (1, 2)):
            data = SegmentationDataModule(CamVid(root), augmentation, 4, 1, workers, seed=0, pack=pack)
            loader, rows = data.train_dataloader(), []
            for _ in range(epochs + 1):
                begin = time.perf_counter()
                batches = iter(loader)
                batch = next(batches)
                first, waited, times = time.perf_counter() - begin, 0.0, []
                for _ in range(steps):
                    begin = time.perf_counter()
                    logits = task.network(batch["image"])
                    loss = task.loss(logits, batch["mask"], task.network.align_corners)["loss"]
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    asked = time.perf_counter()
                    batch = next(batches)
                    times.append(time.perf_counter() - begin)
                    waited += time.perf_counter() - asked
                rows.append((1e3 * first, 1e3 * np.median(times), 100 * waited / sum(times)))
            first, step, share = np.median(rows[1:], axis=0)
            where = f"{'pack' if pack else 'files'}, {workers} workers"
            every = " ".join(f"{row[2]:.2f}" for row in rows[1:])
            print(f"{where:<32}{first:14.1f} {step:9.1f} {share:9.2f}  ({every})", flush=True)


class Large(CamVid):
    """A pack of 4 GB of holes, which take no disk, and memory as any other page."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.count = int(4e9 / (4 * SIZE[0] * SIZE[1]))
        for name, values in (("images", 3), ("masks", 1)):
            shape = (values * self.count * SIZE[0] * SIZE[1],)
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        frames = [{"size": SIZE, "offset": number * SIZE[0] * SIZE[1]} for number in range(self.count)]
        self.pack = PackedFrames(folder)
        index = {"images": "images.npy", "masks": "masks.npy", "frames": frames}
        self.pack.add(index, self.samples("train"))

    def samples(self, split: str) -> list[Sample]:
        return [Sample(str(n), "", Path(f"{n}.png"), Path(f"{n}_mask.png")) for n in range(self.count)]


def measure_memory(folder: Path) -> None:
    source = Large(folder)
    data = SegmentationDataModule(source, crop_first(), 8, 1, num_workers=4, seed=0)
    peaks = {"private": 0, "proportional": 0}
    for number, _ in enumerate(data.train_dataloader()):
        if number % 5 == 0:
            rollups = [memory(child.pid) for child in multiprocessing.active_children() if child.pid]
            peaks = {name: max(peak, sum(rollup[name] for rollup in rollups)) for name, peak in peaks.items()}
    print(
        f"\n4 workers through a pack of {4 * source.count * SIZE[0] * SIZE[1] / 1e9:.1f} GB: at most "
        f"{peaks['private'] / 1e9:.2f} GB private, {peaks['proportional'] / 1e9:.2f} GB proportional, all together"
    )


def memory(process: int) -> dict[str, int]:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    return {"private": sizes["Private_Clean"] + sizes["Private_Dirty"], "proportional": sizes["Pss"]}


if __name__ == "__main__":
    main()
