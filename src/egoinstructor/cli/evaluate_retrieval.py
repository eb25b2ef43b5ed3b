"""`egoinstructor evaluate --task retrieval`: how well clips and texts find each other.

Of clips in the original's metadata (--ego-pairs, --exo-pairs), read as frame features or as videos, through a retriever;
of EgoMCQ's questions (--questions), on the ego clips; or of two matrices of embeddings (--queries, --gallery).
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from egoinstructor.cli.options import quiet_transformers, torch_dtype
from egoinstructor.cli.progress import with_progress
from egoinstructor.errors import InputError

if TYPE_CHECKING:
    from egoinstructor.data.clips import ClipSource
    from egoinstructor.evaluation.report import RetrievalReport
    from egoinstructor.retriever.interface import Retriever, View
    from egoinstructor.video.folder import ProgressCallback

CLIPS = ("ego_pairs", "exo_pairs", "ego_features", "exo_features", "ego_videos", "exo_videos", "questions", "retriever")
MATRICES = ("queries", "gallery", "query_labels", "gallery_labels", "relevancy")
MODEL = ("device", "num_frames")
OPTIONS = tuple(name for name in (*CLIPS, *MATRICES, "benchmark", "keep_codes") if name != "retriever")
"""Those that captions have no use for."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured; the retriever, the device and the like are options of captions too."""
    clips = parser.add_argument_group("retrieval: clips, with --retriever")
    for view, name in (("ego", "egocentric"), ("exo", "how-to")):
        clips.add_argument(f"--{view}-pairs", metavar="FILE", help=f"metadata of the {name} clips")
        clips.add_argument(f"--{view}-features", metavar="DIR", help="their frame features, VIDEO.pth.tar and the like")
        clips.add_argument(f"--{view}-videos", metavar="DIR", help="instead of features: their videos")
    clips.add_argument("--questions", metavar="FILE", help="EgoMCQ's questions, on the ego features or videos")
    clips.add_argument(
        "--benchmark",
        nargs=2,
        metavar=("NAME", "FILE"),
        help="instead: ek100-mir (with --relevancy), youcook2, charades-ego or egolearner, in the original's file",
    )
    clips.add_argument("--keep-codes", action="store_true", help="leave Ego4D's codes (#C C) in ego narrations")
    matrices = parser.add_argument_group("retrieval: matrices of embeddings")
    for name, what in (("queries", "query"), ("gallery", "gallery")):
        matrices.add_argument(f"--{name}", metavar="FILE", help="a row an item, .npy or .safetensors")
        matrices.add_argument(
            f"--{what}-labels",
            metavar="FILE",
            help="JSON list, a label a row: equal ones belong together (default: row i to row i)",
        )
    matrices.add_argument(
        "--relevancy",
        metavar="FILE",
        help="relevancy of each item to each query, 0 to 1, .npy or .safetensors; 1 is an answer unless there are labels",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, write and print."""
    from egoinstructor.evaluation.report import RetrievalReport

    given = {
        name: value
        for name in (*CLIPS, *MATRICES, *MODEL, "benchmark", "dtype", "keep_codes")
        if (value := getattr(arguments, name))
    }
    report = RetrievalReport(settings=given)
    matrices = [name for name in MATRICES if name in given and not (arguments.benchmark and name == "relevancy")]
    if matrices and (clips := [name for name in (*CLIPS, "benchmark", *MODEL) if name in given]):
        raise InputError(f"{_option(matrices[0])} and {_option(clips[0])} were both given; measure matrices or clips.")
    if matrices:
        _matrices(report, arguments)
    else:
        with_progress(lambda progress: _clips(report, arguments, progress), "embedding")
    if arguments.out:
        report.save(arguments.out)
    _show(report, as_json=arguments.json)


def _matrices(report: RetrievalReport, arguments: argparse.Namespace) -> None:
    from egoinstructor.evaluation.matrices import evaluate_matrices, read_embeddings, read_labels, read_relevancy

    if not arguments.queries or not arguments.gallery:
        raise InputError("--queries and --gallery belong together, and labels and --relevancy to them; give both.")
    files = [path for path in (arguments.query_labels, arguments.gallery_labels) if path]
    if len(files) == 1:
        raise InputError("--query-labels and --gallery-labels belong together; give both, or none.")
    labels = (read_labels(files[0]), read_labels(files[1])) if files else None
    relevancy = read_relevancy(arguments.relevancy) if arguments.relevancy else None
    queries, gallery = read_embeddings(arguments.queries), read_embeddings(arguments.gallery)
    evaluate_matrices(report, queries, gallery, labels, relevancy)


def _clips(report: RetrievalReport, arguments: argparse.Namespace, progress: ProgressCallback) -> None:
    from egoinstructor.data.pairs import read_pairs
    from egoinstructor.evaluation.multiple_choice import read_questions
    from egoinstructor.evaluation.retrieval_run import evaluate_choices, evaluate_pairs
    from egoinstructor.retriever.opening import open_retriever

    files = {"ego": arguments.ego_pairs, "exo": arguments.exo_pairs}
    if arguments.benchmark and (arguments.questions or any(files.values())):
        raise InputError("--benchmark has clips of its own; leave out --ego-pairs, --exo-pairs and --questions.")
    if not any(files.values()) and not arguments.questions and not arguments.benchmark:
        raise InputError(
            "nothing to measure: give --ego-pairs, --exo-pairs, --questions, --benchmark, or --queries with --gallery."
        )
    if not arguments.retriever:
        raise InputError("no retriever was named; give --retriever DIR.")
    quiet_transformers()
    retriever = open_retriever(
        arguments.retriever,
        device=arguments.device,
        dtype=torch_dtype(arguments.dtype),
        num_frames=arguments.num_frames,
    )
    report.retriever = retriever.identity.as_dict()
    if arguments.benchmark:
        _benchmark(report, arguments, retriever, progress)
        return
    sides: dict[str, tuple[Any, ClipSource] | None] = {
        view: (read_pairs(path), _source(view, arguments, retriever)) if path else None  # type: ignore[arg-type]
        for view, path in files.items()
    }
    clean = not arguments.keep_codes
    if any(sides.values()):
        evaluate_pairs(report, retriever, sides["ego"], sides["exo"], clean=clean, progress=progress)
    if arguments.questions:
        source = _source("ego", arguments, retriever)
        questions = read_questions(arguments.questions)
        evaluate_choices(report, retriever, questions, source, clean=clean, progress=progress)


def _benchmark(
    report: RetrievalReport, arguments: argparse.Namespace, retriever: Retriever, progress: ProgressCallback
) -> None:
    from egoinstructor.data.benchmarks import BENCHMARKS
    from egoinstructor.evaluation.benchmark_run import evaluate_benchmark
    from egoinstructor.evaluation.matrices import read_relevancy

    name, path = arguments.benchmark
    if name not in BENCHMARKS:
        raise InputError(
            f"--benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}; EgoMCQ's file goes to --questions."
        )
    relevancy = read_relevancy(arguments.relevancy) if arguments.relevancy else None
    evaluate_benchmark(
        report,
        retriever,
        name,
        path,
        lambda view: _source(view, arguments, retriever),
        relevancy=relevancy,
        progress=progress,
    )


def _source(view: View, arguments: argparse.Namespace, retriever: Retriever) -> ClipSource:
    from egoinstructor.data.clips import FeatureSource, VideoSource

    features, videos = (getattr(arguments, f"{view}_{kind}") for kind in ("features", "videos"))
    if bool(features) == bool(videos):
        raise InputError(f"give either --{view}-features or --{view}-videos, for the {view} clips.")
    return FeatureSource(features, retriever, view) if features else VideoSource(videos, retriever, view)


def _show(report: RetrievalReport, *, as_json: bool) -> None:
    """Print; each metric with what chance would give in grey."""
    console = Console()
    if as_json:
        console.print(json.dumps(report.as_dict(), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
        return
    if report.scores:
        names = list(dict.fromkeys(name for scores in report.scores.values() for name in scores.metrics))
        table = Table(
            "direction", "queries", "gallery", *names, caption="in brackets: what random rankings would score"
        )
        for direction, scores in report.scores.items():
            cells = [_cell(name, scores.metrics, scores.chance) for name in names]
            table.add_row(direction, str(scores.queries), str(scores.gallery), *cells)
        console.print(table)
    if report.choices:
        table = Table("multiple choice", "questions", "accuracy")
        for kind, row in report.choices.items():
            share = f"{100 * row['accuracy']:.1f} [dim]({100 * row['chance']:.1f})[/dim]"
            table.add_row(kind, str(row["questions"]), share)
        console.print(table)
    for name, count in report.counts.items():
        console.print(f"{name}: {count}", markup=False, highlight=False)
    for name, reason in list(report.failures.items())[:10]:
        console.print(f"  {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if len(report.failures) > 10:
        console.print(f"  … and {len(report.failures) - 10} more; results.json (--out) has all", markup=False)


def _cell(name: str, metrics: dict[str, float], chance: dict[str, float]) -> str:
    """A share in percent, a rank as it is."""
    if name not in metrics:
        return "–"
    scale, digits = (1, 1) if name == "MedR" else (100, 1)
    return f"{scale * metrics[name]:.{digits}f} [dim]({scale * chance[name]:.{digits}f})[/dim]"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
