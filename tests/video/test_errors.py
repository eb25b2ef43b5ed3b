import os
import wave

import av
import numpy as np
import pytest

from egoinstructor.errors import VideoError
from egoinstructor.video.decode import load_video, probe, read_frames


def refuses(source, message, **segment):
    for attempt in (lambda: load_video(source, num_frames=8, **segment),) + (
        () if segment else (lambda: probe(source),)
    ):
        with pytest.raises(VideoError, match=message):
            attempt()


def test_missing_file(tmp_path):
    refuses(tmp_path / "none.mp4", "no such file")


def test_empty_file_and_empty_bytes(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    refuses(path, "0 bytes")
    refuses(b"", "0 bytes")


def test_a_folder_without_pieces(tmp_path):
    refuses(tmp_path, r"folder without pieces 0000\.mp4")


@pytest.mark.parametrize(
    "content",
    [
        b"I am a text, not a video.\n" * 20,
        bytes(range(256)) * 64,
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n",
    ],
    ids=["text", "noise", "concat_script", "playlist"],
)
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / "renamed.mp4"
    path.write_bytes(content)
    refuses(path, "can't be read as a video")
    refuses(content, "can't be read as a video")


def test_audio_only(tmp_path):
    sound, path = tmp_path / "sound.wav", tmp_path / "sound.mp4"
    with wave.open(str(sound), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(np.zeros(16000, np.int16).tobytes())
    with av.open(sound) as source, av.open(path, "w") as target:
        stream = target.add_stream("aac", rate=16000)
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    refuses(path, "audio only")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(long_gop, tmp_path):
    path = tmp_path / "locked.mp4"
    path.write_bytes(long_gop.read_bytes())
    path.chmod(0)
    refuses(path, "ermission denied")


def test_permission_denied_by_ffmpeg(long_gop, monkeypatch):
    def deny(*_, **__):
        raise av.error.PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(av, "open", deny)
    refuses(long_gop, "permission denied")


def test_a_segment_past_the_end(long_gop):
    refuses(long_gop, r"lasts 3\.00 s", start=3.0)
    refuses(long_gop, r"lasts 3\.00 s", start=1.0, end=3.6)


def test_cut_off_before_the_header(long_gop, tmp_path):
    path = tmp_path / "headless.mp4"
    path.write_bytes(long_gop.read_bytes()[:-2000])
    refuses(path, "damaged, cut off")


@pytest.mark.parametrize("name", ["faststart.mp4", "streamed.mkv"])
def test_cut_off_files_give_what_is_whole_and_nothing_else(make_video, tmp_path, sequential, name):
    whole = make_video(name, 150, gop=30, container_options={"movflags": "faststart"} if "mp4" in name else None)
    path = tmp_path / name
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    there = probe(path).num_frames
    assert 60 < there < 130
    expected = sequential(whole)
    frames = load_video(path, start=0.5, end=1.5, num_frames=8)
    np.testing.assert_array_equal(frames.pixels, [expected[i] for i in frames.indices])
    frames = read_frames(path, [there - 1])
    np.testing.assert_array_equal(frames.pixels[0], expected[there - 1])
    refuses(path, r"cut off: of 5\.00 s", start=0.0)
    refuses(path, r"cut off: of 5\.00 s", start=1.0, end=4.9)
    refuses(path, "the video lasts", start=1.0, end=9.0)


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_damaged_pictures_are_an_error_where_they_matter(make_video, tmp_path, sequential, backend):
    whole = make_video("to_damage.mp4", 150, gop=30)
    content = bytearray(whole.read_bytes())
    with av.open(whole) as container:  # the second GOP's pictures are overwritten, the headers of their units kept
        damaged = [packet for packet in container.demux(video=0) if packet.size and 32 <= packet.pts // 512 < 50]
        for packet in damaged:
            content[packet.pos + 8 : packet.pos + packet.size] = b"\x5a" * (packet.size - 8)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    for start, end in ((1.2, 1.6), (0.5, 1.9), (None, None)):
        with pytest.raises(VideoError, match="damaged or missing"):
            load_video(path, start=start, end=end, backend=backend)
    expected = sequential(whole)
    for start, end in ((0.0, 0.9), (2.0, 5.0)):
        frames = load_video(path, start=start, end=end, num_frames=8, backend=backend)
        np.testing.assert_array_equal(frames.pixels, [expected[i] for i in frames.indices])


def test_damage_that_a_decoder_notices_is_an_error_and_never_a_crash(make_video, tmp_path):
    # Some damage decodes as a legal picture: video has no checksums, and no decoder can tell. It must not crash.
    whole = make_video("to_flip.mp4", 60, gop=20)
    content = whole.read_bytes()
    with av.open(whole) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size > 60]
    refused = 0
    for position, size in (packets[i] for i in np.random.default_rng(0).integers(0, len(packets), 12)):
        broken = bytearray(content)
        broken[position + size // 2 : position + size // 2 + 8] = b"\xff" * 8
        try:
            assert len(read_frames(bytes(broken), range(60))) == 60
        except VideoError:
            refused += 1
    assert refused >= 6
