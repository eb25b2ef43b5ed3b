"""Ingests with the toy retriever, once for each line `library folder batch` that it reads, each time in a fresh process.

It prints `begin PID`, `finished VIDEO` when a video was noted, and `exit STATUS`. The processes are forks of this one, which
has imported everything and opened nothing: to start one takes no time.
"""

import os
import runpy
import sys
from pathlib import Path

import lancedb  # noqa: F401  # imported before the forks
import torch

from egoinstructor.library.ingest import ingest
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.sources.opening import open_source


class Latents:
    latents_key = "toy"

    def encode(self, clips):
        return {clip: torch.full((2, 3), clip.start) for clip in clips}


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def work(uri, folder, batch):
    library = ExoLibrary.open(uri, make_toy_retriever())
    note = library.log_videos

    def noted(records):
        note(records)
        for record in records:
            say("finished", record.video)

    library.log_videos = noted
    say("begin", os.getpid())
    ingest(library, open_source(folder), latents=Latents(), batch=int(batch))


torch.set_num_threads(1)
make_toy_retriever = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))["make_toy_retriever"]
for line in sys.stdin:
    if not (child := os.fork()):
        work(*line.split())
        os._exit(0)
    say("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
