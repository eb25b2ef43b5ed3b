"""Where things stand and who stands where, for one view of an event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simkitchen.catalogue import nouns
from simkitchen.events import Event, View
from simkitchen.fixtures import TOP
from simkitchen.geometry import Array, turn_z, vec
from simkitchen.kit import FLAT
from simkitchen.kitchen import SINK_DEPTH, Kitchen

REACH = -0.25
"""Where who acts stands in front of the counter."""
SINK_FLOOR = TOP - SINK_DEPTH
TARGET = (-0.09, 0.25)
"""Where what is put on or poured into stands, seen from the middle of the work zone."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place and how what stands there is turned."""

    at: Array
    turned: Array


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is at first.

    Args:
        zone: where the action takes place.
        centre: the middle of the action, on the counter.
        root: where who acts stands.
        lean: how far they bend over the counter.
        bend: how far they bend down.
        prop: where the thing is; None if there is none.
        target: where it goes, if it goes somewhere.
        receptacle: where the plate, bowl or pot is.
        distractors: where the other things are, as far as there is room for them.
        kit: where board, tray, tools, cloth and dirt are.
    """

    zone: str
    centre: Array
    root: Array
    lean: float
    bend: float
    prop: Spot | None
    target: Array | None
    receptacle: Spot
    distractors: tuple[Spot, ...]
    kit: dict[str, Spot]


def zone_of(event: Event) -> str:
    """Where in a kitchen an action takes place."""
    if event.noun in ("microwave", "cupboard"):
        return "microwave"
    if event.noun in ("oven", "stove"):
        return "stove"
    if event.noun == "tap" or event.verb == "wash" or event.target == "sink":
        return "sink"
    return "work"


def lay_out(event: Event, view: View, kitchen: Kitchen, side: int, random: np.random.Generator) -> Layout:
    """Arrange a view of an event.

    Args:
        event: what happens.
        view: with what.
        kitchen: where.
        side: +1 for who uses the right hand, -1 for the left: everything at hand is mirrored.
        random: decides the rest.
    """
    zone = zone_of(event)
    middle = kitchen.zones[zone]

    def spot(x: float, y: float, z: float = 0.0, *, loose: float = 0.02, yaw: float = 0.25, zone: str = "work") -> Spot:
        dx, dy = random.uniform(-loose, loose, 2)
        at = vec(kitchen.zones[zone] + side * x + dx, y + dy, TOP + z)
        return Spot(at, turn_z(random.uniform(-yaw, yaw)))

    door = kitchen.fixtures.doors.get(event.noun)
    back, bend = (door.back, door.bend) if door else (0.0, 0.0)
    root = vec(middle + random.uniform(-0.06, 0.06), REACH - back + random.uniform(-0.03, 0.03), 0)
    lean = 0.09 if zone == "sink" else 0.06
    noun = nouns()[event.noun]
    # Board and tray lie aside, with something on them, unless they are wanted, or the thing happens to stand on the board.
    kit = {
        "board": spot(0, 0.16, zone="side", yaw=0.08),
        "tray": spot(0, 0.43, zone="side", yaw=0.08),
        "knife": spot(0.31, 0.12, 0.013, yaw=0.2),
        "spoon": spot(0.38, 0.14, yaw=0.2),
        "cloth": spot(0.21, 0.05, loose=0.01, yaw=0.3),
        "dirt": spot(-0.24, 0.13, 0.0005),
    }
    base = 0.0
    if event.verb == "cut" or (
        noun.form == "solid" and zone == "work" and event.target is None and random.random() < 0.5
    ):
        kit["board"] = spot(0, 0.21, yaw=0.05, loose=0.01)
        base = FLAT["board"]
    if event.target in FLAT:
        kit[event.target] = spot(*TARGET, yaw=0.08)
    if event.noun == "counter":
        kit["dirt"] = spot(0, 0.22, 0.0005)
    receptacle = spot(-0.3, 0.45)
    target = None
    if event.target == "sink":
        target = vec(kitchen.zones["sink"] + random.uniform(-0.04, 0.04), 0.27, SINK_FLOOR)
    elif event.target in FLAT:
        target = kit[event.target].at + vec(0, 0, FLAT[event.target])
    elif event.target is not None:
        receptacle = spot(*TARGET)
        target = receptacle.at
    prop = None
    if view.prop is not None:
        prop = spot(0, 0.21, base, yaw=0.0 if event.verb == "cut" else 0.25, zone=zone)
        if event.target is not None and target is not None:
            prop = Spot(vec(target[0] + side * 0.25, 0.13, TOP), turn_z(random.uniform(-0.2, 0.2)))
    places = [spot(0.31, 0.46), spot(-0.37, 0.13 if event.noun != "counter" else 0.3), spot(0.0, 0.49)]
    if event.target == "sink" or zone != "work":
        places.append(spot(0, 0.22))
    random.shuffle(places)
    for aside in ("board", "tray"):
        if abs(kit[aside].at[0] - kitchen.zones["side"]) < 0.1:
            near = spot(0, 0.16 if aside == "board" else 0.43, FLAT[aside], zone="side")
            places.insert(int(random.integers(2, len(places) + 1)), near)
    places.append(Spot(vec(kitchen.zones["stove"] + 0.13, 0.45, TOP + 0.009), np.eye(3)))
    return Layout(
        zone=zone,
        centre=vec(middle, 0.21, TOP),
        root=root,
        lean=lean,
        bend=bend,
        prop=prop,
        target=target,
        receptacle=receptacle,
        distractors=tuple(places),
        kit=kit,
    )
