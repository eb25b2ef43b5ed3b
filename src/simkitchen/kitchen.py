"""A kitchen: a counter of five zones in any order, what is under and above it, and the room around.

x runs along the counter, y away from who stands at it, z up; the counter's front edge is y = 0. Every kitchen has the same
fixtures. One half of them are islands, which a camera can look at from the front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simkitchen import textures
from simkitchen.fixtures import (
    TOP,
    Fixtures,
    add_cupboard,
    add_drawer,
    add_microwave,
    add_oven,
    add_stove,
    add_tap,
)
from simkitchen.geometry import Array, turn_x, vec
from simkitchen.scene import WORLD, Scene
from simkitchen.splits import kitchen_textures, seed_of
from simkitchen.textures import colour

DEPTH = 0.6
WIDTHS = {"sink": 0.6, "stove": 0.6, "work": 0.92, "microwave": 0.6, "side": 0.44}
SINK = (0.21, 0.11, 0.47)
"""The sink's half-width, front and back."""
SINK_DEPTH = 0.16
STEEL = vec(0.72, 0.73, 0.75)


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What the action needs to know of a kitchen.

    Args:
        zones: the middle of each zone, along the counter.
        island: whether there is no wall behind the counter.
        fixtures: what moves.
        ends: where the counter begins and ends.
    """

    zones: dict[str, float]
    island: bool
    fixtures: Fixtures
    ends: tuple[float, float]


def build_kitchen(scene: Scene, name: str, seed: int) -> Kitchen:
    """Add a kitchen of the pool to a scene."""
    random = np.random.default_rng(seed_of(seed, name))
    painted = {kind: _texture(texture, kind, seed) for kind, texture in kitchen_textures(name, seed).items()}
    surfaces = {
        "worktop": scene.material("worktop", painted["worktop"], random.uniform(1.5, 3), shine=0.3),
        "wall": scene.material("wall", painted["wall"], random.uniform(2, 4)),
        "cabinets": scene.material("cabinets", painted["cabinets"], 2.0, shine=0.1),
        "floor": scene.material("floor", painted["floor"], 1.0),
    }
    front = np.clip(painted["cabinets"].reshape(-1, 3).mean(0) * random.uniform(0.9, 1.15), 0, 1)
    order = [str(zone) for zone in random.permutation(list(WIDTHS))]
    left = -sum(WIDTHS.values()) / 2
    edges = np.cumsum([left, *(WIDTHS[zone] for zone in order)])
    zones = {zone: float(edges[i] + edges[i + 1]) / 2 for i, zone in enumerate(order)}
    ends = (float(edges[0]), float(edges[-1]))
    island = bool(random.random() < 0.5)
    _counter(scene, zones["sink"], ends)
    for zone in order:
        _below(scene, zone, zones[zone], front)
    fixtures = Fixtures(
        tap=add_tap(scene, zones["sink"], random),
        stove=add_stove(scene, zones["stove"]),
        doors={
            "oven": add_oven(scene, zones["stove"], random),
            "drawer": add_drawer(scene, zones["work"], front, random),
            "cupboard": add_cupboard(scene, zones["microwave"], front, random),
            "microwave": add_microwave(scene, zones["microwave"], random),
        },
    )
    _room(scene, random, island, zones, front)
    scene.geom(WORLD, "plane", [6, 6, 0.1], material=surfaces["floor"])
    return Kitchen(zones, island, fixtures, ends)


def _texture(name: str, kind: str, seed: int) -> Array:
    """A member of a pool of textures."""
    random = np.random.default_rng(seed_of(seed, "texture", name))
    first = random.random() < 0.5
    if kind == "worktop":
        if first:
            return textures.stone(random, colour(random, (0.0, 1.0), (0, 0.22), (0.3, 0.9)))
        return textures.wood(random, colour(random, (0.05, 0.1), (0.3, 0.55), (0.4, 0.8)))
    if kind == "wall":
        return textures.tiles(random, colour(random, (0.0, 1.0), (0.02, 0.35), (0.6, 0.95)))
    if kind == "cabinets":
        base = colour(random, (0.0, 1.0), (0.05, 0.45), (0.35, 0.92))
        return textures.wood(random, base) if first else textures.plain(base)
    if first:
        return textures.wood(random, colour(random, (0.05, 0.1), (0.2, 0.5), (0.3, 0.7)))
    return textures.tiles(random, colour(random, (0.0, 1.0), (0, 0.2), (0.4, 0.8)))


def _counter(scene: Scene, sink: float, ends: tuple[float, float]) -> None:
    """The worktop with the sink let in."""
    half, near, far = SINK
    for x0, x1, y0, y1 in (
        (ends[0], sink - half, 0, DEPTH),
        (sink + half, ends[1], 0, DEPTH),
        (sink - half, sink + half, 0, near),
        (sink - half, sink + half, far, DEPTH),
    ):
        size = [(x1 - x0) / 2, (y1 - y0) / 2, 0.02]
        scene.geom(WORLD, "box", size, ((x0 + x1) / 2, (y0 + y1) / 2, TOP - 0.02), material="worktop")
    floor, middle, deep = TOP - SINK_DEPTH, (near + far) / 2, (far - near) / 2
    scene.geom(WORLD, "box", [half, deep, 0.005], (sink, middle, floor - 0.005), 0.85 * STEEL)
    for x in (sink - half, sink + half):
        scene.geom(WORLD, "box", [0.006, deep, SINK_DEPTH / 2], (x, middle, floor + SINK_DEPTH / 2 + 0.002), STEEL)
    for y in (near, far):
        scene.geom(WORLD, "box", [half, 0.006, SINK_DEPTH / 2], (sink, y, floor + SINK_DEPTH / 2 + 0.002), STEEL)
    scene.geom(WORLD, "cylinder", [0.024, 0.003], (sink, 0.3, floor), vec(0.2, 0.2, 0.2))


def _below(scene: Scene, zone: str, x: float, front: Array) -> None:
    """The cabinet under a zone that has nothing of its own there."""
    half = WIDTHS[zone] / 2
    if zone in ("sink", "side"):
        height = TOP - (SINK_DEPTH + 0.02 if zone == "sink" else 0.04)
        scene.geom(WORLD, "box", [half, 0.29, height / 2], (x, 0.3, height / 2), material="cabinets")
        for sign in (-1, 1) if zone == "sink" else (0,):
            width = half / 2 if sign else half
            scene.geom(WORLD, "box", [width - 0.01, 0.008, 0.31], (x + sign * half / 2, 0.004, 0.36), front)
            scene.rod(WORLD, 0.007, (x + sign * 0.03, -0.03, 0.5), (x + sign * 0.03, -0.03, 0.62), STEEL)
    elif zone == "work":
        scene.geom(WORLD, "box", [half, 0.29, 0.32], (x, 0.3, 0.32), material="cabinets")
        scene.geom(WORLD, "box", [half, 0.01, 0.12], (x, 0.58, 0.75), material="cabinets")
        for sign in (-1, 1):  # beside the drawer
            scene.geom(WORLD, "box", [0.1, 0.29, 0.12], (x + sign * (half - 0.1), 0.3, 0.75), material="cabinets")


def _room(scene: Scene, random: np.random.Generator, island: bool, zones: dict[str, float], front: Array) -> None:
    """Walls, and cabinets on the wall behind the counter."""
    if not island:
        scene.geom(WORLD, "box", [1.9, 1.25, 0.02], (0, DEPTH + 0.025, 1.25), turned=turn_x(np.pi / 2), material="wall")
        for zone, x in zones.items():
            if random.random() < 0.55:
                half = WIDTHS[zone] / 2 - 0.01
                scene.geom(WORLD, "box", [half, 0.14, 0.27], (x, 0.46, 1.72), material="cabinets")
                for sign in (-1, 1):
                    scene.geom(
                        WORLD, "box", [half / 2 - 0.006, 0.008, 0.255], (x + sign * half / 2, 0.318, 1.72), front
                    )
                    scene.rod(WORLD, 0.007, (x + sign * 0.03, 0.29, 1.5), (x + sign * 0.03, 0.29, 1.6), STEEL)
    behind = colour(random, (0.0, 1.0), (0, 0.3), (0.55, 0.95))
    scene.geom(WORLD, "box", [3.2, 1.3, 0.02], (0, -2.1, 1.25), behind, turned=turn_x(np.pi / 2))
    if island:
        scene.geom(WORLD, "box", [3.2, 1.3, 0.02], (0, 2.6, 1.25), behind, turned=turn_x(np.pi / 2))
    for sign in (-1, 1):
        scene.geom(
            WORLD, "box", [0.02, 3, 1.3], (sign * 3.0, 0, 1.3), colour(random, (0.0, 1.0), (0, 0.3), (0.6, 0.95))
        )
    for x in (-1.3, 0, 1.3):
        at = (x + random.uniform(-0.2, 0.2), -2.06, 1.6 + random.uniform(-0.1, 0.2))
        scene.geom(WORLD, "box", [0.25, 0.02, 0.2], at, colour(random, (0.0, 1.0), (0.3, 0.8), (0.4, 0.9)))
    at = (random.choice([-1, 1]) * 1.4, -1.8, 0.9)
    scene.geom(WORLD, "box", [0.35, 0.25, 0.9], at, colour(random, (0.0, 1.0), (0, 0.2), (0.6, 0.95)))
