"""What a library's latents save: one ego clip captioned with 4 references, at the published size with random weights.

    OMP_NUM_THREADS=1 python benchmarks/warm_latents.py --tokenizer DIR [--frames 32] [--rounds 2]

Three ways in turn, each by a captioner that remembers nothing: references given as files, decoded and encoded each time; the
first caption from a library, which keeps their latents; every later one. The captions must be equal. Retrieval itself is
a library of a few clips with made-up embeddings: its cost at scale is in library.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import torch

from egoinstructor import Captioner, Reference
from egoinstructor.checkpoints.sources import find_folder
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry
from egoinstructor.model import EgoInstructorConfig, EgoInstructorProcessor
from egoinstructor.model.tokenizer import load_tokenizer
from egoinstructor.retriever.interface import Retriever, RetrieverIdentity
from egoinstructor.video.identity import content_digest
from published import machine, random_model

NARRATION = "and then you open the microwave"
SECONDS, RATE = 8, 30


class OneForAll(Retriever):
    """Finds every clip equally similar: the benchmark is of what comes after."""

    identity = RetrieverIdentity("one for all", "1", 8, "none", 1, "segment_center")

    def encode_video(self, clips, view="exo"):
        return torch.eye(8)[: len(clips)] if view == "exo" else torch.full((len(clips), 8), 8**-0.5)

    def encode_text(self, texts):
        return torch.eye(8)[: len(texts)]


def write_video(path: Path, seed: int) -> None:
    """Moving noise, 640×360 H.264, a keyframe every 250 frames."""
    picture = np.random.default_rng(seed).integers(0, 255, (45, 80, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "250", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for i in range(SECONDS * RATE):
            image = np.roll(picture, i, axis=1).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(machine())
    config = EgoInstructorConfig()
    processor = EgoInstructorProcessor(
        load_tokenizer(find_folder(arguments.tokenizer, ("tokenizer.json",), "tokenizer"))
    )
    processor.fit(config)
    model = random_model(config, torch.bfloat16).to(arguments.device)
    options = {
        "num_frames": arguments.frames,
        "max_new_tokens": arguments.new_tokens,
        "min_new_tokens": arguments.new_tokens,
    }

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        videos = [folder / f"{name}.mp4" for name in ("ego", "a", "b", "c", "d")]
        for seed, video in enumerate(videos):
            write_video(video, seed)
        retriever = OneForAll()
        references = [Reference(video, NARRATION, 0, SECONDS - 1) for video in videos[1:]]
        seconds, captions = defaultdict(list), set()
        for number in range(arguments.rounds):
            library = ExoLibrary.create(folder / f"library{number}", retriever)
            library.add_source("howto", folder)
            entries = [ClipEntry(v.name, 0, SECONDS - 1, NARRATION, "howto", content_digest(v)) for v in videos[1:]]
            library.add(entries, retriever.encode_video(videos[1:]), retriever.encode_text([NARRATION] * 4))
            ways = {
                "references decoded and encoded": {"references": references},
                "library, first time": {"library": library, "shots": 4},
                "library, later": {"library": library, "shots": 4},
            }
            for way, given in ways.items():
                captioner = Captioner(model, processor)
                _ = captioner.latents_key  # the digest of the weights is taken once a process, not once a caption
                start = time.perf_counter()
                caption = captioner.caption(videos[0], **given, **options)
                seconds[way].append(time.perf_counter() - start)
                captions.add(caption.text)
                print(f"{way}: {seconds[way][-1]:.1f} s", flush=True)
        assert len(captions) == 1, "the ways must write the same"
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        for way, median in medians.items():
            print(f"| {way} | {median:.1f} | {medians['references decoded and encoded'] / median:.2f} |")


if __name__ == "__main__":
    main()
