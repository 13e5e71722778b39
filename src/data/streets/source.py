"""The built-in synthetic dataset: driving scenes drawn by code, with CamVid's 11 classes, without a download."""

from collections.abc import Sequence

import cv2
import numpy as np

from src.data.source import Sample, Source
from src.data.streets.buildings import Wall
from src.data.streets.camera import annotate, develop
from src.data.streets.canvas import KERB, NEAR, PAVEMENT, ROAD, SKY, Scene, Thing
from src.data.streets.cars import Car
from src.data.streets.layout import FAR, Street, drive, furnish, line_sides, random_street
from src.data.streets.objects import Bicyclist, Pedestrian, Tree
from src.data.streets.textures import TILE, random_colour, tiles
from src.errors import UserError, whole

SPLIT_KEYS = {"train": 0, "val": 1, "test": 2}
MINIMUM_SIZE = 64  # pixels; in smaller images poles and people vanish
CACHE = 2**27  # bytes of scenes that a process keeps: a thousand at 128x256
DRIVE = 10  # images per group
SHADOWS = 45.0  # metres; objects further away cast no shadow


class Streets(Source):
    """Scenes, each a function of (seed, split, index) only; a process keeps those that it has drawn, up to a limit."""

    labels = "streets-11"
    terms = "Scenes drawn by the code of this repository (MIT licence)."
    splits = ("train", "val", "test")
    classes = {
        "Sky": (128, 128, 128),
        "Building": (128, 0, 0),
        "Pole": (192, 192, 128),
        "Road": (128, 64, 128),
        "Pavement": (0, 0, 192),
        "Tree": (128, 128, 0),
        "SignSymbol": (192, 128, 128),
        "Fence": (64, 64, 128),
        "Car": (64, 0, 128),
        "Pedestrian": (64, 64, 0),
        "Bicyclist": (0, 128, 192),
    }

    def __init__(
        self,
        seed: int = 0,
        size: Sequence[int] = (128, 256),
        num_train: int = 400,
        num_val: int = 60,
        num_test: int = 60,
    ) -> None:
        self.seed = seed
        self.drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        if not np.iterable(size) or len(size) != 2 or min(size) < MINIMUM_SIZE:
            raise UserError(f"size={size}: give (height, width), each at least {MINIMUM_SIZE} pixels")
        self.size = (size[0], size[1])
        for name, value in {"seed": seed, **{f"num_{split}": count for split, count in self.counts.items()}}.items():
            whole(name, value, 0)

    def image_id(self, sample: Sample) -> str:
        """Returns the scene's name with its seed; a scene of another size has the same id."""
        return f"{self.labels}/{self.seed}/{sample.name}"

    def drawing(self, sample: Sample) -> str:
        return f"{self.seed} {self.size} {sample.name}"

    def samples(self, split: str) -> list[Sample]:
        self.check_split(split)
        if not self.counts[split]:
            raise UserError(f"split {split!r} is empty: set num_{split} to 1 or more")
        return [Sample(f"{split}_{i:05d}", f"{split}_drive_{i // DRIVE:04d}") for i in range(self.counts[split])]

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        if sample.name not in self.drawn:
            split, index = sample.name.split("_")
            scene = draw_scene(self.seed, split, int(index), self.size)
            if (len(self.drawn) + 1) * sum(array.nbytes for array in scene) > CACHE:
                return scene[0], self.grouped(scene[1])
            self.drawn[sample.name] = scene
        image, mask = self.drawn[sample.name]
        return image.copy(), self.grouped(mask).copy()


def draw_scene(seed: int, split: str, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene: image uint8 `(H, W, 3)` RGB and mask uint8 `(H, W)` with ids 0..10 or 255."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, SPLIT_KEYS[split], index)))
    scene = Scene(size, rng)
    street = random_street(rng)
    things = [*line_sides(street, rng), *furnish(street, rng), *drive(street, rng)]
    draw_sky(scene)
    draw_backdrop(scene)
    draw_ground(scene, street, things)
    visible = [thing for thing in things if scene.sees(thing.x, thing.far)]
    for thing in sorted(visible, key=lambda thing: (thing.layer, -thing.z)):
        thing.draw(scene)
    return develop(scene), annotate(scene)


def draw_sky(scene: Scene) -> None:
    light, rng = scene.light, scene.rng
    rows, columns = int(scene.horizon) // 4 + 1, scene.width // 4  # smooth enough for a coarse grid
    height = np.linspace(1, 0, rows, dtype=np.float32)[:, None, None]
    haze, zenith = np.array(light.haze, np.float32), np.array(light.zenith, np.float32)
    sky = haze + (zenith - haze) * height**0.8
    clouds = np.roll(tiles()["clouds"], tuple(rng.integers(0, TILE, 2)), (0, 1))[: rng.integers(90, TILE)]
    clouds = cv2.resize(clouds, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    cover = np.clip((clouds - 165 + 70 * light.clouds) / 60, 0, 1)[..., None] * (0.25 + 0.6 * height)
    white = np.minimum(255, 0.6 * haze + 110) if light.clouds < 1 else haze
    sky = sky + (white - sky) * cover
    scene.canvas[: 4 * rows, :, :3] = cv2.resize(sky, (scene.width, 4 * rows), interpolation=cv2.INTER_LINEAR)
    scene.canvas[..., 3] = SKY


def draw_backdrop(scene: Scene) -> None:
    """Draws roofs and tree tops at the end of the street."""
    rng, x = scene.rng, -0.6 * FAR
    while x < 0.6 * FAR:
        width = rng.uniform(12, 26)
        if rng.random() < 0.6:
            high = rng.uniform(5, 14)
            wall = Wall(scene, np.array([x, 0, FAR]), np.array([1, 0, 0]), (0, 0, -1), width)
            wall.fill(wall.quads(0, width, 0, high), random_colour(rng, (0.05, 0.3), (0.4, 0.8)))
            wall.windows("plaster", high, rng, plain=False)
        else:
            Tree(x, FAR, rng.uniform(6, 12)).draw(scene)
        x += 0.9 * width


def draw_ground(scene: Scene, street: Street, things: list[Thing]) -> None:
    """Draws pavement, kerb, road and markings, then their texture, the shadows and the haze."""
    rng = scene.rng
    top = int(np.ceil(scene.horizon))
    stone = tuple(rng.uniform(135, 185) + rng.uniform(-8, 10, 3))
    asphalt = tuple(rng.uniform(72, 112) + rng.uniform(-4, 6, 3))
    scene.canvas[top:] = (*scene.seen(stone, 0), PAVEMENT)
    slabs = np.arange(2, 30, 1.2)
    for side in (-1, 1):
        joints = strips(street.kerb(side), street.front(side), slabs, slabs + 0.05, KERB)
        scene.polygon(joints, stone, PAVEMENT, 0.75, depth=0)
    scene.polygon(strips(*street.kerbs, NEAR, 5000, 0), asphalt, ROAD, depth=0)
    for side in (-1, 1):
        kerb = street.kerb(side)
        face = np.array([(kerb, 0, NEAR), (kerb, KERB, NEAR), (kerb, KERB, 90), (kerb, 0, 90)])
        scene.polygon(face, stone, PAVEMENT, 0.7, depth=0)
        scene.polygon(strips(kerb, kerb + 0.15 * side, NEAR, 60, KERB), stone, PAVEMENT, 1.15, depth=0)
    draw_markings(scene, street)
    scene.texture(strips(-24, 24, 1.2, 60, 0)[0], tiles()["asphalt"], (48, 58.8), rng.uniform(0.35, 0.7))
    shade_ground(scene, cast_shadows(scene, things, top), top)


def strips(left: float, right: float, near, far, height: float) -> np.ndarray:
    """Returns rectangles `(K, 4, 3)` on the ground, for arrays of depths."""
    near, far = np.broadcast_arrays(np.atleast_1d(near), np.atleast_1d(far))
    quads = np.empty((len(near), 4, 3))
    quads[..., 0], quads[..., 1] = (left, right, right, left), height
    quads[..., 2] = np.stack([near, near, far, far], axis=1)
    return quads


def draw_markings(scene: Scene, street: Street) -> None:
    rng = scene.rng
    paint = tuple(rng.uniform(185, 235) * np.array((1, 1, 0.96)))
    dash, gap = rng.uniform(2, 4), rng.uniform(2, 5)
    starts = np.arange(-rng.uniform(0, dash + gap), 70, dash + gap)
    scene.polygon(strips(street.divide - 0.07, street.divide + 0.07, starts, starts + dash, 0), paint, ROAD, depth=0)
    edge = rng.choice(["none", "white", "yellow"])
    if edge != "none":
        colour = paint if edge == "white" else (215, 175, 60)
        for side in (-1, 1):
            kerb = street.kerb(side) - 0.35 * side
            scene.polygon(strips(kerb - 0.06, kerb + 0.06, NEAR, 60, 0), colour, ROAD, depth=0)
    if rng.random() < 0.3:  # a zebra crossing
        z = rng.uniform(6, 16)
        for x in np.arange(street.kerbs[0] + 0.4, street.kerbs[1] - 0.5, 1.0):
            scene.polygon(strips(x, x + 0.5, z, z + 3, 0), paint, ROAD, depth=0)
    if rng.random() < 0.3:
        x, z, angles = rng.uniform(-1, 1), rng.uniform(5, 14), np.linspace(0, 2 * np.pi, 16)
        lid = np.column_stack([x + 0.35 * np.cos(angles), np.zeros(16), z + 0.35 * np.sin(angles)])
        scene.polygon(lid, (58, 56, 54), ROAD, depth=0)


def cast_shadows(scene: Scene, things: list[Thing], top: int) -> np.ndarray:
    """Draws the darkness of the ground, uint8 `(2H - top, 2W)`, at half that size, since it is blurred anyway."""
    rows, columns = scene.height - top, scene.width
    dark = np.zeros((rows // 2 + 1, columns // 2), np.uint8)
    for thing in (thing for thing in things if thing.z < SHADOWS):
        half_width, half_depth, bottom, high = thing.shadow
        middle = 0.5 * (thing.z + thing.far)
        corners = strips(thing.x - half_width, thing.x + half_width, middle - half_depth, middle + half_depth, 0)[0]
        if scene.light.direct > 0.2:
            ends = [corners + scene.light.shadow_of(bottom), corners + scene.light.shadow_of(high)]
            pixels = (scene.project(np.vstack(ends)) - (0, top)) / 2
            outline = cv2.convexHull(np.rint(pixels).astype(np.int32))
            cv2.fillConvexPoly(dark, outline, 255 * 0.85 * scene.light.direct)
        if isinstance(thing, (Car, Bicyclist, Pedestrian)):  # no sky reaches the ground under them
            pixels = (scene.project(corners) - (0, top)) / 2
            cv2.fillConvexPoly(dark, np.rint(pixels).astype(np.int32), 185)
    blur = 2 * (scene.height // 128) + 1
    return cv2.resize(cv2.blur(dark, (blur, blur)), (columns, rows), interpolation=cv2.INTER_LINEAR)


def shade_ground(scene: Scene, dark: np.ndarray, top: int) -> None:
    """Darkens the ground below the row `top` by the shadows, and blends it into the haze."""
    depth = scene.focal * scene.eye / (np.arange(len(dark)) + top - scene.horizon + 0.5)
    clear = np.exp(-depth / scene.light.visibility).astype(np.float32)[:, None]
    factor = cv2.multiply(255 - dark, np.repeat(clear, scene.width, axis=1), dtype=cv2.CV_8U)
    factor = cv2.merge([factor, factor, factor, np.full_like(factor, 255)])  # the label stays
    haze = np.zeros((*dark.shape, 4), np.uint8)
    haze[..., :3] = np.array(scene.light.haze, np.float32) * (1 - clear)[..., None]
    scene.canvas[top:] = cv2.add(cv2.multiply(scene.canvas[top:], factor, scale=1 / 255), haze)
