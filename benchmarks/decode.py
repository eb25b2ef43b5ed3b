"""How fast 32 frames are read, and whether they are the right ones: ours against other decoders.

    python benchmarks/decode.py [--runs 15] [--json]

Two tasks, on H.264 made on the spot (640 × 360, 30 frames per second, a keyframe every 250): 32 frames spread over a
10 s clip, and 32 over a 4 s window deep in a 5-minute file. Every reader opens the file anew in each run. Readers take
turns within each round, so that other work on the machine falls on all alike. Frames are compared with a decode from
the start; a reader may round the conversion to RGB differently (at most 3 of 255) but not give another frame.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from egoinstructor.video.decode import read_frames

WIDTH, HEIGHT, FPS, GOP = 640, 360, 30, 250
Reader = Callable[[Path, list[int]], np.ndarray]


def write_clip(path: Path, num_frames: int) -> Path:
    scene = np.random.default_rng(0).integers(0, 256, (64, 384, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", GOP
        for i in range(num_frames):
            left, top = 2 * i % (scene.shape[1] - WIDTH), int(70 + 70 * np.sin(i / 20))
            image = scene[top : top + HEIGHT, left : left + WIDTH].copy()
            for bit in range(14):  # the frame's number, so that no two frames are alike
                image[:24, 24 * bit : 24 * bit + 24] = 255 * (i >> bit & 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read_ours(path: Path, indices: list[int]) -> np.ndarray:
    return read_frames(path, indices).pixels


def read_sequentially(path: Path, indices: list[int]) -> np.ndarray:
    wanted, found = set(indices), {}
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                found[i] = frame.to_ndarray(format="rgb24")
            if i == indices[-1]:
                break
    return np.stack([found[i] for i in indices])


def read_with_torchcodec(path: Path, indices: list[int]) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(str(path), dimension_order="NHWC").get_frames_at(indices).data.numpy()


def read_with_torchcodec_auto_threads(path: Path, indices: list[int]) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
    return decoder.get_frames_at(indices).data.numpy()


def read_with_torchcodec_approximate(path: Path, indices: list[int]) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="approximate")
    return decoder.get_frames_at(indices).data.numpy()


def read_with_decord(path: Path, indices: list[int]) -> np.ndarray:
    import decord

    return decord.VideoReader(str(path)).get_batch(indices).asnumpy()


def readers() -> dict[str, Reader]:
    found: dict[str, Reader] = {"ours": read_ours, "PyAV, sequential": read_sequentially}
    if find_spec("torchcodec"):
        found |= {
            "torchcodec": read_with_torchcodec,
            "torchcodec, threads": read_with_torchcodec_auto_threads,
            "torchcodec, approximate": read_with_torchcodec_approximate,
        }
    if find_spec("decord"):
        found["decord"] = read_with_decord
    return found


def measure(path: Path, indices: list[int], runs: int) -> list[dict[str, str | float | int]]:
    contenders = readers()
    expected = read_sequentially(path, indices).astype(np.int16)
    wrong = {
        name: int((np.abs(reader(path, indices) - expected).max((1, 2, 3)) > 3).sum())
        for name, reader in contenders.items()
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, reader in contenders.items():
            # A decode of five minutes from the start takes seconds, and tells in a few runs.
            if name == "PyAV, sequential" and len(times[name]) >= 3 and times[name][0] > 1:
                continue
            start = time.perf_counter()
            reader(path, indices)
            times[name].append(time.perf_counter() - start)
    ours = statistics.median(times["ours"])
    return [
        {
            "reader": name,
            "median_ms": round(1000 * statistics.median(seconds), 1),
            "min_ms": round(1000 * min(seconds), 1),
            "times_ours": round(statistics.median(seconds) / ours, 2),
            "wrong_frames": wrong[name],
            "runs": len(seconds),
        }
        for name, seconds in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="runs of each reader (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    tasks = {
        "32 frames of a 10 s clip": (300, np.linspace(0, 299, 32)),
        "32 frames of a 4 s window, 4.4 min into a 5 min file": (9000, np.linspace(7980, 8099, 32)),
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for task, (num_frames, indices) in tasks.items():
            path = write_clip(Path(folder) / f"{num_frames}.mp4", num_frames)
            results[task] = measure(path, [int(i) for i in indices], options.runs)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for task, rows in results.items():
        print(f"\n{task}\n{'reader':26}{'median ms':>10}{'min ms':>8}{'× ours':>8}{'wrong':>7}{'runs':>6}")
        for row in rows:
            print(
                f"{row['reader']:26}{row['median_ms']:10}{row['min_ms']:8}{row['times_ours']:8}"
                f"{row['wrong_frames']:7}{row['runs']:6}"
            )


if __name__ == "__main__":
    main()
