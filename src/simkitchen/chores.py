"""What is done with tools, lids, fluids and the kitchen's fixtures. As in `motions`, each poses everything at a moment."""

from __future__ import annotations

import math

import numpy as np

from simkitchen.actor import Grasp
from simkitchen.geometry import NO_TURN, Array, cross, ease, mix, turn_x, turn_y, turn_z, unit, vec
from simkitchen.kit import FLUIDS, SPOON_TIP
from simkitchen.play import Play
from simkitchen.props import SLICES

FULL = 0.6
"""How high a vessel is filled."""


def cut(play: Play, x: float) -> Array:
    """Slice it, from the better hand's end on; the other hand holds it."""
    assert play.thing is not None
    thing, person, stage, m = play.thing, play.person, play.stage, play.side
    built, at = thing.built, thing.at
    done = ease(x, (0.16, 0), (0.95, SLICES - 1))
    stage.place(thing.body, at, thing.turned)
    for i in range(SLICES):
        order = i if m < 0 else SLICES - 1 - i  # 0 is cut first
        fallen = 0.014 * max(0.0, done - order) if order < SLICES - 1 else 0.0
        stage.place(f"{thing.body}.{i}", at + thing.turned @ vec(m * fallen, 0, 0), thing.turned)
    now = min(int(done), SLICES - 2)
    edge = m * built.length * (0.5 - (now + 1) / SLICES)
    stroke = abs(2 * (done - int(done)) - 1)  # 1 up, 0 down
    height = 0.024 + ease(stroke, (0, 0.004), (1, built.height + 0.025))
    tool = play.layout.kit["knife"]
    goal = at + thing.turned @ vec(edge, 0, 0) + vec(0, -0.15, height)
    up = ease(x, (0, 0), (0.15, 1))
    held, turned = mix(tool.at, goal, up), turn_x(0.1 + 0.1 * stroke)
    stage.place("knife", held, turned)
    person.reach(person.better, play.over(held + vec(0, 0, 0.01)), ease(x, (0, 0.7), (0.06, 1)), x * play.duration)
    hold = at + thing.turned @ vec(-m * 0.4 * built.length, -0.01, 0.75 * built.height)
    grasp = Grasp(hold, vec(-0.55 * m, -0.35, 0.75), vec(0.55 * m, 0.75, -0.5), 0.018)
    person.reach(person.other, grasp, ease(x, (0, 0.4), (0.14, 1)), x * play.duration)
    return at + vec(0, 0, 0.4 * built.height)


def open_lid(play: Play, x: float) -> Array:
    """Twist the lid and take it off."""
    return _lid(play, x, ease(x, (0.5, 0), (0.78, 1)), ease(x, (0, 0.1), (0.25, 1)), twisting=0.26 < x < 0.5)


def close_lid(play: Play, x: float) -> Array:
    """Put the lid on and twist it."""
    return _lid(play, x, ease(x, (0.22, 1), (0.5, 0)), ease(x, (0.8, 1), (1, 0.2)), twisting=0.5 < x < 0.78)


def _lid(play: Play, x: float, away: float, hand: float, *, twisting: bool) -> Array:
    assert play.thing is not None
    assert play.thing.built.lid is not None
    thing, person, m = play.thing, play.person, play.side
    twist = 0.9 * math.sin(2 * math.pi * 1.6 * x * play.duration) if twisting else 0.0
    at = thing.at
    play.put(thing, at)
    path = vec(0.2 * m * away, -0.09 * away, 0.12 * math.sin(math.pi * min(1.0, 0.75 * away)))
    lid = at + thing.turned @ vec(0, 0, play.thing.built.lid) + path
    turned = turn_z(twist) @ turn_y(0.5 * m * away) @ thing.turned
    play.stage.place(f"{thing.body}.lid", lid, turned)
    grip = play.over(lid + vec(0, 0, 0.03), fingers=turn_z(0.6 * twist) @ vec(-0.55 * m, 0.8, -0.3), radius=0.018)
    person.reach(person.better, grip, hand, x * play.duration)
    person.reach(person.other, play.grasp(thing, at, other=True), ease(x, (0, 0.3), (0.16, 1)), x * play.duration)
    return at + vec(0.04 * m, 0, 0.75 * thing.built.height)


def pour(play: Play, x: float) -> Array:
    """Lift, tilt over what is poured into, and back."""
    assert play.thing is not None
    assert play.layout.target is not None
    thing, person, stage, m = play.thing, play.person, play.stage, play.side
    into, target, spout = play.receptacle.built, play.layout.target, play.thing.built.spout
    assert spout is not None  # what is poured from has one
    sink = play.event.target == "sink"
    rim = target + vec(0, 0, 0.17 if sink else into.height)
    held = ease(x, (0.18, 0), (0.42, 1), (0.86, 1), (1, 0.6))
    tilt = (1.15 if thing.built.rim else 1.75) * ease(x, (0.3, 0), (0.5, 1), (0.82, 1), (0.97, 0))
    turned = turn_y(-m * tilt) @ thing.turned
    goal = rim + vec(m * 0.025, 0, 0.09) - turned @ spout
    at = mix(thing.at, goal, held)
    play.put(thing, at, turned)
    person.reach(person.better, play.grasp(thing, at, turned), ease(x, (0, 0.1), (0.17, 1)), x * play.duration)
    person.hand(person.other, person.idle(person.other, x * play.duration))
    tip = at + turned @ spout
    level = target + vec(0, 0, 0.005 if sink else into.floor + FULL * into.height * ease(x, (0.5, 0.1), (0.85, 1)))
    if 0.46 < x < 0.84:
        stage.span("stream", tip, vec(tip[0] - m * 0.012, tip[1], level[2]))
    else:
        stage.hide("stream")
    if x > 0.5:
        stage.place("contents", level)
    else:
        stage.hide("contents")
    return mix(target, at, 0.35) + vec(0, 0, 0.06)


def stir(play: Play, x: float) -> Array:
    """Stir with the spoon; the other hand holds the vessel."""
    assert play.thing is not None
    thing, person, stage, m = play.thing, play.person, play.stage, play.side
    built, at = thing.built, thing.at
    play.put(thing, at)
    angle = 2 * math.pi * 1.1 * x * play.duration
    ring = 0.5 * built.opening * vec(math.cos(angle), math.sin(angle), 0)
    tip = at + ring + vec(0, 0, max(built.floor + 0.01, 0.45 * built.height))
    down = unit(vec(-0.5 * m, 0.15, -0.85) - 0.8 * ring)
    across = unit(cross(down, vec(0, 1, 0)))
    turned = np.stack([across, down, cross(across, down)], 1)
    started = ease(x, (0, 0.25), (0.2, 1))
    held = tip - SPOON_TIP * down + (1 - started) * vec(0.12 * m, -0.05, 0.1)
    stage.place("spoon", held, turned)
    fist = Grasp(held, vec(0.75 * m, -0.45, 0.5), vec(-0.2 * m, 0.9, 0.1), 0.012)
    person.hand(person.better, fist)
    stage.place("contents", at + vec(0, 0, built.floor + FULL * (built.height - built.floor)), turn_z(0.7 * angle))
    person.reach(person.other, play.grasp(thing, at, other=True), ease(x, (0, 0.5), (0.2, 1)), x * play.duration)
    return at + vec(0, 0, 0.7 * built.height)


def use_door(play: Play, x: float) -> Array:
    """Open or close what has a door, or the drawer."""
    person, m = play.person, play.side
    door = play.kitchen.fixtures.doors[play.event.noun]
    share = ease(x, (0.28, 0), (0.85, 1))
    at, turned = door.pose(share if play.event.verb == "open" else 1 - share)
    play.stage.place(door.body, at, turned)
    handle = at + turned @ door.handle
    if play.event.noun == "drawer":
        grasp = Grasp(handle, vec(0.1 * m, -0.5, 0.85), vec(-0.2 * m, 0.8, -0.5), 0.01)
    elif play.event.noun == "oven":
        grasp = Grasp(handle, turned @ vec(0, -0.7, 0.7), vec(-0.2 * m, 0.8, -0.4), 0.01)
    else:
        grasp = Grasp(handle, turned @ vec(0.2, -1, 0.2), turned @ vec(-0.55, 0.3, 0.8), 0.01)
    person.reach(person.better, grasp, ease(x, (0, 0.1), (0.26, 1), (0.87, 1), (1, 0.35)), x * play.duration)
    person.hand(person.other, person.idle(person.other, x * play.duration))
    return door.focus


def switch(play: Play, x: float) -> Array:
    """Turn the tap or the stove on or off."""
    person, stage, m = play.person, play.stage, play.side
    share = ease(x, (0.36, 0), (0.58, 1))
    on = share if play.event.verb == "turn on" else 1 - share
    arrive = ease(x, (0, 0), (0.32, 1), (0.62, 1), (0.9, 0.1))
    person.hand(person.other, person.idle(person.other, x * play.duration))
    if play.event.noun == "tap":
        tap = play.kitchen.fixtures.tap
        turned = turn_x(-0.6 * on)
        stage.place("lever", tap.lever, turned)
        centre = tap.lever + turned @ vec(0, -0.1, 0.08)
        grasp = Grasp(centre, vec(0.3 * m, -0.3, 0.9), vec(-0.3 * m, 0.9, -0.2), 0.01)
        person.reach(person.better, grasp, arrive, x * play.duration)
        if on > 0.3:
            stage.span("water", tap.outlet, vec(tap.outlet[0], tap.outlet[1], tap.bottom))
            stage.place("splash", vec(tap.outlet[0], tap.outlet[1], tap.bottom))
        else:
            stage.hide("water")
            stage.hide("splash")
        return mix(tap.outlet, tap.lever, 0.5) + vec(0, -0.06, -0.1)
    stove = play.kitchen.fixtures.stove
    stage.place("knob", stove.knob, turn_z(-1.8 * on))
    stage.show(stove.glow, on)
    spin = turn_z(-0.8 * share if play.event.verb == "turn on" else 0.8 * share - 0.8)
    grasp = Grasp(stove.knob + vec(0, -0.01, 0.04), vec(0.3 * m, -0.4, 0.85), spin @ vec(-0.2 * m, 0.9, -0.35), 0.018)
    person.reach(person.better, grasp, arrive, x * play.duration)
    return mix(stove.knob, stove.burner, 0.5)


def still(play: Play) -> None:
    """Everything as it is at first."""
    for name, spot in play.layout.kit.items():
        play.stage.place(name, spot.at, spot.turned)
    fixtures = play.kitchen.fixtures
    for door in fixtures.doors.values():
        play.stage.place(door.body, *door.pose(0.0))
    play.stage.place("lever", fixtures.tap.lever, NO_TURN)
    play.stage.place("knob", fixtures.stove.knob, NO_TURN)
    for fluid in ("water", "splash", *FLUIDS):
        play.stage.hide(fluid)
