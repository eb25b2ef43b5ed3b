import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from egoinstructor.errors import InputError, VideoError
from egoinstructor.video.decode import load_video, probe
from egoinstructor.web import decoder
from egoinstructor.web import sandbox as sandbox_module
from egoinstructor.web.decoder import HEAD
from egoinstructor.web.decoder_process import LostError, receive
from egoinstructor.web.errors import Busy, Unavailable
from egoinstructor.web.limits import LimitError, Limits
from egoinstructor.web.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox():
    """One process; a test that ends it leaves another in its place."""
    with pytest.MonkeyPatch.context() as patch, Sandbox(Limits(decoders=1)) as sandbox:
        patch.setenv("SOME_TOKEN", "secret")
        yield sandbox


def process_of(sandbox):
    return sandbox._decoders[0]._process


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_gives_what_a_decode_in_this_process_gives(sandbox, short_videos):
    video = short_videos["ego"]
    assert sandbox.probe(video) == probe(video)
    for start, end, num_frames, sampling in [(None, None, 8, "segment_center"), (0.5, 2.0, 3, "linspace")]:
        ours = sandbox.frames(video, start, end, num_frames, sampling)
        theirs = load_video(video, start=start, end=end, num_frames=num_frames, sampling=sampling)
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        np.testing.assert_array_equal(ours.timestamps, theirs.timestamps)
        np.testing.assert_array_equal(ours.indices, theirs.indices)


CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.mark.parametrize(
    "case", ["seek-permission/midgop.mp4", "cover-first/cover_udta_first.mp4", "size-change/mr_resize.webm"]
)
def test_videos_as_people_have_them_are_read_as_in_this_process(sandbox, case):
    video = CASES / case
    assert sandbox.probe(video) == probe(video)
    np.testing.assert_array_equal(sandbox.frames(video, num_frames=8).pixels, load_video(video, num_frames=8).pixels)
    assert Image.open(io.BytesIO(sandbox.thumbnail(video, 1.0, 24))).size == (32, 24)


@pytest.mark.parametrize("kind", ["mirrored.mp4", "broadcast.ts", "hdr.mov"])
def test_what_a_video_looks_like_is_the_same_in_the_sandbox(sandbox, tmp_path, kind):
    video = tmp_path / kind
    hdr = kind == "hdr.mov"
    options = {"preset": "ultrafast", "x265-params": "log-level=none"} if hdr else {"preset": "ultrafast"}
    with av.open(video, "w") as container:
        stream = container.add_stream("libx265" if hdr else "libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le" if hdr else "yuv420p"
        if hdr:
            stream.codec_context.color_trc, stream.codec_context.color_primaries = 18, 9
            stream.codec_context.colorspace = 9
        if kind == "mirrored.mp4":
            stream.set_display_matrix([0, 1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30])
        for number in range(10):
            picture = np.full((64, 96, 3), 20 * number, np.uint8)
            picture[:32, :48] = (200, 60, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert sandbox.probe(video) == probe(video)
    assert sandbox.probe(video).mirrored == (kind == "mirrored.mp4")
    np.testing.assert_array_equal(sandbox.frames(video, num_frames=4).pixels, load_video(video, num_frames=4).pixels)


def test_frames_are_scaled_down_only_if_asked_and_never_up(sandbox, short_videos):
    video = short_videos["ego"]  # 64×48
    assert sandbox.frames(video, num_frames=2, max_side=32).pixels.shape == (2, 24, 32, 3)
    assert sandbox.frames(video, num_frames=2, max_side=640).pixels.shape == (2, 48, 64, 3)
    full = sandbox.frames(video, num_frames=2).pixels.mean((0, 1, 2))
    np.testing.assert_allclose(sandbox.frames(video, num_frames=2, max_side=32).pixels.mean((0, 1, 2)), full, atol=2)


def test_a_thumbnail_is_a_jpeg_of_that_moment(sandbox, short_videos):
    jpeg = Image.open(io.BytesIO(sandbox.thumbnail(short_videos["ego"], 1.0, 24)))
    assert (jpeg.format, jpeg.size) == ("JPEG", (32, 24))
    expected = load_video(short_videos["ego"], start=1.0, num_frames=1, sampling="linspace").pixels[0]
    expected = np.asarray(Image.fromarray(expected).resize((32, 24), Image.Resampling.BICUBIC).convert("L"), float)
    assert np.abs(np.asarray(jpeg.convert("L"), float) - expected).mean() < 8


def test_errors_name_the_file_but_not_where_it_lies(sandbox, tmp_path, short_videos):
    broken = tmp_path / "abc"
    broken.write_bytes(b"no video at all")
    for path, message in [(broken, "can't be read as a video"), (tmp_path / "none", "no such file")]:
        with pytest.raises(VideoError, match=f"^video {path.name}: .*{message}") as raised:
            sandbox.frames(path)
        assert str(tmp_path) not in str(raised.value)
    with pytest.raises(VideoError, match=r"the video lasts 3\.00 s"):
        sandbox.frames(short_videos["ego"], 1.0, 9.0)
    assert str(sandbox.frames(short_videos["ego"], num_frames=1)).startswith("Frames(ego.mp4,")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s, v: s.frames(v, num_frames=0), "num_frames=0"),
        (lambda s, v: s.frames(v, num_frames=65), "frames_per_request"),
        (lambda s, v: s.frames(v, 2.0, 1.0), "start=2.0 and end=1.0"),
        (lambda s, v: s.frames(v, float("nan")), "start=nan"),
        (lambda s, v: s.frames(v, sampling="random"), "sampling='random'"),
        (lambda s, v: s.frames(v, max_side=0), "max_side=0"),
        (lambda s, v: s.thumbnail(v, -1.0), "start=-1.0"),
        (lambda s, v: s.thumbnail(v, 0.0, 5000), "height=5000"),
    ],
)
def test_values_are_refused_before_a_process_sees_them(short_videos, ask, message):
    with Sandbox() as sandbox:
        with pytest.raises(InputError, match=message):
            ask(sandbox, short_videos["ego"])
        assert process_of(sandbox) is None


@pytest.mark.parametrize(
    ("limit", "value"), [("pixels", 3000), ("duration", 2.5), ("video_frames", 20), ("frame_bytes", 70_000)]
)
def test_videos_over_a_limit(short_videos, limit, value):
    request = {"do": "frames", "path": str(short_videos["ego"]), "start": None, "end": None}
    request |= {"num_frames": 8, "sampling": "linspace", "max_side": None}
    assert decoder._answer(request, Limits())[0] == {"ok": {"shape": (8, 48, 64, 3)}}
    head, body, sound = decoder._answer(request, Limits(**{limit: value}))
    assert (head["error"], head["limit"], list(body), sound) == ("limit", limit, [], True)


def test_seldom_used_decoders_are_left_alone(tmp_path):
    path = tmp_path / "old.mov"
    with av.open(path, "w") as container:
        stream = container.add_stream("cinepak", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert probe(path).codec == "cinepak"
    head, _, sound = decoder._answer({"do": "probe", "path": str(path)}, Limits())
    assert (head["error"], sound) == ("video", True)
    assert "coded as cinepak, and only h264" in head["message"]


def test_a_decode_that_needs_too_much_memory(tmp_path, short_videos):
    large = tmp_path / "large.mp4"
    with av.open(large, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((1080, 1920, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with Sandbox(Limits(decoders=1, decode_memory=650_000_000)) as sandbox:
        with pytest.raises(LimitError, match=r"\(limit decode_memory\)$"):
            sandbox.frames(large, num_frames=64)
        assert len(sandbox.frames(short_videos["ego"], num_frames=4)) == 4
        assert sandbox.stats() == {"answered": 1, "refused": 0, "over_limit": 0, "crashed": 0, "killed": 1}


def test_a_decode_that_takes_too_long_is_killed(short_videos):
    with Sandbox(Limits(decoders=1, decode_seconds=0.3)) as sandbox:
        process = sandbox._decoders[0]
        process._start()
        receive(process._process.stdout.fileno(), 0, time.monotonic() + 60)
        process._ready = True
        stuck = process_of(sandbox)
        stuck.send_signal(signal.SIGSTOP)
        with pytest.raises(LimitError, match=r"\(limit decode_seconds\)$"):
            sandbox.probe(short_videos["ego"])
        assert stuck.returncode == -signal.SIGKILL
        assert process_of(sandbox).pid != stuck.pid
        assert sandbox.stats()["killed"] == 1


def test_a_process_that_dies_is_replaced_and_a_file_is_blamed_by_a_fresh_one_only(sandbox, short_videos):
    video = short_videos["ego"]
    sandbox.probe(video)
    before, crashes = process_of(sandbox), sandbox.stats()["crashed"]
    before.send_signal(signal.SIGSEGV)
    assert sandbox.probe(video).num_frames == 30  # asked again of a fresh one
    assert before.returncode == -signal.SIGSEGV
    fresh = process_of(sandbox)
    sandbox._decoders[0]._uses = 0
    fresh.send_signal(signal.SIGSEGV)
    with pytest.raises(VideoError, match=r"video ego\.mp4: the decoder crashed on this file"):
        sandbox.probe(video)
    assert sandbox.stats()["crashed"] == crashes + 1
    assert sandbox.probe(video).num_frames == 30


def test_a_process_is_replaced_after_many_uses(sandbox, short_videos):
    sandbox.probe(short_videos["ego"])
    old = process_of(sandbox)
    sandbox._decoders[0]._uses = 10_000
    sandbox.probe(short_videos["ego"])
    assert process_of(sandbox).pid != old.pid


def test_threads_get_their_own_answers(short_videos):
    expected = {name: load_video(video, num_frames=3).pixels for name, video in short_videos.items()}
    names = list(short_videos) * 6
    with Sandbox(Limits(decoders=2)) as sandbox, ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda name: sandbox.frames(short_videos[name], num_frames=3).pixels, names)
        for name, pixels in zip(names, answers, strict=True):
            np.testing.assert_array_equal(pixels, expected[name])


def test_no_free_process_is_busy(short_videos):
    with Sandbox(Limits(decoders=1, request_seconds=0.01)) as sandbox:
        busy = sandbox._idle.get()
        with pytest.raises(Busy):
            sandbox.probe(short_videos["ego"])
        sandbox._idle.put(busy)


def test_close_ends_the_processes_and_whoever_waits(short_videos):
    sandbox = Sandbox(Limits(decoders=1))
    sandbox.probe(short_videos["ego"])
    process = process_of(sandbox)
    process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(sandbox.probe, short_videos["ego"])
        while sandbox._idle.qsize():
            time.sleep(0.01)
        sandbox.close()
        with pytest.raises(Unavailable):
            waits.result()
    assert process.returncode is not None
    assert process_of(sandbox) is None
    with pytest.raises(Unavailable):
        sandbox.probe(short_videos["ego"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_the_process_may_do(sandbox, short_videos):
    sandbox.probe(short_videos["ego"])
    folder = Path("/proc", str(process_of(sandbox).pid))
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (folder / "limits").read_text().splitlines()}
    assert limits["Max address space"] == [str(sandbox.limits.decode_memory)] * 2
    assert limits["Max file size"] == ["0"] * 2
    assert limits["Max core file size"] == ["0"] * 2
    assert int(limits["Max cpu time"][0]) <= 200
    # One descriptor beside the four it has: the video's. Nothing that a video names can be opened while it is read.
    assert sorted(int(descriptor.name) for descriptor in (folder / "fd").iterdir()) == [0, 1, 2, 3]
    assert limits["Max open files"] == ["5"] * 2
    assert b"SOME_TOKEN" not in (folder / "environ").read_bytes()
    assert b"torch" not in (folder / "maps").read_bytes()


def test_the_process_imports_no_torch():
    code = "import sys, egoinstructor.web.decoder as d; d._prepare(); print([m for m in sys.modules if 'torch' in m])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[0] == "['egoinstructor.video.torchcodec_reader']"


@pytest.mark.slow
def test_the_process_ends_with_its_server(short_videos):
    code = (
        "import os, sys; from pathlib import Path; from egoinstructor.web.sandbox import Sandbox; s = Sandbox();"
        "s.probe(Path(sys.argv[1])); print(s._decoders[-1]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", code, short_videos["ego"]], capture_output=True, text=True)
    pid = int(ran.stdout)
    for _ in range(500):
        if gone(pid):
            return
        time.sleep(0.02)
    raise AssertionError("the decoder outlived its server")


def sent(content, room=100, end=True):
    source, target = os.pipe()
    try:
        os.write(target, content)
        if end:
            os.close(target)
        return receive(source, room, time.monotonic() + (60 if end else 0.05))
    finally:
        os.close(source)
        if not end:
            os.close(target)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        HEAD.pack(2**31, 0),  # JSON of 2 GB
        HEAD.pack(2, 101) + b"{}",  # more bytes than the request can have
        HEAD.pack(2, 2**63) + b"{}",
        HEAD.pack(2, 10) + b"{}" + b"short",
        HEAD.pack(2, 0) + b"[]",
        HEAD.pack(8, 0) + b'{"ok":1}',
    ],
)
def test_answers_of_another_form_are_a_crash(content):
    with pytest.raises(LostError) as raised:
        sent(content)
    assert raised.value.reason == "crash"


@pytest.mark.parametrize("text", [b"not json", b"\xff\xfe", b"[" * 60_000, b"9" * 60_000])
def test_answers_that_are_no_json(text):
    with pytest.raises((ValueError, RecursionError)):
        sent(HEAD.pack(len(text), 0) + text)


def test_an_answer_that_never_ends():
    with pytest.raises(LostError) as raised:
        sent(HEAD.pack(2, 10) + b"{}" + b"short", end=False)
    assert raised.value.reason == "time"


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (None, b""),
        ([2, 4, 4, 3], bytes(100)),
        ([2, 4, 4, 3], bytes(2 * 64 + 1)),
        ([3, 4, 4, 3], bytes(3 * 64)),  # more frames than asked for
        ([2, 4, 4], bytes(2 * 64)),
        ([2, -4, -4, 3], bytes(2 * 64)),
        ([2, 4.0, 4, 3], bytes(2 * 64)),
        ([2, 2**40, 2**40, 3], bytes(2 * 64)),
        ([2, 4, 4, 3], b"\xff" * (2 * 64)),  # times that are no numbers
    ],
)
def test_frames_of_another_form_are_a_crash(shape, body):
    with pytest.raises(VideoError, match="crashed"):
        sandbox_module._frames({"shape": shape}, np.frombuffer(body, np.uint8), Path("a"), 2, Limits())


def test_a_probe_of_another_form_is_a_crash(short_videos):
    good = {name: getattr(probe(short_videos["ego"]), name) for name in probe(short_videos["ego"]).__slots__}
    assert sandbox_module._info(json.loads(json.dumps(good)), Path("a")) == probe(short_videos["ego"])
    for name, value in [("width", "1"), ("width", True), ("fps", float("nan")), ("codec", None), ("rotation", 0.0)]:
        with pytest.raises(VideoError, match="crashed"):
            sandbox_module._info(good | {name: value}, Path("a"))


def test_a_decoder_that_cannot_be_started_is_said_and_tried_again(sandbox, monkeypatch, caplog, short_videos):
    def none(*_, **__):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", none)
        sandbox._decoders[0]._replace()
        with pytest.raises(Unavailable, match="does not start"):
            sandbox.probe(short_videos["ego"])
    assert "Too many open files" in caplog.text
    assert sandbox.probe(short_videos["ego"]).num_frames == 30


def test_a_message_is_one_line_without_control_characters():
    assert sandbox_module._clean("a\nb\x1b[31m\u202e" + "x" * 5000, Path("v")).startswith("a b [31m xxx")
    assert len(sandbox_module._clean("x" * 5000, Path("v"))) == 1000


def test_no_thread_is_left_behind(sandbox, short_videos):
    before = threading.active_count()
    sandbox.probe(short_videos["ego"])
    assert threading.active_count() == before
