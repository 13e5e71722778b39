"""Trees, poles with signs and lights, people on foot and on bicycles."""

from dataclasses import dataclass

import numpy as np

from src.data.streets.canvas import (
    BICYCLIST,
    DETAIL,
    PAVEMENTS,
    PEDESTRIAN,
    POLE,
    ROADWAY,
    SIGN,
    TREE,
    Axes,
    Scene,
    Thing,
    disc,
)
from src.data.streets.textures import crowns, random_colour

WHITE, BLACK, RED, YELLOW = (238, 238, 234), (36, 36, 38), (202, 30, 35), (245, 202, 45)
BLUE, GREEN = (30, 86, 180), (18, 104, 70)
METAL, TYRE = (92, 96, 98), (24, 24, 27)
SKINS = ((232, 190, 160), (205, 155, 120), (150, 102, 72), (95, 62, 46))
LEAVES = ((74, 104, 40), (96, 122, 52), (52, 84, 44), (128, 118, 48), (88, 100, 60))
BUSH = 2.6  # metres; lower trees have no trunk


@dataclass
class Tree(Thing):
    height: float
    layer: int = PAVEMENTS

    @property
    def shadow(self):
        return 0.2 * self.height, 0.2 * self.height, 0.35 * self.height, 0.95 * self.height

    def draw(self, scene: Scene) -> None:
        rng, tall = scene.rng, self.height
        crown = crowns()[rng.integers(len(crowns()))]
        hue = np.array(LEAVES[rng.integers(len(LEAVES))])
        colour = tuple(hue * rng.uniform(0.75, 1.2))
        foot = np.array([self.x, self.base, self.z])
        half, bottom = rng.uniform(0.22, 0.34) * tall, rng.uniform(0.26, 0.36) * tall
        if tall < BUSH:
            half, bottom = 0.9 * tall, -0.1
        elif self.z < DETAIL:
            bark, thick, lean = (86 * rng.uniform(0.7, 1.2), 70, 56), 0.035 * tall, rng.uniform(-0.04, 0.04) * tall
            trunk = [(-thick, 0), (thick, 0), (lean + 0.5 * thick, 0.6 * tall), (lean - 0.5 * thick, 0.6 * tall)]
            fork = [(-0.16 * tall, 0.62 * tall), (0.6 * lean, 0.38 * tall), (0.15 * tall, 0.62 * tall)]
            scene.polygon(foot + [(u, up, 0) for u, up in trunk], bark, TREE)
            scene.line(foot + [(u, up, 0) for u, up in fork], thick, bark, TREE)
        box = scene.project(foot + np.array([(-half, tall, 0), (half, bottom, 0)]))
        scene.foliage(crown, box, colour, self.z, TREE)


def upright(*corners: tuple[float, float]) -> np.ndarray:
    """Returns points `(M, 3)` in an object's plane w = 0, from (u, v)."""
    return np.array([(u, v, 0.0) for u, v in corners])


def rectangle(half_width: float, bottom: float, top: float, middle: float = 0.0) -> np.ndarray:
    left, right = middle - half_width, middle + half_width
    return upright((left, bottom), (right, bottom), (right, top), (left, top))


@dataclass
class Lamp(Thing):
    """A street lamp with an arm over the road."""

    height: float
    shadow = (0.08, 0.08, 0.0, 6.0)

    def draw(self, scene: Scene) -> None:
        rng, top = scene.rng, self.height
        axes = self.axes(scene, POLE)
        colour = tuple(np.array(METAL) * rng.uniform(0.5, 1.5))
        arm, half_width = -np.sign(self.x) * rng.uniform(0.8, 1.8), rng.uniform(0.05, 0.065)
        axes.polygon(rectangle(half_width, 0, top), colour)
        axes.polygon(rectangle(1.6 * half_width, 0, 1), colour, 0.85)
        axes.limb(upright((0, top - 0.4), (0.3 * arm, top), (arm, top + 0.15)), 0.07, colour)
        head = upright((0.7 * arm, top), (1.4 * arm, top), (1.3 * arm, top + 0.18), (0.8 * arm, top + 0.18))
        axes.polygon(head, (430, 380, 280) if scene.light.lamps else (200, 202, 198))


@dataclass
class SignPost(Thing):
    """A pole with one or two traffic signs."""

    shadow = (0.3, 0.05, 1.7, 2.6)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        size, height = rng.uniform(0.36, 0.5), rng.uniform(2.1, 2.7)
        self.axes(scene, POLE).polygon(rectangle(rng.uniform(0.035, 0.05), 0, height + size), METAL)
        face = self.axes(scene, SIGN)
        for up in (height, height - 2 * size)[: 1 + (rng.random() < 0.45)]:
            design = (round_sign, triangle_sign, square_sign, stop_sign)[rng.integers(4)]
            design(face, np.array([0, up, 0]), size, rng)


def round_sign(face: Axes, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    """Draws a prohibition (white with a red ring) or a command (blue with an arrow)."""
    if rng.random() < 0.6:
        face.disc(centre, size, RED)
        face.disc(centre, 0.72 * size, WHITE)
        face.limb(centre + size * upright((-0.35, 0), (0.35, 0)), 0.35 * size, BLACK)
    else:
        face.disc(centre, size, WHITE)
        face.disc(centre, 0.9 * size, BLUE)
        face.limb(centre + size * upright((-0.4, -0.4), (0.3, 0.3)), 0.22 * size, WHITE)


def triangle_sign(face: Axes, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    """Draws a warning."""
    corners = size * upright((0, 1.15), (1.1, -0.75), (-1.1, -0.75))
    face.polygon(centre + corners, RED)
    face.polygon(centre + 0.62 * corners, WHITE if rng.random() < 0.7 else YELLOW)
    face.limb(centre + size * upright((0, 0.3), (0, -0.3)), 0.16 * size, BLACK)


def square_sign(face: Axes, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    """Draws a blue or green square with a symbol, or a yellow diamond (right of way)."""
    colour = (BLUE, GREEN, YELLOW)[rng.integers(3)]
    corners = upright((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
    if colour == YELLOW:
        corners = upright((0, -1), (1, 0), (0, 1), (-1, 0))
    face.polygon(centre + size * corners, WHITE)
    face.polygon(centre + 0.86 * size * corners, colour)
    if colour != YELLOW:
        face.limb(centre + size * upright((-0.3, -0.5), (-0.3, 0.5), (0.3, 0.4)), 0.2 * size, WHITE)


def stop_sign(face: Axes, centre: np.ndarray, size: float, rng: np.random.Generator) -> None:
    angles = np.pi / 8 + np.arange(8) * np.pi / 4
    corners = size * upright(*zip(np.cos(angles), np.sin(angles), strict=True))
    face.polygon(centre + 1.06 * corners, WHITE)
    face.polygon(centre + 0.96 * corners, RED)
    face.limb(centre + size * upright((-0.6, 0), (0.6, 0)), 0.35 * size, WHITE)


@dataclass
class Board(Thing):
    """A direction board on two poles."""

    shadow = (1.0, 0.05, 2.0, 3.4)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        half, bottom, top = rng.uniform(0.7, 1.1), rng.uniform(1.9, 2.3), rng.uniform(3.0, 3.5)
        pole, face = self.axes(scene, POLE), self.axes(scene, SIGN)
        pole.polygon(np.stack([rectangle(0.04, 0, top, side * 0.7 * half) for side in (-1, 1)]), METAL)
        colour, text = ((GREEN, WHITE), (BLUE, WHITE), (WHITE, BLACK))[rng.integers(3)]
        face.polygon(rectangle(half, bottom, top), text)
        face.polygon(rectangle(half - 0.05, bottom + 0.05, top - 0.05), colour)
        for up in np.arange(bottom + 0.25, top - 0.15, 0.38):
            face.limb(half * upright((-0.75, up / half), (rng.uniform(-0.1, 0.5), up / half)), 0.14, text)
            face.limb(half * upright((0.62, up / half), (0.8, up / half)), 0.14, text)


@dataclass
class TrafficLight(Thing):
    shadow = (0.15, 0.1, 0.0, 3.4)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        pole, box = self.axes(scene, POLE), self.axes(scene, SIGN)
        pole.polygon(rectangle(0.06, 0, 3.4), METAL, 0.75)
        places = [(0.0, 2.9)]
        if rng.random() < 0.4:  # a second one on an arm over the road
            reach = -np.sign(self.x) * rng.uniform(2.0, 3.0)
            pole.polygon(rectangle(0.06, 0, 5.4), METAL, 0.75)
            pole.limb(upright((0, 5.2), (reach, 5.4)), 0.12, METAL, 0.75)
            places.append((reach, 5.0))
        lit = rng.integers(3)
        for u, up in places:
            box.polygon(rectangle(0.28, up - 0.63, up + 0.63, u), (216, 214, 204))
            box.polygon(rectangle(0.2, up - 0.55, up + 0.55, u), BLACK)
            for number, colour in enumerate(((255, 50, 40), (255, 190, 40), (40, 235, 120))):
                shown = colour if number == lit else tuple(0.28 * c for c in colour)
                box.disc((u, up + 0.35 * (1 - number), 0), 0.14, shown)


@dataclass
class Pedestrian(Thing):
    yaw: float
    height: float = 1.72
    layer: int = PAVEMENTS
    shadow = (0.2, 0.15, 0.0, 1.7)

    def draw(self, scene: Scene) -> None:
        rng, k = scene.rng, self.height / 1.72
        axes = self.axes(scene, PEDESTRIAN, self.yaw)
        skin = SKINS[rng.integers(4)]
        coat, trousers = random_colour(rng, (0.05, 0.75), (0.15, 0.9)), random_colour(rng, (0.05, 0.5), (0.1, 0.5))
        hair = tuple(np.array((58, 42, 32)) * rng.uniform(0.4, 2.2))
        stride = rng.uniform(0.1, 0.34)
        for leg, shade in ((-1, 0.75), (1, 1.0)):
            knee, foot = (0.09 * leg, 0.48, 0.6 * stride * leg + 0.05), (0.09 * leg, 0.05, stride * leg)
            axes.limb(k * np.array([(0.08 * leg, 0.92, 0), knee, foot]), 0.17 * k, trousers, shade)
            axes.limb(k * np.array([foot, (0.09 * leg, 0.04, stride * leg + 0.14)]), 0.1 * k, TYRE)
        for arm, shade in ((-1, 0.7), (1, 0.9)):
            elbow, hand = (0.27 * arm, 1.12, -0.5 * stride * arm), (0.26 * arm, 0.86, -0.9 * stride * arm + 0.08)
            axes.limb(k * np.array([(0.22 * arm, 1.4, 0), elbow, hand]), 0.12 * k, coat, shade)
        hem = rng.uniform(0.62, 0.92)  # from a jacket to a coat
        chest = [(-0.21, 1.44), (0.21, 1.44), (0.17, 1.1), (0.22, hem), (-0.22, hem), (-0.17, 1.1)]
        axes.hull(k * np.array([(u, v, w) for u, v in chest for w in (-0.1, 0.1)]), coat)
        axes.limb(k * np.array([(0, 1.42, 0), (0, 1.54, 0)]), 0.1 * k, skin)
        head = np.array([0, 1.62, 0.02]) * k
        round_head = np.vstack([disc(head, 0.115 * k, False, 1.25), disc(head, 0.115 * k, True, 1.25)])
        axes.hull(round_head, hair)
        if axes.camera[2] > 0:
            axes.disc(head + (0, -0.03 * k, 0.1 * k), 0.09 * k, skin, stretch=1.2)


@dataclass
class Bicyclist(Thing):
    yaw: float
    layer = ROADWAY
    shadow = (0.3, 0.7, 0.0, 1.6)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        axes = self.axes(scene, BICYCLIST, self.yaw)
        paint, shirt = random_colour(rng, (0.4, 0.9), (0.3, 0.9)), random_colour(rng, (0.3, 0.9), (0.4, 1.0))
        trousers = random_colour(rng, (0.05, 0.5), (0.1, 0.45))
        for hub in (-0.52, 0.52):
            rim = axes.world(disc((0, 0.34, hub), 0.34, sideways=True))
            scene.veil(rim, TYRE, 0.3, BICYCLIST)
            scene.line(np.vstack([rim, rim[:1]]), 0.06, TYRE, BICYCLIST)
        seat, crank, bars = (0, 0.92, -0.2), (0, 0.3, 0.0), (0, 1.02, 0.42)
        axes.limb([(0, 0.34, -0.52), seat, crank, (0, 0.34, -0.52)], 0.06, paint)
        axes.limb([seat, (0, 0.85, 0.38), crank], 0.06, paint)
        axes.limb([bars, (0, 0.34, 0.52)], 0.06, paint)
        axes.limb([(-0.28, 1.04, 0.4), (0.28, 1.04, 0.4)], 0.05, TYRE)
        turn = rng.uniform(0, 2 * np.pi)
        for leg, shade in ((-1, 0.7), (1, 1.0)):
            foot = (0.1 * leg, 0.3 + 0.16 * leg * np.sin(turn), 0.16 * leg * np.cos(turn))
            knee = (0.12 * leg, 0.5 * (foot[1] + 0.95) + 0.05, 0.32 + 0.3 * foot[2])
            axes.limb([(0.09 * leg, 0.98, -0.18), knee, foot], 0.16, trousers, shade)
        shoulders = np.array([(u, v, w) for u in (-0.2, 0.2) for v, w in ((1.42, 0.2), (1.38, 0.04))])
        hips = np.array([(u, v, w) for u in (-0.16, 0.16) for v, w in ((0.95, -0.3), (0.93, -0.08))])
        axes.hull(np.vstack([shoulders, hips]), shirt)
        for arm, shade in ((-1, 0.75), (1, 0.95)):
            axes.limb([(0.2 * arm, 1.38, 0.14), (0.28 * arm, 1.18, 0.26), (0.26 * arm, 1.04, 0.42)], 0.1, shirt, shade)
        head = np.array([0, 1.6, 0.24])
        skull = np.vstack([disc(head, 0.12, False, 1.2), disc(head, 0.12, True, 1.2)])
        axes.hull(skull, SKINS[rng.integers(4)])
        axes.hull(skull[skull[:, 1] > 1.6] + (0, 0.03, 0), random_colour(rng, (0, 0.9), (0.2, 1.0)))
