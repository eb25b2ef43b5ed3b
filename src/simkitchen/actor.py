"""Who acts: a body of primitives whose arms follow its hands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simkitchen.geometry import Array, axes, cross, elbow, mix, smooth, unit, vec
from simkitchen.scene import BODY_GROUP, HEAD_GROUP, Scene
from simkitchen.splits import seed_of
from simkitchen.stage import Stage
from simkitchen.textures import colour

UPPER_ARM, FOREARM = 0.29, 0.27
SHOULDER_HEIGHT, EYE_HEIGHT = 1.37, 1.585
HANDS = {"right": 1, "left": -1}
_SPREAD = (-1.0, -0.33, 0.33, 1.0)
FINGERS = {
    "open": [
        [(0.042, 0.03 * k, 0), (0.08, 0.036 * k, -0.006), (0.113 - 0.012 * abs(k), 0.04 * k, -0.02)] for k in _SPREAD
    ],
    "fist": [[(0.042, 0.03 * k, -0.004), (0.068, 0.028 * k, -0.03), (0.045, 0.026 * k, -0.052)] for k in _SPREAD],
}
GRIP = vec(0.03, 0, -0.028)
"""Where a fist holds a rod, in the hand's coordinates: x along the fingers, z out of its back."""
WIDEST_FIST = 0.032


@dataclass(frozen=True, slots=True)
class Actor:
    """What the pose depends on: the better hand, +1 right or -1 left, and whether the sleeves are short."""

    side: int
    short_sleeves: bool


@dataclass(frozen=True, slots=True)
class Grasp:
    """Where a hand goes.

    Args:
        centre: of what is held.
        normal: out of the back of the hand.
        fingers: where they point.
        radius: of what is held.
        closed: a fist, if what is held is thin enough for one.
    """

    centre: Array
    normal: Array
    fingers: Array
    radius: float
    closed: bool = True


def add_actor(scene: Scene, name: str, seed: int) -> Actor:
    """Add a person of the pool to a scene."""
    random = np.random.default_rng(seed_of(seed, name))
    skin = colour(random, (0.04, 0.08), (0.3, 0.6), (0.35, 0.95))
    shirt = colour(random, (0.0, 1.0), (0.1, 0.9), (0.2, 0.95))
    hair = colour(random, (0.05, 0.1), (0.2, 0.7), (0.05, 0.5))
    short = bool(random.random() < 0.5)
    for hand, sign in HANDS.items():
        limbs = {"upper": (0.045, shirt), "fore": (0.035, skin if short else shirt), "wrist": (0.029, skin)}
        for limb, (radius, paint) in limbs.items():
            body = scene.body(f"{limb} {hand}")
            scene.geom(body, "capsule", [radius, 0.1], (0, 0, 0), paint, name=body)
        body = scene.body(hand)
        scene.geom(body, "ellipsoid", [0.052, 0.042, 0.017], (0, 0, 0), skin)
        for pose, fingers in FINGERS.items():
            for i, (knuckle, joint, tip) in enumerate(fingers):
                scene.rod(body, 0.0095, knuckle, joint, skin, name=f"{hand} {pose} {i} 0")
                scene.rod(body, 0.0095, joint, tip, skin, name=f"{hand} {pose} {i} 1")
        thumb = [(-0.02, 0.035, -0.006), (0.022, 0.058, -0.022), (0.05, 0.05, -0.034)]
        scene.rods(body, 0.01, [(x, sign * y, z) for x, y, z in thumb], skin)
    body = scene.body("torso")
    scene.geom(body, "ellipsoid", [0.19, 0.11, 0.3], (0, 0, 1.14), shirt, group=BODY_GROUP)
    scene.rod(body, 0.065, (-0.15, 0.01, 1.37), (0.15, 0.01, 1.37), shirt, group=BODY_GROUP)
    scene.rod(body, 0.05, (0, 0.02, 1.4), (0, 0.03, 1.5), skin, group=HEAD_GROUP)
    if random.random() < 0.5:
        apron = colour(random, (0.0, 1.0), (0.35, 0.9), (0.45, 1.0))
        scene.geom(body, "ellipsoid", [0.15, 0.03, 0.28], (0, 0.095, 1.06), apron, group=BODY_GROUP)
    trousers = colour(random, (0.55, 0.65), (0.2, 0.6), (0.15, 0.5))
    for sign in (-1, 1):
        scene.rod(body, 0.08, (sign * 0.09, 0, 0.1), (sign * 0.09, 0, 0.9), trousers, group=BODY_GROUP)
    body = scene.body("head")
    scene.geom(body, "ellipsoid", [0.078, 0.095, 0.115], (0, 0, 0), skin, group=HEAD_GROUP)
    scene.geom(body, "ellipsoid", [0.086, 0.096, 0.1], (0, -0.022, 0.035), hair, group=HEAD_GROUP)
    scene.geom(body, "ellipsoid", [0.014, 0.02, 0.02], (0, 0.095, -0.01), 0.95 * skin, group=HEAD_GROUP)
    for sign in (-1, 1):
        scene.geom(body, "sphere", [0.012], (sign * 0.03, 0.085, 0.02), vec(0.05, 0.05, 0.05), group=HEAD_GROUP)
    if random.random() < 0.4:
        scene.geom(body, "ellipsoid", [0.095, 0.1, 0.17], (0, -0.05, -0.03), hair, group=HEAD_GROUP)
    return Actor(1 if random.random() < 0.8 else -1, short)


class Puppet:
    """Who acts, in a scene that is being played.

    Args:
        stage: the scene.
        actor: who it is.
        root: where they stand.
        lean: how far they bend over the counter.
        bend: how far they bend down.
    """

    def __init__(self, stage: Stage, actor: Actor, root: Array, lean: float, bend: float) -> None:
        self.stage = stage
        self.side = actor.side
        self.root = root
        self.better, self.other = ("right", "left") if actor.side > 0 else ("left", "right")
        self.eyes = root + vec(0, 0.1 + lean, EYE_HEIGHT - bend)
        self.at: dict[str, Array] = {}
        self._covered = 0.7 if actor.short_sleeves else 0.62
        self._shoulders = root + vec(0, lean + 0.02, SHOULDER_HEIGHT - 0.03 - 0.9 * bend)
        stage.place("torso", root + vec(0, 0.5 * lean, -0.01 - 0.5 * bend))

    def look(self, focus: Array) -> None:
        """Turn the head to something."""
        ahead = unit(focus - self.eyes)
        right = unit(cross(ahead, vec(0, 0, 1)))
        self.stage.place("head", self.eyes, axes(right, cross(right, ahead)))

    def hand(self, hand: str, grasp: Grasp) -> None:
        """Put a hand somewhere, with the arm that leads there."""
        turned = axes(grasp.fingers, grasp.normal)
        fist = grasp.closed and grasp.radius < WIDEST_FIST
        if grasp.closed and grasp.radius < 0.025:
            palm = grasp.centre - turned @ GRIP
        else:
            palm = grasp.centre + unit(grasp.normal) * (grasp.radius + 0.017) - turned @ vec(0.02, 0, 0)
        self.stage.place(hand, palm, turned)
        for i in range(len(_SPREAD)):
            for k in (0, 1):
                self.stage.show(f"{hand} open {i} {k}", not fist)
                self.stage.show(f"{hand} fist {i} {k}", fist)
        sign = HANDS[hand]
        wrist, shoulder = palm - turned @ vec(0.05, 0, 0), self._shoulders + vec(0.19 * sign, 0, 0)
        joint = elbow(shoulder, wrist, vec(0.9 * sign, -0.25, -0.7), UPPER_ARM, FOREARM)
        self.stage.span(f"upper {hand}", shoulder, joint)
        self.stage.span(f"fore {hand}", joint, mix(joint, wrist, self._covered))
        self.stage.span(f"wrist {hand}", mix(joint, wrist, 0.55), wrist)
        self.at[hand] = palm

    def idle(self, hand: str, time: float) -> Grasp:
        """A hand that has nothing to do, at the counter's edge."""
        sign = HANDS[hand]
        sway = 0.01 * vec(math.sin(3 * time), math.cos(2 * time), math.sin(4 * time))
        rest = self.root + vec(0.24 * sign, 0.22, 0.96 - max(0.0, -self.root[1] - 0.35)) + sway
        return Grasp(rest, vec(0.2 * sign, -0.3, 1), vec(-0.3 * sign, 0.9, -0.25), 0.0, closed=False)

    def reach(self, hand: str, grasp: Grasp, share: float, time: float) -> None:
        """A hand on its way from idleness, at 0, to a grasp, at 1; it closes on arrival."""
        idle, u = self.idle(hand, time), smooth(share)
        raised = vec(0, 0, 0.06) * math.sin(math.pi * u)
        before = grasp.centre + 0.03 * (1 - u) * unit(grasp.normal)
        self.hand(
            hand,
            Grasp(
                mix(idle.centre, before, u) + raised,
                mix(idle.normal, grasp.normal, u),
                mix(idle.fingers, grasp.fingers, u),
                grasp.radius * u,
                grasp.closed and share > 0.97,
            ),
        )
