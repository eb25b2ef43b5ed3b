"""Whether this machine can render."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import numpy as np
from simkitchen.scene import Scene
from simkitchen.cameras import looking
from simkitchen.screen import Screen, set_up_rendering
from simkitchen.stage import Stage
set_up_rendering()
stage = Stage(Scene(), pixels=32, shadow=32, ambient=0.3, headlight=0.3)
with Screen(stage, 32, hide_head=False) as screen:
    screen.picture(looking(np.ones(3), np.zeros(3), 45.0))
"""


@pytest.fixture(scope="session")
def can_render() -> None:
    """Skips where MuJoCo or the libraries that it renders with are missing; in a process of its own, since drivers crash."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        pytest.skip(f"rendering doesn't work here: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
