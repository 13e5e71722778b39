"""The places of objects in a synthetic street: buildings and gardens, street furniture, traffic, people."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from src.data.streets.buildings import Building, Fence
from src.data.streets.canvas import FRONTS, ROADWAY, Thing
from src.data.streets.cars import Car
from src.data.streets.objects import Bicyclist, Board, Lamp, Pedestrian, SignPost, TrafficLight, Tree

PARKING = 3.4  # metres; if one direction is wider, cars are parked at its kerb
FAR = 80.0  # metres; beyond this depth is the backdrop


@dataclass(frozen=True)
class Street:
    """A lateral layout; x in metres, left and right. `traffic` is 1 if cars keep to the right, otherwise -1."""

    kerbs: tuple[float, float]
    fronts: tuple[float, float]
    traffic: int
    divide: float  # x between the two directions
    fenced: bool
    green: float  # share of lots without a building
    height: float  # typical building height

    def kerb(self, side: int) -> float:
        return self.kerbs[side > 0]

    def front(self, side: int) -> float:
        return self.fronts[side > 0]


def random_street(rng: np.random.Generator) -> Street:
    traffic = int(rng.choice([-1, 1]))
    near, other = rng.uniform(1.9, 2.8) + rng.choice([0.0, 2.2]), rng.uniform(5.2, 6.6) + rng.choice([0.0, 2.2])
    kerbs = (-other, near) if traffic > 0 else (-near, other)
    fronts = (kerbs[0] - rng.uniform(1.4, 2.6), kerbs[1] + rng.uniform(1.4, 2.6))
    fenced = bool(rng.random() < 0.6)
    return Street(kerbs, fronts, traffic, -1.7 * traffic, fenced, rng.uniform(0.25, 0.65), rng.uniform(4.5, 9.5))


def line_sides(street: Street, rng: np.random.Generator) -> Iterator[Thing]:
    """Places buildings, gardens and fences along both sides; lots grow with the depth, since detail is lost there."""
    for side in (-1, 1):
        front, z, exposed = street.front(side), rng.uniform(-6, 2), True
        fence_at = rng.uniform(5, 14) if street.fenced and rng.random() < 0.6 else 2 * FAR
        while z < FAR:
            length = rng.uniform(7, 16) * (1 + max(z, 0) / 50)
            fenced = z < fence_at <= z + length
            if fenced or rng.random() < street.green:
                yield from garden(side, front, z, length, fenced, rng)
                exposed = True
            else:
                height = max(3.6, street.height * rng.uniform(0.6, 1.5))
                yield Building(front, z, length, height, exposed)
                exposed = bool(rng.random() < 0.25)
                z += 3.0 * exposed  # an alley
            z += length


def garden(side: int, front: float, z: float, length: float, fenced: bool, rng: np.random.Generator) -> Iterator[Thing]:
    """Places trees, with bushes behind a fence, sometimes in front of a house that stands back."""
    if fenced:
        yield Fence(front, z, length, rng.uniform(0.9, 1.4))
    if rng.random() < 0.4:
        yield Building(front + side * rng.uniform(5, 8), z, length, rng.uniform(4, 8), True)
    for at in np.arange(max(z + 1, 4), z + length, 5 + max(z, 0) / 6):
        yield Tree(front + side * rng.uniform(1.4, 2.0), at, rng.uniform(1.4, 2.4), FRONTS)
        if rng.random() < 0.7:
            yield Tree(front + side * rng.uniform(2.5, 4.5), at + 0.5, rng.uniform(5.5, 10.5), FRONTS)


def furnish(street: Street, rng: np.random.Generator) -> Iterator[Thing]:
    """Places lamps, signs, trees and people on the pavements."""
    for side in (-1, 1):
        edge, width = street.kerb(side) + 0.4 * side, abs(street.front(side) - street.kerb(side))
        start, step = rng.uniform(8, 18), rng.uniform(20, 32)
        yield from [Lamp(edge, z, rng.uniform(5.5, 7.5)) for z in np.arange(start, 42, step)]
        yield from [SignPost(edge, z) for z in rng.uniform(7, 26, rng.integers(0, 3))]
        if rng.random() < 0.4:
            yield from [Tree(edge + 0.3 * side, z, rng.uniform(5, 8.5)) for z in np.arange(start + 4, 50, step / 2)]
        if rng.random() < 0.35:
            yield TrafficLight(edge, rng.uniform(8, 22))
        if rng.random() < 0.25:
            yield Board(edge + 0.7 * side, rng.uniform(9, 18))
        for z in rng.uniform(6, 21, rng.poisson(1.1)):
            x = street.kerb(side) + side * rng.uniform(0.7, width - 0.3)
            yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.4)
            yield Pedestrian(x, z, yaw, rng.uniform(1.5, 1.9))


def drive(street: Street, rng: np.random.Generator) -> Iterator[Thing]:
    """Places cars in both directions and at the kerbs, bicyclists, and people who cross the road."""
    for side in (-1, 1):
        own = side == street.traffic
        yaw, kerb = (0.0 if own else np.pi), street.kerb(side)
        room = abs(kerb - (0 if own else street.divide))
        lane = 0.0 if own else street.divide + side * min(1.7, 0.5 * room)
        z = rng.uniform(10, 32)
        while z < 55:
            yield Car(lane + rng.normal(0, 0.15), z, yaw + rng.normal(0, 0.02))
            z += rng.uniform(9, 40)
        if room > PARKING:
            z = rng.uniform(7, 24)
            while z < 45:
                yield Car(kerb - 1.05 * side, z, yaw + rng.normal(0, 0.02))
                z += rng.choice([5.6, 6.5, 14, 24])
        if rng.random() < 0.3:
            x = kerb - side * (rng.uniform(0.5, 0.9) + 2.0 * (room > PARKING))
            yield Bicyclist(x, rng.uniform(6, 14), yaw + rng.normal(0, 0.3))
    if rng.random() < 0.25:
        x, z = rng.uniform(*street.kerbs), rng.uniform(8, 16)
        yield Pedestrian(x, z, rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.2), 1.72, ROADWAY)
