"""Where the cameras are: on a head that moves, or somewhere outside that sees what matters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simkitchen.geometry import UP, Array, cross, mix, turn_z, unit, vec
from simkitchen.play import Play
from simkitchen.stage import Stage


@dataclass(frozen=True, slots=True)
class Shot:
    """A kind of shot from outside.

    Args:
        share: how often it is tried.
        distance: in metres.
        field: of view, in degrees.
        person: how much it looks at the person rather than at the action, 0 to 1.
    """

    share: float
    distance: tuple[float, float]
    field: tuple[float, float]
    person: float


CAMERA_SHOTS = (
    Shot(0.2, (1.25, 1.55), (32, 37), 0.4),
    Shot(0.4, (0.95, 1.2), (30, 36), 0.22),
    Shot(0.4, (0.68, 0.88), (32, 38), 0.0),
)
"""Wide, medium and close."""
CANDIDATES = 12
NEAR = 0.11
"""What hides a point from less far than this is likely the thing itself, or the hand on it."""
PHASES = (0.15, 0.5, 0.9)
"""When it is checked what an outside camera sees."""
FIELD = (44.0, 53.0)
"""The head camera's field of view in degrees: larger ones made things too small to tell."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A camera at a moment: where it is, how it is turned (its view is along -z), its vertical field of view."""

    at: Array
    turned: Array
    field: float


def looking(at: Array, focus: Array, field: float, roll: float = 0.0) -> Frame:
    """A camera that looks at something."""
    z = unit(at - focus)
    x = unit(cross(UP if abs(z[2]) < 0.999 else vec(0, 1, 0), z))
    return Frame(at, np.stack([x, cross(z, x), z], 1) @ turn_z(roll), field)


class Sway:
    """Slow, irregular motion of a head or a hand-held camera."""

    def __init__(self, random: np.random.Generator, channels: int) -> None:
        self._phases = random.uniform(0, 2 * np.pi, (channels, 3))
        self._rates = random.uniform(0.4, 2.2, (channels, 3))

    def __call__(self, channel: int, time: float) -> Array:
        """A vector, each part from -1 to 1."""
        return np.sin(np.pi * self._rates[channel] * time + self._phases[channel])


class HeadCamera:
    """On the head of who acts. The gaze follows the action, late and not quite."""

    def __init__(self, play: Play, random: np.random.Generator) -> None:
        self._play = play
        self._sway = Sway(random, 5)
        self._field = random.uniform(*FIELD)
        self._roll = random.normal(0, 0.05)
        self._offset = vec(random.normal(0, 0.02), 0.08 + random.normal(0, 0.02), 0.03 + random.normal(0, 0.02))
        self._missed = vec(random.normal(0, 0.025), 0.01 + random.normal(0, 0.025), 0)
        self._gaze: Array | None = None

    def frame(self, focus: Array, time: float) -> Frame:
        """The next moment."""
        sway = self._sway
        at = self._play.person.eyes + self._offset + 0.012 * sway(0, time) + 0.006 * sway(1, time)
        goal = focus + self._missed + 0.02 * sway(2, time) + 0.01 * sway(3, time)
        self._gaze = goal if self._gaze is None else mix(self._gaze, goal, 0.6)
        return looking(at, self._gaze, self._field, self._roll + 0.03 * float(sway(4, time)[0]))


class OutsideCamera:
    """On a stand or in somebody's hand: the one of some candidates that sees most of what matters."""

    def __init__(self, play: Play, act: Callable[[float], Array], random: np.random.Generator) -> None:
        self._sway = Sway(random, 2)
        candidates = [_candidate(play, act(0.55), random) for _ in range(CANDIDATES)]
        seen = np.zeros(CANDIDATES)
        for phase in PHASES:
            focus = act(phase)
            points = [focus, focus, play.person.at[play.person.better]]
            for i, (frame, _) in enumerate(candidates):
                seen[i] += sum(_shows(play.stage, frame, point) for point in points) / len(points) / len(PHASES)
        good = np.flatnonzero(seen >= seen.max() - 0.01)
        chosen = int(good[random.integers(len(good))])
        self._frame, self._focus = candidates[chosen]

    def frame(self, focus: Array, time: float) -> Frame:
        """The next moment; the camera doesn't follow the action, `focus`."""
        still = self._frame
        at = still.at + 0.004 * self._sway(0, time)
        return looking(at, self._focus + 0.004 * self._sway(1, time), still.field)


def _shows(stage: Stage, frame: Frame, point: Array) -> bool:
    """Whether a camera has a point in its picture, and nothing stands before it."""
    x, y, z = frame.turned.T @ (point - frame.at)
    edge = -z * math.tan(math.radians(0.43 * frame.field))  # a margin of a seventh
    return bool(max(abs(x), abs(y)) < edge) and stage.sees(frame.at, point, NEAR)


def _candidate(play: Play, focus: Array, random: np.random.Generator) -> tuple[Frame, Array]:
    noun, island = play.event.noun, play.kitchen.island
    shares = [shot.share for shot in CAMERA_SHOTS]
    shot = CAMERA_SHOTS[int(random.choice(len(CAMERA_SHOTS), p=shares))]
    side = 1 if noun == "cupboard" else random.choice([-1, 1])  # its door, hinged at the left, would hide it
    lowest, far = (0.2 if noun in ("oven", "cupboard", "drawer") else 0.45), 1.0
    if noun in play.kitchen.fixtures.doors:  # from behind the shoulder: doors open towards who opens them
        azimuth, far = side * random.uniform(1.5, 2.3), 1.25
    elif island:
        azimuth = random.uniform(-0.9, 0.9)
    else:
        azimuth = side * random.uniform(1.0, 1.7)
    elevation = random.uniform(lowest, 0.85)
    if island and far == 1.0 and random.random() < 0.12:
        elevation = 1.3  # from above, as how-to videos like it
    target = mix(focus, play.person.root + vec(0, 0.1, 1.2), shot.person)
    outward = vec(np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation))
    at = target + far * random.uniform(*shot.distance) * outward
    at[0] = np.clip(at[0], -2.7, 2.7)
    at[1] = min(at[1], 2.3 if island else 0.5)
    at[2] = np.clip(at[2], 0.75, 2.4)
    return looking(at, target, random.uniform(*shot.field)), target
