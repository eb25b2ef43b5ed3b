"""`egoinstructor prepare`: make videos and metadata ready for training, and check one against the other."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from egoinstructor.cli import prepare_features, prepare_references
from egoinstructor.cli.options import positive, quiet_transformers
from egoinstructor.cli.progress import with_progress
from egoinstructor.errors import InputError


def add(commands: Any) -> None:
    """Declare the command and its steps."""
    parser = commands.add_parser("prepare", help="make data ready for training", description=__doc__)
    steps = parser.add_subparsers(title="steps", required=True, metavar="STEP")

    resize = steps.add_parser("resize", help="a folder of videos → the same with a shorter side of 320 pixels")
    resize.add_argument("--shorter-side", type=positive, default=320, metavar="PX")
    chunk = steps.add_parser("chunk", help="a folder of videos → pieces of 300 s, {vid}/{chunk:04d}.mp4")
    chunk.add_argument(
        "--seconds",
        type=int,
        choices=(300, 15),
        default=300,
        help="length of a piece (default: 300; 15 needs '15s' in OUT)",
    )
    for step, run in ((resize, run_resize), (chunk, run_chunk)):
        step.add_argument("source", metavar="SRC")
        step.add_argument("out", metavar="OUT")
        step.set_defaults(run=run)

    inspect = steps.add_parser("inspect", help="check metadata against the videos on disk; exits non-zero on errors")
    inspect.add_argument("--instructions", required=True, metavar="FILE", help="instructions JSON, or a JSONL")
    inspect.add_argument("--config", nargs="*", default=[], metavar="FILE", help="config JSON of each split")
    inspect.add_argument("--ego", metavar="DIR", help="folder of the ego videos")
    inspect.add_argument("--exo", metavar="DIR", help="folder of the how-to videos")
    inspect.add_argument("--use-chat", action="store_true", help="check chat_answer in place of answer")
    inspect.set_defaults(run=run_inspect)

    pairs = steps.add_parser(
        "pairs", help="narrated clips of both views → which show the same, to train a retriever on"
    )
    pairs.add_argument("ego", metavar="EGO", help="metadata of the ego clips, JSON")
    pairs.add_argument("exo", metavar="EXO", help="metadata of the how-to clips, JSON")
    pairs.add_argument("--out", required=True, metavar="DIR", help="the folder to write ego.json and exo.json into")
    pairs.add_argument("--spacy", metavar="NAME", help="spaCy's pipeline, name or folder (default: en_core_web_sm)")
    pairs.add_argument("--synonyms", metavar="FILE", help="words that count as one, JSON")
    pairs.add_argument("--encoder", metavar="DIR", help="sentence encoder that finds more of them, folder or Hub id")
    pairs.add_argument(
        "--similar", type=float, metavar="COS", help="with --encoder: from which cosine on (default: 0.7)"
    )
    pairs.add_argument("--top-k", type=positive, default=32, metavar="N", help="how-to clips an ego clip (default: 32)")
    pairs.add_argument("--replace", action="store_true", help="where a file has lists already: make new ones")
    pairs.add_argument("--json", action="store_true", help="print the report as JSON")
    pairs.set_defaults(run=run_pairs)
    prepare_features.add(steps).set_defaults(run=lambda arguments: _show(prepare_features.encode(arguments), arguments))
    prepare_references.add(steps).set_defaults(
        run=lambda arguments: _show(prepare_references.find(arguments), arguments)
    )
    for step in (resize, chunk, inspect):
        step.add_argument("--workers", type=positive, metavar="N", help="videos at a time (default: one a core)")
        step.add_argument("--json", action="store_true", help="print the report as JSON")


def run_resize(arguments: argparse.Namespace) -> None:
    """Resize."""
    from egoinstructor.data.prepare import resize_folder

    options = {"shorter_side": arguments.shorter_side, "workers": arguments.workers}
    _show(
        with_progress(lambda p: resize_folder(arguments.source, arguments.out, progress=p, **options), "resizing"),
        arguments,
    )


def run_chunk(arguments: argparse.Namespace) -> None:
    """Cut."""
    from egoinstructor.data.prepare import chunk_folder

    options = {"seconds_per_chunk": arguments.seconds, "workers": arguments.workers}
    _show(
        with_progress(lambda p: chunk_folder(arguments.source, arguments.out, progress=p, **options), "cutting"),
        arguments,
    )


def run_inspect(arguments: argparse.Namespace) -> None:
    """Check."""
    from egoinstructor.data.inspection import inspect_metadata

    options = {
        "datapath_ego": arguments.ego,
        "datapath_exo": arguments.exo,
        "use_chat": arguments.use_chat,
        "workers": arguments.workers,
    }
    _show(
        with_progress(
            lambda p: inspect_metadata(arguments.instructions, *arguments.config, progress=p, **options), "checking"
        ),
        arguments,
    )


def run_pairs(arguments: argparse.Namespace) -> None:
    """Pair."""
    from egoinstructor.data.actions import MODEL, Tagger
    from egoinstructor.data.mining_run import mine_pairs
    from egoinstructor.data.vocabulary import SIMILAR, sentence_encoder

    if arguments.similar is not None and not arguments.encoder:
        raise InputError("--similar was given without --encoder, which it is for; give both or neither.")
    quiet_transformers()
    tagger = Tagger(arguments.spacy or MODEL)
    encode = sentence_encoder(arguments.encoder) if arguments.encoder else None
    similar = SIMILAR if arguments.similar is None else arguments.similar
    options = {"synonyms": arguments.synonyms, "encode": encode, "similar": similar, "top_k": arguments.top_k}
    options |= {"replace_lists": arguments.replace}
    report = with_progress(
        lambda p: mine_pairs(arguments.ego, arguments.exo, arguments.out, tagger, progress=p, **options), "reading"
    )
    _print(report, arguments)
    if not any(report.pairs.values()):
        raise InputError(
            f"no ego clip shares an action with a how-to clip. {arguments.out}/vocabulary.json has the words that were "
            "found."
        )


def _show(report: Any, arguments: argparse.Namespace) -> None:
    """Print the report; what failed makes the command fail."""
    _print(report, arguments)
    if not report.ok:
        raise InputError("there were failures; the report names each.")


def _print(report: Any, arguments: argparse.Namespace) -> None:
    console = Console()
    if arguments.json:
        console.print(json.dumps(report.as_dict(), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)  # rich would take a record apart
