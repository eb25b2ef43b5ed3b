"""The invented categories: shape × part × colours. An instance keeps its category's rule and differs in sizes and shades."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np

from simkitchen.catalogue import Noun
from simkitchen.geometry import Array, circle, lathe, triangle, turn_y, vec
from simkitchen.props import Built, Solid, Vessel, Work, cap, make_solid, make_vessel

PALETTE = {
    "red": (0.995, 0.88, 0.82),
    "orange": (0.07, 0.95, 0.98),
    "yellow": (0.15, 0.92, 0.98),
    "green": (0.36, 0.82, 0.58),
    "cyan": (0.49, 0.75, 0.92),
    "blue": (0.63, 0.85, 0.78),
    "purple": (0.77, 0.72, 0.6),
    "pink": (0.91, 0.48, 0.98),
    "white": (0.1, 0.03, 0.95),
    "black": (0.6, 0.15, 0.1),
}
FLESH = vec(0.97, 0.93, 0.78)


def shade(name: str, random: np.random.Generator) -> Array:
    """A shade that goes by the colour's name."""
    hue, saturation, value = PALETTE[name]
    hue += random.uniform(-0.012, 0.012)
    saturation = min(1.0, saturation * random.uniform(0.9, 1.06))
    value = min(1.0, value * random.uniform(0.9, 1.04))
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def build_invented(work: Work, noun: Noun) -> Built:
    """An instance of an invented category."""
    shape, part, main, accent = noun.rule
    body, band = shade(main, work.random), shade(accent, work.random)
    built = SHAPES[shape](work, body, band)
    PARTS[part](work, built, band)
    return built


def _stretch(work: Work) -> float:
    return float(work.random.uniform(0.92, 1.08))


def _ends(body: Array, band: Array) -> tuple[Array, ...]:
    return band, body, body, band


def _melon(work: Work, body: Array, band: Array) -> Built:
    def profile(x: Array) -> Array:
        return np.sqrt(np.clip(1 - x * x, 0, 1))

    solid = Solid(0.2 * _stretch(work), 0.066 * _stretch(work), profile, circle(), _ends(body, band), FLESH)
    return make_solid(work, solid)


def _gourd(work: Work, body: Array, band: Array) -> Built:
    def profile(x: Array) -> Array:
        large = np.sqrt(np.clip(1 - ((x - 0.38) / 0.62) ** 2, 0, 1))
        small = 0.62 * np.sqrt(np.clip(1 - ((x + 0.58) / 0.42) ** 2, 0, 1))
        return np.maximum(large, np.maximum(small, np.where(np.abs(x) < 0.9, 0.3, 0)))

    solid = Solid(0.23 * _stretch(work), 0.064 * _stretch(work), profile, circle(), (band, body, body), FLESH)
    return make_solid(work, solid)


def _wedge(work: Work, body: Array, band: Array) -> Built:
    def profile(x: Array) -> Array:
        return np.full_like(x, 1.0)

    solid = Solid(0.17 * _stretch(work), 0.078 * _stretch(work), profile, triangle(), _ends(body, band), FLESH)
    return make_solid(work, solid)


def _spool(work: Work, body: Array, band: Array) -> Built:
    def profile(x: Array) -> Array:
        return 0.4 + 0.6 * np.abs(x) ** 1.6

    solid = Solid(0.19 * _stretch(work), 0.07 * _stretch(work), profile, circle(), _ends(body, band), FLESH)
    return make_solid(work, solid)


def _basin(work: Work, body: Array, band: Array) -> Built:
    rim, height = 0.095 * _stretch(work), 0.075 * _stretch(work)
    return make_vessel(work, Vessel(0.35 * rim, rim, height, 0.5, body, band), rim=True)


def _tub(work: Work, body: Array, band: Array) -> Built:
    rim, height = 0.064 * _stretch(work), 0.14 * _stretch(work)
    return make_vessel(work, Vessel(0.95 * rim, rim, height, 1.0, body, band), rim=False)


def _goblet(work: Work, body: Array, band: Array) -> Built:
    rim, height = 0.068 * _stretch(work), 0.16 * _stretch(work)
    return make_vessel(work, Vessel(0.4 * rim, rim, height, 0.5, body, band, foot=0.4 * height), rim=False)


def _lidded(work: Work, profile: list[tuple[float, float]], body: Array, band: Array, top: float) -> Built:
    """Turned, with a band about its middle and a lid of radius `top`."""
    rings = np.array(profile)
    height, widest = float(rings[-1, 1]), float(rings[:, 0].max())
    work.scene.mesh(work.body, lathe([(0, 0), *profile, (0, height)]), body)
    low, high = 0.3 * height, 0.58 * height
    radii = np.interp([low, high], rings[:, 1], rings[:, 0]) + 0.0025
    work.scene.mesh(work.body, lathe([(radii[0] - 0.003, low), (radii[0], low), (radii[1], high), (0, high)]), band)
    lid = cap(work, height, top, 0.022, band)
    return Built(
        height=height + 0.03,
        reach=widest,
        depth=widest,
        grip_height=0.42 * height,
        spout=vec(-work.side * 0.9 * top, 0, height),
        lid=lid,
        contents=0.5 * body + 0.45,
    )


def _drum(work: Work, body: Array, band: Array) -> Built:
    r, h = 0.063 * _stretch(work), 0.135 * _stretch(work)
    return _lidded(work, [(0.9 * r, 0), (r, 0.12 * h), (r, 0.88 * h), (0.9 * r, h)], body, band, 0.72 * r)


def _flask(work: Work, body: Array, band: Array) -> Built:
    r, h = 0.078 * _stretch(work), 0.16 * _stretch(work)
    return _lidded(work, [(r, 0), (0.95 * r, 0.12 * h), (0.36 * r, 0.75 * h), (0.36 * r, h)], body, band, 0.48 * r)


def _crate(work: Work, body: Array, band: Array) -> Built:
    r, h = 0.06 * _stretch(work), 0.115 * _stretch(work)
    work.scene.geom(work.body, "box", [r, r, h / 2], (0, 0, h / 2), body)
    work.scene.geom(work.body, "box", [r + 0.002, r + 0.002, 0.14 * h], (0, 0, 0.44 * h), band)
    lid = cap(work, h, 0.72 * r, 0.02, band, square=True)
    spout = vec(-work.side * 0.9 * r, 0, h)
    return Built(h + 0.03, r, r, 0.45 * h, spout=spout, lid=lid, contents=0.5 * body + 0.45)


SHAPES: dict[str, Callable[[Work, Array, Array], Built]] = {
    "melon": _melon,
    "gourd": _gourd,
    "wedge": _wedge,
    "spool": _spool,
    "basin": _basin,
    "tub": _tub,
    "goblet": _goblet,
    "drum": _drum,
    "flask": _flask,
    "crate": _crate,
}


# Parts stand on the side away from the hand, so that neither the hand nor a knife meets them.


def _away(work: Work, built: Built) -> float:
    return -0.3 * built.length * work.side if built.length else 0.0


def _nothing(work: Work, built: Built, colour: Array) -> None:
    pass


def _ears(work: Work, built: Built, colour: Array) -> None:
    x = _away(work, built)
    spread = 0.55 * built.depth if built.length else 0.85 * built.depth
    for sign in (-1, 1):
        at = (x, sign * spread, built.height) if built.length else (sign * spread, 0.3 * spread, 0.85 * built.height)
        work.scene.geom(work.body, "sphere", [0.027], at, colour)


def _studs(work: Work, built: Built, colour: Array) -> None:
    for angle in np.arange(8) * np.pi / 4:
        c, s = np.cos(angle), np.sin(angle)
        if built.length:
            at = (_away(work, built), 0.97 * built.depth * c, 0.5 * built.height * (1 + s))
        else:
            at = (0.9 * built.depth * c, 0.9 * built.depth * s, 0.72 * built.height)
        work.scene.geom(work.body, "sphere", [0.014], at, colour)


def _antennae(work: Work, built: Built, colour: Array) -> None:
    x = _away(work, built)
    for sign in (-1, 1):
        foot = vec(x + sign * 0.3 * built.depth, 0.6 * built.depth, 0.75 * built.height)
        tip = vec(x + sign * 0.85 * built.depth, 0.95 * built.depth, built.height + 0.075)
        work.scene.rod(work.body, 0.006, foot, tip, colour)
        work.scene.geom(work.body, "sphere", [0.017], tip, colour)


def _flange(work: Work, built: Built, colour: Array) -> None:
    """A broad disc about its waist."""
    radius = (1.45 if built.length else 1.55) * built.depth
    turned = turn_y(np.pi / 2) if built.length else None
    size = [min(radius, built.height / 2 + 0.035) if built.length else radius, 0.005]
    at = (_away(work, built), 0, 0.5 * built.height if built.length else 0.3 * built.height)
    work.scene.geom(work.body, "cylinder", size, at, colour, turned=turned)


PARTS: dict[str, Callable[[Work, Built, Array], None]] = {
    "plain": _nothing,
    "ears": _ears,
    "studs": _studs,
    "antennae": _antennae,
    "flange": _flange,
}
