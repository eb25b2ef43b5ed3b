"""Views of events as frames, rendered by MuJoCo in software."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egoinstructor.errors import InputError
from simkitchen.cameras import Frame, HeadCamera, OutsideCamera
from simkitchen.events import Event, View
from simkitchen.geometry import Array
from simkitchen.screen import Screen, set_up_rendering
from simkitchen.staging import motion_of, stage_view

SUPERSAMPLING = 2
"""Pictures are rendered larger and averaged: cheaper than the renderer's own anti-aliasing."""
NOISE = 2.5
"""Standard deviation of a sensor's noise, of 255."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How clips are rendered.

    Args:
        size: side of a frame in pixels.
        frames: of a clip.

    Raises:
        InputError: an odd size, or one out of range; too few or too many frames.
    """

    size: int = 96
    frames: int = 16

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 32 <= self.size <= 512 or self.size % 2:
            raise InputError(f"size {self.size}: give an even number of pixels from 32 to 512.")
        if not 2 <= self.frames <= 256:
            raise InputError(f"{self.frames} frames: give 2 to 256.")

    @property
    def shadow(self) -> int:
        """Side of the shadow map: the greatest cost of software rendering."""
        return 384 if self.size <= 112 else 512


def render_view(event: Event, view: View, settings: Settings) -> NDArray[np.uint8]:
    """One view of an event: frames `(F, H, W, 3)`, RGB. The same event gives the same frames.

    Raises:
        MissingExtraError: MuJoCo is not installed.
        InputError: rendering doesn't work on this machine.
    """
    shots = _shoot(event, view, settings, np.random.default_rng(view.seed))
    develop = _film(np.random.default_rng([view.seed, 1]))
    return np.stack([develop(screen.picture(frame)) for screen, frame in shots])


def visible_share(event: Event, view: View, settings: Settings) -> NDArray[np.float64]:
    """How much of each frame shows the thing that is acted on, and nothing before it `(F,)`, from 0 to 1.

    Raises:
        MissingExtraError: MuJoCo is not installed.
        InputError: rendering doesn't work on this machine.
    """
    shots = _shoot(event, view, settings, np.random.default_rng(view.seed))
    return np.array([screen.share(frame, "thing") for screen, frame in shots])


def _shoot(event: Event, view: View, settings: Settings, random: np.random.Generator) -> Iterator[tuple[Screen, Frame]]:
    """A clip's moments, one after the other: the scene as it is then, and its camera."""
    set_up_rendering()
    pixels = settings.size * SUPERSAMPLING
    play = stage_view(event, view, random, pixels=pixels, shadow=settings.shadow)
    motion = motion_of(event, play.kitchen)

    def act(x: float) -> Array:
        focus = motion(play, x)
        play.person.look(focus)
        play.stage.settle()
        return focus

    act(0.0)
    camera = HeadCamera(play, random) if view.camera == "ego" else OutsideCamera(play, act, random)
    start, end = random.uniform(0, 0.08), random.uniform(0.92, 1)
    with Screen(play.stage, pixels, hide_head=view.camera == "ego") as screen:
        for x in np.linspace(start, end, settings.frames):
            yield screen, camera.frame(act(float(x)), float(x) * play.duration)


def _film(random: np.random.Generator) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """What a camera makes of a picture: averaged, with its exposure, white balance, contrast and noise."""
    gain, balance = random.uniform(0.88, 1.18), 1 + random.normal(0, 0.035, 3)
    gamma = random.uniform(0.85, 1.12)

    def develop(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = picture.shape[0] // SUPERSAMPLING
        light = picture.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING, 3).mean((1, 3)) / 255
        light = 255 * np.clip(light * gain * balance, 0, 1) ** gamma
        return np.clip(light + random.normal(0, NOISE, light.shape), 0, 255).astype(np.uint8)

    return develop
