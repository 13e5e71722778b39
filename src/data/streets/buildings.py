"""Buildings, and the fences of the gardens between them."""

from dataclasses import dataclass

import numpy as np

from src.data.streets.canvas import BUILDING, DETAIL, FENCE, FENCES, FRONTS, KERB, Scene, Thing, Vector
from src.data.streets.textures import Colour, random_colour, tiles

STYLES = ("brick", "brick", "plaster", "plaster", "office")
GLASS = (48, 58, 68)
ROOF_TILES = ((125, 70, 55), (80, 76, 80), (105, 85, 70))


@dataclass
class Front(Thing):
    """An object along the street that begins at z and is `length` metres long."""

    length: float
    height: float

    @property
    def far(self) -> float:
        return self.z + self.length

    @property
    def shadow(self):
        return 0.3, 0.5 * self.length, 0.0, self.height


@dataclass
class Building(Front):
    """A box, with its front in the plane x and its near wall in the plane z."""

    exposed: bool  # its near wall is not hidden by the next building
    layer = FRONTS

    def draw(self, scene: Scene) -> None:
        rng, side = scene.rng, np.sign(self.x)
        style = STYLES[rng.integers(len(STYLES))]
        if style == "brick":
            wall = tuple(np.array((150, 82, 62)) * rng.uniform(0.65, 1.25) + rng.uniform(-8, 22, 3))
        elif style == "plaster":
            wall = random_colour(rng, (0.05, 0.32), (0.6, 0.95))
        else:
            wall = random_colour(rng, (0.0, 0.2), (0.35, 0.7))
        depth = 9.0
        front = Wall(scene, np.array([self.x, 0, self.z]), np.array([0, 0, 1.0]), (-side, 0, 0), self.length)
        end = Wall(scene, np.array([self.x, 0, self.z]), np.array([side, 0, 0]), (0, 0, -1), depth)
        if style != "office" and self.height < 11:
            self._roof(scene, wall, side, depth)
        tile, strength = ("brick", 0.5) if style == "brick" else ("stains", 0.2)
        for face in (end, front):
            bare = face is end and not self.exposed  # at most a strip of it shows
            face.paint(wall, self.height, tiles()[tile], 0.0 if bare else strength)
            if not bare:
                face.windows(style, self.height, rng, plain=face is end)

    def _roof(self, scene: Scene, wall: Colour, side: float, depth: float) -> None:
        near, far, eaves = self.z, self.z + self.length, self.height
        ridge, middle = eaves + scene.rng.uniform(1.5, 3.5), self.x + side * depth / 2
        tiled = ROOF_TILES[scene.rng.integers(len(ROOF_TILES))]
        slope = [(self.x - 0.3 * side, eaves), (self.x, eaves), (middle, ridge)]
        corners = np.array([(x, y, z) for x, y in slope for z in (near, far)])
        scene.hull(corners, tiled, BUILDING, scene.light.on((-side * 0.6, 0.8, 0)))
        gable = np.array([(self.x, eaves, near), (middle, ridge, near), (self.x + side * depth, eaves, near)])
        scene.polygon(gable, wall, BUILDING, scene.light.on((0, 0, -1)))
        if scene.rng.random() < 0.6:
            chimney = [(-0.4, -0.6), (-0.4, 1.4), (0.4, 1.4), (0.4, -0.6)]
            corners = np.array([(middle + across, ridge + up, near + 1) for across, up in chimney])
            scene.polygon(corners, wall, BUILDING, 0.8)


@dataclass
class Wall:
    """A vertical rectangle of `length` metres from `origin` along a horizontal unit vector."""

    scene: Scene
    origin: np.ndarray
    along: np.ndarray
    normal: Vector
    length: float

    def __post_init__(self):
        self.brightness = self.scene.light.on(self.normal)

    def quads(self, left, right, bottom, top) -> np.ndarray:
        """Returns rectangles `(K, 4, 3)` on the wall, from scalars or arrays of metres along and up."""
        corners = np.empty((np.broadcast(left, bottom).size, 4, 3))
        corners[:, 0, 0] = corners[:, 3, 0] = left
        corners[:, 1, 0] = corners[:, 2, 0] = right
        corners[:, :2, 1] = np.reshape(bottom, (-1, 1))
        corners[:, 2:, 1] = np.reshape(top, (-1, 1))
        corners[..., 2] = self.origin[2] + corners[..., 0] * self.along[2]
        corners[..., 0] = self.origin[0] + corners[..., 0] * self.along[0]
        corners[..., 1] += self.origin[1]
        return corners

    def fill(self, quads: np.ndarray, colour: Colour, label: int = BUILDING) -> None:
        self.scene.polygon(quads, colour, label, self.brightness)

    def paint(self, colour: Colour, height: float, tile: np.ndarray, strength: float, label: int = BUILDING) -> None:
        """Fills the wall, with the texture `tile` at this strength (0..1)."""
        self.fill(self.quads(0, self.length, 0, height), colour, label)
        near = self.origin[2]
        if strength and near < DETAIL:
            strength *= np.exp(-max(near, 0) / DETAIL)
            self.scene.texture(self.quads(0, self.length, 0, height)[0], tile, (self.length, height), strength)

    def windows(self, style: str, height: float, rng: np.random.Generator, plain: bool) -> None:
        """Draws rows of windows from the first floor up; below them, unless `plain`, shops or doors."""
        storey = rng.uniform(2.8, 3.4)
        spacing, half, tall = rng.uniform(2.0, 3.2), rng.uniform(0.45, 0.7), rng.uniform(1.3, 1.8)
        if style == "office":
            spacing, half, tall = 1.6, 0.7, 2.1
        pale = tuple(np.full(3, rng.uniform(170, 235)))
        columns, storeys = int(self.length / spacing), int(height / storey)
        across = np.tile((np.arange(columns) + 0.5) * self.length / max(columns, 1), max(storeys - 1, 0))
        up = np.repeat(np.arange(1, storeys) * storey + 0.9, columns)
        if plain:  # an end wall has few windows
            chosen = rng.random(len(across)) < 0.3
            across, up = across[chosen], up[chosen]
        if self.origin[2] > DETAIL:
            self._glaze(self.quads(across - half, across + half, up, up + tall), rng)
            return
        self.fill(self.quads(across - half - 0.1, across + half + 0.1, up - 0.15, up + tall + 0.08), pale)
        left = np.concatenate([across - half, across + 0.05])  # two panes
        up = np.concatenate([up, up])
        self._glaze(self.quads(left, left + half - 0.05, up, up + tall), rng)
        if not plain:
            self._ground_floor(style, storey, pale, rng)
            self.fill(self.quads(0, self.length, height - 0.35, height), pale)

    def _glaze(self, glass: np.ndarray, rng: np.random.Generator) -> None:
        """Fills dark panes, some with curtains, some lit in the evening."""
        lit = rng.random(len(glass)) < 0.25
        self.fill(glass[~lit], GLASS)
        self.fill(glass[lit], (420, 350, 220) if self.scene.light.lamps else (125, 140, 152))

    def _ground_floor(self, style: str, storey: float, pale: Colour, rng: np.random.Generator) -> None:
        if style == "office" or rng.random() < 0.45:
            bays = np.arange(0.4, self.length - 2.5, 3.2)
            self.fill(self.quads(bays, bays + 2.8, 0.5, storey - 0.7), GLASS)
            shop = random_colour(rng, (0.3, 0.8), (0.3, 0.8))
            self.fill(self.quads(0.2, self.length - 0.2, storey - 0.65, storey - 0.05), shop)
            return
        bays = np.arange(1.2, self.length - 1, 2.6)
        door = rng.random(len(bays)) < 0.35
        self.fill(self.quads(bays[~door] - 0.7, bays[~door] + 0.7, 0.85, 2.45), pale)
        self._glaze(self.quads(bays[~door] - 0.6, bays[~door] + 0.6, 0.95, 2.35), rng)
        self.fill(self.quads(bays[door] - 0.6, bays[door] + 0.6, 0, 2.4), pale)
        self.fill(self.quads(bays[door] - 0.5, bays[door] + 0.5, 0.1, 2.25), random_colour(rng, (0.3, 0.9), (0.2, 0.6)))


@dataclass
class Fence(Front):
    """Railings, boards or a low wall along the street, in the plane x."""

    layer = FENCES

    def draw(self, scene: Scene) -> None:
        rng, side = scene.rng, np.sign(self.x)
        wall = Wall(scene, np.array([self.x, KERB, self.z]), np.array([0, 0, 1.0]), (-side, 0, 0), self.length)
        kind = rng.choice(["railings", "boards", "wall"])
        posts = np.arange(0, self.length, 2.0)
        if kind == "wall":
            colour = tuple(np.array((140, 110, 92)) * rng.uniform(0.7, 1.2))
            wall.paint(colour, self.height, tiles()["brick"], 0.5, FENCE)
            wall.fill(wall.quads(0, self.length, self.height - 0.12, self.height), (190, 184, 174), FENCE)
        elif kind == "boards":
            colour = tuple(np.array((150, 115, 78)) * rng.uniform(0.6, 1.25))
            wall.paint(colour, self.height, tiles()["stains"], 0.3, FENCE)
            gaps = np.arange(0, self.length, 0.35)
            wall.fill(wall.quads(gaps, gaps + 0.07, 0, self.height), tuple(0.55 * c for c in colour), FENCE)
        else:
            colour = ((40, 44, 42), (70, 90, 76), (200, 200, 196))[rng.integers(3)]
            scene.veil(wall.quads(0, self.length, 0, self.height)[0], colour, 0.35, FENCE)
            bars = np.arange(0, self.length, 0.32)
            wall.fill(wall.quads(bars, bars + 0.07, 0, self.height), colour, FENCE)
            for rail in (0.12, self.height - 0.15):
                wall.fill(wall.quads(0, self.length, rail, rail + 0.09), colour, FENCE)
        wall.fill(wall.quads(posts, posts + 0.16, 0, self.height + 0.1), tuple(0.8 * c for c in colour), FENCE)
