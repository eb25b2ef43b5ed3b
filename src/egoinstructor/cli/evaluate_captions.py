"""`egoinstructor evaluate --task captions`: caption a split and score the captions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from egoinstructor.cli.options import add_likeliest, open_captioner, positive
from egoinstructor.cli.progress import with_progress
from egoinstructor.cli.retrieval import check_library_given, open_library, retrieval
from egoinstructor.cli.score import scoring, show
from egoinstructor.errors import InputError

if TYPE_CHECKING:
    from egoinstructor.evaluation.captions.conditions import Condition
    from egoinstructor.evaluation.captions.samples import Sample
    from egoinstructor.evaluation.captions.workers import Opened

SOURCES = ("listed", "library", "random", "oracle", "none")
BASELINES = ("retrieval-only", "text-only", "video-only")
OPTIONS = (
    "data", "config", "datapath_ego", "datapath_exo", "references", "shots", "baseline", "seed", "num_beams",
    "max_new_tokens", "instruction", "likeliest", "zero_shot_guide", "batch_size", "workers", "model", "base", "captioner",
    "tokenizer", "int8", "library", "narration_weight", "min_score", "per_video", "near_duplicate", "source", "metrics",
    "treatment", "clean_narration", "no_narration", "spacy", "encoder",
)  # fmt: skip
"""Those that retrieval has no use for."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is captioned, and how."""
    group = parser.add_argument_group("captions")
    group.add_argument("--data", metavar="FILE", help="the split: an instructions JSON with --config, or a JSONL")
    group.add_argument("--config", metavar="FILE", help="with an instructions JSON: the split's config JSON")
    group.add_argument("--datapath-ego", metavar="DIR", help="folder of the ego videos (default: that of --data)")
    group.add_argument("--datapath-exo", metavar="DIR", help="folder of the how-to videos (default: that of --data)")
    group.add_argument(
        "--references",
        choices=SOURCES,
        help="where references come from (default: listed in the metadata; a library if one is named)",
    )
    group.add_argument("--shots", type=int, default=4, metavar="N", help="references at most (default: 4)")
    group.add_argument("--baseline", choices=BASELINES, help="leave something out: video, references, or the model")
    group.add_argument("--seed", type=int, default=0, help="of random references")
    group.add_argument("--num-beams", type=positive, default=3, metavar="N", help="beams (default: 3)")
    group.add_argument("--max-new-tokens", type=positive, default=64, metavar="N", help="longest caption (default: 64)")
    group.add_argument("--instruction", help="asked of every clip (default: the metadata's)")
    add_likeliest(group)
    group.add_argument(
        "--zero-shot-guide",
        action="store_true",
        help="a clip without references gets another sample's caption as text first, as in the original",
    )
    group.add_argument("--batch-size", type=positive, default=8, metavar="B", help="clips at a time (default: 8)")
    group.add_argument("--workers", type=positive, default=1, metavar="N", help="processes, each with its own model")


def run(arguments: argparse.Namespace) -> None:
    """Caption what is not yet captioned, score, write and print."""
    from egoinstructor.data.metadata import read_metadata
    from egoinstructor.evaluation.captions.results import left_out, score_run, write_rows
    from egoinstructor.evaluation.captions.run import gather, settings_of
    from egoinstructor.evaluation.captions.workers import caption_all
    from egoinstructor.evaluation.page import write_page

    check(arguments)
    options = scoring(arguments)
    out, clean = Path(arguments.out), arguments.clean_narration
    metadata = read_metadata(arguments.data, arguments.config)
    samples = metadata.samples(arguments.datapath_ego, arguments.datapath_exo, clean=clean)
    if not samples:
        raise InputError(f"{arguments.config or arguments.data} has no samples.")
    opener, workers = partial(open_writer, arguments, samples), min(arguments.workers, len(samples))
    with_progress(
        lambda progress: caption_all(out, opener, samples, arguments.batch_size, workers=workers, progress=progress),
        "opening the model",
    )
    records = gather(out, samples, arguments.batch_size)
    named = {name: getattr(arguments, name) for name in ("data", "config", "model", "base", "captioner", "library")}
    made_with = {name: value for name, value in named.items() if value} | {"made with": settings_of(out)}
    report = score_run(samples, records, made_with, **options)
    report.save(out)
    write_rows(report, out, out.resolve().name)
    write_page(report, out, out.resolve().name)
    console = Console()
    show(report, console, as_json=arguments.json)
    if not arguments.json:
        for line in filter(None, (left_out(report), f"written to {out}: open report.html in a browser")):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what doesn't fit, before anything is opened.

    Raises:
        InputError: an option that is missing, or that contradicts another.
    """
    if not arguments.data or not arguments.out:
        raise InputError(
            f"no {'--data' if not arguments.data else '--out'} was given; captions are evaluated with both."
        )
    check_library_given(arguments)
    if arguments.library and arguments.references == "listed":
        raise InputError("--library and --references listed were both given; leave one out.")
    if condition(arguments).references == "library" and not arguments.library:
        raise InputError("--references library: which one? Name it with --library.")


def condition(arguments: argparse.Namespace) -> Condition:
    """What is asked of the captioner.

    Raises:
        InputError: as `Condition`.
    """
    from egoinstructor.evaluation.captions.conditions import Condition

    return Condition(
        references=arguments.references or ("library" if arguments.library else "listed"),
        shots=arguments.shots,
        baseline=arguments.baseline,
        seed=arguments.seed,
        num_frames=arguments.num_frames,
        instruction=arguments.instruction,
        likeliest=arguments.likeliest,
        zero_shot_guide=arguments.zero_shot_guide,
        generation={"num_beams": arguments.num_beams, "max_new_tokens": arguments.max_new_tokens},
    )


def open_writer(arguments: argparse.Namespace, samples: Sequence[Sample], rank: int, workers: int) -> Opened:
    """Open model and library in a process, and say what captions are made with.

    Raises:
        InputError: the options name none, or what they name can't be opened.
    """
    from egoinstructor.data.actions import MODEL
    from egoinstructor.evaluation.captions.conditions import candidates_for
    from egoinstructor.evaluation.captions.run import describe
    from egoinstructor.evaluation.captions.workers import share_machine
    from egoinstructor.evaluation.captions.writer import CaptionWriter
    from egoinstructor.library.library import ExoLibrary

    asked = condition(arguments)
    found = None
    arguments.device = share_machine(arguments.device, rank, workers)
    needed = asked.baseline != "retrieval-only" or arguments.model or arguments.base
    captioner = open_captioner(arguments) if needed else None
    library = None
    if asked.references == "library":
        library = open_library(arguments, captioner)
        found = retrieval(arguments, library)
    elif arguments.library and asked.references in ("random", "oracle"):
        library = ExoLibrary.open(arguments.library)
    pipeline, clean = arguments.spacy or MODEL, arguments.clean_narration
    candidates = candidates_for(asked, samples, library, pipeline, clean=clean)
    writer = CaptionWriter(
        asked, samples, captioner, candidates=candidates, library=library, retrieval=found, clean=clean
    )
    facts: dict[str, Any] = {"batch_size": arguments.batch_size, "clean_narration": clean}
    if asked.references == "oracle":
        facts["spacy"] = pipeline
    return writer, describe(asked, samples, captioner, library, found) | facts
