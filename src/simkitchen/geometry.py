"""Arithmetic of poses and surfaces: rotations, keyframes, a two-bone arm, meshes by turning and lofting."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Mesh: TypeAlias = tuple[Array, NDArray[np.int64]]
"""Corners `(N, 3)` and triangles `(M, 3)`, whose corners run against the clock seen from outside."""

UP = np.array([0.0, 0.0, 1.0])
NO_TURN = np.eye(3)


def vec(*values: float) -> Array:
    """A vector."""
    return np.array(values, float)


def unit(vector: ArrayLike) -> Array:
    """The same direction, length 1."""
    array = np.asarray(vector, float)
    return array / (math.sqrt(float(array @ array)) + 1e-12)


def cross(a: Array, b: Array) -> Array:
    """The vector product; numpy's own takes its time over two vectors."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def smooth(x: float) -> float:
    """From 0 to 1, at rest at both ends."""
    x = min(1.0, max(0.0, x))
    return x * x * (3 - 2 * x)


def ease(x: float, *keys: tuple[float, float]) -> float:
    """A number that moves smoothly from key to key `(time, value)`, and stays before the first and after the last."""
    if x <= keys[0][0]:
        return keys[0][1]
    for (t0, a), (t1, b) in pairwise(keys):
        if x <= t1:
            return a + (b - a) * smooth((x - t0) / (t1 - t0))
    return keys[-1][1]


def mix(a: Array, b: Array, share: float) -> Array:
    """From `a` at 0 to `b` at 1."""
    return a + (b - a) * share


def turn(axis: ArrayLike, angle: float) -> Array:
    """The rotation about an axis, in radians."""
    x, y, z = unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


def turn_x(angle: float) -> Array:
    """About the axis along the counter."""
    return turn((1, 0, 0), angle)


def turn_y(angle: float) -> Array:
    """About the axis away from who stands at the counter."""
    return turn((0, 1, 0), angle)


def turn_z(angle: float) -> Array:
    """About the vertical."""
    return turn((0, 0, 1), angle)


def axes(x: Array, z: Array) -> Array:
    """The rotation whose x axis is `x` and whose z axis is as near to `z` as can be."""
    x = unit(x)
    z = unit(z - x * (z @ x))
    return np.stack([x, cross(z, x), z], 1)


def along(direction: Array) -> Array:
    """A rotation whose z axis is this."""
    z = unit(direction)
    x = unit(cross(UP if abs(z[2]) < 0.9 else vec(1, 0, 0), z))
    return np.stack([x, cross(z, x), z], 1)


def quaternion(rotation: Array) -> Array:
    """A rotation as a unit quaternion, real part first."""
    r = rotation
    squares = np.array(
        [
            1 + r[0, 0] + r[1, 1] + r[2, 2],
            1 + r[0, 0] - r[1, 1] - r[2, 2],
            1 - r[0, 0] + r[1, 1] - r[2, 2],
            1 - r[0, 0] - r[1, 1] + r[2, 2],
        ]
    )
    largest = int(squares.argmax())
    products = [
        [squares[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
        [r[2, 1] - r[1, 2], squares[1], r[1, 0] + r[0, 1], r[0, 2] + r[2, 0]],
        [r[0, 2] - r[2, 0], r[1, 0] + r[0, 1], squares[2], r[2, 1] + r[1, 2]],
        [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[2, 1] + r[1, 2], squares[3]],
    ]
    return unit(products[largest])


def elbow(shoulder: Array, wrist: Array, pole: Array, upper: float, lower: float) -> Array:
    """Where the elbow is, bent towards `pole`; an arm too short for its reach is stretched."""
    reach = wrist - shoulder
    distance = math.sqrt(float(reach @ reach)) + 1e-9
    stretch = max(1.0, 1.02 * distance / (upper + lower))
    upper, lower = upper * stretch, lower * stretch
    forward = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = math.sqrt(max(upper**2 - forward**2, 0.0))
    direction = reach / distance
    return shoulder + direction * forward + unit(pole - direction * (pole @ direction)) * aside


def lathe(profile: ArrayLike, sides: int = 18) -> Mesh:
    """A surface of revolution about z.

    Args:
        profile: radius and height of each ring `(K, 2)`, from the bottom's middle outward and up.
        sides: corners of a ring.
    """
    rings = np.asarray(profile, float)
    angles = np.arange(sides) * 2 * np.pi / sides
    section = np.stack([np.cos(angles), np.sin(angles)], 1)
    return _skin(rings[:, 0], rings[:, 1], section)


def loft(radii: ArrayLike, positions: ArrayLike, section: Array) -> Mesh:
    """A solid along x: a cross-section of varying size.

    Args:
        radii: its size at each position `(K,)`.
        positions: x, growing `(K,)`.
        section: its outline in y and z, against the clock seen from +x `(N, 2)`.
    """
    corners, triangles = _skin(np.asarray(radii, float), np.asarray(positions, float), section)
    return corners[:, [2, 0, 1]], triangles


def _skin(radii: Array, heights: Array, section: Array) -> Mesh:
    """Rings of one outline, stacked and joined; rings of no size are points."""
    rings, n = len(radii), len(section)
    corners = np.concatenate([np.c_[section * r, np.full(n, h)] for r, h in zip(radii, heights, strict=True)])
    triangles = []
    for i in range(rings - 1):
        for j in range(n):
            a, b = i * n + j, i * n + (j + 1) % n
            c, d = a + n, b + n
            if radii[i] > 1e-6:
                triangles.append((a, b, d if radii[i + 1] > 1e-6 else c))
            if radii[i + 1] > 1e-6:
                triangles.append((a, d, c))
    return corners, np.array(triangles, np.int64)


def open_vessel(bottom: float, rim: float, height: float, bulge: float = 1.0, wall: float = 0.005) -> Mesh:
    """A vessel with a real cavity.

    Args:
        bottom: radius.
        rim: radius.
        height: of the rim.
        bulge: below 1 the wall leans out early, above 1 late.
        wall: thickness.
    """
    up = np.linspace(0, 1, 6)
    radii = bottom + (rim - bottom) * up**bulge
    outside = [(0.0, 0.0), *zip(radii, up * height, strict=True)]
    inside = list(zip(np.maximum(radii - wall, 0.002), np.maximum(up * height, wall), strict=True))[::-1]
    return lathe([*outside, *inside, (0.0, wall)])


def circle(corners: int = 14) -> Array:
    """A round outline of radius 1."""
    angles = np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def triangle() -> Array:
    """A triangular outline that stands on a side."""
    angles = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    return np.stack([np.cos(angles), np.sin(angles)], 1)
