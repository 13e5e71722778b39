"""Draws the charts of a W&B run from the file that W&B writes offline: `python scripts/draw_dashboard.py RUN [PNG]`.

It is no screenshot: it shows what the page of the run has to show. Needs a run folder with one offline W&B run.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from PIL import Image

from src.reports.pictures import overlay
from src.reports.plotting import line_style, plt, save_figure
from src.runs.folder import RunFolder
from tests.support import wandb_files

CURVES = {
    "loss": ("train/loss", "train/loss_epoch", "val/loss"),
    "mIoU": ("val/miou",),
    "IoU of each class": ("val/iou/",),
    "learning rate": ("lr/",),
    "images per second": ("train/images_per_s",),
    "seconds per step": ("train/step_s",),
    "memory, GiB": ("train/memory_gib",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("png", type=Path, nargs="?", default=Path("wandb_dashboard.png"))
    arguments = parser.parse_args()
    draw(arguments.run, arguments.png)


def draw(folder: Path, path: Path) -> None:
    rows, run = wandb_files.history(folder), wandb_files.run_record(folder)
    (files,) = folder.glob("wandb/offline-run-*/files")
    figure, axes = plt.subplots(4, 4, figsize=(16, 14), layout="constrained")
    cells = iter(axes.flat)
    for title, keys in CURVES.items():
        cell = next(cells)
        for index, key in enumerate(sorted({key for row in rows for key in row if key.startswith(keys)})):
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            cell.plot(*zip(*points, strict=True), label=key.removeprefix("val/iou/"), **line_style(index))
        cell.set(title=title, xlabel="epoch")
        cell.grid(alpha=0.3)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16)}
        cell.legend(fontsize="x-small", ncols=4 if len(cell.lines) > 3 else 3, frameon=False, **below)
    bars, matrix = (table(files, name) for name in ("iou", "confusion_matrix"))
    cell = next(cells)
    cell.barh(*zip(*bars[::-1], strict=True))
    cell.set(title="figures/iou (W&B's bar chart)", xlim=(0, 1))
    cell = next(cells)
    names = [name for name, _ in bars]
    shares = np.array([share for _, _, share in matrix]).reshape(-1, round(len(matrix) ** 0.5))
    cell.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    cell.set(title="figures/confusion_matrix (W&B's), %", xlabel="predicted", ylabel="true")
    cell.set_yticks(range(len(names)), names, fontsize="xx-small")
    cell.set_xticks([])
    shown = [row for row in rows if "val/examples/filenames" in row]
    palette = RunFolder(folder).palette
    for row, name in ((shown[0], "prediction"), (shown[-1], "prediction"), (shown[-1], "truth")):
        image = np.asarray(Image.open(files / row["val/examples/filenames"][0]))
        ids = np.asarray(Image.open(files / row["val/examples/all_masks"][0][name]["path"]))
        cell = next(cells)
        cell.imshow(overlay(image, ids, palette, 0.6))
        cell.set_title(f"val/examples, epoch {row['epoch']:g}: {name}", fontsize="small")
        cell.axis("off")
    cell = next(cells)
    config = wandb_files.config(folder)
    keys = ("optimizer.lr", "data.batch_size", "data.crop_size", "trainer.max_epochs", "seed")
    texts = [f"run: {run.display_name}", f"tags: {', '.join(run.tags)}", f"job type: {run.job_type}"]
    texts += [f"exit status: {wandb_files.exit_code(folder)}", "", "config (flat, a part)"]
    texts += [f"  {key}: {config[key]}" for key in keys]
    texts += ["", "summary", *(f"  {key}: {value:.4g}" for key, value in scores(folder).items())]
    cell.text(0, 1, "\n".join(texts), va="top", family="monospace", fontsize=8)
    cell.axis("off")
    for empty in cells:
        empty.axis("off")
    save_figure(figure, path, "The page of a W&B run, drawn from its offline file")


def table(files: Path, name: str) -> list[list]:
    (path,) = files.glob(f"media/table/figures/{name}_table_*.json")
    return json.loads(path.read_text())["data"]


def scores(folder: Path) -> dict[str, float]:
    found = wandb_files.summary(folder)
    return {key: value for key, value in found.items() if key.startswith("best/") and isinstance(value, float)}


if __name__ == "__main__":
    main()
