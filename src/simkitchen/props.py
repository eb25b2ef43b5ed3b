"""What portable things are made of: solids that can be sliced, open vessels, things with a lid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from simkitchen.geometry import Array, Mesh, lathe, loft, open_vessel, vec
from simkitchen.scene import Scene

State = Literal["whole", "sliced", "loose lid", "no lid"]
SLICES = 6
WATER = vec(0.72, 0.85, 0.97)


@dataclass(frozen=True, slots=True)
class Built:
    """A thing in the scene: what hands and other things need to know of it. It stands at its body's origin.

    Args:
        height: of its top.
        reach: from its middle to where a hand holds it, along the counter.
        depth: from its middle to its front.
        grip_height: of that place.
        rim: whether it is held by its rim, with a closed hand, rather than around its side.
        opening: radius of its cavity; 0 if it has none.
        floor: of the cavity.
        spout: where it pours from, on the side away from the hand.
        lid: height of a lid that is a body of its own, `{body}.lid`.
        length: of a solid that is cut, whose slices are bodies of their own, `{body}.0` and so on, from -x to +x.
        contents: colour of what is poured from it.
    """

    height: float
    reach: float
    depth: float
    grip_height: float
    rim: bool = False
    opening: float = 0.0
    floor: float = 0.008
    spout: Array | None = None
    lid: float | None = None
    length: float = 0.0
    contents: Array | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A thing in the making.

    Args:
        scene: what it is added to.
        body: its body there.
        random: decides its size and shades.
        side: +1 if it is held from +x, -1 from -x.
        state: which of its parts move by themselves.
    """

    scene: Scene
    body: str
    random: np.random.Generator
    side: int
    state: State

    def lid_body(self, height: float) -> tuple[str, float]:
        """Where a lid's geoms go: its own body, or the thing's at some height."""
        if self.state == "loose lid":
            return self.scene.body(f"{self.body}.lid"), 0.0
        return self.body, height


@dataclass(frozen=True, slots=True)
class Solid:
    """A solid along x.

    Args:
        length: along x.
        radius: where it is thickest.
        profile: radius as a share of the thickest, for x from -1 to 1 `(K,)` -> `(K,)`.
        section: its cross-section, of radius 1.
        colours: of its skin, along x in parts of equal length.
        flesh: its colour inside.
    """

    length: float
    radius: float
    profile: Callable[[Array], Array]
    section: Array
    colours: tuple[Array, ...]
    flesh: Array

    def piece(self, start: float, end: float, corners: int) -> Mesh:
        """The piece between two places, -1 to 1, closed at both ends."""
        at = np.linspace(start, end, corners)
        radii = self.radius * np.maximum(self.profile(at), 0)
        x = at * self.length / 2
        return loft([0, *radii, 0], [x[0], *x, x[-1]], self.section)

    @property
    def rest(self) -> float:
        """Height of its axis when it lies."""
        return float(-self.section[:, 1].min() * self.radius)


def make_solid(work: Work, solid: Solid) -> Built:
    """A solid that lies, whole or sliced."""
    scene, rest = work.scene, solid.rest
    bounds = np.linspace(-1, 1, len(solid.colours) + 1)
    if work.state == "sliced":
        cuts = np.linspace(-1, 1, SLICES + 1)
        for i, (start, end) in enumerate(pairwise(cuts)):
            body = scene.body(f"{work.body}.{i}")
            part = int(np.clip((start + end + 2) / 4 * len(solid.colours), 0, len(solid.colours) - 1))
            scene.mesh(body, solid.piece(start, end, 4), solid.colours[part], (0, 0, rest))
            flesh = 0.93 * solid.radius * np.maximum(solid.profile(np.array([start, end])), 0.12)
            for place, radius in zip((start, end), flesh, strict=True):
                if 0 < i < SLICES - 1 or abs(place) < 0.99:
                    x = place * solid.length / 2
                    disc = loft([0, radius, radius, 0], [x - 0.001, x - 0.001, x + 0.001, x + 0.001], solid.section)
                    scene.mesh(body, disc, solid.flesh, (0, 0, rest))
    else:
        for start, end, colour in zip(bounds[:-1], bounds[1:], solid.colours, strict=True):
            scene.mesh(work.body, solid.piece(start, end, 8), colour, (0, 0, rest))
    top = rest + float(solid.section[:, 1].max()) * solid.radius
    return Built(
        height=top, reach=solid.length / 2, depth=solid.radius, grip_height=0.5 * top, length=solid.length, floor=top
    )


@dataclass(frozen=True, slots=True)
class Vessel:
    """An open vessel.

    Args:
        bottom: radius.
        rim: radius.
        height: of the rim.
        bulge: see `open_vessel`.
        colour: outside.
        band: colour of the upper part, if it differs.
        foot: height of a stem that it stands on.
    """

    bottom: float
    rim: float
    height: float
    bulge: float
    colour: Array
    band: Array | None = None
    foot: float = 0.0


def make_vessel(work: Work, vessel: Vessel, *, rim: bool) -> Built:
    """An open vessel, held by its rim or around its side."""
    scene, body = work.scene, work.body
    if vessel.foot:
        stem = [(0, 0), (0.75 * vessel.rim, 0), (0.7 * vessel.rim, 0.01), (0.012, 0.025), (0.012, vessel.foot)]
        scene.mesh(body, lathe([*stem, (0, vessel.foot)]), vessel.colour if vessel.band is None else vessel.band)
    bowl = open_vessel(vessel.bottom, vessel.rim, vessel.height - vessel.foot, vessel.bulge)
    scene.mesh(body, bowl, vessel.colour, (0, 0, vessel.foot))
    if vessel.band is not None:
        up = np.linspace(0.62, 1, 4)
        radii = vessel.bottom + (vessel.rim - vessel.bottom) * up**vessel.bulge
        heights = vessel.foot + up * (vessel.height - vessel.foot)
        outside = list(zip(radii + 0.002, heights, strict=True))
        scene.mesh(body, lathe([*outside, (radii[-1] - 0.006, heights[-1] + 0.001)]), vessel.band)
    return Built(
        height=vessel.height,
        reach=vessel.rim,
        depth=vessel.rim,
        grip_height=vessel.height * (0.92 if rim else 0.55),
        rim=rim,
        opening=vessel.rim - 0.006,
        floor=vessel.foot + 0.008,
        spout=vec(-work.side * vessel.rim, 0, vessel.height),
        contents=WATER,
    )


def cap(work: Work, height: float, radius: float, thick: float, colour: Array, *, square: bool = False) -> float | None:
    """A lid with a knob at `height`; without it, the opening is dark. The lid's height if it moves by itself."""
    if work.state == "no lid":
        size = [0.8 * radius, 0.8 * radius, 0.001] if square else [0.85 * radius, 0.001]
        work.scene.geom(work.body, "box" if square else "cylinder", size, (0, 0, height), vec(0.06, 0.05, 0.05))
        return None
    body, z = work.lid_body(height)
    half = thick / 2
    size = [radius, radius, half] if square else [radius, half]
    work.scene.geom(body, "box" if square else "cylinder", size, (0, 0, z + half), colour)
    work.scene.geom(body, "sphere", [0.3 * radius], (0, 0, z + thick + 0.15 * radius), 0.8 * colour)
    if work.state == "loose lid":  # what the lid covered
        work.scene.geom(work.body, "cylinder", [0.85 * radius, 0.001], (0, 0, height), vec(0.06, 0.05, 0.05))
        return height
    return None


def side_handle(work: Work, x: float, z: float, radius: float, thick: float, colour: Array) -> None:
    """A handle like a mug's, on the side of the hand."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 7)
    points = [(work.side * (x + radius * np.cos(a)), 0, z + radius * np.sin(a)) for a in angles]
    work.scene.rods(work.body, thick, points, colour)
