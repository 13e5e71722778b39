"""Cars of the synthetic streets: four bodies as solids, so that any view of them is right."""

from dataclasses import dataclass

import numpy as np

from src.data.streets_canvas import Colour, Frame, Scene, random_colour
from src.data.streets_objects import CAR, GLASS, TYRE, Thing


@dataclass(frozen=True)
class Body:
    """Lengths from the rear bumper and heights from the ground, in metres."""

    length: float
    half_width: float
    bonnet: float  # height of the bonnet's front edge
    belt: float  # height of the lower edge of the windows
    roof: float
    cabin: tuple[float, float, float, float]  # foot of rear window, roof's rear and front end, foot of windscreen


BODIES = (
    Body(3.9, 0.86, 0.76, 0.92, 1.46, (0.08, 0.5, 2.0, 2.9)),  # hatchback
    Body(4.5, 0.89, 0.74, 0.92, 1.42, (0.85, 1.5, 2.7, 3.4)),  # saloon
    Body(4.6, 0.94, 0.95, 1.05, 1.72, (0.06, 0.35, 2.8, 3.5)),  # off-roader
    Body(4.9, 0.96, 1.0, 1.2, 2.05, (0.02, 0.12, 3.6, 4.3)),  # van
)


@dataclass
class Car(Thing):
    """`z` is the middle of the car; yaw 0 shows its rear to the camera, pi its front."""

    yaw: float
    layer = 4
    shadow = (0.85, 2.0, 0.0, 1.4)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        body = BODIES[rng.choice(4, p=[0.36, 0.3, 0.22, 0.12])]
        grey = rng.random() < 0.55  # most cars are white, grey or black
        colour = random_colour(rng, *(((0, 0.08), (0.1, 0.95)) if grey else ((0.5, 0.95), (0.3, 0.85))))
        frame = self.frame(scene, CAR, self.yaw)
        frame.origin = frame.world((0, 0, -body.length / 2))
        frame.camera[2] += body.length / 2
        side = np.sign(frame.camera[0])
        behind, ahead = frame.camera[2] < 0, frame.camera[2] > body.length
        _tyres(frame, body, 0.0 if behind else body.length)
        _shell(frame, body, colour)
        if abs(frame.camera[0]) > body.half_width:
            _side(frame, body, colour, side)
        if behind:
            _rear(frame, body, colour, scene.light.lamps)
        if ahead:
            _front(frame, body, colour, scene.light.lamps)


def _across(half_width: float, *heights_and_lengths: tuple[float, float]) -> np.ndarray:
    """A panel across the car through these (height, length) edges, from the first to the last."""
    left = [(-half_width, v, w) for v, w in heights_and_lengths]
    return np.array(left + [(-u, v, w) for u, v, w in reversed(left)])


def _profile(body: Body, u: float) -> np.ndarray:
    rear, _, _, front = body.cabin
    outline = [(0.28, 0.03), (0.55, 0), (body.belt - 0.06, 0.02), (body.belt, rear + 0.02), (body.belt, front)]
    outline += [(body.bonnet, body.length - 0.12), (0.5, body.length), (0.26, body.length - 0.04)]
    return np.array([(u, v, w) for v, w in outline])


def _cabin(body: Body, u: float, inset: float = 0.0) -> np.ndarray:
    """Side of the cabin, narrower at the roof; `inset` metres inside its outline."""
    a, b, c, d = body.cabin
    foot, roof = body.belt + 0.2 * inset, body.roof - inset
    edges = [
        (u, foot, a + 1.5 * inset),
        (0.8 * u, roof, b + inset),
        (0.8 * u, roof, c - inset),
        (u, foot, d - 2 * inset),
    ]
    return np.array(edges)


def _tyres(frame: Frame, body: Body, end: float) -> None:
    for inner, outer in ((-0.98, -0.7), (0.7, 0.98)):
        u, w = np.array([inner, outer]) * body.half_width, abs(end - 0.5)
        frame.polygon([(u[0], 0, w), (u[1], 0, w), (u[1], 0.5, w), (u[0], 0.5, w)], TYRE)


def _shell(frame: Frame, body: Body, colour: Colour) -> None:
    """Outline of lower body and cabin; what stays visible of it is bonnet, boot and roof."""
    light = frame.brightness((0, 1, 0))
    for part in (_profile, _cabin):
        frame.hull(np.vstack([part(body, -body.half_width), part(body, body.half_width)]), colour, light)


def _side(frame: Frame, body: Body, colour: Colour, side: float) -> None:
    u = side * body.half_width
    light = frame.brightness((side, 0.0, 0))
    frame.polygon(_profile(body, u), colour, light)
    frame.polygon(_cabin(body, u), colour, 1.05 * light)
    glass = _cabin(body, u, 0.09)
    if body.roof > 2:  # a van has windows in its front doors only
        glass[:2, 2] = glass[2, 2] - 0.9
    frame.polygon(glass, GLASS, light)
    pillar = 0.5 * (body.cabin[1] + body.cabin[2]) + 0.1
    frame.limb([(u, body.belt, pillar), (0.8 * u, body.roof, pillar)], 0.08, colour, 0.8 * light)
    frame.limb([(u, 0.42, 0.2), (u, 0.42, body.length - 0.2)], 0.06, colour, 0.6 * light)
    for hub in (0.78, body.length - 0.82):
        frame.disc((u, 0.36, hub), 0.4, (18, 18, 20), sideways=True)
        frame.disc((1.02 * u, 0.31, hub), 0.31, TYRE, sideways=True)
        frame.disc((1.03 * u, 0.31, hub), 0.19, (150, 152, 156), sideways=True)


def _rear(frame: Frame, body: Body, colour: Colour, lamps: bool) -> None:
    half, (foot, top, _, _) = body.half_width, body.cabin
    light = frame.brightness((0, 0.2, -0.98))
    frame.polygon(_across(half, (0.28, 0.03), (0.55, 0), (body.belt - 0.06, 0.02)), colour, light)
    frame.polygon(_across(half, (0.28, 0), (0.5, 0)), colour, 0.55 * light)
    glass = [(-0.86 * half, body.belt + 0.04, foot), (0.86 * half, body.belt + 0.04, foot)]
    glass += [(0.7 * half, body.roof - 0.1, top), (-0.7 * half, body.roof - 0.1, top)]
    frame.polygon(glass, GLASS, light)
    for u in (-1, 1):
        outer, inner, up = u * 0.97 * half, u * 0.68 * half, body.belt
        lights = [
            (outer, up - 0.36, -0.01),
            (inner, up - 0.32, -0.01),
            (inner, up - 0.14, -0.01),
            (outer, up - 0.1, -0.01),
        ]
        frame.polygon(lights, (400, 60, 50) if lamps else (190, 30, 34))
    plate = np.array([(-0.26, 0.56, -0.02), (0.26, 0.56, -0.02), (0.26, 0.68, -0.02), (-0.26, 0.68, -0.02)])
    frame.polygon(plate, (225, 205, 90), light)


def _front(frame: Frame, body: Body, colour: Colour, lamps: bool) -> None:
    half, length, (_, _, top, foot) = body.half_width, body.length, body.cabin
    light = frame.brightness((0, 0.2, 0.98))
    frame.polygon(_across(half, (0.26, length - 0.04), (0.5, length), (body.bonnet, length - 0.12)), colour, light)
    frame.polygon(_across(0.62 * half, (0.42, length), (body.bonnet - 0.1, length - 0.05)), (36, 38, 42), light)
    frame.polygon(_across(0.95 * half, (0.27, length), (0.4, length)), (46, 47, 50), light)
    glass = [(-0.9 * half, body.belt + 0.02, foot), (0.9 * half, body.belt + 0.02, foot)]
    glass += [(0.72 * half, body.roof - 0.08, top), (-0.72 * half, body.roof - 0.08, top)]
    frame.polygon(glass, (62, 76, 88), light)
    for u in (-1, 1):
        lamp = [(u * 0.97, -0.24), (u * 0.62, -0.2), (u * 0.62, -0.06), (u * 0.97, -0.04)]
        corners = [(a * half, body.bonnet + b, length - 0.02) for a, b in lamp]
        frame.polygon(corners, (480, 470, 430) if lamps else (225, 228, 232))
    frame.polygon(
        [(-0.26, 0.42, length), (0.26, 0.42, length), (0.26, 0.53, length), (-0.26, 0.53, length)], (232, 232, 228)
    )
