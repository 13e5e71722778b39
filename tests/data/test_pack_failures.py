"""Tests of packing that is killed, finds no space, or meets a damaged file."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.reading import FileFrame
from src.data.sources.camvid import CamVid
from src.data.tools import pack as packing
from src.data.tools.pack import pack_split, verify_split
from tests.data.test_pack import change_pixels, digests

ROOT = Path(__file__).parents[2]


KILLED = """
import os, signal, sys
from src.data.tools import pack as packing
writes, write = [int(sys.argv.pop())], os.pwrite
def deadly(file, data, place):
    writes[0] -= 1
    if writes[0] == 0:
        write(file, data[: len(data) // 2], place)
        os.kill(os.getpid(), signal.SIGKILL)
    return write(file, data, place)
os.pwrite = deadly
from src.config.cli import launch
from src.pack import pack
launch(pack, "pack")
"""


@pytest.mark.e2e
@pytest.mark.parametrize("writes", [1, 2, 5, 8])
def test_killed_and_started_again_it_has_the_same_bytes(writes: int, camvid: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the first image, of its mask, and later; one thread makes the place certain."""
    for split in ("train", "val"):
        pack_split(CamVid(str(camvid)), split, tmp_path / "undisturbed", 1)
    folder = tmp_path / "pack"
    command = ["data=camvid", f"data.root={camvid}", f"out={folder}", "num_threads=1"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command, str(writes)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "train.json").exists(), "an unfinished pack has no index"
    journal = next(folder.glob("*.unfinished")).read_text()
    assert journal.count("\n") == (writes - 1) // 2
    again = subprocess.run([sys.executable, "-m", "src.pack", *command], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert digests(folder) == digests(tmp_path / "undisturbed")


def test_the_journal_of_an_unfinished_pack_is_checked(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that lost its power may have kept the journal and lost the pixels, or half a line."""
    source, folder = CamVid(str(camvid)), tmp_path / "pack"
    pack_split(source, "train", tmp_path / "undisturbed", 1)
    write_json = packing.write_json
    monkeypatch.setattr(packing, "write_json", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(ValueError, match="packing stopped"):
        pack_split(source, "train", folder, 1)
    monkeypatch.setattr(packing, "write_json", write_json)
    array, journal = next(folder.glob("*.images.npy")), next(folder.glob("*.unfinished"))
    pixels = bytearray(array.read_bytes())
    pixels[3000:30000] = bytes(27000)
    array.write_bytes(pixels)
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], lines[3][:20]]))
    decoded, whole = [], FileFrame.whole
    monkeypatch.setattr(FileFrame, "whole", lambda self: decoded.append(self.sample.name) or whole(self))
    pack_split(source, "train", folder, 1)
    assert sorted(decoded) == ["0001TP_00000", "0001TP_00002", "0016E5_00003"]
    assert digests(folder) == digests(tmp_path / "undisturbed")


def test_a_full_disk_leaves_the_old_pack(camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = CamVid(str(camvid)), tmp_path / "pack"
    pack_split(source, "train", folder, 1)
    before = digests(folder)
    change_pixels(source)
    pwrite, calls = os.pwrite, []

    def full(*arguments: object) -> int:
        calls.append(1)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ValueError, match=r"packing stopped \(.*No space left.*an earlier pack is as it was.*continues"):
        pack_split(source, "train", folder, 1)
    monkeypatch.setattr(os, "pwrite", pwrite)
    after = digests(folder)
    assert {name: after[name] for name in before} == before
    pack_split(source, "train", folder, 1)
    pack_split(source, "train", tmp_path / "undisturbed", 1)
    assert digests(folder) == digests(tmp_path / "undisturbed")


def test_too_little_space_is_an_error_before_packing_starts(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"packing train needs .* MB, 0.1 MB are free; make room, or choose"):
        pack_split(CamVid(str(camvid)), "train", tmp_path / "pack", 1)
    assert not list((tmp_path / "pack").glob("[!.]*"))


@pytest.mark.e2e
def test_a_limit_on_file_sizes_is_an_error(camvid: Path, tmp_path: Path) -> None:
    """The kernel refuses to write; in a separate process, so that only that has the limit."""
    source, folder = CamVid(str(camvid)), tmp_path / "pack"
    for split in ("train", "val"):
        pack_split(source, split, folder, 1)
    before = digests(folder)
    change_pixels(source)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "src.pack", "data=camvid", f"data.root={camvid}", f"out={folder}"]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    assert failed.returncode == 1
    assert "packing stopped" in failed.stderr
    assert "File too large" in failed.stderr
    after = digests(folder)
    assert {name: after[name] for name in before} == before


def test_a_damaged_file_is_named(camvid: Path, tmp_path: Path) -> None:
    source = CamVid(str(camvid))
    image = source.samples("train")[2].image
    image.write_bytes(image.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{image.name}: cannot be read \(.*[Tt]runcated"):
        pack_split(source, "train", tmp_path / "pack", 2)


def test_verify_finds_a_flipped_bit_and_another_file(camvid: Path, tmp_path: Path) -> None:
    source, folder = CamVid(str(camvid)), tmp_path / "pack"
    pack_split(source, "train", folder, 1)
    array = next(folder.glob("*.images.npy"))
    whole = array.read_bytes()
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    array.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"1 frames of train differ from those packed \(0016E5_00003, .*pack again"):
        verify_split(source, "train", folder, 2)
    array.write_bytes(whole)
    assert verify_split(source, "train", folder, 2) == "4 frames verified"
    image = source.samples("train")[0].image
    stat = image.stat()
    Image.fromarray(np.asarray(Image.open(image)) // 2).save(image, compress_level=0)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match=r"1 frames of train differ from those packed \(0001TP_00000"):
        verify_split(source, "train", folder, 2)
