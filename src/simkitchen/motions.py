"""What is done to a thing at the counter with nothing but hands. Each motion poses everything at a moment from 0 to 1.

They return what one looks at.
"""

from __future__ import annotations

import math

from simkitchen.actor import Grasp
from simkitchen.geometry import Array, ease, mix, turn_x, turn_y, turn_z, vec
from simkitchen.kit import DIRT
from simkitchen.play import Play, Thing

SHAKES = 4.3
"""In a clip, however long: of 8 frames each then shows another phase than the one before."""


def _thing(play: Play) -> Thing:
    assert play.thing is not None  # events of these verbs have one
    return play.thing


def pick_up(play: Play, x: float) -> Array:
    """Reach, grasp, lift towards oneself."""
    thing, person = _thing(play), play.person
    lifted = ease(x, (0.38, 0), (0.95, 1))
    at = mix(thing.at, play.near(0.05, 0.02, 0.27 - 0.3 * thing.built.height), lifted)
    turned = turn_x(0.25 * lifted) @ thing.turned
    play.put(thing, at, turned)
    person.reach(person.better, play.grasp(thing, at, turned), ease(x, (0, 0), (0.36, 1)), x * play.duration)
    return at + vec(0, 0, 0.5 * thing.built.height)


def put(play: Play, x: float) -> Array:
    """Bring, set down, let go."""
    thing, person = _thing(play), play.person
    assert play.layout.target is not None
    goal = play.layout.target + vec(0, 0, 0.008 if play.receptacle.at is play.layout.target else 0)
    above = goal + vec(0, 0, 0.16)
    at = mix(play.near(0.12, 0.02, 0.2), above, ease(x, (0.08, 0), (0.5, 1)))
    at = mix(at, goal, ease(x, (0.5, 0), (0.68, 1)))
    play.put(thing, at)
    person.reach(person.better, play.grasp(thing, at), ease(x, (0.72, 1), (1, 0.15)), x * play.duration)
    return mix(at, goal, 0.5) + vec(0, 0, 0.4 * thing.built.height)


def push(play: Play, x: float) -> Array:
    """Slide it along the counter with the flat hand."""
    thing, person, m = _thing(play), play.person, play.side
    at = thing.at + vec(-0.22 * m, 0.06, 0) * ease(x, (0.35, 0), (0.85, 1))
    play.put(thing, at)
    built = thing.built
    centre = at + vec(m * (built.reach + 0.004), -0.02, min(0.5 * built.height, 0.07))
    flat = Grasp(centre, vec(m, -0.5, 0.3), vec(-0.45 * m, 0.9, -0.2), 0.004, closed=False)
    person.reach(person.better, flat, ease(x, (0, 0), (0.33, 1), (0.87, 1), (1, 0.5)), x * play.duration)
    return at + vec(0, 0, 0.4 * built.height)


def shake(play: Play, x: float) -> Array:
    """Lift and shake."""
    thing, person = _thing(play), play.person
    lifted = ease(x, (0.22, 0), (0.36, 1))
    swing = lifted * math.sin(2 * math.pi * SHAKES * x)
    at = mix(thing.at, play.near(0.05, 0.1, 0.17), lifted) + vec(0, 0.03, 0.1) * swing
    turned = turn_y(-0.6 * swing) @ turn_x(0.3 * swing) @ thing.turned
    play.put(thing, at, turned)
    person.reach(person.better, play.grasp(thing, at, turned), ease(x, (0, 0.2), (0.2, 1)), x * play.duration)
    return at + vec(0, 0, 0.5 * thing.built.height)


def turn_over(play: Play, x: float) -> Array:
    """Lift with both hands, turn upside down, set down."""
    thing, person, m = _thing(play), play.person, play.side
    built = thing.built
    share = ease(x, (0.32, 0), (0.78, 1))
    lift = 0.13 * math.sin(math.pi * share) + share * built.height
    at, turned = thing.at + vec(0, 0, lift), turn_x(math.pi * share) @ thing.turned
    play.put(thing, at, turned)
    middle = at + turned @ vec(0, 0, 0.5 * built.height)
    for hand, sign in ((person.better, m), (person.other, -m)):
        round_ = min(built.depth, built.reach)
        centre = middle + vec(sign * (built.reach - round_), 0, 0)
        hold = Grasp(centre, vec(sign, -0.5, 0.15), vec(-0.3 * sign, 0.9, -0.1), round_, closed=False)
        person.reach(hand, hold, ease(x, (0, 0.1), (0.28, 1), (0.82, 1), (1, 0.3)), x * play.duration)
    return middle


def wash(play: Play, x: float) -> Array:
    """Hold it under the tap and rub."""
    thing, person, stage, m = _thing(play), play.person, play.stage, play.side
    tap, built = play.kitchen.fixtures.tap, thing.built
    under = ease(x, (0, 0.35), (0.2, 1))
    rub = math.sin(2 * math.pi * 1.5 * x * play.duration)
    turned = turn_x((-0.45 + 0.2 * rub) * under) @ turn_y(0.35 * rub * under) @ thing.turned
    spot = vec(tap.outlet[0], tap.outlet[1] - 0.03, tap.outlet[2] - 0.17)
    at = spot + (1 - under) * vec(0.1 * m, -0.16, 0.04) - turned @ vec(0, 0, 0.5 * built.height)
    at = at + under * vec(0.025 * rub, 0, 0)
    play.put(thing, at, turned)
    person.hand(person.better, play.grasp(thing, at, turned))
    other = play.grasp(thing, at, turned, other=True)
    slide = vec(0, 0.03, 0.025) * rub
    person.hand(person.other, Grasp(other.centre + slide, other.normal, other.fingers, other.radius, other.closed))
    hit = vec(tap.outlet[0], tap.outlet[1], spot[2] + 0.4 * min(built.height, 2 * built.depth))
    stage.span("water", tap.outlet, hit)
    stage.place("splash", vec(tap.outlet[0], tap.outlet[1], tap.bottom))
    stage.place("lever", tap.lever, turn_x(-0.6))
    return spot


def wipe(play: Play, x: float) -> Array:
    """Rub with the cloth: the thing, or the counter where it is dirty."""
    person, stage, m = play.person, play.stage, play.side
    started = ease(x, (0, 0), (0.22, 1))
    phase = 2 * math.pi * 0.8 * x * play.duration
    cloth = play.layout.kit["cloth"]
    if play.thing is None:
        dirt = play.layout.kit["dirt"].at
        goal = dirt + vec(0.14 * math.sin(phase), 0.05 * math.sin(0.5 * phase + 0.6), 0.004)
        turned, normal = turn_z(0.35 * math.cos(phase)), vec(0.12 * m, -0.15, 1)
        for k in range(DIRT):
            stage.show(f"dirt{k}", ease(x, (0.2 + 0.08 * k, 1), (0.45 + 0.08 * k, 0)))
        focus = dirt
        person.hand(person.other, person.idle(person.other, x * play.duration))
    else:
        thing, built = play.thing, play.thing.built
        round_ = min(built.reach, 0.09)
        angle = 0.8 * math.sin(phase)
        goal = (
            thing.at
            + vec(m * round_ * (0.55 + 0.4 * math.cos(phase)), -0.55 * built.depth, 0)
            + vec(0, 0, 1) * (built.height * (0.75 + 0.3 * math.sin(phase)))
        )
        turned, normal = turn_y(m * (0.7 + 0.2 * angle)) @ turn_x(0.5), vec(0.6 * m, -0.45, 0.75)
        focus = thing.at + vec(0, 0, 0.5 * built.height)
        play.put(thing, thing.at)
        hold = play.grasp(thing, thing.at, other=True)
        person.reach(person.other, hold, ease(x, (0, 0.2), (0.2, 1)), x * play.duration)
    at = mix(cloth.at, goal, started)
    stage.place("cloth", at, turned if started > 0.3 else cloth.turned)
    on = Grasp(at + vec(0, 0, 0.014), normal, vec(-0.4 * m, 0.9, -0.15), 0.006, closed=False)
    person.reach(person.better, on, ease(x, (0, 0.5), (0.08, 1)), x * play.duration)
    return focus
