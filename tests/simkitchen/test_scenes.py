"""What scenes are made of, without rendering: things of every category, kitchens, layouts, as XML."""

from __future__ import annotations

import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest

from egoinstructor.errors import InputError
from simkitchen import screen
from simkitchen.catalogue import COLOURS, PARTS, SHAPES, nouns
from simkitchen.events import Prop, generate
from simkitchen.kitchen import build_kitchen
from simkitchen.layout import lay_out
from simkitchen.objects import add_prop
from simkitchen.props import SLICES
from simkitchen.rendering import Settings
from simkitchen.scene import Scene
from simkitchen.stage import png
from simkitchen.staging import MOTIONS, STATES

PORTABLE = [noun for noun in nouns().values() if noun.rank >= 0]
SOME = [n for n in PORTABLE if not n.rule] + [n for n in PORTABLE if n.rule][::17]


def parse(scene: Scene) -> ElementTree.Element:
    return ElementTree.fromstring(scene.xml(pixels=64, shadow=64, ambient=0.3, headlight=0.2))


def built(name: str, instance: str = "train/x/0", *, seed: int = 0, side: int = 1, state: str = "whole"):
    scene = Scene()
    return add_prop(scene, "thing", Prop(name, instance), seed, side, state), scene


@pytest.mark.parametrize("noun", SOME, ids=lambda noun: "-".join(noun.rule) or noun.name)
def test_things_can_be_held_and_have_what_their_verbs_need(noun):
    for verb in noun.verbs:
        for side in (1, -1):
            thing, scene = built(noun.name, side=side, state=STATES.get(verb, "whole"))
            parse(scene)
            assert 0.02 <= thing.height < 0.3
            assert 0.03 <= thing.reach < 0.15
            assert 0 < thing.grip_height <= thing.height
            if verb == "pour":
                assert thing.spout is not None
                assert np.sign(thing.spout[0]) == -side  # away from the hand
                assert thing.contents is not None
            if verb in ("open", "close"):
                assert thing.lid is not None
                assert "thing.lid" in scene.moving
            if verb == "stir":
                assert thing.opening > 0.03
            if verb == "cut":
                assert thing.length > 0.07
                assert {f"thing.{i}" for i in range(SLICES)} <= set(scene.moving)
    whole, scene = built(noun.name)
    assert whole.lid is None
    assert scene.moving == ["thing"]


def test_an_instance_is_the_same_everywhere_and_another_one_is_not():
    noun = PORTABLE[5].name
    assert ElementTree.tostring(parse(built(noun)[1])) == ElementTree.tostring(parse(built(noun)[1]))
    other = ElementTree.tostring(parse(built(noun, "train/x/1")[1]))
    assert ElementTree.tostring(parse(built(noun)[1])) != other
    assert ElementTree.tostring(parse(built(noun, seed=1)[1])) != ElementTree.tostring(parse(built(noun)[1]))


def test_categories_look_different():
    """Of two categories that differ in one part of their rule, no instances are alike: same shapes, parts and colours."""

    def geoms(shape: str, part: str, colours: tuple[str, str]) -> int:
        name = next(n.name for n in PORTABLE if n.rule == (shape, part, *colours))
        root = parse(built(name)[1])
        return len(root.findall(".//body/geom"))

    for shape in SHAPES:
        counts = {part: geoms(shape, part, COLOURS[0]) for part in PARTS}
        assert len(set(counts.values())) >= 4  # ears, studs, antennae, flange and nothing show in what there is


def test_every_verb_has_a_motion():
    assert set(MOTIONS) == {verb for noun in nouns().values() for verb in noun.verbs}


@pytest.mark.parametrize("split", ["train", "test"])
def test_kitchens_have_everything(split):
    for i in range(4):
        scene = Scene()
        kitchen = build_kitchen(scene, f"{split}/kitchen/{i}", 0)
        assert set(kitchen.fixtures.doors) == {"microwave", "drawer", "cupboard", "oven"}
        assert set(kitchen.zones) == {"sink", "stove", "work", "microwave", "side"}
        parse(scene)
        again = Scene()
        build_kitchen(again, f"{split}/kitchen/{i}", 0)
        assert ElementTree.tostring(parse(scene)) == ElementTree.tostring(parse(again))


def test_layouts_keep_things_apart_and_tools_in_every_kitchen():
    for event in generate("train", 120):
        for view in event.views:
            random = np.random.default_rng(view.seed)
            kitchen = build_kitchen(Scene(), view.kitchen, 0)
            layout = lay_out(event, view, kitchen, int(random.choice([-1, 1])), random)
            assert set(layout.kit) == {"board", "tray", "knife", "spoon", "cloth", "dirt"}
            assert (layout.prop is None) == (view.prop is None)
            assert (layout.target is None) == (event.target is None)
            assert len(layout.distractors) >= 4
            places = [layout.receptacle.at, *(spot.at for spot in layout.distractors)]
            places += [layout.prop.at] if layout.prop is not None and event.target is None else []
            gaps = [np.hypot(*(a - b)[:2]) for i, a in enumerate(places) for b in places[:i]]
            assert min(gaps) > 0.19
            assert all(kitchen.ends[0] < at[0] < kitchen.ends[1] and 0 < at[1] < 0.6 for at in places)


def test_bodies_have_one_name():
    scene = Scene()
    scene.body("mug")
    with pytest.raises(ValueError, match="mug"):
        scene.body("mug")


def test_png_is_read_back():
    picture = np.random.default_rng(0).random((5, 7, 3))
    data = png(picture)
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT") + 4
    rows = np.frombuffer(zlib.decompress(data[start : data.index(b"IEND") - 8]), np.uint8).reshape(
        height, 1 + 3 * width
    )
    assert np.array_equal(rows[:, 1:].reshape(5, 7, 3), np.rint(255 * picture))


@pytest.mark.parametrize("values", [{"size": 31}, {"size": 97}, {"size": 1024}, {"frames": 1}, {"frames": 1000}])
def test_settings_refuse_what_makes_no_sense(values):
    with pytest.raises(InputError, match="give"):
        Settings(**values)


@pytest.mark.parametrize(
    ("wanted", "names"), [(None, "libEGL nor libOSMesa"), ("osmesa", "libOSMesa"), ("egl", "libEGL")]
)
def test_missing_libraries_are_named_with_their_package(monkeypatch, wanted, names):
    monkeypatch.setattr(screen.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(screen, "require_extra", lambda *names: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if wanted:
        monkeypatch.setenv("MUJOCO_GL", wanted)
    screen.set_up_rendering.cache_clear()
    try:
        with pytest.raises(InputError, match=f"{names}.*libegl1.*libosmesa6"):
            screen.set_up_rendering()
    finally:
        screen.set_up_rendering.cache_clear()
