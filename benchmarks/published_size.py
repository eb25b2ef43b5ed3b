"""The published size on this machine: a random checkpoint of the published shapes and files is converted, then captions a
clip with 4 references, 32 frames, beam 3 and 64 new tokens in bf16. Prints peak memory and where the seconds go.

    python benchmarks/published_size.py --video EGO.mp4 --tokenizer DIR [--scratch DIR] [--reference EXO.mp4 …]

Each step is a process of its own, so that its peak memory is its own. Needs about 26 GB of disk under --scratch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from egoinstructor import Captioner, Clip, Reference
from egoinstructor.checkpoints.convert import convert
from published import Stopwatch, machine, peak_gb, watch_model, write_published_checkpoint


def step_write(arguments: argparse.Namespace, scratch: Path) -> dict:
    base, captioner = write_published_checkpoint(scratch)
    return {
        "base GB": sum(f.stat().st_size for f in base.glob("*.bin")) / 1e9,
        "captioner GB": captioner.stat().st_size / 1e9,
    }


def step_convert(arguments: argparse.Namespace, scratch: Path) -> dict:
    convert(scratch / "base", scratch / "captioner.pt", scratch / "model", tokenizer=arguments.tokenizer)
    return {}


def step_caption(arguments: argparse.Namespace, scratch: Path) -> dict:
    watch = Stopwatch()
    dtype = getattr(torch, arguments.dtype)
    with watch.time("load"):
        captioner = Captioner.from_pretrained(scratch / "model", dtype=dtype, device=arguments.device)
    watch_model(watch, captioner.model)
    watch.watch(sys.modules["egoinstructor.captioners.clip_encoder"], "load_video", "decode")
    videos = arguments.reference or [arguments.video] * 4
    references = [Reference(v, "and then you open the microwave", 0, 1 + i / 10) for i, v in enumerate(videos)]
    with watch.time("caption"):
        caption = captioner.caption_batch(
            [(Clip(arguments.video), references)], num_frames=arguments.num_frames,
            min_new_tokens=arguments.new_tokens, max_new_tokens=arguments.new_tokens,
        )[0]  # fmt: skip
    seconds = {name: sum(values) for name, values in watch.seconds.items()}
    tokens = watch.seconds["new token"]
    return {
        "clips": 1 + len(caption.references),
        "new tokens": len(tokens) + 1,
        "seconds": seconds,
        "median new token ms": statistics.median(tokens) * 1000,
    }


STEPS = {"write": step_write, "convert": step_convert, "caption": step_caption}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", required=True)
    parser.add_argument("--reference", action="append", default=[])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--num-frames", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        start = time.perf_counter()
        result = STEPS[arguments.step](arguments, arguments.scratch)
        print(json.dumps({"seconds in all": time.perf_counter() - start, "peak GB": peak_gb(), **result}))
        return
    print(machine())
    scratch = Path(tempfile.mkdtemp(dir=arguments.scratch))
    try:
        for step in STEPS:
            command = [sys.executable, __file__, *sys.argv[1:], "--scratch", str(scratch), "--step", step]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(step, json.dumps(json.loads(done.stdout.splitlines()[-1]), indent=1), flush=True)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
