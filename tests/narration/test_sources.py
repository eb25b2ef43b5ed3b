"""Streams: what is opened and what is refused, times, files that grow, what happens when one is lost."""

from __future__ import annotations

import importlib.util
import itertools
import threading
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from egoinstructor.errors import InputError, VideoError
from egoinstructor.streaming import sources
from egoinstructor.streaming.addresses import allowed_address
from egoinstructor.streaming.sources import StreamSource, open_stream
from egoinstructor.video.container import open_video

FORMATS = {
    "mpegts": ({}, "recording.ts"),
    "matroska": ({}, "recording.mkv"),
    "mp4": ({"movflags": "frag_keyframe+empty_moov"}, "recording.mp4"),
}


def recording(folder, kind, count=40):
    """Four seconds at 10 a second; frame i has the brightness 6 i."""
    options, name = FORMATS[kind]
    path = folder / name
    with av.open(path, "w", format=kind, options=options) as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(count):
            noise = np.random.default_rng(i).integers(0, 6, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise + np.uint8(6 * i), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def shown(frames):
    return [round(float(pixels().mean()) / 6 - 0.4) for _, pixels in frames]


class Writer(threading.Event):
    """Appends another piece to a file whenever its reader waits for one; when there is none, time passes."""

    def __init__(self, path, content, size):
        super().__init__()
        self._path = path
        self._pieces = iter([content[i : i + size] for i in range(0, len(content), size)])
        self.now = 0.0
        path.write_bytes(b"")

    def wait(self, timeout=None):
        piece = next(self._pieces, b"")
        with self._path.open("ab") as file:
            file.write(piece)
        self.now += not piece
        return self.is_set()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_is_followed_while_it_is_written(tmp_path, kind):
    """Whatever is cut in two by the end of what is there: nothing is lost, and frames come before the file is whole."""
    content = recording(tmp_path, kind).read_bytes()
    path = tmp_path / "growing"
    writer = Writer(path, content, 97)
    opener = partial(sources._open_growing, path, 3, writer, lambda: writer.now)
    with StreamSource(opener, str(path), stop=writer) as source:
        assert source.rate == 10
        frames = iter(source)
        early = list(itertools.islice(frames, 10))
        assert path.stat().st_size < len(content)
        late = list(frames)
        assert source.damaged == 0
    assert shown([*early, *late]) == list(range(40))
    assert [seconds for seconds, _ in [*early, *late]] == pytest.approx([i / 10 for i in range(40)], abs=2e-3)


def test_a_file_has_ended_when_it_has_not_grown_for_long():
    now, content = [0.0], [b"a", b"", b"b", b"", b"", b"", b"", b"c"]

    def wait(seconds):
        now[0] += 1
        return False

    growing = sources._Growing(lambda size: content.pop(0), 3, wait, lambda: now[0])
    assert [growing.read(9) for _ in range(3)] == [b"a", b"b", b""]
    assert now[0] == 1 + 3


def test_a_finished_file_is_read_to_its_end_and_closing_ends_a_wait(tmp_path):
    path = recording(tmp_path, "mpegts")
    with open_stream(str(path), idle=0.05) as source:
        assert shown(source) == list(range(40))
    source = open_stream(str(path), idle=10_000)
    taken = []

    def read():
        taken.extend(source)

    reader = threading.Thread(target=read)
    reader.start()
    source.close()
    reader.join(20)
    assert not reader.is_alive()
    source.close()
    assert list(source) == []


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_a_file_that_is_no_video_says_what_can_be_followed(tmp_path, content):
    path = tmp_path / "some.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="fragmented mp4"):
        open_stream(str(path), idle=0.05)


def test_an_mp4_whose_index_comes_last_can_be_paced_but_not_followed(tmp_path):
    path = tmp_path / "large.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for i in range(10):
            noise = np.random.default_rng(i).integers(0, 255, (128, 128, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    assert path.stat().st_size > 100_000, "more than FFmpeg keeps at hand"
    with pytest.raises(VideoError, match="--paced"), open_stream(str(path), idle=0.05) as source:
        list(source)
    with open_stream(str(path), paced=True) as source:
        assert source.rate == 10


CASES = Path(__file__).parents[1] / "data" / "cases"


def test_a_file_s_cover_is_not_its_video():
    path = CASES / "cover-first" / "cover_udta_first.mp4"
    with open_stream(str(path), paced=True) as source:
        assert source.rate == 30
        seconds, pixels = next(iter(source))
    assert (seconds, pixels().shape) == (0.0, (240, 320, 3))


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([0, 1, 0, 1, 0, 0], np.transpose),
        ([-1, 0, 0, 0, 1, 0], np.fliplr),
        ([0, 1, 0, -1, 0, 0], lambda a: np.rot90(a, 3)),
    ],
    ids=["transposed", "mirrored", "turned"],
)
def test_frames_of_a_stream_are_upright(tmp_path, matrix, expected):
    picture = np.zeros((32, 64), np.uint8)
    picture[:16, :32] = 200
    path = tmp_path / "phone.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.set_display_matrix([*(value << 16 for value in matrix), 0, 0, 1 << 30])
        for _ in range(3):
            frame = np.repeat(picture[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with open_stream(str(path), idle=0.05) as source:
        _, pixels = next(iter(source))
        shown = pixels()[..., 0].astype(int)
    assert np.abs(shown - expected(picture)).max() < 40


def test_a_playlist_opens_nothing_else(tmp_path):
    other = recording(tmp_path, "mpegts")
    path = tmp_path / "list.ts"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\n{other}\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        open_stream(str(path), idle=0.05)


def plain_packets(folder):
    """An mpegts recording without B-frames; of each frame, where its packets of 188 bytes lie and its time stamp."""
    path = folder / "plain.ts"
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream(
            "libx264", rate=10, options={"threads": "1", "g": "5", "bf": "0", "sc_threshold": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(40):
            noise = np.random.default_rng(i).integers(0, 6, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise + np.uint8(6 * i), format="rgb24")))
        container.mux(stream.encode(None))
    content, packets, stamps = bytearray(path.read_bytes()), [], []
    for place in range(0, len(content), 188):
        head = content[place : place + 4]
        payload = place + 4 + (1 + content[place + 4] if head[3] & 0x20 else 0)
        if head[1] & 0x40 and content[payload : payload + 4] == b"\0\0\1\xe0":
            packets.append([])
            stamps.append(payload + 9)
            video = head[1] & 0x1F, head[2]
        if packets and (head[1] & 0x1F, head[2]) == video:
            packets[-1].append(place)
    assert len(packets) == 40
    return content, packets, stamps


def stamped(content, place, change):
    """Change a time stamp, in ticks of which there are 90,000 a second."""
    a, b, c, d, e = content[place : place + 5]
    old = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
    new = change(old) % (1 << 33)
    content[place : place + 5] = bytes(
        [a & 0xF1 | new >> 29 & 0xE, new >> 22 & 0xFF, new >> 14 & 0xFE | 1, new >> 7 & 0xFF, new << 1 & 0xFE | 1]
    )


def followed(folder, content, **options):
    """What a source of the file gives: numbers shown, seconds, pictures left out."""
    path = folder / "damaged.ts"
    path.write_bytes(content)
    with StreamSource(partial(sources._open_growing, path, 0.01, threading.Event()), "damaged", **options) as source:
        frames = list(source)
        return shown(frames), [seconds for seconds, _ in frames], source.damaged


class Odd:
    """An open container or stream, but for what is given here."""

    def __init__(self, real, **different):
        self.__dict__ = {"_real": real, **different}

    def __getattr__(self, name):
        return getattr(self._real, name)


def undecodable():
    raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input")


@pytest.mark.parametrize("damage", [{"is_corrupt": True}, {"decode": undecodable}])
def test_damaged_frames_are_left_out_and_counted_up_to_the_next_keyframe(tmp_path, damage):
    content, _, stamps = plain_packets(tmp_path)
    stamped(content, stamps[24], lambda ticks: ticks ^ 1 << 32)
    path = tmp_path / "damaged.ts"
    path.write_bytes(content)

    @contextmanager
    def opener():
        with sources._open_growing(path, 0.01, threading.Event()) as (container, stream):

            def demux(_):
                for number, packet in enumerate(container.demux(stream)):
                    yield Odd(packet, **damage) if number in (12, 30) else packet

            yield Odd(container, demux=demux), stream

    with StreamSource(opener, "damaged") as source:
        frames = list(source)
        assert source.damaged == 3 + 1 + 5
    numbers = shown(frames)
    assert numbers == [i for i in range(40) if i not in (12, 13, 14, 24, 30, 31, 32, 33, 34)]
    assert [seconds for seconds, _ in frames] == pytest.approx([number / 10 for number in numbers], abs=1e-3)


@pytest.mark.parametrize("bit", [15, 17, 20, 26, 32])
@pytest.mark.parametrize("number", [22, 25])
def test_a_damaged_time_stamp_costs_its_frame_and_moves_no_other(tmp_path, bit, number):
    content, _, stamps = plain_packets(tmp_path)
    stamped(content, stamps[number], lambda ticks: ticks ^ 1 << bit)
    numbers, seconds, damaged = followed(tmp_path, content)
    assert numbers == [i for i in range(40) if i != number]
    assert seconds == pytest.approx([number / 10 for number in numbers], abs=1e-3)
    assert damaged == 1


@pytest.mark.parametrize("ticks", [5_000_000, -90_000, 1 << 32])
def test_a_keyframe_that_a_stream_is_entered_at_with_a_damaged_time(tmp_path, ticks):
    content, packets, stamps = plain_packets(tmp_path)
    for place in packets[12]:
        content[place + 1] |= 0x1F  # of another programme: frame 12 is lost, which shows in the packets' numbers
    stamped(content, stamps[15], lambda old: old + ticks)
    numbers, seconds, _ = followed(tmp_path, content)
    assert numbers[-24:] == list(range(16, 40))
    assert seconds == pytest.approx([number / 10 for number in numbers], abs=1e-3)


@pytest.mark.parametrize(
    ("gap", "live", "expected"), [(600, False, 602.0), (600, True, 2.0), (7200, False, 2.0), (-9, False, 2.0)]
)
def test_a_gap_is_as_long_as_a_camera_can_have_stopped(tmp_path, gap, live, expected):
    content, _, stamps = plain_packets(tmp_path)
    for place in stamps:
        stamped(content, place, lambda old: old + 900_000)
    for place in stamps[20:]:
        stamped(content, place, lambda old: old + gap * 90_000)
    numbers, seconds, damaged = followed(tmp_path, content, live=live)
    assert numbers == list(range(40))
    assert damaged == 0
    assert seconds[20:] == pytest.approx([expected + i / 10 for i in range(20)], abs=1e-3)


def test_a_rate_that_no_stream_has_is_not_believed(tmp_path):
    """FFmpeg reckons it from times, which may be damaged; frames without a time are placed by it."""

    @contextmanager
    def opener():
        with open_video(recording(tmp_path, "matroska", 20)) as (container, stream):
            odd = Odd(stream, average_rate=Fraction(1, 10**8), guessed_rate=Fraction(90_000))
            yield Odd(container, demux=lambda _: container.demux(stream)), odd

    with StreamSource(opener, "camera") as source:
        assert source.rate == sources.NOMINAL_RATE
        assert [seconds for seconds, _ in source] == pytest.approx([i / 10 for i in range(20)], abs=2e-3)


def test_a_stream_that_is_joined_by_another_one_on_the_way_ends_well(tmp_path):
    """At its end PyAV asks for streams that it doesn't know."""

    @contextmanager
    def opener():
        with open_video(recording(tmp_path, "matroska", 20)) as (container, stream):

            def demux(_):
                yield from container.demux(stream)
                raise IndexError

            yield Odd(container, demux=demux), stream

    with StreamSource(opener, "camera") as source:
        assert len(list(source)) == 20


def test_a_paced_file_comes_when_its_frames_are_due(short_videos):
    now, waits = [100.0], []

    def wait(seconds):
        waits.append(seconds)
        now[0] += seconds
        return False

    opener = partial(open_video, short_videos["ego"])
    with StreamSource(opener, "ego", paced=True, clock=lambda: now[0], wait=wait) as source:
        for number, (seconds, _) in enumerate(source):
            assert now[0] == pytest.approx(100 + number / 10)
            assert seconds == pytest.approx(number / 10)
            now[0] += 0.04  # as long as it is looked at
    assert waits == pytest.approx([0, *[0.06] * 29])


def lost_and_found(path, plan):
    """An opener: of each attempt, how many packets come before the stream is lost; None: all, and its end; -1: not there."""
    attempts = iter(plan)

    class Losing:
        def __init__(self, container, packets):
            self._container, self._packets, self.format = container, packets, container.format

        def demux(self, stream):
            for number, packet in enumerate(self._container.demux(stream)):
                if number == self._packets:
                    raise VideoError("lost")
                yield packet

    @contextmanager
    def opener():
        packets = next(attempts)
        if packets == -1:
            raise VideoError("not there")
        with open_video(path) as (container, stream):
            stream.thread_type = "SLICE"
            yield Losing(container, packets), stream

    return opener


def test_a_lost_stream_is_found_again_and_its_times_go_on(tmp_path, caplog):
    now, waits = [0.0], []

    def wait(seconds):
        waits.append(seconds)
        now[0] += seconds
        return False

    path = recording(tmp_path, "matroska", 20)
    opener = lost_and_found(path, [8, -1, -1, None, None, -1, -1, -1])
    source = StreamSource(opener, "camera", reconnects=3, clock=lambda: now[0], wait=wait)
    seconds = []

    def look():
        for second, _ in source:
            seconds.append(second)
            now[0] += 0.1

    with pytest.raises(VideoError, match=r"camera: lost, and not found again in 3 attempts \(not there\)"), source:
        look()
    assert waits == [1, 2, 4, 1, 1, 2, 4]
    assert source.reconnected == 2
    assert seconds == sorted(seconds)
    jumps = [late - early for early, late in itertools.pairwise(seconds) if late - early > 0.11]
    assert jumps[0] >= 7, "as long as it was away"
    assert len([line for line in caplog.messages if "connecting again in" in line]) == 7


def test_a_stream_that_is_closed_while_it_is_looked_for_ends(tmp_path):
    path = recording(tmp_path, "matroska", 20)
    source = StreamSource(lost_and_found(path, [8]), "camera", reconnects=3, wait=lambda seconds: True)
    assert 0 < len(list(source)) < 8


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rtsp://cam.example/1", "--allow-host cam.example"),
        ("http://allowed.example@evil.example/1", "--allow-host evil.example"),
        ("http://user:secret@evil.example:81/1?key=secret", "evil.example"),
        ("rtsp://user:12/secret@allowed.example/", "rtsp://…"),
        ("rtsp://user:se/secret@allowed.example/", "%2F"),
        ("http://evil.example#@allowed.example/x", "--allow-host evil.example"),
        ("http://allowed.example.evil.example/", "evil.example"),
        ("http://allowed.example\\@evil.example/", "backslashes|not allowed"),
        ("http://evil.example\\@allowed.example/", "backslashes"),
        ("http://allowed.example /", "no address"),
        ("http://allowed.example/\r\nHost: evil.example", "no address|not allowed"),
        ("http:///video", "no address"),
        ("http://allowed.example:port/", "host and port"),
        ("http://[::1/", "host and port"),
        ("ftp://allowed.example/1", "ftp"),
        ("file:///etc/passwd", "file"),
        ("concat://allowed.example/1", "concat"),
        ("HTTP+unix://allowed.example/", "protocols"),
    ],
)
def test_addresses_that_are_refused(url, message):
    with pytest.raises(InputError, match=message) as refused:
        open_stream(url, allow_hosts=["allowed.example"])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("rtsp://u:p@Allowed.Example:554/a?b=c#d", "rtsp://u:p@allowed.example:554/a?b=c"),
        ("RTSP://allowed.example", "rtsp://allowed.example/"),
        ("http://[::1]:8080/x.ts", "http://[::1]:8080/x.ts"),
    ],
)
def test_addresses_that_are_read(url, read):
    assert allowed_address(url, ["ALLOWED.example", "::1"])[0] == read


def test_what_is_opened_after_closing_is_closed_at_once(tmp_path):
    path, still_open, number = recording(tmp_path, "matroska", 20), [], itertools.count()

    @contextmanager
    def opener():
        with open_video(path) as video:
            still_open.append(video)
            if next(number) == 1:
                source.close()  # as another thread may, while the connection is made
            yield video
            still_open.pop()

    source = StreamSource(opener, "camera", reconnects=3, wait=lambda seconds: False)
    assert len(list(source)) == 20
    assert still_open == []


@pytest.mark.parametrize("options", [{"idle": 0}, {"idle": float("nan")}, {"reconnects": -1}])
def test_values_that_mean_nothing_are_refused(short_videos, options):
    with pytest.raises(InputError, match=next(iter(options))):
        open_stream(str(short_videos["ego"]), **options)


@pytest.mark.parametrize("name", ["/dev/video99", "rtsp://cam.example/1"])
def test_only_files_are_paced(name):
    with pytest.raises(InputError, match="pace"):
        open_stream(name, paced=True, allow_hosts=["cam.example"])


def test_a_camera_that_is_not_there():
    with pytest.raises(VideoError, match="/dev/video99"):
        open_stream("/dev/video99")


@pytest.mark.parametrize("name", ["nothing.ts", "."])
def test_a_file_that_is_not_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="no such file"):
        open_stream(name)


class Web(BaseHTTPRequestHandler):
    content = b""
    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/video.ts")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_):
        pass


@contextmanager
def web(content):
    handler = type("Handler", (Web,), {"content": content, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.asked
        finally:
            server.shutdown()
            thread.join()


def test_an_http_stream_of_an_allowed_host_and_no_redirect(tmp_path):
    with web(recording(tmp_path, "mpegts").read_bytes()) as (url, asked):
        with open_stream(f"{url}/video.ts", allow_hosts=["127.0.0.1"]) as source:
            assert shown(source) == list(range(40))
        asked.clear()
        with pytest.raises(InputError, match="--allow-host 127.0.0.1"):
            open_stream(f"{url}/video.ts", allow_hosts=["localhost"])
        assert asked == []
        with pytest.raises(VideoError, match="it can't be read"):
            open_stream(f"{url}/moved", allow_hosts=["127.0.0.1"])
        assert asked == ["/moved"], "where it leads, nobody looked"


def test_jpegs_over_http_are_timed_by_the_clock():
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 32, "yuvj420p", Fraction(1, 10)
    content = b""
    for i in range(8):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * i, np.uint8), format="rgb24")
        frame = frame.reformat(format="yuvj420p")
        frame.pts = i
        picture = b"".join(bytes(packet) for packet in encoder.encode(frame))
        content += b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
        content += picture + b"\r\n"
    with web(content) as (url, _), open_stream(f"{url}/cam", allow_hosts=["127.0.0.1"]) as source:
        source._clock = iter(range(100)).__next__
        seconds = [second for second, _ in source]
    assert seconds == list(range(len(seconds)))
    assert len(seconds) >= 7


def test_a_playlist_from_the_network_opens_nothing_else(tmp_path):
    path = recording(tmp_path, "mpegts")
    with web(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nvideo.ts\n#EXTINF:4,\n{path}\n".encode()) as (url, asked):
        with pytest.raises(VideoError):
            open_stream(f"{url}/live.m3u8", allow_hosts=["127.0.0.1"])
        assert set(asked) == {"/live.m3u8"}


@pytest.fixture(scope="module")
def rtsp():
    spec = importlib.util.spec_from_file_location("rtsp", Path(__file__).with_name("rtsp.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_rtsp_camera_that_hangs_up_is_called_again(rtsp):
    with rtsp.RtspServer(30) as server:
        source = open_stream(server.url, allow_hosts=["127.0.0.1"], reconnects=1)
        source._wait = lambda seconds: False
        with source:
            frames = list(itertools.islice(source, 45))
        assert source.reconnected == 1
    seconds = [second for second, _ in frames]
    assert seconds == sorted(seconds)
    assert frames[0][1]().shape == (32, 32, 3)
    assert len({line for line in server.asked if line.startswith("PLAY")}) == 1
    assert len([line for line in server.asked if line.startswith("PLAY")]) == 2


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_host_that_does_not_answer(monkeypatch, scheme):
    import socket

    monkeypatch.setattr(sources, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(VideoError, match=f"{scheme}://127.0.0.1:{port}/x: "):
            open_stream(f"{scheme}://me:secret@127.0.0.1:{port}/x", allow_hosts=["127.0.0.1"])


def test_a_file_whose_pictures_start_late_counts_from_its_sound():
    path = Path(__file__).parents[1] / "data" / "cases" / "late-video" / "late.mp4"
    with StreamSource(partial(open_video, path), "late", wait=lambda _: False) as source:
        times = [seconds for _, (seconds, _) in zip(range(4), source, strict=False)]
    assert times == pytest.approx([3.979 + number / 30 for number in range(4)], abs=1e-3)
