"""Cars of the synthetic streets: six bodies as solids, so that every view of them is right."""

from dataclasses import dataclass

import numpy as np

from src.data.streets.buildings import GLASS
from src.data.streets.canvas import CAR, DETAIL, ROADWAY, Axes, Scene, Thing, disc
from src.data.streets.objects import TYRE
from src.data.streets.textures import Colour, random_colour

ARCH, HUB, GRILLE, BUMPER = (18, 18, 20), (150, 152, 156), (36, 38, 42), (46, 47, 50)
TAIL_LAMP, TAIL_LAMP_ON = (190, 30, 34), (400, 60, 50)  # above 255: bright although the evening darkens all colours
HEAD_LAMP, HEAD_LAMP_ON = (225, 228, 232), (480, 470, 430)


@dataclass(frozen=True)
class Body:
    """The shape of a car: lengths from the rear bumper and heights from the ground, in metres."""

    length: float
    half_width: float
    bonnet: float  # height of the bonnet's front edge
    belt: float  # height of the lower edge of the windows
    roof: float
    cabin: tuple[float, float, float, float]  # foot of rear window, roof's rear and front end, foot of windscreen


BODIES = (
    Body(3.5, 0.8, 0.78, 0.94, 1.5, (0.06, 0.4, 2.0, 2.75)),  # city car
    Body(3.9, 0.86, 0.76, 0.92, 1.46, (0.08, 0.5, 2.0, 2.9)),  # hatchback
    Body(4.5, 0.89, 0.74, 0.92, 1.42, (0.85, 1.5, 2.7, 3.4)),  # saloon
    Body(4.7, 0.9, 0.74, 0.92, 1.47, (0.1, 0.6, 2.8, 3.6)),  # estate
    Body(4.6, 0.94, 0.95, 1.05, 1.72, (0.06, 0.35, 2.8, 3.5)),  # off-roader
    Body(4.9, 0.96, 1.0, 1.2, 2.05, (0.02, 0.12, 3.6, 4.3)),  # van
)


@dataclass
class Car(Thing):
    """A car with its middle at `z`; yaw 0 shows its rear to the camera, pi its front."""

    yaw: float
    layer = ROADWAY
    shadow = (0.85, 2.0, 0.0, 1.4)

    def draw(self, scene: Scene) -> None:
        rng = scene.rng
        body = BODIES[rng.integers(len(BODIES))]
        axes = self.axes(scene, CAR, self.yaw)
        axes.origin = axes.world((0, 0, -body.length / 2))
        sideways, _, forward = axes.camera
        if rng.random() < 0.55:  # most cars are white, grey or black
            colour = random_colour(rng, (0.0, 0.08), (0.1, 0.95))
        else:
            colour = random_colour(rng, (0.45, 0.85), (0.2, 0.75))
        inner, outer, end = 0.7 * body.half_width, 0.98 * body.half_width, 0.5 if forward < 0 else body.length - 0.5
        axes.polygon(_pair([(inner, 0, end), (outer, 0, end), (outer, 0.5, end), (inner, 0.5, end)]), TYRE)
        # The outlines of lower body and cabin, of which bonnet, boot and roof stay visible.
        for part in (_profile, _cabin):
            corners = np.vstack([part(body, -body.half_width), part(body, body.half_width)])
            axes.hull(corners, colour, axes.brightness((0, 1, 0)))
        if abs(sideways) > body.half_width:
            _side(axes, body, colour, np.sign(sideways))
        if forward < 0:
            _rear(axes, body, colour, scene.light.lamps)
        elif forward > body.length:
            _front(axes, body, colour, scene.light.lamps)


def _across(half_width: float, *edges: tuple[float, float]) -> np.ndarray:
    """Returns a panel across the car through these edges (height, length), from the first to the last."""
    left = [(-half_width, up, along) for up, along in edges]
    return np.array(left + [(-u, up, along) for u, up, along in reversed(left)])


def _pair(corners: list[tuple[float, float, float]]) -> np.ndarray:
    """Returns a panel and its mirror image on the other side of the car, `(2, M, 3)`."""
    right = np.array(corners)
    return np.stack([right, right * (-1, 1, 1)])


def _profile(body: Body, u: float) -> np.ndarray:
    """Returns the outline of the lower body at the side u."""
    rear, _, _, front = body.cabin
    outline = [(0.28, 0.03), (0.55, 0), (body.belt - 0.06, 0.02), (body.belt, rear + 0.02), (body.belt, front)]
    outline += [(body.bonnet, body.length - 0.12), (0.5, body.length), (0.26, body.length - 0.04)]
    return np.array([(u, up, along) for up, along in outline])


def _cabin(body: Body, u: float, inset: float = 0.0) -> np.ndarray:
    """Returns the side of the cabin, narrower at the roof, `inset` metres inside its outline."""
    rear_foot, rear, front, front_foot = body.cabin
    foot, roof = body.belt + 0.2 * inset, body.roof - inset
    lower, upper = [(u, foot, rear_foot + 1.5 * inset)], [(0.8 * u, roof, rear + inset), (0.8 * u, roof, front - inset)]
    return np.array([*lower, *upper, (u, foot, front_foot - 2 * inset)])


def _side(axes: Axes, body: Body, colour: Colour, side: float) -> None:
    u = side * body.half_width
    light = axes.brightness((side, 0, 0))
    axes.polygon(_profile(body, u), colour, light)
    axes.polygon(_cabin(body, u), colour, 1.05 * light)
    glass = _cabin(body, u, 0.09)
    if body.roof > 2:  # a van has windows in its front doors only
        glass[:2, 2] = glass[2, 2] - 0.9
    axes.polygon(glass, GLASS, light)
    hubs = (0.78, body.length - 0.82)
    for out, up, radius, paint in ((1, 0.36, 0.4, ARCH), (1.02, 0.31, 0.31, TYRE), (1.03, 0.31, 0.19, HUB)):
        axes.polygon(np.stack([disc((out * u, up, hub), radius, sideways=True) for hub in hubs]), paint)
    if axes.origin[2] < DETAIL:
        pillar = 0.5 * (body.cabin[1] + body.cabin[2]) + 0.1
        axes.limb([(u, body.belt, pillar), (0.8 * u, body.roof, pillar)], 0.08, colour, 0.8 * light)
        axes.limb([(u, 0.42, 0.2), (u, 0.42, body.length - 0.2)], 0.06, colour, 0.6 * light)


def _rear(axes: Axes, body: Body, colour: Colour, lamps: bool) -> None:
    half, (foot, top, _, _) = body.half_width, body.cabin
    light = axes.brightness((0, 0.2, -0.98))
    axes.polygon(_across(half, (0.28, 0.03), (0.55, 0), (body.belt - 0.06, 0.02)), colour, light)
    glass = [(0.86 * half, body.belt + 0.04, foot), (0.7 * half, body.roof - 0.1, top)]
    axes.polygon(glass + [(-u, up, along) for u, up, along in reversed(glass)], GLASS, light)
    lamp = [(0.97, -0.36), (0.68, -0.32), (0.68, -0.14), (0.97, -0.1)]
    corners = [(u * half, body.belt + up, -0.01) for u, up in lamp]
    axes.polygon(_pair(corners), TAIL_LAMP_ON if lamps else TAIL_LAMP)
    if axes.origin[2] < DETAIL:
        axes.polygon(_across(half, (0.28, -0.01), (0.48, -0.01)), colour, 0.55 * light)
        axes.polygon(_across(0.26, (0.56, -0.02), (0.68, -0.02)), (225, 205, 90), light)


def _front(axes: Axes, body: Body, colour: Colour, lamps: bool) -> None:
    half, length, (_, _, top, foot) = body.half_width, body.length, body.cabin
    light = axes.brightness((0, 0.2, 0.98))
    axes.polygon(_across(half, (0.26, length - 0.04), (0.5, length), (body.bonnet, length - 0.12)), colour, light)
    axes.polygon(_across(0.62 * half, (0.42, length), (body.bonnet - 0.1, length - 0.05)), GRILLE, light)
    glass = [(0.9 * half, body.belt + 0.02, foot), (0.72 * half, body.roof - 0.08, top)]
    axes.polygon(glass + [(-u, up, along) for u, up, along in reversed(glass)], GLASS, 1.3 * light)
    lamp = [(0.97, -0.24), (0.62, -0.2), (0.62, -0.06), (0.97, -0.04)]
    corners = [(u * half, body.bonnet + up, length - 0.02) for u, up in lamp]
    axes.polygon(_pair(corners), HEAD_LAMP_ON if lamps else HEAD_LAMP)
    if axes.origin[2] < DETAIL:
        axes.polygon(_across(0.95 * half, (0.27, length), (0.4, length)), BUMPER, light)
        axes.polygon(_across(0.26, (0.42, length), (0.53, length)), (232, 232, 228), light)
