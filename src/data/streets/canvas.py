"""The camera, the light and the canvas that synthetic streets are drawn on. World units are metres.

World axes: x to the right of the camera, y up from the road, z forward along the street.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np

from src.data.streets.textures import TILE, TILE_METRES, Colour

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
FRONTS, FENCES, PAVEMENTS, ROADWAY = range(4)  # layers of objects, from the houses inwards
SUPERSAMPLING = 2  # the canvas is this many times finer than the image, so that averaging smooths the edges
NEAR = 0.8  # metres; points nearer are moved to this depth, exact for edges that run along z
DETAIL = 26.0  # metres; beyond this depth, details smaller than a window are left out
KERB = 0.12  # metres; height of the pavement above the road

Vector = tuple[float, float, float]  # x, y, z in metres

_ANGLES = np.arange(13) * 2 * np.pi / 13
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_RAMP = np.linspace(0, 1, 256)[:, None]


@dataclass(frozen=True)
class Light:
    """Weather and time of day. Colours are RGB, 0..255; `tint` multiplies the colour of every surface."""

    to_sun: Vector  # unit vector
    direct: float  # share of the light that comes from the sun: 0 under clouds
    tint: Colour
    zenith: Colour
    haze: Colour  # colour of the sky at the horizon, which distance blends into
    visibility: float  # metres after which 1/e of an object's own colour is left
    clouds: float  # 0 (clear) to 1 (closed)
    lamps: bool

    def on(self, normal: Vector) -> float:
        """Returns the brightness of a surface with this unit normal."""
        x, y, z = self.to_sun
        return 1 - 0.55 * self.direct + self.direct * max(0.0, normal[0] * x + normal[1] * y + normal[2] * z)

    def shadow_of(self, height: float) -> Vector:
        """Returns the offset from a point on the ground to the shadow of an object `height` metres above it."""
        reach = height / max(self.to_sun[1], 0.35)
        return -self.to_sun[0] * reach, 0.0, -self.to_sun[2] * reach


def random_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 1.15)
    flat = math.cos(elevation)
    to_sun = (flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth))
    visibility = rng.uniform(90, 350)
    mix = rng.uniform(0, 1)
    kind = rng.choice(["sunny", "overcast", "dusk"], p=[0.5, 0.34, 0.16])
    if kind == "sunny":
        haze = (190 + 30 * mix, 212 + 15 * mix, 232 + 10 * mix)
        zenith = (70 + 50 * mix, 125 + 40 * mix, 200 + 25 * mix)
        return Light(to_sun, rng.uniform(0.4, 0.62), (1.05, 1.0, 0.93), zenith, haze, visibility, mix * 0.8, False)
    if kind == "overcast":
        grey = 185 + 50 * mix
        tint = (0.78 + 0.1 * mix, 0.8 + 0.1 * mix, 0.84 + 0.1 * mix)
        haze, zenith = (grey, grey + 3, grey + 6), (grey - 30, grey - 25, grey - 16)
        return Light(to_sun, 0.06, tint, zenith, haze, 0.7 * visibility, 1.0, False)
    haze, zenith = (235, 180 - 30 * mix, 140 - 20 * mix), (95 - 30 * mix, 105 - 25 * mix, 150 - 25 * mix)
    tint = (0.68 - 0.12 * mix, 0.58 - 0.12 * mix, 0.58 - 0.08 * mix)
    return Light(to_sun, 0.12, tint, zenith, haze, visibility, 0.5, True)


class Scene:
    """A canvas of RGB and label id, uint8 `(2H, 2W, 4)`, drawn through a pinhole camera.

    Colour and label share one array so that every drawing call sets both: they cannot drift apart.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator):
        self.height, self.width = SUPERSAMPLING * size[0], SUPERSAMPLING * size[1]
        self.rng = rng
        self.light = random_light(rng)
        self.canvas = np.zeros((self.height, self.width, 4), np.uint8)
        self.focal = min(self.width, 2 * self.height) * rng.uniform(0.58, 0.72)
        self.horizon = self.height * rng.uniform(0.42, 0.53)
        self.eye = rng.uniform(1.3, 1.9)
        self.axis = np.array([0.0, self.eye])
        self.zoom = np.array([self.focal, -self.focal])
        self.centre = np.array([self.width * rng.uniform(0.4, 0.6), self.horizon])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Projects world points `(..., 3)` to canvas pixels `(..., 2)`, float."""
        return (points[..., :2] - self.axis) * (self.zoom / np.maximum(points[..., 2:], NEAR)) + self.centre

    def sees(self, x: float, depth: float) -> bool:
        """Whether an object at x that reaches at most 3 m to each side is in the picture."""
        return abs(self.centre[0] + x * self.focal / depth - self.width / 2) < self.width / 2 + 3 * self.focal / depth

    def seen(self, colour: Colour, depth: float, brightness: float = 1.0) -> Colour:
        """Returns a surface's colour under this light, through `depth` metres of haze."""
        clear = math.exp(-max(depth, 0) / self.light.visibility)
        own, veiled = brightness * clear, 1 - clear
        channels = zip(colour, self.light.tint, self.light.haze, strict=True)
        return tuple(min(255.0, part * tint * own + haze * veiled) for part, tint, haze in channels)

    def polygon(
        self, points: np.ndarray, colour: Colour, label: int, brightness: float = 1.0, depth: float | None = None
    ) -> None:
        """Fills a polygon `(M, 3)` or several `(K, M, 3)` with one colour, in the haze of `depth` or of their own."""
        if points.size:
            pixels = np.rint(self.project(points)).astype(np.int32)
            shapes = [pixels] if points.ndim == 2 else list(pixels)
            seen = self.seen(colour, middle_depth(points) if depth is None else depth, brightness)
            cv2.fillPoly(self.canvas, shapes, (*seen, label))

    def hull(self, points: np.ndarray, colour: Colour, label: int, brightness: float = 1.0) -> None:
        """Fills the outline of a convex body that has these corners `(M, 3)`."""
        outline = cv2.convexHull(np.rint(self.project(points)).astype(np.int32))
        cv2.fillConvexPoly(self.canvas, outline, (*self.seen(colour, middle_depth(points), brightness), label))

    def line(self, points: np.ndarray, width: float, colour: Colour, label: int, brightness: float = 1.0) -> None:
        """Draws a line through `(M, 3)`, `width` metres thick."""
        pixels = np.rint(self.project(points)).astype(np.int32)
        depth = middle_depth(points)
        seen = (*self.seen(colour, depth, brightness), label)
        thickness = round(self.focal * width / max(depth, NEAR))
        # Thinner lines would vanish from the mask.
        cv2.polylines(self.canvas, [pixels], False, seen, max(SUPERSAMPLING, thickness))

    def region(self, pixels: np.ndarray) -> tuple[slice, slice] | None:
        """Returns rows and columns of the canvas around these pixels; None if they lie outside."""
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(axis=0)) + 1, (self.width, self.height)).astype(int)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

    def veil(self, points: np.ndarray, colour: Colour, opacity: float, label: int) -> None:
        """Blends a see-through polygon `(M, 3)` over the canvas, all of it with this label (spokes, railings)."""
        pixels = self.project(points)
        if (where := self.region(pixels)) is None:
            return
        patch = self.canvas[where]
        inside = np.zeros(patch.shape[:2], np.uint8)
        corner = (where[1].start, where[0].start)
        cv2.fillPoly(inside, [np.rint(pixels - corner).astype(np.int32)], 1)
        layer = np.empty_like(patch)
        layer[:] = (*self.seen(colour, middle_depth(points)), 0)
        layer = cv2.addWeighted(patch, 1 - opacity, layer, opacity, 0)
        layer[..., 3] = label
        cv2.copyTo(layer, inside, patch)

    def texture(self, corners: np.ndarray, tile: np.ndarray, metres: tuple[float, float], strength: float) -> None:
        """Multiplies a quadrilateral `(4, 3)` of `metres` (along, up) by a repeated tile; 128 keeps the colour."""
        pixels = self.project(corners)
        if (where := self.region(pixels)) is None:
            return
        patch = self.canvas[where]
        pixels = (pixels - (where[1].start, where[0].start)).astype(np.float32)
        along, up = np.array(metres, np.float32) * TILE / TILE_METRES
        offset = self.rng.integers(0, TILE, 2)
        source = np.array([(0, 0), (along, 0), (along, up), (0, up)], np.float32) + offset.astype(np.float32)
        rows, columns = patch.shape[:2]
        transform = cv2.getPerspectiveTransform(pixels, source)
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        factor = cv2.warpPerspective(tile, transform, (columns, rows), flags=flags, borderMode=cv2.BORDER_WRAP)
        factor = cv2.convertScaleAbs(factor, alpha=strength, beta=128 * (1 - strength))
        inside = np.zeros((rows, columns), np.uint8)
        cv2.fillConvexPoly(inside, np.rint(pixels).astype(np.int32), 1)
        factor = cv2.merge([factor, factor, factor, np.full_like(factor, 128)])
        cv2.copyTo(cv2.multiply(patch, factor, scale=1 / 128), inside, patch)

    def foliage(self, crown: np.ndarray, box: np.ndarray, colour: Colour, depth: float, label: int) -> None:
        """Pastes a crown (coverage and shade) into the canvas box `((left, top), (right, bottom))`."""
        (left, top), (right, bottom) = np.rint(box).astype(int)
        where = self.region(np.array([(left, top), (right - 1, bottom - 1)]))
        if where is None or right - left < 2 or bottom - top < 2:
            return
        rows, columns = (where[0].start - top, where[0].stop - top), (where[1].start - left, where[1].stop - left)
        side = len(crown)
        first_row, last_row = side * np.array(rows) // (bottom - top)
        first_column, last_column = side * np.array(columns) // (right - left)
        patch = self.canvas[where]
        crown = crown[first_row : last_row + 1, first_column : last_column + 1]
        crown = cv2.resize(crown, patch.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        shades = np.empty((256, 1, 4), np.uint8)
        dark, bright = self.seen(colour, depth, 0.2), self.seen(colour, depth, 1.8)
        shades[:, 0, :3] = dark + _RAMP * np.subtract(bright, dark)
        shades[..., 3] = label
        cover, shade = crown[..., 0], crown[..., 1]
        painted = cv2.LUT(cv2.merge([shade, shade, shade, shade]), shades)
        cv2.copyTo(painted, (cover > 127).astype(np.uint8), patch)


def middle_depth(points: np.ndarray) -> float:
    """Returns the mean depth of two opposite corners; the mean of all would cost more than drawing them."""
    depths = points[..., 2]
    return 0.5 * float(depths.item(0) + depths.item(-2))


class Axes:
    """The axes of an object: u to its right, v up, w forward, turned by `yaw` (radians; 0 looks down the street)."""

    def __init__(self, scene: Scene, x: float, z: float, yaw: float, label: int, base: float = 0.0):
        self.scene, self.label = scene, label
        self.origin = np.array([x, base, z])
        cos, sin = math.cos(yaw), math.sin(yaw)
        self.turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])

    @property
    def camera(self) -> np.ndarray:
        """The place of the camera's foot in u, v, w."""
        return self.turn @ -self.origin

    def world(self, points) -> np.ndarray:
        return np.asarray(points, float) @ self.turn + self.origin

    def brightness(self, normal: Vector) -> float:
        return self.scene.light.on((normal @ self.turn).tolist())

    def polygon(self, points, colour: Colour, brightness: float = 1.0) -> None:
        self.scene.polygon(self.world(points), colour, self.label, brightness)

    def hull(self, points, colour: Colour, brightness: float = 1.0) -> None:
        self.scene.hull(self.world(points), colour, self.label, brightness)

    def limb(self, points, width: float, colour: Colour, brightness: float = 1.0) -> None:
        self.scene.line(self.world(points), width, colour, self.label, brightness)

    def disc(self, centre, radius: float, colour: Colour, sideways: bool = False, stretch: float = 1.0) -> None:
        """Fills a disc that faces along w, or along u (wheels) if `sideways`."""
        self.polygon(disc(centre, radius, sideways, stretch), colour)


def disc(centre, radius: float, sideways: bool = False, stretch: float = 1.0) -> np.ndarray:
    """Returns corners `(M, 3)` in u, v, w of a disc that faces along w, or u if `sideways`; height times `stretch`."""
    points = np.zeros((len(_CIRCLE), 3))
    points[:, 2 if sideways else 0] = _CIRCLE[:, 0]
    points[:, 1] = _CIRCLE[:, 1] * stretch
    return points * radius + np.asarray(centre, float)


@dataclass
class Thing(ABC):
    """An object at (x, z). A ray from the camera meets lower |x| first, so a higher `layer` is nearer to the road."""

    x: float
    z: float
    layer = PAVEMENTS
    shadow = (0.1, 0.1, 0.0, 2.0)  # half width, half depth, bottom, top

    @property
    def base(self) -> float:
        return 0.0 if self.layer == ROADWAY else KERB

    @property
    def far(self) -> float:
        """The depth of its far end."""
        return self.z

    def axes(self, scene: Scene, label: int, yaw: float = 0.0) -> Axes:
        return Axes(scene, self.x, self.z, yaw, label, self.base)

    @abstractmethod
    def draw(self, scene: Scene) -> None:
        """Draws itself over everything behind it."""
