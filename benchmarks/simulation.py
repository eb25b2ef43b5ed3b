"""How fast SimKitchen is rendered, how large things are in its frames, and what it looks like.

    python benchmarks/simulation.py [--events 40] [--json] [--montage DIR]

Speed is that of one process, whole: scene, both views' frames, MP4. CPU seconds tell it on a shared machine, wall seconds
on an idle one. Sizes are shares of the frame that show the thing acted on and nothing before it, over all frames and over
each clip's best one; "hidden" is a clip that never shows one part in 500. The montages, 20 random clips of each view of
the test split, four frames each, are for looking at.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from simkitchen.encoding import write_clip
from simkitchen.events import CAMERAS, Event, generate
from simkitchen.rendering import Settings, render_view, visible_share

HIDDEN = 1 / 500
SHOWN = 20
ZOOM = 1.5


def both_views(split: str, count: int, seed: int) -> list[Event]:
    whole = [event for event in generate(split, 4 * count + 100) if len(event.views) == 2]
    return random.Random(seed).sample(whole, count)


def speed(events: list[Event], settings: Settings) -> dict[str, float]:
    render_view(events[0], events[0].views[0], settings)  # libraries, driver, shaders
    cpu, wall, sizes = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for event in events:
            start = time.process_time(), time.perf_counter()
            for view in event.views:
                path = Path(folder) / f"{view.camera}.mp4"
                write_clip(path, render_view(event, view, settings))
                sizes.append(path.stat().st_size / 1000)
            cpu.append(time.process_time() - start[0])
            wall.append(time.perf_counter() - start[1])
    return {
        "size": settings.size,
        "frames": settings.frames,
        "cpu_s": round(statistics.mean(cpu), 2),
        "wall_s": round(statistics.mean(wall), 2),
        "kB_a_clip": round(statistics.mean(sizes), 1),
    }


def sizes(events: list[Event]) -> dict[str, dict[str, float]]:
    found = {}
    for camera in CAMERAS:
        shares = np.stack([visible_share(e, e.view(camera), Settings(96, 8)) for e in events if e.view(camera).prop])
        best = shares.max(1)
        found[camera] = {
            "clips": len(shares),
            "median_pixels": round(float(np.median(shares)) * 96 * 96),
            "tenth_pixels": round(float(np.quantile(best, 0.1)) * 96 * 96),
            "best_frame_pixels": round(float(np.median(best)) * 96 * 96),
            "hidden": int((best < HIDDEN).sum()),
        }
    return found


def montage(events: list[Event], camera: str, path: Path) -> None:
    """Two columns of clips, four frames each, as JPEG."""
    rows = []
    for event in events:
        frames = render_view(event, event.view(camera), Settings(96, 16))[[1, 5, 10, 14]]
        rows.append(np.concatenate(list(frames), 1))
    pairs = [np.concatenate(rows[i : i + 2], 1) for i in range(0, len(rows), 2)]
    sheet = av.VideoFrame.from_ndarray(np.concatenate(pairs, 0), format="rgb24")
    width, height = round(ZOOM * sheet.width), round(ZOOM * sheet.height)
    with av.open(path, "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("mjpeg", rate=1, options={"qmin": "4", "qmax": "4"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        container.mux(stream.encode(sheet.reformat(width, height, "yuvj420p", interpolation="LANCZOS")))
        container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=40, help="events measured (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--montage", type=Path, metavar="DIR", help="write simkitchen_ego.jpg and simkitchen_exo.jpg")
    options = parser.parse_args()
    if options.montage:
        for camera in CAMERAS:
            shown = both_views("test", SHOWN, seed=CAMERAS.index(camera) + 1)
            montage(shown, camera, options.montage / f"simkitchen_{camera}.jpg")
            for i, event in enumerate(shown):
                print(f"{camera} {i:2}: {event.view('ego').narration}")
        return
    events = both_views("train", options.events, seed=0)
    speeds = [speed(events, settings) for settings in (Settings(96, 8), Settings(96, 16), Settings(112, 16))]
    speeds.append(speed(events[: max(1, len(events) // 4)], Settings(224, 16)))
    results = {"speed": speeds, "sizes_at_96": sizes(both_views("test", options.events, seed=0))}
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'size':>5}{'frames':>8}{'CPU s/event':>13}{'wall s/event':>14}{'kB/clip':>9}")
    for row in results["speed"]:
        print(f"{row['size']:5}{row['frames']:8}{row['cpu_s']:13}{row['wall_s']:14}{row['kB_a_clip']:9}")
    print(
        "\npixels of 96 × 96 that show the thing: all frames' median, best frame's median and lowest tenth, hidden clips"
    )
    for camera, row in results["sizes_at_96"].items():
        print(
            f"{camera}: {row['median_pixels']}, {row['best_frame_pixels']}, {row['tenth_pixels']}, "
            f"{row['hidden']} of {row['clips']}"
        )


if __name__ == "__main__":
    main()
