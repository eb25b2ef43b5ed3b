"""Any portable thing, by its name in a pool."""

from __future__ import annotations

import numpy as np

from simkitchen.catalogue import nouns
from simkitchen.events import Prop
from simkitchen.familiar import build_familiar
from simkitchen.invented import build_invented
from simkitchen.props import Built, State, Work
from simkitchen.scene import Scene
from simkitchen.splits import seed_of


def add_prop(scene: Scene, body: str, prop: Prop, seed: int, side: int, state: State = "whole") -> Built:
    """Add a thing to a scene, as a body of its own.

    Args:
        scene: the scene.
        body: the body's name; lids and slices that move are `{body}.lid` and `{body}.0`, `{body}.1`, ….
        prop: which thing; the same one looks the same in every scene.
        seed: of the data set.
        side: +1 if it is held from +x, -1 from -x.
        state: which of its parts move by themselves.
    """
    noun = nouns()[prop.noun]
    work = Work(scene, scene.body(body), np.random.default_rng(seed_of(seed, prop.instance)), side, state)
    return build_invented(work, noun) if noun.rule else build_familiar(work, noun)
