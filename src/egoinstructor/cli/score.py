"""`egoinstructor score`: captions in a file against references in a file.

For anyone's captions: JSON (id → text, or a list as COCO's) or JSONL. docs/evaluation.md has the forms and the definitions.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from egoinstructor.errors import InputError

if TYPE_CHECKING:
    from egoinstructor.evaluation.captions.report import CaptionReport

TREATMENTS = {"both": ("nlgeval", "coco"), "nlgeval": ("nlgeval",), "coco": ("coco",)}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("score", help="score captions in a file", description=__doc__, allow_abbrev=False)
    parser.add_argument("--predictions", required=True, metavar="FILE", help="a caption for each sample")
    parser.add_argument("--references", required=True, metavar="FILE", help="one or more texts for each sample")
    add_scoring_options(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="folder to write results.json, predictions.jsonl and predictions.csv into"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run)


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """What is computed of captions, and how."""
    group = parser.add_argument_group("scoring")
    group.add_argument("--metrics", metavar="NAMES", help="some metrics only: BLEU-4,METEOR,CIDEr")
    group.add_argument("--treatment", choices=tuple(TREATMENTS), default="both", help="what is done to the texts first")
    group.add_argument("--clean-narration", action="store_true", help="take Ego4D's codes (#C C) out first")
    group.add_argument("--no-narration", action="store_true", help="no verb accuracy, nouns and meaning")
    group.add_argument("--spacy", metavar="NAME", help="spaCy's pipeline, name or folder (default: en_core_web_sm)")
    group.add_argument("--encoder", metavar="DIR", help="sentence encoder for the meaning, folder or Hub id")


def run(arguments: argparse.Namespace) -> None:
    """Score, write and print."""
    from egoinstructor.evaluation.captions.report import SAMPLES
    from egoinstructor.evaluation.score import score_files

    if arguments.out and (written := Path(arguments.out, SAMPLES).resolve()) in (
        Path(arguments.predictions).resolve(),
        Path(arguments.references).resolve(),
    ):
        raise InputError(f"--out {arguments.out}: {written} is read, and would be written over; name another folder.")
    report = score_files(arguments.predictions, arguments.references, **scoring(arguments))
    if arguments.out:
        report.save(arguments.out)
    show(report, Console(), as_json=arguments.json)


def scoring(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as `score_set` takes them.

    Raises:
        InputError: `--metrics` without a name, or with one that there isn't.
    """
    from egoinstructor.cli.options import quiet_transformers
    from egoinstructor.data.actions import MODEL
    from egoinstructor.evaluation.metrics.captions import DEFAULT_METRICS, check_metrics

    metrics = DEFAULT_METRICS
    if arguments.metrics is not None and not (metrics := tuple(filter(None, arguments.metrics.split(",")))):
        raise InputError(f"--metrics {arguments.metrics!r} names none; give names with commas, such as CIDEr,METEOR.")
    check_metrics(metrics)
    if arguments.encoder:
        quiet_transformers()
    return {
        "metrics": metrics,
        "treatments": TREATMENTS[arguments.treatment],
        "clean": arguments.clean_narration,
        "narration": not arguments.no_narration,
        "pipeline": arguments.spacy or MODEL,
        "encoder": arguments.encoder,
    }


def show(report: CaptionReport, console: Console, *, as_json: bool = False) -> None:
    """Print a report: a line a score, then what is missing and what to know."""
    if as_json:
        console.print(json.dumps(report.as_dict(), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table("metric", "texts", "×1", "×100", "95 % interval, ×1", box=SIMPLE)
    for scores in report.scores:
        treatment = scores.treatment + (", cleaned" if scores.cleaned else "")
        for name, value in scores.corpus.items():
            interval = report.intervals.get((scores.treatment, name))
            reach = f"{interval.low:.4f} … {interval.high:.4f}" if interval else "–"
            table.add_row(name, treatment, f"{value:.4f}", f"{100 * value:.2f}", reach)
    console.print(table)
    lines = [f"{name}: {count}" for name, count in report.counts.items()]
    lines += [f"CIDEr's document frequencies: of {d} samples' references" for d in _documents(report)]
    lines += [f"missing: {name} ({texts}): {why}" for name, texts, why in _missing(report)]
    lines += [
        f"warning: {text}" for text in dict.fromkeys(text for scores in report.scores for text in scores.warnings)
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _documents(report: CaptionReport) -> list[int]:
    return sorted({scores.documents for scores in report.scores if scores.documents is not None})


def _missing(report: CaptionReport) -> list[tuple[str, str, str]]:
    """Metrics, treatments and reason, a line for each reason."""
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for scores in report.scores:
        for name, why in scores.missing.items():
            names, treatments = reasons.setdefault(why, ({}, {}))
            names[name] = treatments[scores.treatment] = None
    return [(", ".join(names), ", ".join(treatments), why) for why, (names, treatments) in reasons.items()]
