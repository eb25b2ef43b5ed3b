"""What is rendered: the same every time, from every verb, showing what happens. Skipped where nothing can be rendered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from simkitchen.catalogue import FIXTURES, VERBS
from simkitchen.events import Event, generate
from simkitchen.rendering import Settings, render_view, visible_share

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("can_render")]
SMALL = Settings(size=64, frames=4)


def kinds() -> Iterator[Event]:
    """An event of each verb, and of each verb for what belongs to the kitchen."""
    wanted = {(verb, None) for verb in VERBS[:-2]} | {(verb, noun) for noun in FIXTURES for verb in FIXTURES[noun]}
    for event in generate("train", 2000):
        kind = (event.verb, event.noun if event.noun in FIXTURES else None)
        if kind in wanted and len(event.views) == 2:
            wanted.remove(kind)
            yield event
    assert not wanted


@pytest.mark.parametrize("event", list(kinds()), ids=lambda event: f"{event.verb} {event.noun}")
def test_every_kind_of_event_is_rendered(event):
    for view in event.views:
        frames = render_view(event, view, SMALL)
        assert frames.shape == (4, 64, 64, 3)
        assert frames.dtype == np.uint8
        assert 40 < frames.mean() < 220  # neither in the dark nor blinding
        assert frames.std(axis=(1, 2)).min() > 15  # there is something to see
        moved = np.abs(np.diff(frames.astype(int), axis=0)).max(-1) > 40
        assert moved.mean((1, 2)).max() > 0.01  # and it moves


def test_a_view_is_the_same_every_time():
    first, second = list(generate("test", 2))
    once = [render_view(first, view, SMALL) for view in first.views]
    render_view(second, second.views[0], SMALL)
    again = [render_view(first, view, SMALL) for view in reversed(first.views)]
    assert all(np.array_equal(a, b) for a, b in zip(once, reversed(again), strict=True))


def test_another_seed_looks_different():
    (event,), (other,) = generate("train", 1), generate("train", 1, seed=1)
    assert not np.array_equal(render_view(event, event.views[0], SMALL), render_view(other, other.views[0], SMALL))


def test_the_thing_is_to_be_seen():
    events = [event for event in generate("validation", 16) if event.view("ego").prop is not None][:10]
    best = {c: [visible_share(e, e.view(c), SMALL).max() for e in events] for c in ("ego", "exo")}
    assert min(best["ego"] + best["exo"]) > 0.002
    assert max(best["ego"] + best["exo"]) < 0.6
    assert np.median(best["ego"]) > 0.05
    assert np.median(best["exo"]) > 0.025


def test_what_belongs_to_the_kitchen_is_no_thing():
    event = next(event for event in generate("train", 100) if event.noun in FIXTURES)
    assert visible_share(event, event.views[0], SMALL).tolist() == [0, 0, 0, 0]


EARLY = """
import mujoco
from simkitchen.events import generate
from simkitchen.rendering import Settings, render_view
(event,) = generate("test", 1)
render_view(event, event.views[0], Settings(32, 2))
"""


def test_mujoco_imported_too_early_is_told():
    """It has then chosen GLFW, which needs a screen."""
    hidden = {
        name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    }
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, env=hidden, check=False)
    assert done.returncode == 1
    assert "InputError: SimKitchen can't render" in done.stderr
    assert "Set MUJOCO_GL=egl" in done.stderr
