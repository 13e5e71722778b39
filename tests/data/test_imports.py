"""Exports of annotation tools, drawn as masks: against brute force, Pillow and OpenCV, and read back by `Folder`."""

import base64
import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from src.data.imports.coco import uncompress
from src.data.imports.find import read_export
from src.data.imports.label_studio import decode_brush
from src.data.imports.shapes import Shape, fill, runs
from src.data.imports.write import BACKGROUND, write_dataset
from src.data.sources.colours import voc_colour
from src.data.sources.folder import Folder
from src.data.tools.check import check
from src.errors import UserError
from src.import_labels import import_labels
from tests.support.compose import composed

SIZE = (40, 60)
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]
TRIANGLE = [[20.5, 10.2], [50.1, 12.7], [33.3, 38.9]]


def centre_in(points: list[list[float]], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Brute force: casts a ray from each pixel's centre."""
    inside = np.zeros(size, dtype=bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, odd = column + 0.5, row + 0.5, False
            for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
                if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                    odd = not odd
            inside[row, column] = odd
    return inside


def photos(folder: Path, *names: str) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(folder / name)
    return folder


def imported(path: Path, out: Path, unlabelled: str = "ignore", **options: Any) -> dict[str, np.ndarray]:
    """Imports an export; returns the masks as `Folder` reads them."""
    export = read_export(path, options.pop("kind", "auto"), options.pop("images", None), options.get("classes"))
    write_dataset(export, out, options.get("split"), unlabelled, options.get("classes"), link=False)
    source = Folder(str(out))
    return {sample.name: source.read(sample)[1] for sample in source.samples(options.get("split") or "train")}


def painted(*areas: tuple[int, np.ndarray], base: int = 255) -> np.ndarray:
    mask = np.full(SIZE, base, dtype=np.uint8)
    for label, inside in areas:
        mask[inside] = label
    return mask


def write_coco(file: Path, annotations: list[dict], names: tuple[str, ...] = ("a.png",)) -> Path:
    images = [{"id": 7 + i, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate(names)]
    # Ids of categories have gaps, and the list is in another order.
    categories = [{"id": 9, "name": "car"}, {"id": 3, "name": "road"}]
    entries = [{"id": i, "image_id": 7, **entry} for i, entry in enumerate(annotations)]
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": entries}))
    return file


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


@pytest.mark.parametrize("seed", range(6))
def test_a_polygon_holds_the_pixels_whose_centres_are_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for corners in (3, 4, 9):
        points = rng.uniform(-10, 70, (corners, 2))  # may cross itself, and reach over the border
        if seed % 2:
            points = points.round()
        assert (fill([points], SIZE) == centre_in(points.tolist())).all()
        (rows, columns), inside = Shape("x", ((points,),)).cover(SIZE)
        whole = np.zeros(SIZE, dtype=bool)
        whole[rows, columns] = inside
        assert (whole == centre_in(points.tolist())).all()


def test_it_agrees_with_pillow_but_for_the_outline() -> None:
    canvas, outline = Image.new("1", SIZE[::-1]), Image.new("1", SIZE[::-1])
    centred = [(x - 0.5, y - 0.5) for x, y in TRIANGLE]  # Pillow counts from the centre of the first pixel
    ImageDraw.Draw(canvas).polygon(centred, fill=1)
    ImageDraw.Draw(outline).polygon(centred, outline=1)
    differs = fill([np.array(TRIANGLE)], SIZE) != np.asarray(canvas)
    near = cv2.dilate(np.asarray(outline).astype(np.uint8), np.ones((3, 3)))
    assert 0 < differs.sum() < 80
    assert not (differs & (near == 0)).any()


def test_neighbours_share_no_pixel_and_leave_none() -> None:
    middle = [[0.0, 0.0], [21.3, 17.7], [60.0, 40.0]]
    above, below = [*middle, [60.0, 0.0]], [*middle, [0.0, 40.0]]
    assert (fill([np.array(above)], SIZE) ^ fill([np.array(below)], SIZE)).all()


def test_a_hole_and_a_bridge_to_it() -> None:
    hole = [[15, 10], [20, 10], [20, 20], [15, 20]]
    expected = centre_in(SQUARE) & ~centre_in(hole)
    assert (fill([np.array(SQUARE), np.array(hole)], SIZE) == expected).all()
    bridged = [*SQUARE, SQUARE[0], *hole, hole[0], SQUARE[0]]  # as YOLO's converters write it
    assert (fill([np.array(bridged)], SIZE) == expected).all()


def test_coco_polygons_parts_and_order(tmp_path: Path) -> None:
    apart = [[50, 30], [58, 30], [58, 38], [50, 38]]
    file = write_coco(
        photos(tmp_path, "a.png", "b.png") / "instances.json",
        [
            {
                "category_id": 3,
                "segmentation": [flat(SQUARE), flat([[12, 7], [20, 7], [20, 15], [12, 15]]), flat(apart)],
            },
            {"category_id": 9, "segmentation": [flat(TRIANGLE)]},
            {"category_id": 9, "bbox": [0, 0, 5, 5]},
        ],
        ("a.png", "b.png"),
    )
    masks = imported(file, tmp_path / "out")
    assert list(masks) == ["a"], "b has no area"
    assert (masks["a"] == painted((0, centre_in(SQUARE) | centre_in(apart)), (1, centre_in(TRIANGLE)))).all()
    assert (tmp_path / "out/classes.txt").read_text() == "road: 128 0 0\ncar: 0 128 0\n"
    masks = imported(file, tmp_path / "with", BACKGROUND)
    assert (masks["b"] == 0).all()
    assert (masks["a"] == painted((1, centre_in(SQUARE) | centre_in(apart)), (2, centre_in(TRIANGLE)), base=0)).all()
    assert not check(Folder(str(tmp_path / "out"))).errors[1:], "only that there is no val"


def compress(counts: list[int]) -> str:
    """COCO's rleToString (pycocotools' maskApi.c), from its description."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text += chr((digit | 32 if more else digit) + 48)
            if not more:
                break
    return text


def lengths(flat_mask: np.ndarray) -> list[int]:
    """Lengths of runs, the first of zeros."""
    counts, current = [0], False
    for value in flat_mask.tolist():
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return counts


def test_coco_run_lengths(tmp_path: Path) -> None:
    by_pycocotools = np.zeros((9, 10), dtype=bool)  # whose 2.0.11 encodes it as this text
    by_pycocotools[2:6, 1:4] = by_pycocotools[0, 9] = by_pycocotools[4, 6:] = True
    assert (runs(uncompress(";45000d0M_O000L0O01"), (9, 10), "F") == by_pycocotools).all()
    rng = np.random.default_rng(0)
    for mask in (rng.random(SIZE) < 0.5, centre_in(TRIANGLE), ~centre_in(SQUARE)):
        counts = lengths(mask.T.ravel())
        assert uncompress(compress(counts)) == counts
        assert (runs(counts, SIZE, "F") == mask).all()
    entries = [
        {
            "category_id": 3,
            "iscrowd": 1,
            "segmentation": {"size": SIZE, "counts": lengths(centre_in(SQUARE).T.ravel())},
        },
        {"category_id": 9, "segmentation": {"size": SIZE, "counts": compress(lengths(centre_in(TRIANGLE).T.ravel()))}},
    ]
    masks = imported(write_coco(photos(tmp_path, "a.png") / "x.json", entries), tmp_path / "out")
    assert (masks["a"] == painted((0, centre_in(SQUARE)), (1, centre_in(TRIANGLE)))).all()
    entries[0]["segmentation"]["counts"] = [5, 5]
    with pytest.raises(UserError, match="annotation 0: its run lengths do not fit 40x60"):
        imported(write_coco(tmp_path / "x.json", entries), tmp_path / "other")


def test_labelme(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "sub/b.png")
    small = np.array([[1, 0, 1], [0, 1, 1]], dtype=np.uint8) * 255
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "PNG")
    shapes = [
        {"label": "road", "points": SQUARE, "shape_type": "polygon", "group_id": None},
        {"label": "car", "points": [[40, 20], [35, 12]], "shape_type": "rectangle"},
        {"label": "dot", "points": [[20, 30], [20, 35]], "shape_type": "circle"},
        {"label": "car", "points": [[50, 3], [52, 4]], "shape_type": "mask",
         "mask": base64.b64encode(buffer.getvalue()).decode()},
        {"label": "car", "points": [[1, 1]], "shape_type": "point"},
    ]  # fmt: skip
    content = {"shapes": shapes, "imagePath": "a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "imageData": None}
    (tmp_path / "a.json").write_text(json.dumps(content))
    other = content | {"imagePath": "..\\sub\\b.png", "shapes": shapes[:1]}
    (tmp_path / "sub/b.json").write_text(json.dumps(other))
    export = read_export(tmp_path, "auto", None, None)
    assert export.left_out == {"point": 1}
    masks = imported(tmp_path, tmp_path / "out")
    assert list(masks) == ["a", "sub/b"]
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.hypot(columns + 0.5 - 20, rows + 0.5 - 30) < 5
    bitmap = np.zeros(SIZE, dtype=bool)
    bitmap[3:5, 50:53] = small > 0
    box = centre_in([[35, 12], [40, 12], [40, 20], [35, 20]])
    # Classes are sorted by name: car, dot, road.
    assert (masks["a"] == painted((2, centre_in(SQUARE)), (0, box), (1, disc), (0, bitmap))).all()


def test_yolo(tmp_path: Path) -> None:
    photos(tmp_path / "images/train", "a.png", "b.png")
    labels = tmp_path / "labels/train"
    labels.mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("path: .\nnames:\n  0: road\n  1: car\n")
    scaled = (np.array(TRIANGLE) / SIZE[::-1]).ravel().tolist()
    (labels / "a.txt").write_text(f"1 {' '.join(map(str, scaled))}\n0 .1 .1 .2 .2\n")
    (labels / "b.txt").write_text("")
    masks = imported(labels, tmp_path / "out", BACKGROUND, split="train")
    assert (masks["a"] == painted((2, centre_in(TRIANGLE)), base=0)).all()
    assert (masks["b"] == 0).all()
    for line, fault in (
        ("2 0 0 1 0 1 1", "line 1: class 2 is not one of the 2 listed"),
        ("1 0 0 1 0 1 1 0", "line 1: has 7 coordinates, an odd number"),
        ("a 0 0", "line 1: is not `CLASS x y x y ...`"),
        ("1 2 3 40 3 40 20", "line 1: the coordinate 40 is no share of the image's size (0 to 1); if they are pixels"),
    ):
        (labels / "a.txt").write_text(line)
        with pytest.raises(UserError, match=re.escape(fault)):
            read_export(labels, "yolo", None, None)
    (labels / "c.txt").write_text("1 0 0 1 0 1 1")
    (labels / "a.txt").unlink()
    with pytest.raises(UserError, match=r"c\.txt: labels without an image"):
        read_export(labels, "yolo", None, None)


def test_cvat_for_images(tmp_path: Path) -> None:
    photos(tmp_path / "images", "a.png")
    window = centre_in(SQUARE)[3:20, 8:40]
    points = ";".join(f"{x},{y}" for x, y in TRIANGLE)
    (tmp_path / "annotations.xml").write_text(
        f"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>
        <label><name>road</name><color>#802040</color></label><label><name>car</name><color>#010203</color></label>
        </labels></task></meta><image id="0" name="a.png" width="60" height="40">
        <polygon label="car" points="{points}" z_order="1"/>
        <mask label="road" rle="{", ".join(map(str, lengths(window.ravel())))}" left="8" top="3" width="32" height="17"
        z_order="0"/><box label="car" xtl="0" ytl="0" xbr="5" ybr="5" z_order="0"/></image></annotations>"""
    )
    export = read_export(tmp_path, "auto", None, None)
    assert export.left_out == {"box": 1}
    masks = imported(tmp_path, tmp_path / "out")
    part = np.zeros(SIZE, dtype=bool)
    part[3:20, 8:40] = window
    assert (masks["a"] == painted((0, part), (1, centre_in(TRIANGLE)))).all(), "the car has the higher z_order"
    assert Folder(str(tmp_path / "out")).classes == {"road": (128, 32, 64), "car": (1, 2, 3)}


def test_cvat_segmentation_masks(tmp_path: Path) -> None:
    photos(tmp_path / "JPEGImages", "a.png")
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,32,64::\ncar:1,2,3::\n"
    )
    mask = painted((0, centre_in(SQUARE)), (1, centre_in(TRIANGLE)))
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[:2] = (128, 32, 64), (1, 2, 3)
    (tmp_path / "SegmentationClass").mkdir()
    Image.fromarray(colours[mask]).save(tmp_path / "SegmentationClass/a.png")
    assert (imported(tmp_path, tmp_path / "out")["a"] == mask).all()
    assert (imported(tmp_path, tmp_path / "b", BACKGROUND)["a"] == np.where(mask == 255, 0, mask + 1)).all()
    colours[0] = 9
    Image.fromarray(colours[mask]).save(tmp_path / "SegmentationClass/a.png")
    with pytest.raises(UserError, match=r"pixels have colours that labelmap\.txt does not list, as \(9, 9, 9\)"):
        read_export(tmp_path, "auto", None, None)


def test_supervisely(tmp_path: Path) -> None:
    root = tmp_path / "project"
    photos(root / "first/img", "a.png")
    photos(root / "second/img", "a.png")
    (root / "meta.json").write_text(
        json.dumps({"classes": [{"title": "road", "shape": "polygon", "color": "#802040"}, {"title": "car"}]})
    )
    small = np.array([[1, 0, 1], [0, 1, 1]], dtype=np.uint8)
    picture = Image.fromarray(small)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=0, optimize=False)  # as its SDK writes it
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    outline, hole = [[10, 5], [30, 5], [30, 25], [10, 25]], [[15, 10], [20, 10], [20, 20], [15, 20]]
    objects = [
        {"classTitle": "road", "geometryType": "polygon", "points": {"exterior": outline, "interior": [hole]}},
        {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [50, 3]}},
        {"classTitle": "car", "geometryType": "line", "points": {"exterior": [[0, 0], [1, 1]], "interior": []}},
    ]
    for name, found in (("first", objects), ("second", objects[:1])):
        (root / name / "ann").mkdir()
        content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": found}
        (root / name / "ann/a.png.json").write_text(json.dumps(content))
    masks = imported(root, tmp_path / "out")
    canvas = np.zeros(SIZE, dtype=np.uint8)  # corners belong to the area: 21 x 21 pixels without 6 x 11
    canvas[5:26, 10:31] = 1
    canvas[10:21, 15:21] = 0
    bitmap = np.zeros(SIZE, dtype=bool)
    bitmap[3:5, 50:53] = small > 0
    assert (masks["first/img/a"] == painted((0, canvas > 0), (1, bitmap))).all()
    assert (masks["second/img/a"] == painted((0, canvas > 0))).all()


def pack_bits(mask: np.ndarray) -> bytes:
    """Encodes as Label Studio does: RGBA pixels, runs of up to 2^16 values, single values as pieces that repeat not."""
    values = np.repeat(mask.ravel().astype(np.uint8)[:, None] * 255, 4, axis=1).ravel().tolist()
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    place = 0
    while place < len(values):
        end = place
        while end < len(values) and values[end] == values[place] and end - place < 2**16:
            end += 1
        length = end - place
        if length == 4:  # as values that are not repeated
            bits += f"0{0:02b}{length - 1:03b}" + "".join(f"{value:08b}" for value in values[place:end])
        else:
            choice, size = next((i, s) for i, s in enumerate((3, 4, 8, 16)) if length - 1 < 2**s)
            bits += f"1{choice:02b}{length - 1:0{size}b}{values[place]:08b}"
        place = end
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def test_label_studio(tmp_path: Path) -> None:
    photos(tmp_path / "images", "0a1b2c3d-a.png", "b c.png")
    share = (np.array(TRIANGLE) / SIZE[::-1] * 100).tolist()
    brush = centre_in(SQUARE)
    assert (decode_brush(pack_bits(brush)).reshape(*SIZE, 4) == np.repeat(brush[..., None] * 255, 4, 2)).all()
    common = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    results = [
        common
        | {"type": "brushlabels", "value": {"format": "rle", "rle": list(pack_bits(brush)), "brushlabels": ["road"]}},
        common | {"type": "polygonlabels", "value": {"points": share, "closed": True, "polygonlabels": ["car"]}},
        {"type": "choices", "value": {"choices": ["day"]}},
    ]
    box = {"x": 50.0, "y": 25.0, "width": 25.0, "height": 25.0, "rotation": 90, "rectanglelabels": ["car"]}
    second = [common | {"type": "rectanglelabels", "value": box}]
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": results}]},
        {"id": 2, "data": {"image": "/data/local-files/?d=photos/b%20c.png"},
         "annotations": [{"was_cancelled": True, "result": []}, {"result": second}]},
    ]  # fmt: skip
    file = tmp_path / "project.json"
    file.write_text(json.dumps(tasks))
    masks = imported(file, tmp_path / "out")
    assert (masks["0a1b2c3d-a"] == painted((1, brush), (0, centre_in(TRIANGLE)))).all()
    # 15 x 10 pixels at (30, 10), turned by 90 degrees clockwise about that corner: 10 to its left, 15 below.
    assert (masks["b c"] == painted((0, centre_in([[20, 10], [30, 10], [30, 25], [20, 25]])))).all()


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """An image that has only the name is not taken for that of the export."""
    photos(tmp_path, "1.png", "a/1.png", "b/1.png")
    area = {"label": "road", "points": SQUARE, "shape_type": "polygon"}
    content = {"shapes": [area], "imagePath": "1.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    for folder in "ab":
        (tmp_path / folder / "1.json").write_text(json.dumps(content))
    assert [image.name for image in read_export(tmp_path, "labelme", None, None).images] == ["a/1", "b/1"]
    entry = {"category_id": 3, "segmentation": [flat(SQUARE)]}
    file = write_coco(tmp_path / "x.json", [entry], ("photos/b/1.png",))
    assert [image.name for image in read_export(file, "coco", tmp_path, None).images] == ["b/1"]


def test_label_studio_takes_the_image_and_no_other_text(tmp_path: Path) -> None:
    photos(tmp_path / "images", "12.png", "0002.png")
    task = {"data": {"drive": "12", "image": "/data/upload/1/0a1b2c3d-0002.png"}, "annotations": [{"result": []}]}
    file = tmp_path / "project.json"
    file.write_text(json.dumps([task]))
    assert [image.name for image in read_export(file, "label_studio", None, None).images] == ["0002"]
    task["data"]["depth"] = "12.png"
    file.write_text(json.dumps([task]))
    with pytest.raises(UserError, match=r"its data name several images .0002\.png and 12\.png.; leave one of them in"):
        read_export(file, "label_studio", None, None)


def test_the_command_reports_overlaps_and_writes_a_dataset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    entries = [{"category_id": 3, "segmentation": [flat(SQUARE)]}, {"category_id": 9, "segmentation": [flat(TRIANGLE)]}]
    file = write_coco(photos(tmp_path / "photos", "a.png") / "x.json", entries)
    words = (f"input={file}", f"out={tmp_path / 'out'}", "split=train", "link=true")
    with composed("import_labels", *words) as cfg:
        assert import_labels(cfg) == tmp_path / "out"
    both = (centre_in(SQUARE) & centre_in(TRIANGLE)).sum()
    assert f"overlap: car covers {both} pixels of road, for it comes later in the file" in caplog.text
    void = 1 - (centre_in(SQUARE) | centre_in(TRIANGLE)).mean()
    assert f"in no area: {100 * void:.2f} % of the pixels, ignored (255)" in caplog.text
    assert (tmp_path / "out/images/train/a.png").resolve() == file.with_name("a.png").resolve()
    palette = Image.open(tmp_path / "out/masks/train/a.png").getpalette("RGB")
    assert palette[:6] == [128, 0, 0, 0, 128, 0]
    with composed("import_labels", *words) as cfg, pytest.raises(UserError, match="exists, and nothing is overwritten"):
        import_labels(cfg)
    with composed("import_labels", *(words[:2]), "split=val", "unlabelled=background") as cfg:
        fault = r"lists other classes \(road, car\) than this export \(background, road, car\)"
        with pytest.raises(UserError, match=fault):
            import_labels(cfg)
    with composed("import_labels", *(words[:2]), "split=val") as cfg:
        import_labels(cfg)
    assert not check(Folder(str(tmp_path / "out"))).errors[1:], "only that the same image is in both"
    assert not list((tmp_path / "out").rglob("*.tmp*"))


def test_what_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    def refused(fault: str, path: Path = tmp_path / "x.json", **options: Any) -> None:
        with pytest.raises(UserError, match=fault):
            imported(path, tmp_path / "never", **options)
        assert not (tmp_path / "never").exists()

    photos(tmp_path, "a.png", "b/c.png", "d/c.png")
    good = {"category_id": 3, "segmentation": [flat(SQUARE)]}
    refused("no such file or folder", tmp_path / "nowhere")
    write_coco(tmp_path / "x.json", [good | {"image_id": 99}])
    refused("annotation 0 names an image or a category that the file does not list")
    write_coco(tmp_path / "x.json", [good], ("z.png",))
    refused(r"'z\.png': no such image in .*; give images=DIR")
    write_coco(tmp_path / "x.json", [good], ("c.png",))
    refused(r"'c\.png': 2 images of this name")
    (tmp_path / "d/c.png").unlink()
    write_coco(tmp_path / "x.json", [good], ("e/c.png",))
    refused(r"'e/c\.png': no such image, only b/c\.png, in .*; give images=DIR")
    write_coco(tmp_path / "x.json", [good | {"segmentation": [[1, 2, 3, 4]]}])
    refused("is no polygon: it needs three finite points")
    write_coco(tmp_path / "x.json", [good])
    refused("'road' is not in the list of classes", classes=["a", "b"])
    refused("format=coc: must be auto or one of coco", kind="coc")
    refused("is no file of labelme", kind="labelme")
    Image.fromarray(np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8)).save(tmp_path / "a.png")
    refused("is 60x40 .HxW., and the export says 40x60; its EXIF tag turns it")
    (tmp_path / "x.json").write_text("[]")
    refused("no export that is known by its files")
    (tmp_path / "x.json").write_text("{")
    refused("is no JSON")
    (tmp_path / "noted").mkdir()
    (tmp_path / "noted/notes.txt").write_text("2 photos of a road")
    refused("no export that is known by its files", tmp_path / "noted")
    (tmp_path / "brush").mkdir()
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(tmp_path / "brush/task-1-annotation-2-by-3-tag-car-0.png")
    refused(
        "Label Studio exported as PNG, which name a task and no image; export the project as JSON", tmp_path / "brush"
    )


def test_colours_of_pascal_voc() -> None:
    """The first ones of its palette, as VOCdevkit's VOClabelcolormap lists them."""
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [voc_colour(number) for number in range(7)] == known
    assert voc_colour(255) == (224, 224, 192)
    assert len({voc_colour(number) for number in range(256)}) == 256
