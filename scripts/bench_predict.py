"""Measures src.predict on a folder of photos of mixed sizes, with the files that real folders hold.

python scripts/bench_predict.py make FOLDER --photos 1000 --source CAMVID/val     # the folder
python scripts/bench_predict.py film FILE.mp4 --source CAMVID/val --seconds 60    # 1280x720, 25 frames/s, pan and zoom
python scripts/bench_predict.py time FOLDER --against OTHER_CHECKOUT --pairs 2    # seconds and memory, also of another
                                                                                  # commit, in turns
CPU seconds are of all threads, less those of the same command for one photo: the start of Python and of torch, and the
loading of the network. The clock's are of the whole command. Memory is the peak of the process.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SIZES = ((160, 120), (240, 180), (320, 240), (480, 360), (480, 360), (360, 640), (640, 480))  # width, height
NETWORK = "zoo/camvid_lraspp_lite0"


def make(folder: Path, source: Path, num_photos: int, scale: float, *, odd: bool) -> None:
    """Writes photos as JPG and PNG, drawn by seed 0 from other photos, and one of each odd kind."""
    rng, files = random.Random(0), sorted(source.glob("*.*"))
    folder.mkdir(parents=True)
    for number in range(num_photos):
        image = Image.open(files[number % len(files)]).convert("RGB")
        width, height = (round(scale * side) for side in rng.choice(SIZES))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        image.save(folder / f"{number:05d}.{'png' if number % 5 == 0 else 'jpg'}", quality=90)
    if not odd:
        return
    photo = Image.open(files[0]).convert("RGB")
    (folder / "notes.txt").write_text("rain from 14:00")
    photo.save(folder / "whole.jpg")
    data = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "whole.jpg").unlink()
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen_bits.png")
    photo.save(folder / "animation.gif")
    photo.resize((1, 1)).save(folder / "one_pixel.png")
    os.mkfifo(folder / "fifo.jpg")
    photo.resize((6000, 4000)).save(folder / "large.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)


def film(path: Path, source: Path, seconds: float) -> None:
    """Writes a film of 1280x720: two seconds of each photo, in which a window moves and shrinks."""
    import av

    files, size = sorted(source.glob("*.*"))[::3], (1280, 720)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(round(25 * seconds)):
            photo = Image.open(files[number // 50 % len(files)]).convert("RGB")
            place = number % 50 / 50
            width = photo.width * (0.95 - 0.2 * place)
            height = width * 9 / 16
            left, top = (photo.width - width) * place, (photo.height - height) / 2
            picture = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
            frame = av.VideoFrame.from_image(picture)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def measure(root: Path, photos: Path) -> tuple[float, float, float, int]:
    """Runs the command of a checkout; returns wall seconds, CPU seconds, peak memory in MB, and pictures written."""
    with tempfile.TemporaryDirectory() as out:
        words = [f"run={NETWORK}", f"input={photos}", f"output={out}/pictures", "accelerator=cpu"]
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "src.predict", *words], cwd=root, stdout=subprocess.DEVNULL)
        _, _, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        num = len(list(Path(out).glob("pictures/labels/*.png")))
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, num


def compare(folder: Path, roots: list[Path], pairs: int) -> None:
    """Prints one line per run, in turns."""
    one = Path(tempfile.mkdtemp())
    shutil.copy(next(iter(sorted(folder.glob("*.jpg")))), one)
    starts = {root: measure(root, one) for root in roots}
    for root, (wall, cpu, memory, _) in starts.items():
        print(f"{root.name:12} one photo: {wall:7.1f} s, {cpu:6.1f} CPU s, {memory:6.0f} MB", flush=True)
    for _ in range(pairs):
        for root in roots:
            wall, cpu, memory, num = measure(root, folder)
            cpu, num = cpu - starts[root][1], num - 1
            print(
                f"{root.name:12} {num:5d} images: {wall:7.1f} s with the start, {cpu:6.1f} CPU s without it = "
                f"{num / cpu:6.2f} images per CPU s, {memory:6.0f} MB",
                flush=True,
            )
    shutil.rmtree(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["make", "film", "time"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--source", type=Path, help="folder of photos to draw from")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the sizes of the photos")
    parser.add_argument("--plain", action="store_true", help="without the odd files")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--against", type=Path, help="checkout of another commit")
    parser.add_argument("--pairs", type=int, default=2)
    given = parser.parse_args()
    if given.task == "make":
        make(given.path, given.source, given.photos, given.scale, odd=not given.plain)
    elif given.task == "film":
        film(given.path, given.source, given.seconds)
    else:
        compare(given.path.resolve(), [ROOT, *([given.against.resolve()] if given.against else [])], given.pairs)


if __name__ == "__main__":
    main()
