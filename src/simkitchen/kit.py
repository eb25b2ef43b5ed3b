"""What lies about in every kitchen, used or not: board, tray, knife, spoon, cloth, dirt; and fluids, until they flow."""

from __future__ import annotations

import numpy as np

from simkitchen.geometry import Array, turn_z, vec
from simkitchen.scene import Scene
from simkitchen.textures import colour, wood

FLAT = {"board": 0.02, "tray": 0.014}
"""Height of what things are put on."""
FLUIDS = ("stream", "contents")
DIRT = 6
"""Spots of dirt, `dirt0` and so on."""
SPOON_TIP = 0.19
"""From where the spoon is held to the middle of its bowl."""


def add_kit(scene: Scene, side: int, random: np.random.Generator) -> None:
    """Board, tray, knife, spoon, cloth and dirt, each a body of its own; tools point to +y from where they are held."""
    scene.body("board")
    paint = colour(random, (0.06, 0.1), (0.35, 0.55), (0.55, 0.85))
    scene.geom(
        "board", "box", [0.155, 0.115, 0.01], (0, 0, 0.01), material=scene.material("board", wood(random, paint), 5)
    )
    scene.geom("board", "cylinder", [0.012, 0.0105], (-0.13 * side, 0.09, 0.01), 0.35 * paint)
    scene.body("tray")
    paint = colour(random, (0.0, 1.0), (0.3, 0.7), (0.5, 0.9))
    scene.geom("tray", "box", [0.155, 0.115, 0.003], (0, 0, 0.004), paint)
    for sign in (-1, 1):
        scene.geom("tray", "box", [0.005, 0.115, 0.012], (0.155 * sign, 0, 0.014), 0.8 * paint)
        scene.geom("tray", "box", [0.155, 0.005, 0.012], (0, 0.115 * sign, 0.014), 0.8 * paint)
    scene.body("knife")
    scene.geom("knife", "box", [0.002, 0.1, 0.024], (0, 0.155, 0), vec(0.86, 0.87, 0.9))
    scene.rod("knife", 0.013, (0, -0.05, 0.006), (0, 0.055, 0.006), colour(random, (0.0, 1.0), (0, 0.7), (0.08, 0.4)))
    scene.body("spoon")
    paint = colour(random, (0.06, 0.1), (0.3, 0.6), (0.5, 0.8)) if random.random() < 0.6 else vec(0.75, 0.75, 0.78)
    scene.rod("spoon", 0.008, (0, -0.06, 0.01), (0, 0.16, 0.01), paint)
    scene.geom("spoon", "ellipsoid", [0.026, 0.036, 0.009], (0, SPOON_TIP, 0.009), paint)
    scene.body("cloth")
    paint = colour(random, (0.0, 1.0), (0.25, 0.7), (0.65, 0.95))
    for k in range(6):
        at = (random.uniform(-0.008, 0.008), -0.055 + 0.022 * k, 0.009)
        turned = turn_z(random.uniform(-0.12, 0.12))
        scene.geom("cloth", "ellipsoid", [0.075, 0.03, 0.013], at, paint * (1 - 0.12 * (k % 2)), turned=turned)
    scene.body("dirt")
    for k in range(DIRT):
        at = (random.uniform(-0.1, 0.1), random.uniform(-0.055, 0.055), 0.0002 * k)
        size = [random.uniform(0.015, 0.045), 0.0004]
        scene.geom("dirt", "cylinder", size, at, vec(0.32, 0.22, 0.1), alpha=0.4, name=f"dirt{k}")


def add_fluids(scene: Scene, radius: float, paint: Array, random: np.random.Generator, *, bits: bool) -> None:
    """A stream to pour, and contents that fill a vessel of this radius; with bits to stir."""
    scene.body("stream")
    scene.geom("stream", "capsule", [0.012, 0.1], (0, 0, 0), paint, name="stream")
    scene.body("contents")
    scene.geom("contents", "cylinder", [0.93 * radius, 0.002], (0, 0, 0), paint)
    if bits:
        for k in range(4):
            at = (0.55 * radius * np.cos(1.7 * k), 0.55 * radius * np.sin(1.7 * k), 0.002)
            shade = colour(random, (0.0, 1.0), 0.7, 0.85)
            scene.geom("contents", "ellipsoid", [0.17 * radius, 0.17 * radius, 0.008], at, shade)
