"""An event in the course of being played: who acts, with what, and the grasps that things allow."""

from __future__ import annotations

from dataclasses import dataclass

from simkitchen.actor import Grasp, Puppet
from simkitchen.events import Event
from simkitchen.geometry import Array, vec
from simkitchen.kitchen import Kitchen
from simkitchen.layout import Layout
from simkitchen.props import Built
from simkitchen.stage import Stage


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing that stands somewhere.

    Args:
        body: its body.
        built: its measures.
        at: where it stands at first.
        turned: how.
    """

    body: str
    built: Built
    at: Array
    turned: Array


@dataclass(frozen=True, slots=True)
class Play:
    """What a motion works with.

    Args:
        event: what happens.
        stage: the scene.
        person: who acts.
        kitchen: where.
        layout: where everything was at first.
        thing: what is acted on; None for what belongs to the kitchen.
        receptacle: the plate, bowl or pot.
        duration: in seconds.
    """

    event: Event
    stage: Stage
    person: Puppet
    kitchen: Kitchen
    layout: Layout
    thing: Thing | None
    receptacle: Thing
    duration: float

    @property
    def side(self) -> int:
        """The better hand's: +1 right, -1 left."""
        return self.person.side

    def near(self, x: float, y: float, z: float) -> Array:
        """A place in front of who acts: towards the better hand, away, above the counter."""
        return vec(self.person.root[0] + self.side * x, y, self.layout.centre[2] + z)

    def put(self, thing: Thing, at: Array, turned: Array | None = None) -> None:
        """Move a thing; its lid goes with it, and its slices."""
        turned = thing.turned if turned is None else turned
        self.stage.place(thing.body, at, turned)
        if thing.built.lid is not None:
            self.stage.place(f"{thing.body}.lid", at + turned @ vec(0, 0, thing.built.lid), turned)

    def grasp(self, thing: Thing, at: Array, turned: Array | None = None, *, other: bool = False) -> Grasp:
        """Where a hand holds a thing that stands at `at`: around its side, or by its rim.

        Args:
            thing: the thing.
            at: where it is now.
            turned: how; as at first if None.
            other: the worse hand, from the other side.
        """
        m = -self.side if other else self.side
        turned = thing.turned if turned is None else turned
        moved = turned @ thing.turned.T  # how it turned since it stood; the hand turns with it
        built = thing.built
        if built.rim:
            centre = at + turned @ vec(0, 0, built.grip_height) + moved @ vec(m * built.reach, -0.01, 0)
            return Grasp(centre, moved @ vec(0.6 * m, -0.3, 0.75), moved @ vec(-0.75 * m, 0.6, -0.45), 0.01)
        round_ = min(built.depth, built.reach)
        centre = at + turned @ vec(0, 0, built.grip_height) + moved @ vec(m * (built.reach - round_), 0, 0)
        return Grasp(centre, moved @ vec(m, -0.4, 0.1), moved @ vec(-0.35 * m, 0.9, -0.05), round_)

    def over(self, centre: Array, *, fingers: Array | None = None, radius: float = 0.012) -> Grasp:
        """The better hand's fist from above, as it holds a tool or a lid."""
        fingers = vec(-0.2 * self.side, 0.95, -0.2) if fingers is None else fingers
        return Grasp(centre, vec(0.35 * self.side, -0.25, 0.9), fingers, radius)
