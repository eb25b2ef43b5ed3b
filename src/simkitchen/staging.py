"""A view of an event, made ready to be played: its kitchen, things, light and person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simkitchen import chores, motions
from simkitchen.actor import Puppet, add_actor
from simkitchen.events import Event, View
from simkitchen.fixtures import TOP
from simkitchen.geometry import Array, vec
from simkitchen.kit import add_fluids, add_kit
from simkitchen.kitchen import Kitchen, build_kitchen
from simkitchen.layout import Spot, lay_out
from simkitchen.objects import add_prop
from simkitchen.play import Play, Thing
from simkitchen.props import WATER, State
from simkitchen.scene import Scene
from simkitchen.stage import Stage
from simkitchen.textures import colour

Motion = Callable[[Play, float], Array]

MOTIONS: dict[str, Motion] = {
    "pick up": motions.pick_up,
    "put": motions.put,
    "push": motions.push,
    "shake": motions.shake,
    "wash": motions.wash,
    "wipe": motions.wipe,
    "turn over": motions.turn_over,
    "cut": chores.cut,
    "open": chores.open_lid,
    "close": chores.close_lid,
    "pour": chores.pour,
    "stir": chores.stir,
    "turn on": chores.switch,
    "turn off": chores.switch,
}
STATES: dict[str, State] = {"cut": "sliced", "open": "loose lid", "close": "loose lid", "pour": "no lid"}
DURATION = (2.2, 4.0)
"""How long an action takes, in seconds."""


def motion_of(event: Event, kitchen: Kitchen) -> Motion:
    """How an event is acted out."""
    return chores.use_door if event.noun in kitchen.fixtures.doors else MOTIONS[event.verb]


def stage_view(event: Event, view: View, random: np.random.Generator, *, pixels: int, shadow: int) -> Play:
    """Build a view's scene.

    Args:
        event: what happens.
        view: from where, with what.
        random: decides places, light and speed.
        pixels: side of the pictures to be rendered.
        shadow: side of the shadow map.
    """
    scene, seed = Scene(), event.seed
    kitchen = build_kitchen(scene, view.kitchen, seed)
    actor = add_actor(scene, view.actor, seed)
    layout = lay_out(event, view, kitchen, actor.side, random)
    add_kit(scene, actor.side, random)

    def thing(body: str, spot: Spot, state: State = "whole", *, prop: int) -> Thing:
        return Thing(body, add_prop(scene, body, view.props[prop], seed, actor.side, state), spot.at, spot.turned)

    acted = None
    if layout.prop is not None:
        acted = thing("thing", layout.prop, STATES.get(event.verb, "whole"), prop=0)
    first = 0 if acted is None else 1
    receptacle = thing("receptacle", layout.receptacle, prop=first)
    others = [
        thing(f"other{i}", spot, prop=first + 1 + i)
        for i, spot in zip(range(len(view.distractors)), layout.distractors, strict=False)
    ]
    _add_fluids(scene, event, acted, receptacle, random)
    ambient, headlight = _light(scene, kitchen, layout.centre, random)
    stage = Stage(scene, pixels=pixels, shadow=shadow, ambient=ambient, headlight=headlight)
    person = Puppet(stage, actor, layout.root, layout.lean, layout.bend)
    play = Play(
        event=event,
        stage=stage,
        person=person,
        kitchen=kitchen,
        layout=layout,
        thing=acted,
        receptacle=receptacle,
        duration=random.uniform(*DURATION),
    )
    chores.still(play)
    for standing in (receptacle, *others):
        stage.place(standing.body, standing.at, standing.turned)
    for hand in (person.better, person.other):
        person.hand(hand, person.idle(hand, 0.0))
    return play


def _add_fluids(
    scene: Scene, event: Event, thing: Thing | None, receptacle: Thing, random: np.random.Generator
) -> None:
    paint, radius = WATER, 0.05
    if event.verb == "pour" and thing is not None and thing.built.contents is not None:
        paint = thing.built.contents
        radius = 0.09 if event.target == "sink" else receptacle.built.opening
    elif event.verb == "stir" and thing is not None:
        paint, radius = colour(random, (0.0, 0.15), (0.4, 0.9), (0.5, 0.95)), thing.built.opening
    add_fluids(scene, max(radius, 0.02), paint, random, bits=event.verb == "stir")


def _light(scene: Scene, kitchen: Kitchen, centre: Array, random: np.random.Generator) -> tuple[float, float]:
    """A lamp with shadows and light from a window; how much light comes from everywhere, and from the camera."""
    towards = vec(centre[0], 0.2, TOP)
    behind = random.uniform(-0.5, 0.3) if not kitchen.island else random.uniform(-0.2, 0.8)
    tint = vec(1, random.uniform(0.9, 1), random.uniform(0.78, 1.03))
    lamp = vec(centre[0] + random.uniform(-0.9, 0.9), behind, 2.5)
    scene.light(lamp, towards, 0.75 * random.uniform(0.7, 0.95) * tint, shadow=True)
    window = vec(random.uniform(-2, 2), random.uniform(-1, 0.3), 2.2)
    scene.light(window, towards, vec(1, 1, 1) * random.uniform(0.1, 0.3), shadow=False)
    return float(random.uniform(0.36, 0.45)), float(random.uniform(0.14, 0.3))
