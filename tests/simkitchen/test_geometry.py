"""Rotations, keyframes, the arm, closed surfaces."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkitchen import geometry as g
from simkitchen import textures

number = st.floats(-3, 3)
vector = st.tuples(number, number, number).map(np.array)
direction = vector.filter(lambda v: np.linalg.norm(v) > 0.1)
angle = st.floats(-7, 7)


def is_rotation(r: np.ndarray) -> bool:
    return np.allclose(r @ r.T, np.eye(3), atol=1e-9) and np.isclose(np.linalg.det(r), 1)


@given(direction, angle, vector)
def test_turn_is_a_rotation_about_its_axis(axis, by, point):
    turned = g.turn(axis, by)
    assert is_rotation(turned)
    assert np.allclose(turned @ axis, axis)
    assert np.allclose(turned @ g.turn(axis, -by) @ point, point)


def test_turns_follow_the_right_hand():
    assert np.allclose(g.turn_z(np.pi / 2) @ g.vec(1, 0, 0), (0, 1, 0))
    assert np.allclose(g.turn_x(np.pi / 2) @ g.vec(0, 1, 0), (0, 0, 1))
    assert np.allclose(g.turn_y(np.pi / 2) @ g.vec(0, 0, 1), (1, 0, 0))


@given(direction, angle, vector)
def test_quaternion_turns_as_its_matrix(axis, by, point):
    rotation = g.turn(axis, by)
    w, *xyz = g.quaternion(rotation)
    v = np.array(xyz)
    assert np.isclose(w * w + v @ v, 1)
    turned = point + 2 * np.cross(v, np.cross(v, point) + w * point)
    assert np.allclose(turned, rotation @ point, atol=1e-9)


@given(vector, vector)
def test_cross_is_numpys(a, b):
    assert np.allclose(g.cross(a, b), np.cross(a, b))


@given(direction, direction)
def test_axes_and_along_are_rotations(x, z):
    assert is_rotation(g.along(z))
    assert np.allclose(g.along(z)[:, 2], g.unit(z))
    if np.linalg.norm(np.cross(x, z)) > 0.05:
        turned = g.axes(x, z)
        assert is_rotation(turned)
        assert np.allclose(turned[:, 0], g.unit(x))
        assert turned[:, 2] @ z > 0


@given(st.floats(-1, 2), st.lists(st.tuples(st.floats(0, 1), number), min_size=1, max_size=5, unique_by=lambda k: k[0]))
def test_ease_passes_its_keys_and_stays_between_them(x, keys):
    keys = sorted(keys)
    assert g.ease(keys[0][0] - 0.1, *keys) == keys[0][1]
    assert g.ease(keys[-1][0] + 0.1, *keys) == keys[-1][1]
    assert all(np.isclose(g.ease(t, *keys), v) for t, v in keys)
    values = [v for _, v in keys]
    assert min(values) - 1e-9 <= g.ease(x, *keys) <= max(values) + 1e-9


@given(direction, direction)
def test_elbow_keeps_the_bones_lengths(reach, pole):
    shoulder, wrist = g.vec(0.2, 0.1, 1.3), g.vec(0.2, 0.1, 1.3) + 0.2 * reach
    joint = g.elbow(shoulder, wrist, pole, 0.29, 0.27)
    upper, lower = np.linalg.norm(joint - shoulder), np.linalg.norm(wrist - joint)
    if np.linalg.norm(np.cross(reach, pole)) > 0.05:
        assert np.isclose(upper / lower, 0.29 / 0.27, rtol=0.02)
        assert upper >= 0.29 - 1e-6
        if np.linalg.norm(wrist - shoulder) < 0.5:
            assert np.isclose(upper, 0.29)
            assert np.isclose(lower, 0.27)


# Surfaces


def check_closed(mesh: g.Mesh) -> float:
    """Every edge belongs to two triangles, once in each direction. Returns the volume, above 0 if the outside is outside."""
    corners, triangles = mesh
    same = {tuple(np.round(c, 9)): i for i, c in reversed(list(enumerate(corners)))}  # rings of no size are one point
    canon = [same[tuple(np.round(c, 9))] for c in corners]
    faces = [[canon[i] for i in t] for t in triangles]
    edges = Counter((f[i], f[(i + 1) % 3]) for f in faces for i in range(3) if len(set(f)) == 3)
    assert all(edges[b, a] == n for (a, b), n in edges.items())
    a, b, c = (corners[[f[i] for f in faces]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_lathe_is_closed_and_has_its_volume():
    cylinder = g.lathe([(0, 0), (1, 0), (1, 2), (0, 2)], 400)
    assert np.isclose(check_closed(cylinder), 2 * np.pi, rtol=1e-3)


def test_loft_is_closed_and_has_its_volume():
    cylinder = g.loft([0, 1, 1, 0], [-1, -1, 1, 1], g.circle(400))
    assert np.isclose(check_closed(cylinder), 2 * np.pi, rtol=1e-3)
    assert check_closed(g.loft([0, 1, 0.6, 0], [0, 0, 1, 1], g.triangle())) > 0.5


@given(st.floats(0.01, 0.1), st.floats(0.02, 0.1), st.floats(0.03, 0.2), st.floats(0.4, 1.4))
def test_open_vessel_is_closed_and_hollow(bottom, rim, height, bulge):
    mesh = g.open_vessel(bottom, rim, height, bulge)
    volume = check_closed(mesh)
    assert 0 < volume < np.pi * max(bottom, rim) ** 2 * height
    assert np.isclose(mesh[0][:, 2].max(), height)


# Textures


@pytest.mark.parametrize("make", [textures.wood, textures.stone, textures.tiles])
def test_textures_are_pictures_of_about_their_colour(make):
    base = np.array([0.6, 0.5, 0.4])
    picture = make(np.random.default_rng(0), base)
    assert picture.shape == (128, 128, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert np.abs(picture.mean((0, 1)) - base).max() < 0.12
    assert picture.std(axis=(0, 1)).min() > 0.005
    assert np.array_equal(picture, make(np.random.default_rng(0), base))
