"""What belongs to every kitchen and moves: four doors, the tap, the stove."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simkitchen.geometry import Array, turn_x, turn_z, vec
from simkitchen.scene import WORLD, Scene
from simkitchen.textures import colour

TOP = 0.9
"""Height of the counter."""
METAL = vec(0.8, 0.8, 0.82)
BLACK = vec(0.05, 0.05, 0.06)
ENAMEL = vec(0.34, 0.27, 0.24)


@dataclass(frozen=True, slots=True)
class Door:
    """Something that opens and closes.

    Args:
        body: what moves.
        pose: where it is, by how far it is open, 0 to 1.
        handle: in its own coordinates.
        focus: what one looks at to use it.
        back: how far one stands back.
        bend: how far one bends down.
    """

    body: str
    pose: Callable[[float], tuple[Array, Array]]
    handle: Array
    focus: Array
    back: float
    bend: float


@dataclass(frozen=True, slots=True)
class Tap:
    """Water comes from `outlet`, by a lever at `lever`; it stands in the sink at height `bottom`."""

    outlet: Array
    lever: Array
    bottom: float


@dataclass(frozen=True, slots=True)
class Stove:
    """The knob of one burner, which glows by the geom `glow` when it is on."""

    knob: Array
    burner: Array
    glow: str


@dataclass(frozen=True, slots=True)
class Fixtures:
    """All that a kitchen has."""

    tap: Tap
    stove: Stove
    doors: dict[str, Door]


def add_tap(scene: Scene, x: float, random: np.random.Generator) -> Tap:
    """A tap with a lever, water and its splash."""
    paint = vec(0.78, 0.79, 0.81) if random.random() < 0.7 else vec(0.82, 0.62, 0.26)
    h = random.uniform(0.2, 0.25)
    bend = [(x, 0.53, TOP), (x, 0.53, TOP + h), (x, 0.50, TOP + h + 0.03), (x, 0.40, TOP + h + 0.03)]
    scene.rods(WORLD, 0.015, [*bend, (x, 0.34, TOP + h), (x, 0.34, TOP + h - 0.03)], paint)
    scene.geom(WORLD, "cylinder", [0.028, 0.012], (x, 0.53, TOP + 0.012), paint)
    scene.body("lever")
    scene.rod("lever", 0.012, (0, 0, 0), (0, -0.005, 0.06), paint)
    scene.rod("lever", 0.014, (0, -0.005, 0.06), (0, -0.11, 0.08), vec(0.8, 0.15, 0.12))
    scene.body("water")
    scene.geom("water", "capsule", [0.015, 0.1], (0, 0, 0), vec(0.82, 0.93, 1.0), alpha=0.85, name="water")
    scene.body("splash")
    scene.geom("splash", "ellipsoid", [0.1, 0.08, 0.008], (0, 0, 0), vec(0.88, 0.96, 1.0), alpha=0.7)
    return Tap(vec(x, 0.34, TOP + h - 0.035), vec(x + 0.13, 0.51, TOP), TOP - 0.155)


def add_stove(scene: Scene, x: float) -> Stove:
    """Four burners and their knobs."""
    scene.geom(WORLD, "box", [0.28, 0.26, 0.004], (x, 0.31, TOP + 0.003), BLACK)
    for dx, dy in ((-0.13, 0.24), (0.13, 0.24), (-0.13, 0.45), (0.13, 0.45)):
        scene.geom(WORLD, "cylinder", [0.09, 0.002], (x + dx, dy, TOP + 0.007), vec(0.25, 0.24, 0.25))
    burner = vec(x - 0.13, 0.24, TOP + 0.0095)
    scene.geom(WORLD, "cylinder", [0.088, 0.0015], burner, vec(1.0, 0.3, 0.08), alpha=0.0, name="glow")
    for i in (-1.5, -0.5, 0.5):
        scene.geom(WORLD, "cylinder", [0.02, 0.014], (x + 0.1 * i, 0.09, TOP + 0.02), vec(0.75, 0.75, 0.77))
    knob = vec(x + 0.15, 0.09, TOP + 0.008)
    scene.body("knob")
    scene.geom("knob", "cylinder", [0.026, 0.016], (0, 0, 0.016), vec(0.85, 0.85, 0.87))
    scene.geom("knob", "box", [0.005, 0.022, 0.006], (0, 0, 0.036), vec(0.85, 0.1, 0.1))
    return Stove(knob, burner, "glow")


def add_oven(scene: Scene, x: float, random: np.random.Generator) -> Door:
    """An oven whose door falls towards who opens it."""
    paint = vec(0.2, 0.2, 0.22) if random.random() < 0.4 else vec(0.75, 0.75, 0.77)
    for at, size in (
        ((x - 0.28, 0.3, 0.43), [0.02, 0.29, 0.43]),
        ((x + 0.28, 0.3, 0.43), [0.02, 0.29, 0.43]),
        ((x, 0.3, 0.81), [0.3, 0.29, 0.05]),
        ((x, 0.3, 0.1), [0.3, 0.29, 0.1]),
    ):
        scene.geom(WORLD, "box", size, at, paint)
    scene.geom(WORLD, "box", [0.28, 0.02, 0.4], (x, 0.57, 0.45), vec(0.95, 0.62, 0.25))  # lit from within
    scene.geom(WORLD, "box", [0.26, 0.25, 0.005], (x, 0.3, 0.48), vec(0.6, 0.6, 0.62))
    scene.geom(WORLD, "box", [0.26, 0.25, 0.005], (x, 0.3, 0.22), vec(0.75, 0.5, 0.25))
    body = scene.body("oven")
    scene.geom(body, "box", [0.27, 0.015, 0.265], (0, -0.015, 0.265), paint)
    scene.geom(body, "box", [0.19, 0.002, 0.14], (0, -0.032, 0.24), BLACK)
    scene.geom(body, "box", [0.23, 0.003, 0.21], (0, 0.002, 0.26), ENAMEL)
    scene.rod(body, 0.014, (-0.2, -0.06, 0.47), (0.2, -0.06, 0.47), METAL)
    hinge = vec(x, 0, 0.22)
    return Door(
        body, lambda a: (hinge, turn_x(1.45 * a)), vec(0.06, -0.06, 0.47), hinge + vec(0, -0.18, 0.36), 0.46, 0.14
    )


def add_drawer(scene: Scene, x: float, front: Array, random: np.random.Generator) -> Door:
    """A drawer with cutlery."""
    body, inside = scene.body("drawer"), vec(0.85, 0.75, 0.58)
    scene.geom(body, "box", [0.27, 0.012, 0.09], (0, -0.012, 0), front)
    scene.rod(body, 0.011, (-0.08, -0.05, 0.01), (0.08, -0.05, 0.01), METAL)
    scene.geom(body, "box", [0.25, 0.2, 0.005], (0, 0.2, -0.05), inside)
    for sign in (-1, 1):
        scene.geom(body, "box", [0.006, 0.2, 0.055], (0.25 * sign, 0.2, -0.005), inside)
        scene.geom(body, "box", [0.004, 0.2, 0.04], (0.085 * sign, 0.2, -0.01), 0.85 * inside)
    scene.geom(body, "box", [0.25, 0.006, 0.055], (0, 0.4, -0.005), inside)
    for k in range(6):
        paint = METAL if k % 2 else colour(random, (0.0, 1.0), 0.7, 0.7)
        start = -0.2 + 0.08 * k + random.uniform(-0.01, 0.01)
        scene.rod(body, 0.011, (start, 0.05, -0.035), (-0.2 + 0.08 * k, 0.27, -0.035), paint)
    at = vec(x, 0, 0.765)
    return Door(
        body,
        lambda a: (at + vec(0, -0.32 * a, 0), np.eye(3)),
        vec(0, -0.05, 0.01),
        at + vec(0, -0.12, 0.05),
        0.32,
        0.06,
    )


def add_cupboard(scene: Scene, x: float, front: Array, random: np.random.Generator) -> Door:
    """A cupboard under the counter: a door hinged at its left, shelves with boxes and tins."""
    wood = 0.75 * front
    for at, size in (
        ((x - 0.29, 0.3, 0.43), [0.01, 0.29, 0.43]),
        ((x + 0.29, 0.3, 0.43), [0.01, 0.29, 0.43]),
        ((x, 0.3, 0.05), [0.3, 0.29, 0.05]),
        ((x, 0.3, 0.8), [0.3, 0.29, 0.06]),
        ((x, 0.57, 0.43), [0.29, 0.01, 0.4]),
        ((x, 0.35, 0.42), [0.28, 0.22, 0.008]),
    ):
        scene.geom(WORLD, "box", size, at, wood)
    for k in range(4):
        shade = colour(random, 0.25 * k + random.uniform(0, 0.2), (0.6, 0.9), (0.7, 1.0))
        h = random.uniform(0.07, 0.1)
        scene.geom(WORLD, "cylinder", [0.045, h], (x - 0.2 + 0.13 * k, 0.22, 0.43 + h), shade)
        scene.geom(WORLD, "box", [0.05, 0.05, h], (x - 0.2 + 0.13 * k, 0.22, 0.1 + h), shade[::-1])
    body = scene.body("cupboard")
    scene.geom(body, "box", [0.29, 0.01, 0.32], (0.29, -0.01, 0.32), front)
    scene.geom(body, "box", [0.22, 0.003, 0.25], (0.29, -0.021, 0.32), 0.85 * front)
    scene.geom(body, "box", [0.27, 0.002, 0.3], (0.29, 0.001, 0.32), vec(0.93, 0.9, 0.84))
    scene.rod(body, 0.011, (0.53, -0.05, 0.44), (0.53, -0.05, 0.58), METAL)
    hinge = vec(x - 0.29, 0, 0.1)
    return Door(body, lambda a: (hinge, turn_z(-1.85 * a)), vec(0.53, -0.05, 0.52), vec(x, -0.08, 0.52), 0.44, 0.12)


def add_microwave(scene: Scene, x: float, random: np.random.Generator) -> Door:
    """A microwave on the counter, its door hinged at the left, its buttons at the right."""
    paint = [vec(0.9, 0.9, 0.9), vec(0.16, 0.16, 0.17), vec(0.7, 0.7, 0.72)][int(random.integers(3))]
    h, half, near, middle = random.uniform(0.26, 0.3), 0.25, 0.24, 0.4
    for at, size in (
        ((x, middle, TOP + 0.015), [half, 0.16, 0.008]),
        ((x, middle, TOP + h), [half, 0.16, 0.008]),
        ((x - half, middle, TOP + h / 2 + 0.01), [0.008, 0.16, h / 2]),
        ((x + 0.165, middle, TOP + h / 2 + 0.01), [0.085, 0.16, h / 2]),
        ((x, 0.555, TOP + h / 2 + 0.01), [half, 0.006, h / 2]),
    ):
        scene.geom(WORLD, "box", size, at, paint)
    scene.geom(WORLD, "box", [0.16, 0.14, 0.004], (x - 0.085, middle, TOP + 0.03), vec(0.95, 0.9, 0.7))
    scene.geom(WORLD, "cylinder", [0.11, 0.004], (x - 0.085, middle, TOP + 0.038), vec(0.75, 0.85, 0.88))
    scene.geom(WORLD, "box", [0.16, 0.003, h / 2 - 0.02], (x - 0.085, 0.545, TOP + h / 2), vec(1.0, 0.9, 0.6))
    scene.geom(WORLD, "box", [0.045, 0.002, 0.02], (x + 0.165, near - 0.001, TOP + 0.82 * h), vec(0.1, 0.7, 0.4))
    for i in range(3):
        for j in range(3):
            at = (x + 0.13 + 0.035 * i, near - 0.001, TOP + 0.06 + 0.035 * j)
            scene.geom(WORLD, "box", [0.012, 0.002, 0.01], at, vec(0.5, 0.5, 0.5))
    body = scene.body("microwave")
    scene.geom(body, "box", [0.164, 0.012, h / 2 - 0.005], (0.164, -0.012, h / 2), 0.92 * paint)
    scene.geom(body, "box", [0.12, 0.002, h / 2 - 0.05], (0.15, -0.026, h / 2), BLACK)
    scene.geom(body, "box", [0.12, 0.002, h / 2 - 0.05], (0.15, 0.002, h / 2), BLACK)
    scene.rod(body, 0.011, (0.3, -0.055, 0.05), (0.3, -0.055, h - 0.05), METAL)
    hinge = vec(x - half, near, TOP + 0.01)
    return Door(
        body,
        lambda a: (hinge, turn_z(-1.75 * a)),
        vec(0.3, -0.055, h / 2),
        hinge + vec(0.16, 0, 0.45 * h),
        0.22,
        0.0,
    )
