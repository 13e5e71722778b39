"""What stands and moves in the synthetic streets. Each object knows its shadow and how to draw itself; metres."""

from dataclasses import dataclass

import numpy as np

from src.data.streets_canvas import Colour, Frame, Scene, crowns, disc, random_colour, tiles

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
KERB = 0.12  # height of the pavement above the road
GLASS, TYRE, METAL = (48, 58, 68), (24, 24, 27), (92, 96, 98)
SKINS = ((232, 190, 160), (205, 155, 120), (150, 102, 72), (95, 62, 46))


@dataclass
class Thing:
    """An object at (x, z). A ray from the camera meets lower |x| first, so a higher `layer` is nearer the road."""

    x: float
    z: float
    layer = 3
    shadow = (0.1, 0.1, 0.0, 2.0)  # half width, half depth, bottom, top

    @property
    def base(self) -> float:
        return 0.0 if self.layer > 3 else KERB

    def frame(self, scene: Scene, label: int, yaw: float = 0.0) -> Frame:
        return Frame(scene, self.x, self.z, yaw, label, self.base)

    def draw(self, scene: Scene) -> None:
        raise NotImplementedError


@dataclass
class Building(Thing):
    """A box with its front in the plane x and its near wall in the plane z."""

    length: float  # along z
    height: float
    exposed: bool  # the end wall is not hidden by the next building
    layer = 1

    @property
    def shadow(self):
        return 0.3, 0.5 * self.length, 0.0, self.height

    @property
    def base(self) -> float:
        return 0.0

    def draw(self, scene: Scene) -> None:
        rng, side = scene.rng, np.sign(self.x)
        style = rng.choice(["brick", "plaster", "office"], p=[0.4, 0.42, 0.18])
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
            face.paint(wall, self.height, tiles()[tile], strength)
            if face is front or self.exposed:
                face.windows(style, self.height, rng, plain=face is end)

    def _roof(self, scene: Scene, wall: Colour, side: float, depth: float) -> None:
        eaves, ridge, far = self.height, self.height + scene.rng.uniform(1.5, 3.5), self.z + self.length
        inner, middle, outer = self.x - 0.3 * side, self.x + side * depth / 2, self.x + side * depth
        tiled = tuple(np.array(((125, 70, 55), (80, 76, 80), (105, 85, 70))[scene.rng.integers(3)], float))
        slope = [(inner, eaves, self.z), (middle, ridge, self.z), (middle, ridge, far), (inner, eaves, far)]
        lit = scene.light.on((-side * 0.6, 0.8, 0))
        scene.polygon(np.array(slope), tiled, BUILDING, lit)
        gable = [(self.x, eaves, self.z), (middle, ridge, self.z), (outer, eaves, self.z)]
        scene.polygon(np.array(gable), wall, BUILDING, scene.light.on((0, 0, -1)))
        if scene.rng.random() < 0.6:
            chimney = np.array([(-0.4, 0.2), (-0.4, -1.8), (0.4, -1.8), (0.4, 0.2)])
            corners = np.column_stack([middle + chimney[:, 0], ridge - chimney[:, 1] - 0.4, np.full(4, self.z + 1)])
            scene.polygon(corners, wall, BUILDING, 0.8)


@dataclass
class Wall:
    """A vertical rectangle from `origin` along a horizontal unit vector; `length` metres."""

    scene: Scene
    origin: np.ndarray
    along: np.ndarray
    normal: Colour
    length: float

    def __post_init__(self):
        self.brightness = self.scene.light.on(self.normal)

    def quads(self, left, right, bottom, top) -> np.ndarray:
        """Rectangles `(..., 4, 3)` on the wall, from scalars or arrays of metres along and up."""
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
        self.fill(self.quads(0, self.length, 0, height), colour, label)
        near = self.origin[2]
        if near < 40:  # further away its grain is finer than the pixels
            strength *= np.exp(-max(near, 0) / 40)
            self.scene.texture(self.quads(0, self.length, 0, height)[0], tile, (self.length, height), strength)

    def windows(self, style: str, height: float, rng: np.random.Generator, plain: bool) -> None:
        storey = rng.uniform(2.8, 3.4)
        spacing, half, tall = rng.uniform(2.0, 3.2), rng.uniform(0.45, 0.7), rng.uniform(1.3, 1.8)
        if style == "office":
            spacing, half, tall = 1.6, 0.7, 2.1
        pale = tuple(np.full(3, rng.uniform(170, 235)))
        count = int(self.length / spacing)
        floors = np.arange(1, int(height / storey)) * storey + 0.9 if height > 2 * storey else np.array([])
        across, up = np.meshgrid((np.arange(count) + 0.5) * self.length / max(count, 1), floors)
        across, up = across.ravel(), up.ravel()
        if plain:  # an end wall has few windows
            across, up = across[rng.random(len(across)) < 0.3], up[: len(across)]
            up = up[: len(across)]
        self.fill(self.quads(across - half - 0.1, across + half + 0.1, up - 0.15, up + tall + 0.08), pale)
        for panes in (-1, 1):
            left, right = (-half, -0.05) if panes < 0 else (0.05, half)
            glass = self.quads(across + left, across + right, up, up + tall)
            self._glaze(glass, rng)
        if not plain:
            self._ground_floor(style, storey, pale, rng)
            self.fill(self.quads(0, self.length, height - 0.35, height), pale)

    def _glaze(self, glass: np.ndarray, rng: np.random.Generator) -> None:
        """Dark panes, some with curtains, some lit in the evening."""
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
class Fence(Thing):
    """Railings, boards or a low wall along the street, with its front in the plane x."""

    length: float
    height: float
    layer = 2

    @property
    def shadow(self):
        return 0.1, 0.5 * self.length, 0.0, self.height

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
            wall.fill(wall.quads(gaps, gaps + 0.07, 0, self.height), tuple(0.55 * c for c in np.array(colour)), FENCE)
        else:
            colour = ((40, 44, 42), (70, 90, 76), (200, 200, 196))[rng.integers(3)]
            scene.veil(wall.quads(0, self.length, 0, self.height)[0], colour, 0.35, FENCE)
            bars = np.arange(0, self.length, 0.32)
            wall.fill(wall.quads(bars, bars + 0.07, 0, self.height), colour, FENCE)
            for rail in (0.12, self.height - 0.15):
                wall.fill(wall.quads(0, self.length, rail, rail + 0.09), colour, FENCE)
        wall.fill(wall.quads(posts, posts + 0.16, 0, self.height + 0.1), tuple(0.8 * c for c in colour), FENCE)


@dataclass
class Tree(Thing):
    height: float
    layer: int = 3

    @property
    def shadow(self):
        return 0.2 * self.height, 0.2 * self.height, 0.35 * self.height, 0.95 * self.height

    def draw(self, scene: Scene) -> None:
        rng, tall = scene.rng, self.height
        crown = crowns()[rng.integers(len(crowns()))]
        crown = crown if rng.random() < 0.5 else crown[:, ::-1]
        hue = np.array(((74, 104, 40), (96, 122, 52), (52, 84, 44), (128, 118, 48), (88, 100, 60))[rng.integers(5)])
        colour = tuple(hue * rng.uniform(0.75, 1.2))
        bush = tall < 2.6
        frame = self.frame(scene, TREE)
        if not bush:
            bark, lean = (86 * rng.uniform(0.7, 1.2), 70, 56), rng.uniform(-0.04, 0.04) * tall
            thick = 0.035 * tall
            trunk = [
                (-thick, 0, 0),
                (thick, 0, 0),
                (lean + 0.5 * thick, 0.6 * tall, 0),
                (lean - 0.5 * thick, 0.6 * tall, 0),
            ]
            frame.polygon(trunk, bark)
            for reach in (-0.16, 0.15):
                frame.limb([(lean * 0.6, 0.38 * tall, 0), (reach * tall, 0.62 * tall, 0)], thick, bark)
        half, bottom = (0.62 * tall, -0.1) if bush else (rng.uniform(0.22, 0.34) * tall, rng.uniform(0.26, 0.36) * tall)
        box = scene.project(frame.world([(-half, tall, 0), (half, bottom, 0)]))
        scene.foliage(crown, box, colour, self.z, TREE)


@dataclass
class Lamp(Thing):
    """A street lamp with an arm over the road."""

    height: float = 6.5

    shadow = (0.08, 0.08, 0.0, 6.0)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        frame = self.frame(scene, POLE)
        colour = tuple(np.array(METAL) * rng.uniform(0.5, 1.5))
        arm, wide, top = -np.sign(self.x) * rng.uniform(0.8, 1.8), rng.uniform(0.06, 0.085), self.height
        frame.polygon([(-wide, 0, 0), (wide, 0, 0), (0.7 * wide, top, 0), (-0.7 * wide, top, 0)], colour)
        frame.polygon([(-1.7 * wide, 0, 0), (1.7 * wide, 0, 0), (1.4 * wide, 1, 0), (-1.4 * wide, 1, 0)], colour, 0.85)
        frame.limb([(0, top - 0.4, 0), (0.3 * arm, top, 0), (arm, top + 0.15, 0)], 0.09, colour)
        glow = (430, 380, 280) if scene.light.lamps else (200, 202, 198)
        frame.polygon(
            [(0.7 * arm, top, 0), (1.4 * arm, top, 0), (1.3 * arm, top + 0.25, 0), (0.8 * arm, top + 0.25, 0)], glow
        )


@dataclass
class SignPost(Thing):
    """A pole with one or two traffic signs."""

    shadow = (0.3, 0.05, 1.7, 2.6)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        pole, size = self.frame(scene, POLE), rng.uniform(0.36, 0.5)
        wide, height = rng.uniform(0.05, 0.07), rng.uniform(2.1, 2.7)
        pole.polygon([(-wide, 0, 0), (wide, 0, 0), (wide, height + size, 0), (-wide, height + size, 0)], METAL)
        face = self.frame(scene, SIGN)
        for up in (height, height - 2 * size)[: 1 + (rng.random() < 0.45)]:
            design = (round_sign, triangle_sign, square_sign, octagon_sign)[rng.integers(4)]
            design(face, np.array([0, up, 0]), size, rng)


def round_sign(face: Frame, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    """A prohibition (white with a red ring) or a command (blue with an arrow)."""
    if rng.random() < 0.6:
        face.disc(centre, size, (205, 30, 35))
        face.disc(centre, 0.72 * size, (240, 240, 236))
        face.limb([centre + (-0.35 * size, 0, 0), centre + (0.35 * size, 0, 0)], 0.35 * size, (40, 40, 44))
    else:
        face.disc(centre, size, (232, 234, 238))
        face.disc(centre, 0.9 * size, (28, 84, 180))
        face.limb(
            [centre + (-0.4, -0.4, 0) * np.full(3, size), centre + (0.3 * size, 0.3 * size, 0)], 0.22 * size, (240,) * 3
        )


def triangle_sign(face: Frame, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    corners = np.array([(0, 1.15, 0), (1.1, -0.75, 0), (-1.1, -0.75, 0)]) * size
    face.polygon(centre + corners, (205, 30, 35))
    face.polygon(centre + 0.62 * corners, (242, 240, 230) if rng.random() < 0.7 else (245, 205, 60))
    face.limb([centre + (0, 0.3 * size, 0), centre + (0, -0.3 * size, 0)], 0.16 * size, (35, 35, 38))


def square_sign(face: Frame, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    """Parking blue, direction green, or a yellow diamond."""
    colour = ((30, 88, 185), (18, 110, 72), (245, 200, 40))[rng.integers(3)]
    corners = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)]) * (0.9 * size)
    if colour[0] > 200:
        corners = corners @ np.array([[0.75, 0.75, 0], [-0.75, 0.75, 0], [0, 0, 1]])
    face.polygon(centre + corners, (238, 238, 236))
    face.polygon(centre + 0.86 * corners, colour)
    if colour[0] < 200:
        stem = [centre + (-0.3 * size, -0.5 * size, 0), centre + (-0.3 * size, 0.5 * size, 0)]
        face.limb([*stem, centre + (0.3 * size, 0.4 * size, 0)], 0.2 * size, (240, 240, 240))


def octagon_sign(face: Frame, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    angles = np.pi / 8 + np.arange(8) * np.pi / 4
    corners = np.stack([np.cos(angles), np.sin(angles), np.zeros(8)], axis=1) * size
    face.polygon(centre + 1.06 * corners, (238, 238, 236))
    face.polygon(centre + 0.96 * corners, (196, 26, 34))
    face.limb([centre + (-0.6 * size, 0, 0), centre + (0.6 * size, 0, 0)], 0.35 * size, (240, 238, 236))


@dataclass
class Board(Thing):
    """A direction board on two poles."""

    shadow = (1.0, 0.05, 2.0, 3.4)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        half, bottom, top = rng.uniform(0.7, 1.1), rng.uniform(1.9, 2.3), rng.uniform(3.0, 3.5)
        pole, face = self.frame(scene, POLE), self.frame(scene, SIGN)
        for u in (-0.7 * half, 0.7 * half):
            pole.polygon([(u - 0.06, 0, 0), (u + 0.06, 0, 0), (u + 0.06, top, 0), (u - 0.06, top, 0)], METAL)
        colour = ((20, 100, 70), (32, 80, 168), (236, 236, 230))[rng.integers(3)]
        text = (240, 240, 238) if colour[0] < 200 else (40, 40, 44)
        rim = np.array([(-half, bottom, 0), (half, bottom, 0), (half, top, 0), (-half, top, 0)])
        face.polygon(rim, text)
        face.polygon(rim.mean(axis=0) + 0.94 * (rim - rim.mean(axis=0)), colour)
        for up in np.arange(bottom + 0.25, top - 0.15, 0.38):
            face.limb([(-0.75 * half, up, 0), (rng.uniform(-0.1, 0.5) * half, up, 0)], 0.14, text)
            face.limb([(0.62 * half, up, 0), (0.8 * half, up, 0)], 0.14, text)


@dataclass
class TrafficLight(Thing):
    shadow = (0.15, 0.1, 0.0, 3.4)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        pole, box = self.frame(scene, POLE), self.frame(scene, SIGN)
        pole.polygon([(-0.08, 0, 0), (0.08, 0, 0), (0.07, 3.4, 0), (-0.07, 3.4, 0)], (70, 74, 72))
        places = [(0.0, 2.9)]
        if rng.random() < 0.4:  # a second one on an arm over the road
            reach = -np.sign(self.x) * rng.uniform(2.0, 3.0)
            pole.polygon([(-0.08, 0, 0), (0.08, 0, 0), (0.06, 5.4, 0), (-0.06, 5.4, 0)], (70, 74, 72))
            pole.limb([(0, 5.2, 0), (reach, 5.4, 0)], 0.12, (70, 74, 72))
            places.append((reach, 5.0))
        lit = rng.integers(3)
        for u, up in places:
            for grow, colour in ((0.08, (216, 214, 204)), (0.0, (28, 30, 30))):
                half, tall = 0.2 + grow, 0.55 + grow
                box.polygon([(u + a * half, up + b * tall, 0) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))], colour)
            for number, colour in enumerate(((255, 50, 40), (255, 190, 40), (40, 235, 120))):
                shown = colour if number == lit else tuple(0.28 * c for c in colour)
                box.disc((u, up + 0.35 * (1 - number), 0), 0.14, shown)


@dataclass
class Pedestrian(Thing):
    yaw: float
    height: float = 1.72
    layer: int = 3
    shadow = (0.2, 0.15, 0.0, 1.7)

    def draw(self, scene: Scene) -> None:
        rng, k = scene.rng, self.height / 1.72
        frame = self.frame(scene, PEDESTRIAN, self.yaw)
        skin = SKINS[rng.integers(4)]
        coat, trousers = random_colour(rng, (0.05, 0.75), (0.15, 0.9)), random_colour(rng, (0.05, 0.5), (0.1, 0.5))
        hair = tuple(np.array((58, 42, 32)) * rng.uniform(0.4, 2.2))
        stride = rng.uniform(0.1, 0.34)
        for leg, shade in ((-1, 0.75), (1, 1.0)):
            knee, foot = (0.09 * leg, 0.48, 0.6 * stride * leg + 0.05), (0.09 * leg, 0.05, stride * leg)
            frame.limb(k * np.array([(0.08 * leg, 0.92, 0), knee, foot]), 0.17 * k, trousers, shade)
            frame.limb(k * np.array([foot, (0.09 * leg, 0.04, stride * leg + 0.14)]), 0.1 * k, TYRE)
        for arm, shade in ((-1, 0.7), (1, 0.9)):
            elbow, hand = (0.27 * arm, 1.12, -0.5 * stride * arm), (0.26 * arm, 0.86, -0.9 * stride * arm + 0.08)
            frame.limb(k * np.array([(0.22 * arm, 1.4, 0), elbow, hand]), 0.12 * k, coat, shade)
        hem = rng.uniform(0.62, 0.92)  # from a jacket to a coat
        chest = [(-0.21, 1.44), (0.21, 1.44), (0.17, 1.1), (0.22, hem), (-0.22, hem), (-0.17, 1.1)]
        frame.hull(k * np.array([(u, v, w) for u, v in chest for w in (-0.1, 0.1)]), coat)
        frame.limb(k * np.array([(0, 1.42, 0), (0, 1.54, 0)]), 0.1 * k, skin)
        head = np.array([0, 1.62, 0.02]) * k
        round_head = np.vstack([disc(head, 0.115 * k, False, 1.25), disc(head, 0.115 * k, True, 1.25)])
        frame.hull(round_head, hair)
        if frame.camera[2] > 0:
            frame.disc(head + (0, -0.03 * k, 0.1 * k), 0.09 * k, skin, stretch=1.2)


@dataclass
class Bicyclist(Thing):
    yaw: float
    layer = 4
    shadow = (0.3, 0.7, 0.0, 1.6)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        frame = self.frame(scene, BICYCLIST, self.yaw)
        paint, shirt = random_colour(rng, (0.4, 0.9), (0.3, 0.9)), random_colour(rng, (0.3, 0.9), (0.4, 1.0))
        trousers = random_colour(rng, (0.05, 0.5), (0.1, 0.45))
        for hub in (-0.52, 0.52):
            rim = frame.world(disc((0, 0.34, hub), 0.34, sideways=True))
            scene.veil(rim, TYRE, 0.3, BICYCLIST)
            scene.line(np.vstack([rim, rim[:1]]), 0.06, TYRE, BICYCLIST)
        seat, crank, bars = (0, 0.92, -0.2), (0, 0.3, 0.0), (0, 1.02, 0.42)
        frame.limb([(0, 0.34, -0.52), seat, crank, (0, 0.34, -0.52)], 0.06, paint)
        frame.limb([seat, (0, 0.85, 0.38), crank], 0.06, paint)
        frame.limb([bars, (0, 0.34, 0.52)], 0.06, paint)
        frame.limb([(-0.28, 1.04, 0.4), (0.28, 1.04, 0.4)], 0.05, TYRE)
        turn = rng.uniform(0, 2 * np.pi)
        for leg, shade in ((-1, 0.7), (1, 1.0)):
            foot = (0.1 * leg, 0.3 + 0.16 * leg * np.sin(turn), 0.16 * leg * np.cos(turn))
            knee = (0.12 * leg, 0.5 * (foot[1] + 0.95) + 0.05, 0.32 + 0.3 * foot[2])
            frame.limb([(0.09 * leg, 0.98, -0.18), knee, foot], 0.16, trousers, shade)
        shoulders = np.array([(u, v, w) for u in (-0.2, 0.2) for v, w in ((1.42, 0.2), (1.38, 0.04))])
        hips = np.array([(u, v, w) for u in (-0.16, 0.16) for v, w in ((0.95, -0.3), (0.93, -0.08))])
        frame.hull(np.vstack([shoulders, hips]), shirt)
        for arm, shade in ((-1, 0.75), (1, 0.95)):
            frame.limb([(0.2 * arm, 1.38, 0.14), (0.28 * arm, 1.18, 0.26), (0.26 * arm, 1.04, 0.42)], 0.1, shirt, shade)
        head = np.array([0, 1.6, 0.24])
        skull = np.vstack([disc(head, 0.12, False, 1.2), disc(head, 0.12, True, 1.2)])
        frame.hull(skull, SKINS[rng.integers(4)])
        frame.hull(skull[skull[:, 1] > 1.6] + (0, 0.03, 0), random_colour(rng, (0, 0.9), (0.2, 1.0)))
