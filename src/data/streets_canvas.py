"""The camera, the light and the canvas the synthetic streets are drawn on. World units are metres.

World axes: x to the right of the camera, y up from the road, z forward along the street.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

SUPERSAMPLING = 2  # the canvas is this many times finer than the image, so that averaging smooths the edges
NEAR = 0.8  # metres; points nearer are moved to this depth, exact for edges that run along z
TILE = 256  # pixels per side of a texture tile
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 14)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 14)[:-1])], axis=1)

Colour = tuple[float, float, float]
_RAMP = np.linspace(0, 1, 256)[:, None]


@dataclass(frozen=True)
class Light:
    """Weather and time of day. Colours are RGB, 0..255; `tint` multiplies the colour of every surface."""

    to_sun: Colour  # unit vector
    direct: float  # share of the light that comes from the sun: 0 under clouds
    tint: Colour
    zenith: Colour
    haze: Colour  # colour of the sky at the horizon, which distance blends into
    visibility: float  # metres after which 1/e of an object's own colour is left
    clouds: float  # 0 clear to 1 closed
    lamps: bool

    def on(self, normal: Colour) -> float:
        """Brightness of a surface with this unit normal."""
        return (
            1
            - 0.55 * self.direct
            + self.direct * max(0.0, sum(a * b for a, b in zip(normal, self.to_sun, strict=True)))
        )

    def shadow_of(self, height: float) -> tuple[float, float]:
        """Where the shadow of a point `height` metres up falls: offset in x and z."""
        reach = height / max(self.to_sun[1], 0.35)
        return -self.to_sun[0] * reach, -self.to_sun[2] * reach


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
    """A canvas of RGB and label id, uint8 `(2H, 2W, 4)`, seen through a pinhole camera.

    Colour and label share one array so that every drawing call sets both: they cannot drift apart.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator):
        self.height, self.width = SUPERSAMPLING * size[0], SUPERSAMPLING * size[1]
        self.rng = rng
        self.light = random_light(rng)
        self.canvas = np.zeros((self.height, self.width, 4), np.uint8)
        self.focal = min(self.width, 2 * self.height) * rng.uniform(0.58, 0.72)
        self.centre_x = self.width * rng.uniform(0.4, 0.6)
        self.horizon = self.height * rng.uniform(0.43, 0.55)
        self.eye = rng.uniform(1.3, 1.9)

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points `(..., 3)` to canvas pixels `(..., 2)`, float."""
        scale = self.focal / np.maximum(points[..., 2], NEAR)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.centre_x + points[..., 0] * scale
        pixels[..., 1] = self.horizon + (self.eye - points[..., 1]) * scale
        return pixels

    def pixels(self, metres: float, depth: float) -> int:
        """Width in canvas pixels, at least 2: thinner lines would vanish from the mask."""
        return max(SUPERSAMPLING, round(self.focal * metres / max(depth, NEAR)))

    def seen(self, colour: Colour, depth: float, brightness: float = 1.0) -> Colour:
        """A surface's colour under this light, through `depth` metres of haze."""
        clear = math.exp(-max(depth, 0) / self.light.visibility)
        own, veiled, tint, haze = brightness * clear, 1 - clear, self.light.tint, self.light.haze
        return (
            min(255.0, colour[0] * tint[0] * own + haze[0] * veiled),
            min(255.0, colour[1] * tint[1] * own + haze[1] * veiled),
            min(255.0, colour[2] * tint[2] * own + haze[2] * veiled),
        )

    def polygon(
        self, points: np.ndarray, colour: Colour, label: int, brightness: float = 1.0, depth: float | None = None
    ) -> None:
        """Fill one polygon `(M, 3)` or several `(K, M, 3)` of one colour, with the haze of their own depth or `depth`."""
        if points.size:
            pixels = np.rint(self.project(points)).astype(np.int32)
            shapes = [pixels] if points.ndim == 2 else list(pixels)
            seen = self.seen(colour, middle_depth(points) if depth is None else depth, brightness)
            cv2.fillPoly(self.canvas, shapes, (*seen, label))

    def hull(self, points: np.ndarray, colour: Colour, label: int, brightness: float = 1.0) -> None:
        """Fill the outline of a convex body given by its corners `(M, 3)`."""
        outline = cv2.convexHull(np.rint(self.project(points)).astype(np.int32))
        cv2.fillConvexPoly(self.canvas, outline, (*self.seen(colour, middle_depth(points), brightness), label))

    def line(self, points: np.ndarray, width: float, colour: Colour, label: int, brightness: float = 1.0) -> None:
        """A line through `(M, 3)`, `width` metres thick."""
        pixels = np.rint(self.project(points)).astype(np.int32)
        depth = middle_depth(points)
        seen = (*self.seen(colour, depth, brightness), label)
        cv2.polylines(self.canvas, [pixels], False, seen, self.pixels(width, depth))

    def region(self, pixels: np.ndarray) -> tuple[slice, slice] | None:
        """Rows and columns of the canvas around these pixels, None when outside."""
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(axis=0)) + 1, (self.width, self.height)).astype(int)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

    def veil(self, points: np.ndarray, colour: Colour, opacity: float, label: int) -> None:
        """Blend a see-through polygon `(M, 3)` over the canvas, giving all of it this label (spokes, railings)."""
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
        """Multiply a quadrilateral `(4, 3)` of `metres` (along, up) by a repeated tile; 128 leaves the colour."""
        pixels = self.project(corners)
        if (where := self.region(pixels)) is None:
            return
        patch = self.canvas[where]
        pixels = (pixels - (where[1].start, where[0].start)).astype(np.float32)
        along, up = np.float32(metres) * TILE / 8
        offset = self.rng.integers(0, TILE, 2)
        source = np.float32([(0, 0), (along, 0), (along, up), (0, up)]) + offset.astype(np.float32)
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
        """Paste a crown (coverage and shade) into the canvas box `((left, top), (right, bottom))`."""
        (left, top), (right, bottom) = np.rint(box).astype(int)
        where = self.region(np.array([(left, top), (right - 1, bottom - 1)]))
        if where is None or right - left < 2 or bottom - top < 2:
            return
        crown = cv2.resize(crown, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        patch = self.canvas[where]
        first_row, first_column = where[0].start - top, where[1].start - left
        crown = crown[first_row:, first_column:][: patch.shape[0], : patch.shape[1]]
        shades = np.empty((256, 1, 4), np.uint8)
        dark, bright = self.seen(colour, depth, 0.2), self.seen(colour, depth, 1.8)
        shades[:, 0, :3] = dark + _RAMP * np.subtract(bright, dark)
        shades[..., 3] = label
        cover, shade = crown[..., 0], crown[..., 1]
        painted = cv2.LUT(cv2.merge([shade, shade, shade, shade]), shades)
        cv2.copyTo(painted, (cover > 127).astype(np.uint8), patch)


def middle_depth(points: np.ndarray) -> float:
    """Mean depth of two opposite corners; the mean of all costs more than drawing them."""
    flat = points.reshape(-1, 3)
    return 0.5 * float(flat[0, 2] + flat[-2, 2])


class Frame:
    """An object's own axes: u to its right, v up, w forward; turned by `yaw` (radians, 0 looks down the street)."""

    def __init__(self, scene: Scene, x: float, z: float, yaw: float, label: int, base: float = 0.0):
        self.scene, self.label = scene, label
        self.origin = np.array([x, base, z])
        cos, sin = math.cos(yaw), math.sin(yaw)
        self.axes = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        self.camera = self.axes @ -self.origin  # the camera's place in u, v, w

    def world(self, points) -> np.ndarray:
        return np.asarray(points, float) @ self.axes + self.origin

    def brightness(self, normal: Colour) -> float:
        return self.scene.light.on(tuple(np.asarray(normal, float) @ self.axes))

    def polygon(self, points, colour: Colour, brightness: float = 1.0) -> None:
        self.scene.polygon(self.world(points), colour, self.label, brightness)

    def hull(self, points, colour: Colour, brightness: float = 1.0) -> None:
        self.scene.hull(self.world(points), colour, self.label, brightness)

    def limb(self, points, width: float, colour: Colour, brightness: float = 1.0) -> None:
        self.scene.line(self.world(points), width, colour, self.label, brightness)

    def disc(self, centre, radius: float, colour: Colour, sideways: bool = False, stretch: float = 1.0) -> None:
        """A disc facing along w, or along u (wheels) when `sideways`."""
        self.polygon(disc(centre, radius, sideways, stretch), colour)


def disc(centre, radius: float, sideways: bool = False, stretch: float = 1.0) -> np.ndarray:
    """Corners `(M, 3)` of a disc in u, v, w facing along w, or along u when `sideways`; `stretch` scales its height."""
    points = np.zeros((len(_CIRCLE), 3))
    points[:, 2 if sideways else 0] = _CIRCLE[:, 0]
    points[:, 1] = _CIRCLE[:, 1] * stretch
    return points * radius + np.asarray(centre, float)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """Any hue; saturation and value (0..1) from these ranges."""
    hue, low = rng.uniform(0, 6), 1 - rng.uniform(*saturation)
    peak = 255 * rng.uniform(*value)
    return tuple(peak * (low + (1 - low) * min(1.0, max(0.0, abs((hue - k) % 6 - 3) - 1))) for k in (0, 2, 4))


def cloud_noise(rng: np.random.Generator, octaves: int, finest: int = 1) -> np.ndarray:
    """Smooth noise `(TILE, TILE)`, uint8 with mean 128: sums noise of `octaves` scales, each twice as coarse."""
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        cells = TILE // (finest * 2**octave)
        grid = np.tile(rng.standard_normal((cells, cells), np.float32), (2, 2))  # twice, so that the tile repeats
        total += cv2.resize(grid, (2 * TILE, 2 * TILE), interpolation=cv2.INTER_CUBIC)[:TILE, :TILE] * 2 ** (octave / 2)
    return np.clip(128 + 40 * (total - total.mean()) / total.std(), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def tiles() -> dict[str, np.ndarray]:
    """Texture tiles `(TILE, TILE)`, uint8, 8 m by 8 m. The same in every process: they are not part of the seed."""
    rng = np.random.default_rng(0)
    asphalt = cv2.addWeighted(cloud_noise(rng, 2), 0.6, cloud_noise(rng, 4, 8), 0.4, 0)
    for _ in range(5):  # repairs and cracks
        left, top = rng.integers(0, TILE - 60, 2)
        cv2.rectangle(asphalt, (left, top, *rng.integers(15, 60, 2)), float(rng.uniform(90, 120)), -1)
        crack = np.cumsum(rng.integers(-12, 14, (9, 2)), axis=0) + rng.integers(0, TILE, 2)
        cv2.polylines(asphalt, [crack.astype(np.int32)], False, 70, 1)
    asphalt = cv2.addWeighted(asphalt, 0.75, cloud_noise(rng, 1), 0.25, 0)
    brick = cv2.addWeighted(cloud_noise(rng, 1, 4), 0.5, cloud_noise(rng, 3, 8), 0.5, 0)
    for course, row in enumerate(range(0, TILE, 8)):
        brick[row : row + 2] = 168
        brick[row : row + 8, course % 2 * 8 :: 16] = 160
    return {"asphalt": asphalt, "brick": brick, "stains": cloud_noise(rng, 5, 4), "clouds": cloud_noise(rng, 6, 4)}


@lru_cache(maxsize=1)
def crowns() -> list[np.ndarray]:
    """Tree crowns `(192, 192, 2)`: coverage and shade. Drawn leaf by leaf once per process, then only resized."""
    rng = np.random.default_rng(1)
    return [_crown(rng, conifer=number % 5 == 4) for number in range(10)]


def _crown(rng: np.random.Generator, conifer: bool) -> np.ndarray:
    side, leaves = 192, 900
    up = rng.uniform(0, 1, leaves)
    reach = (1 - up) * 0.95 + 0.05 if conifer else np.sqrt(np.clip(1 - (2 * up - 1) ** 2, 0, 1))
    lumps = 1 - 0.22 * rng.uniform(0, 1, 8)[(up * 7.99).astype(int)]  # an uneven outline
    across = rng.uniform(-1, 1, leaves) * reach * lumps
    shade = 90 + 70 * up - 25 * across + rng.normal(0, 26, leaves)
    crown = np.zeros((side, side, 2), np.uint8)
    for index in np.argsort(shade + rng.normal(0, 30, leaves)):  # the bright leaves are the outer ones
        centre = (int(96 + 84 * across[index]), int(side - 10 - 172 * up[index]))
        axes = tuple(int(a) for a in rng.integers(4, 11, 2))
        tone = float(np.clip(shade[index], 0, 255))
        cv2.ellipse(crown, centre, axes, float(rng.uniform(0, 180)), 0, 360, (255, tone), -1)
    return crown
