"""The caption as its tokens come."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from egoinstructor import Caption, Captioner, Reference
from egoinstructor.errors import InputError, VideoError
from egoinstructor.model.streaming import texts_and_result


@pytest.fixture
def captioner(toy):
    return Captioner(*toy)


@pytest.fixture
def references(short_videos):
    return [
        Reference(short_videos["exo1"], "so let's open the microwave here"),
        Reference(short_videos["exo2"], "stir"),
    ]


def test_the_text_grows_into_the_greedy_caption(captioner, short_videos, references):
    *texts, caption = captioner.caption_stream(short_videos["ego"], references, start=0.5, end=2.0, max_new_tokens=12)
    assert isinstance(caption, Caption)
    expected = captioner.caption(short_videos["ego"], references, start=0.5, end=2.0, num_beams=1, max_new_tokens=12)
    assert caption == expected
    assert texts[-1] == caption.text
    assert len(texts) > 3
    for shorter, longer in itertools.pairwise(texts):
        assert longer.startswith(shorter)
        assert shorter != longer


def test_options_are_those_of_a_caption(captioner, short_videos, references):
    *_, caption = captioner.caption_stream(short_videos["ego"], references, shots=1, num_frames=2, max_new_tokens=3)
    assert caption == captioner.caption(
        short_videos["ego"], references, shots=1, num_frames=2, max_new_tokens=3, num_beams=1
    )
    with pytest.raises(InputError, match="num_beams=3: what beams say is known at the end only"):
        captioner.caption_stream(short_videos["ego"], num_beams=3)


def test_who_leaves_early_ends_the_generation(captioner, short_videos, monkeypatch):
    steps, leaving = [], threading.Event()
    forward = captioner.model.decoder.forward

    def slow(*args):  # the toy would be done before anybody could leave
        steps.append(1)
        if len(steps) > 3:
            leaving.wait(30)
            time.sleep(0.01)
        return forward(*args)

    monkeypatch.setattr(captioner.model.decoder, "forward", slow)
    stream = captioner.caption_stream(short_videos["ego"], min_new_tokens=40, max_new_tokens=40)
    assert next(stream)
    leaving.set()
    stream.close()
    assert len(steps) < 40
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("caption")]


def test_what_goes_wrong_is_raised_where_the_text_is_taken(captioner, short_videos, tmp_path):
    stream = captioner.caption_stream(tmp_path / "gone.mp4")
    with pytest.raises(VideoError, match="gone.mp4"):
        next(stream)
    with pytest.raises(InputError, match="3 shots"):
        list(captioner.caption_stream(short_videos["ego"], shots=3))


def test_streams_at_once(captioner, short_videos, references):
    streams = [captioner.caption_stream(short_videos[name], references[:1]) for name in ("ego", "exo3", "ego")]
    ends: list[Caption] = [None] * 3
    alive = dict(enumerate(streams))
    while alive:
        for i, stream in list(alive.items()):
            if (item := next(stream, None)) is None:
                del alive[i]
            else:
                ends[i] = item
    for name, caption in zip(("ego", "exo3", "ego"), ends, strict=True):
        assert caption == captioner.caption(short_videos[name], references[:1], num_beams=1)


def test_a_character_whose_tokens_have_not_all_come_is_held_back():
    import torch

    def write(options):
        streamer = options["streamer"]
        for token in ([9, 9, 9], [1], [2], [3]):
            streamer.put(torch.tensor(token))
        streamer.end()
        return "done"

    texts = {1: "a", 2: "a\ufffd", 3: "aé"}
    assert list(texts_and_result(write, lambda tokens: texts[tokens[-1]])) == ["a", "aé", "done"]
