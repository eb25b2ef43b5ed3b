"""The familiar things: fruit, crockery, bottles. Somewhat larger than life, since clips are small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simkitchen.catalogue import Noun
from simkitchen.geometry import Array, circle, lathe, triangle, vec
from simkitchen.props import Built, Solid, Vessel, Work, cap, make_solid, make_vessel, side_handle
from simkitchen.textures import Range, colour

DARK = vec(0.1, 0.1, 0.11)
PAPER = vec(0.95, 0.94, 0.88)


@dataclass(frozen=True, slots=True)
class Food:
    """A food: its length and thickness in metres, its skin's hue, saturation and value, its flesh."""

    length: float
    radius: float
    hue: Range
    saturation: Range
    value: Range
    flesh: tuple[float, float, float]


FOODS = {
    "apple": Food(0.1, 0.052, (-0.03, 0.02), (0.8, 0.95), (0.65, 0.85), (0.97, 0.93, 0.75)),
    "tomato": Food(0.082, 0.046, (-0.01, 0.01), (0.9, 1.0), (0.85, 0.95), (0.95, 0.4, 0.3)),
    "lemon": Food(0.12, 0.042, (0.145, 0.16), (0.85, 0.95), (0.92, 1.0), (1.0, 0.95, 0.55)),
    "onion": Food(0.105, 0.05, (0.9, 0.95), (0.5, 0.7), (0.45, 0.6), (0.95, 0.9, 0.92)),
    "corn": Food(0.21, 0.036, (0.13, 0.15), (0.7, 0.85), (0.9, 1.0), (0.93, 0.85, 0.55)),
    "carrot": Food(0.21, 0.032, (0.06, 0.075), (0.88, 0.95), (0.9, 1.0), (1.0, 0.6, 0.2)),
    "cucumber": Food(0.24, 0.032, (0.3, 0.36), (0.65, 0.8), (0.3, 0.45), (0.8, 0.9, 0.65)),
    "bread": Food(0.25, 0.062, (0.07, 0.085), (0.55, 0.7), (0.55, 0.7), (0.96, 0.88, 0.7)),
    "cheese": Food(0.14, 0.065, (0.12, 0.14), (0.65, 0.8), (0.92, 1.0), (1.0, 0.9, 0.5)),
}


def build_familiar(work: Work, noun: Noun) -> Built:
    """An instance of a familiar thing."""
    return _food(work, noun.name) if noun.name in FOODS else MAKERS[noun.name](work)


def _size(work: Work) -> float:
    return float(work.random.uniform(0.92, 1.08))


def _vivid(work: Work) -> Array:
    return colour(work.random, (0.0, 1.0), (0.4, 0.9), (0.5, 1.0))


def _profile(name: str) -> Callable[[Array], Array]:
    def profile(x: Array) -> Array:
        if name == "carrot":
            return (0.3 + 0.7 * (x + 1) / 2) * np.sqrt(np.clip(1 - np.abs(x) ** 9, 0, 1))
        if name in ("cucumber", "bread", "corn"):
            return np.sqrt(np.clip(1 - np.abs(x) ** 6, 0, 1))
        if name == "cheese":
            return np.full_like(x, 1.0)
        round_ = np.sqrt(np.clip(1 - x * x, 0, 1))
        return round_ * 0.92 + 0.18 * np.exp(-(((np.abs(x) - 0.95) / 0.12) ** 2)) if name == "lemon" else round_

    return profile


def _food(work: Work, name: str) -> Built:
    food = FOODS[name]
    skin = colour(work.random, food.hue, food.saturation, food.value)
    if name == "apple" and work.random.random() < 0.3:
        skin = colour(work.random, (0.22, 0.28), (0.6, 0.8), (0.6, 0.8))
    section = triangle() if name == "cheese" else circle()
    length = food.length * _size(work)
    solid = Solid(length, food.radius * _size(work), _profile(name), section, (skin,), vec(*food.flesh))
    built = make_solid(work, solid)
    end, z = -work.side * length / 2, solid.rest
    if name == "carrot":
        for y in (-0.02, 0, 0.02):
            work.scene.rod(work.body, 0.006, (0.95 * end, 0, z), (1.45 * end, y, z + 0.015), (0.2, 0.55, 0.15))
    elif name == "corn":
        for y in (-0.03, 0.03):
            work.scene.rod(work.body, 0.014, (1.1 * end, 0.3 * y, 0.8 * z), (0.3 * end, y, 0.8 * z), (0.3, 0.6, 0.15))
    elif name == "apple":
        work.scene.rod(work.body, 0.004, (0, 0, 1.9 * z), (0.01, 0, 2.4 * z), (0.3, 0.2, 0.1))
    elif name == "tomato":
        work.scene.geom(work.body, "ellipsoid", [0.026, 0.026, 0.006], (0, 0, 2 * z), (0.15, 0.5, 0.15))
    elif name == "onion":
        work.scene.rod(work.body, 0.006, (0.9 * end, 0, z), (1.45 * end, 0, z), 0.8 * skin)
    return built


def _mug(work: Work) -> Built:
    r, h, paint = 0.052 * _size(work), 0.115 * _size(work), _vivid(work)
    side_handle(work, r, 0.5 * h, 0.036, 0.008, paint)
    return make_vessel(work, Vessel(0.92 * r, r, h, 1.0, paint), rim=False)


def _bowl(work: Work) -> Built:
    r, h = 0.1 * _size(work), 0.072 * _size(work)
    return make_vessel(work, Vessel(0.4 * r, r, h, 0.55, colour(work.random, (0.0, 1.0), (0, 0.25), 0.93)), rim=True)


def _pot(work: Work) -> Built:
    r, h, grey = 0.105 * _size(work), 0.125 * _size(work), vec(0.68, 0.69, 0.71)
    for sign in (-1, 1):
        x = sign * (r + 0.03)
        work.scene.rod(work.body, 0.009, (x, -0.03, 0.8 * h), (x, 0.03, 0.8 * h), DARK)
        for y in (-0.03, 0.03):
            work.scene.rod(work.body, 0.006, (sign * r, y, 0.8 * h), (x, y, 0.8 * h), DARK)
    return make_vessel(work, Vessel(r, r, h, 1.0, grey * _size(work)), rim=True)


def _pan(work: Work) -> Built:
    r, h = 0.115 * _size(work), 0.045
    work.scene.rod(work.body, 0.013, (-work.side * 0.6 * r, -0.7 * r, 0.8 * h), (-work.side * r, -0.27, h + 0.01), DARK)
    return make_vessel(work, Vessel(0.85 * r, r, h, 1.0, DARK * work.random.uniform(0.8, 1.8)), rim=True)


def _jug(work: Work) -> Built:
    r, h = 0.06 * _size(work), 0.18 * _size(work)
    glass = colour(work.random, (0.5, 0.6), (0.15, 0.4), 0.95)
    side_handle(work, 0.9 * r, 0.55 * h, 0.055, 0.01, glass)
    work.scene.geom(work.body, "ellipsoid", [0.03, 0.02, 0.012], (-work.side * r, 0, h - 0.012), glass)
    return make_vessel(work, Vessel(r, 0.82 * r, h, 1.3, glass), rim=False)


def _plate(work: Work) -> Built:
    r = 0.125 * _size(work)
    paint = colour(work.random, (0.0, 1.0), (0, 0.2), (0.85, 0.97))
    rings = [(0, 0), (0.6 * r, 0), (r, 0.018), (r, 0.022), (0.62 * r, 0.007), (0, 0.007)]
    work.scene.mesh(work.body, lathe(rings, 22), paint)
    work.scene.geom(work.body, "cylinder", [0.6 * r, 0.001], (0, 0, 0.0075), 0.85 * paint)
    return Built(0.022, r, r, 0.018, rim=True)


def _egg(work: Work) -> Built:
    r, paint = 0.034 * _size(work), colour(work.random, (0.06, 0.09), (0.15, 0.4), (0.88, 0.97))
    work.scene.geom(work.body, "ellipsoid", [r, r, 1.3 * r], (0, 0, 1.3 * r), paint)
    work.scene.geom(work.body, "cylinder", [0.75 * r, 0.012], (0, 0, 0.012), vec(0.35, 0.5, 0.75))
    return Built(2.6 * r, r, r, 1.1 * r)


def _banana(work: Work) -> Built:
    angles = np.linspace(-0.9, 0.9, 6)
    points = [(0.12 * np.sin(a), 0.12 * (1 - np.cos(a)) - 0.02, 0.022) for a in angles]
    work.scene.rods(work.body, 0.021, points, colour(work.random, (0.135, 0.155), (0.8, 0.95), (0.92, 1.0)))
    for end in (points[0], points[-1]):
        x, y, z = end
        work.scene.rod(work.body, 0.008, end, (1.25 * x, y + 0.025, z), (0.35, 0.25, 0.1))
    return Built(0.044, 0.1, 0.03, 0.03)


def _can(work: Work) -> Built:
    r, h, paint = 0.044 * _size(work), 0.125 * _size(work), _vivid(work)
    work.scene.geom(work.body, "cylinder", [r, h / 2], (0, 0, h / 2), paint)
    for z in (0.004, h - 0.002):
        work.scene.geom(work.body, "cylinder", [1.02 * r, 0.005], (0, 0, z), vec(0.75, 0.75, 0.78))
    work.scene.geom(work.body, "cylinder", [0.85 * r, 0.002], (0, 0, h + 0.002), vec(0.6, 0.6, 0.63))
    work.scene.geom(work.body, "cylinder", [1.01 * r, 0.2 * h], (0, 0, 0.5 * h), PAPER)
    return Built(h, r, r, 0.5 * h)


def _bottle(work: Work) -> Built:
    r, h = 0.04 * _size(work), 0.24 * _size(work)
    hue: Range = (0.28, 0.38) if work.random.random() < 0.5 else (0.0, 0.08)
    glass = colour(work.random, hue, (0.6, 0.9), (0.3, 0.5))
    work.scene.mesh(
        work.body, lathe([(0, 0), (r, 0), (r, 0.58 * h), (0.42 * r, 0.78 * h), (0.4 * r, h), (0, h)]), glass
    )
    work.scene.geom(work.body, "cylinder", [1.02 * r, 0.13 * h], (0, 0, 0.32 * h), PAPER)
    lid = cap(work, h, 0.5 * r, 0.03, colour(work.random, (0.0, 1.0), 0.8, 0.8))
    return _pourer(work, h, r, 0.4 * r, 0.45 * h, lid, 0.5 * glass + 0.35)


def _jar(work: Work) -> Built:
    r, h = 0.054 * _size(work), 0.125 * _size(work)
    jam = colour(work.random, (0.95, 1.08), (0.7, 0.95), (0.4, 0.7))
    work.scene.geom(work.body, "cylinder", [r, h / 2], (0, 0, h / 2), jam)
    work.scene.geom(work.body, "cylinder", [1.01 * r, 0.2 * h], (0, 0, 0.45 * h), PAPER)
    lid = cap(work, h, 1.03 * r, 0.02, colour(work.random, (0.1, 0.14), 0.6, 0.85))
    return _pourer(work, h, r, r, 0.45 * h, lid, jam)


def _kettle(work: Work) -> Built:
    r, h = 0.082 * _size(work), 0.14 * _size(work)
    paint = _vivid(work) if work.random.random() < 0.5 else vec(0.75, 0.75, 0.78)
    rings = [(0, 0), (r, 0), (1.02 * r, 0.35 * h), (0.75 * r, 0.85 * h), (0.42 * r, h), (0, h)]
    work.scene.mesh(work.body, lathe(rings), paint)
    spout = vec(-work.side * (r + 0.05), 0, 0.95 * h)
    work.scene.rod(work.body, 0.014, (-work.side * 0.8 * r, 0, 0.45 * h), spout, paint)
    side_handle(work, 0.85 * r, 0.55 * h, 0.055, 0.011, DARK)
    lid = cap(work, h, 0.45 * r, 0.014, DARK)
    return Built(h + 0.03, r + 0.04, r, 0.55 * h, rim=True, spout=spout, lid=lid, contents=vec(0.8, 0.9, 0.97))


def _milk(work: Work) -> Built:
    w, h = 0.044 * _size(work), 0.19 * _size(work)
    blue = colour(work.random, (0.55, 0.65), (0.7, 0.9), (0.6, 0.85))
    work.scene.geom(work.body, "box", [w, w, h / 2], (0, 0, h / 2), vec(0.95, 0.95, 0.96))
    work.scene.geom(work.body, "box", [1.01 * w, 1.01 * w, 0.15 * h], (0, 0, 0.3 * h), blue)
    work.scene.geom(work.body, "box", [0.7 * w, 1.0 * w, 0.05 * h], (0, 0, 1.02 * h), vec(0.9, 0.9, 0.93))
    lid = cap(work, 1.07 * h, 0.5 * w, 0.025, blue)
    return _pourer(work, 1.07 * h, w, 0.5 * w, 0.5 * h, lid, vec(0.97, 0.96, 0.93))


def _salt(work: Work) -> Built:
    r, h = 0.041 * _size(work), 0.14 * _size(work)
    paint = vec(0.93, 0.93, 0.94)
    work.scene.mesh(work.body, lathe([(0, 0), (r, 0), (0.75 * r, 0.5 * h), (0.85 * r, h), (0, h)]), paint)
    work.scene.geom(work.body, "cylinder", [0.86 * r, 0.1 * h], (0, 0, 0.4 * h), colour(work.random, 0.6, 0.7, 0.7))
    lid = cap(work, h, 0.95 * r, 0.022, vec(0.5, 0.5, 0.53))
    return _pourer(work, h, r, 0.7 * r, 0.4 * h, lid, vec(0.97, 0.97, 0.97))


def _pourer(work: Work, h: float, r: float, mouth: float, grip: float, lid: float | None, contents: Array) -> Built:
    return Built(h + 0.02, r, r, grip, spout=vec(-work.side * mouth, 0, h), lid=lid, contents=contents)


MAKERS: dict[str, Callable[[Work], Built]] = {
    "mug": _mug,
    "bowl": _bowl,
    "pot": _pot,
    "pan": _pan,
    "jug": _jug,
    "plate": _plate,
    "egg": _egg,
    "banana": _banana,
    "can": _can,
    "bottle": _bottle,
    "jar": _jar,
    "kettle": _kettle,
    "milk": _milk,
    "salt": _salt,
}
