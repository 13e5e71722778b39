"""`src.predict` from its command line, by a network of the zoo: patterns, lists, films, GeoTIFFs, wrong words."""

import importlib.util
import json
from pathlib import Path

import av
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from src.data.sources.camvid import CamVid

CALL = ("predict", "run=zoo/camvid_lraspp_lite0", "accelerator=cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "my photos", np.random.default_rng(0)
    folder.mkdir()
    for name in ("a_left.png", "a_right.png", "b_left.png"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.mark.e2e
def test_inputs_of_all_kinds(cli, photos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "pattern" / "labels"
    assert cli(*CALL, f"input={photos}/*_left.png", f"output={tmp_path / 'pattern'}") == 2
    assert sorted(path.name for path in labels.iterdir()) == ["a_left.png", "b_left.png"]
    names = json.loads((tmp_path / "pattern" / "class_map.json").read_text())
    assert list(names.values()) == list(CamVid.classes)
    pair = f"input=['{photos}/a_left.png','{photos}/a_right.png']"
    assert cli(*CALL, pair, f"output={tmp_path / 'pair'}", "outputs=[confidence]", "classes=[Road,Car]") == 2
    assert {path.name for path in (tmp_path / "pair").glob("[!.]*")} == {
        "class_map.json",
        "confidence",
        "legend.png",
    }
    (photos / "list.txt").write_text("a_left.png\n")
    assert cli(*CALL, f"input={photos}/list.txt", f"output={tmp_path / 'list'}", "batch_size=2") == 1
    for other in ("pair/confidence", "list/labels"):
        assert (tmp_path / other / "a_left.png").is_file()
    within = (*CALL, f"input={photos}", "recursive=true", f"output={photos}/segmented", "outputs=[labels]")
    assert [cli(*within), cli(*within)] == [3, 3], "its own labels are no photos"
    single, beside = ((tmp_path / each / "labels" / "a_left.png").read_bytes() for each in ("list", "pattern"))
    assert single == beside


@pytest.mark.e2e
def test_a_film_and_a_geotiff(cli, fails, photos: Path, tmp_path: Path) -> None:
    film, out = tmp_path / "drive.mp4", tmp_path / "film"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.open(photos / "a_left.png"))))
        container.mux(stream.encode())
    assert cli(*CALL, f"input={film}", f"output={out}", "frames=3") == 1
    with av.open(str(out / "drive_overlays.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3
    lines = (out / "drive_shares.csv").read_text().splitlines()
    assert lines[0] == ",".join(["frame", "time", *CamVid.classes])
    assert [float(line.split(",")[1]) for line in lines[1:]] == [0, 0.1, 0.2]
    assert sum(map(float, lines[1].split(",")[2:])) == pytest.approx(1, abs=1e-5)

    place, path = Affine(0.2, 0, 500_000, 0, -0.2, 5_400_000), tmp_path / "map.tif"
    pixels = np.asarray(Image.open(photos / "a_left.png")).transpose(2, 0, 1)
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": place, "dtype": "uint8", "count": 3}
    with rasterio.open(path, "w", width=64, height=48, **profile) as file:
        file.write(pixels)
    assert cli(*CALL, f"input={path}", f"output={tmp_path / 'map'}") == 1
    cli(*CALL, f"input={photos}/a_left.png", f"output={tmp_path / 'photo'}")
    with rasterio.open(tmp_path / "map" / "labels" / "map.tif") as file:
        assert file.transform == place
        with Image.open(tmp_path / "photo" / "labels" / "a_left.png") as labels:
            assert (file.read(1) == np.asarray(labels)).mean() >= 0.9999


def test_a_missing_package_is_named_before_torch_is_loaded(
    fails, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else usual(name, *rest))
    (tmp_path / "drive.mp4").touch()
    message = fails(*CALL, f"input={tmp_path}/drive.mp4", f"output={tmp_path}/out")
    assert message.startswith(f"input={tmp_path}/drive.mp4: a video needs the package av, which is not installed; pip")
    assert not (tmp_path / "out").exists()
    message = fails(*CALL, f"input={photos}", "outputs=[labels,colour]")
    assert message.startswith("outputs=['labels', 'colour']: has colour; give some of labels, colours, overlays, ")
