"""A long recording narrated: × real time, peak memory by length, and kill -9 on the way.

    python benchmarks/narrate.py [--minutes 60] [--seconds 2] [--kill 3] [--json]

The recording is the demo's ego clips one after another, over and over; nano narrates it with the demo's library. It is
`egoinstructor narrate` that is run, in a process of its own: a sixth of the recording, then the whole. With `--kill N` the
whole is narrated once more, killed N times with signal 9 on the way and begun again; the tracks must be the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from egoinstructor.assets import demo_files
from egoinstructor.library.library import ExoLibrary
from egoinstructor.narration.tracks import Files

FPS, SIDE = 4, 96
POLL = 0.05


@dataclass(frozen=True)
class Run:
    """What one narration took."""

    minutes: float
    windows: int
    captions: int
    elapsed: float
    speed: float
    peak_mib: float


def write_recording(path: Path, minutes: float) -> Path:
    frames = []
    for clip in sorted((demo_files() / "ego").glob("*.mp4")):
        with av.open(str(clip)) as container:
            frames += [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = SIDE, SIDE, "yuv420p", 10 * FPS
        for i in range(round(60 * minutes * FPS)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[i % len(frames)], format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def copy_library(folder: Path) -> Path:
    """The demo's library, where it can be written to."""
    target = folder / "library"
    shutil.copytree(demo_files() / "library", target)
    library = ExoLibrary.open(target)
    for name in library.sources():
        library.add_source(name, demo_files())
    return target


def start(recording: Path, library: Path, out: Path, arguments: argparse.Namespace, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "egoinstructor", "narrate", str(recording), "--model", "nano", "--device", "cpu"]
    command += ["--library", str(library), "--out", str(out), "--json", "--num-beams", str(arguments.num_beams)]
    command += ["--seconds", str(arguments.seconds), "--cut", arguments.cut]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True, **options)


def straight(minutes: float, library: Path, folder: Path, arguments: argparse.Namespace) -> Run:
    recording = write_recording(folder / f"{minutes:g}.mp4", minutes)
    process = start(recording, library, folder / f"straight-{minutes:g}", arguments, stdout=subprocess.PIPE)
    last = ""
    for line in process.stdout:
        last = line
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"narrate failed with status {os.waitstatus_to_exitcode(status)}")
    report = json.loads(last)["report"]
    return Run(
        minutes, report["windows"], report["captions"], report["elapsed"], report["speed"], usage.ru_maxrss / 1024
    )


def killed(minutes: float, library: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, bool]:
    """Narrate with kills; whether each track is that of the straight run."""
    recording, out = folder / f"{minutes:g}.mp4", Files(folder / "killed")
    whole = sum(1 for _ in Files(folder / f"straight-{minutes:g}").journal.open())
    for number in range(arguments.kill):
        process = start(recording, library, out.prefix, arguments, stdout=subprocess.DEVNULL)
        lines = whole * (number + 1) // (arguments.kill + 1)
        while process.poll() is None and (not out.journal.exists() or sum(1 for _ in out.journal.open()) < lines):
            time.sleep(POLL)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
        print(f"killed with {sum(1 for _ in out.journal.open())} of {whole} lines in the journal", flush=True)
    process = start(recording, library, out.prefix, arguments, stdout=subprocess.DEVNULL)
    process.wait()
    straight = Files(folder / f"straight-{minutes:g}")
    return {
        name: getattr(out, name).read_bytes() == getattr(straight, name).read_bytes()
        for name in ("srt", "vtt", "jsonl")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window")
    parser.add_argument("--cut", default="fixed", choices=("fixed", "changes"))
    parser.add_argument("--num-beams", type=int, default=3)
    parser.add_argument("--kill", type=int, default=0, metavar="N", help="also: kill -9 so many times, and go on")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = copy_library(folder)
        runs = []
        for minutes in (arguments.minutes / 6, arguments.minutes):
            runs.append(straight(minutes, library, folder, arguments))
            print(
                "{minutes:g} minutes: {windows} windows, {captions} captions in {elapsed:.0f} s, × {speed:.1f} real time, "
                "peak memory {peak_mib:.0f} MiB".format(**asdict(runs[-1])),
                flush=True,
            )
        same = killed(arguments.minutes, library, folder, arguments) if arguments.kill else {}
        if same:
            print(f"after {arguments.kill} kills, same bytes as the straight run: {same}")
        if arguments.json:
            print(json.dumps({"runs": [asdict(run) for run in runs], "same": same}))
    if not all(same.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
