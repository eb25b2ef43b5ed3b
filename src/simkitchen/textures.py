"""Procedural textures: wood, stone and tiles, `(N, N, 3)` from 0 to 1."""

from __future__ import annotations

import colorsys

import numpy as np

from simkitchen.geometry import Array

SIZE = 128
Range = float | tuple[float, float]


def colour(random: np.random.Generator, hue: Range, saturation: Range, value: Range) -> Array:
    """A colour whose hue, saturation and value are given, or drawn from a range."""
    h, s, v = (random.uniform(*x) if isinstance(x, tuple) else x for x in (hue, saturation, value))
    return np.array(colorsys.hsv_to_rgb(h % 1, s, v))


def wood(random: np.random.Generator, base: Array) -> Array:
    """Grain along one axis."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    grain = np.zeros((SIZE, SIZE))
    for k in (2, 5, 9):
        waves = k * random.integers(1, 4) * x + 0.35 * np.sin(2 * np.pi * (y * random.integers(1, 3) + random.random()))
        grain += random.uniform(0.3, 1) * np.sin(2 * np.pi * waves)
    return np.clip(base * (1 + 0.05 * grain[..., None] + random.normal(0, 0.02, (SIZE, SIZE, 1))), 0, 1)


def stone(random: np.random.Generator, base: Array) -> Array:
    """Clouds and specks."""
    clouds = np.zeros((SIZE, SIZE))
    for k, height in ((4, 1.0), (8, 0.6), (16, 0.4), (32, 0.3)):
        clouds += height * _enlarged(random.normal(0, 1, (k, k)))
    specks = (random.random((SIZE, SIZE)) < 0.03) * random.uniform(-0.3, 0.3)
    return np.clip(base * (1 + (0.05 * clouds + specks)[..., None]), 0, 1)


def tiles(random: np.random.Generator, base: Array) -> Array:
    """Tiles with dark joints, in rows or laid like bricks."""
    across = int(random.choice([2, 4]))
    side, bricks = SIZE // across, random.random() < 0.5
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    row = rows // side
    shifted = columns + (row % 2) * (side // 2 if bricks else 0)
    shade = 1 + random.normal(0, 0.05, (across, across + 1))
    picture = base * shade[row, shifted // side % (across + 1)][..., None]
    picture[(rows % side < 2) | (shifted % side < 2)] = base * 0.6
    return np.clip(picture, 0, 1)


def plain(base: Array) -> Array:
    """One colour."""
    return np.ones((16, 16, 3)) * base


def _enlarged(grid: Array) -> Array:
    """A small grid at the texture's size, joined smoothly, its edges meeting."""
    n = len(grid)
    at = np.arange(SIZE) * n / SIZE
    low = at.astype(int)
    share = at - low
    share = share * share * (3 - 2 * share)
    high = (low + 1) % n
    rows = grid[low] * (1 - share)[:, None] + grid[high] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, high] * share
