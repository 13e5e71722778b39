"""Hostile and damaged archives: nothing is written outside the target, and nothing stays half unpacked."""

import io
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.tools.download import Archive, install
from src.data.tools.unpack import unpack
from tests.support.download_server import FOLDERS, GOOD, SET, Usage, make_tar, make_zip, tree, unused


def zip_entry(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("set/entry")
    info.external_attr = mode << 16
    return info


def tar_entry(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("set/entry")
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "zip parent": make_zip(SET | {"set/train/../../../evil": b"x"}),
    "zip absolute": make_zip(SET | {"/tmp/evil": b"x"}),
    "zip link": make_zip(SET | {"link": zip_entry(stat.S_IFLNK | 0o777)}),
    "zip device": make_zip(SET | {"device": zip_entry(stat.S_IFCHR | 0o600)}),
    "zip pipe": make_zip(SET | {"pipe": zip_entry(stat.S_IFIFO | 0o600)}),
    "tar parent": make_tar(SET | {"set/../../evil": b"x"}),
    "tar absolute": make_tar(SET | {"/tmp/evil": b"x"}),
    "tar link": make_tar(SET | {"link": tar_entry(tarfile.SYMTYPE, "/etc")}),
    "tar link inside": make_tar(SET | {"link": tar_entry(tarfile.SYMTYPE, "train")}),
    "tar hard link": make_tar(SET | {"link": tar_entry(tarfile.LNKTYPE, "/etc/passwd")}),
    "tar device": make_tar(SET | {"device": tar_entry(tarfile.CHRTYPE)}),
    "tar block device": make_tar(SET | {"device": tar_entry(tarfile.BLKTYPE)}),
    "tar pipe": make_tar(SET | {"pipe": tar_entry(tarfile.FIFOTYPE)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_whole(tmp_path: Path, name: str) -> None:
    file, root = tmp_path / "given", tmp_path / "outer" / "root"
    file.write_bytes(HOSTILE[name])
    with pytest.raises(
        ValueError, match=r"given: .*(outside the target folder|a link, a device or a pipe); not unpacked"
    ):
        install([Archive("set.zip", "http://unused", 0, FOLDERS)], root, [file], unused)
    assert tree(tmp_path) == {"given"}
    assert not list(root.glob(".unpacking*"))


def test_names_of_another_system_stay_inside(tmp_path: Path) -> None:
    file, root = tmp_path / "given", tmp_path / "outer" / "root"
    file.write_bytes(make_zip(SET | {"..\\evil": b"x", "C:evil": b"x", "set/train/..\\evil": b"x"}))
    install([Archive("set.zip", "http://unused", 0, FOLDERS)], root, [file], unused)
    assert all(path == "given" or path.startswith("outer/root/") for path in tree(tmp_path))


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bombs_need_more_room_than_there_is(
    tmp_path: Path, make: Callable[[dict], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, root = tmp_path / "given", tmp_path / "root"
    file.write_bytes(make(SET | {f"set/train/{index}.png": bytes(5_000_000) for index in range(4)}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 20_000_000))
    with pytest.raises(ValueError, match=r"unpacking given needs 20\.1 MB, 20\.0 MB are free"):
        install([Archive("set.zip", "http://unused", 0, FOLDERS)], root, [file], unused)
    assert tree(root) == set()


def test_a_member_larger_than_it_states(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("set/train/a.png", bytes(1_000_000))
    content = bytearray(buffer.getvalue())
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 10)  # the uncompressed size, as the space check reads it
    (tmp_path / "given").write_bytes(content)
    (tmp_path / "into").mkdir()
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(tmp_path / "given", tmp_path / "into")
    assert (tmp_path / "into" / "set" / "train" / "a.png").stat().st_size <= 10


def test_damaged_and_other_archives(tmp_path: Path) -> None:
    flipped = bytearray(GOOD)
    flipped[20_000] ^= 1
    tar = make_tar(SET)
    for content, message in {
        b"no archive": "neither a zip nor a tar archive",
        GOOD[:-100]: "neither a zip nor a tar archive",
        bytes(flipped): "cannot be unpacked.*CRC",
        tar[: len(tar) // 2]: "cannot be unpacked",
        make_zip({"other/train/a.png": b""}): "holds no set/train; is it another archive",
    }.items():
        (tmp_path / "given").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            install([Archive("set.zip", "http://unused", 0, FOLDERS)], tmp_path / "root", [tmp_path / "given"], unused)
        assert tree(tmp_path / "root") == set()
