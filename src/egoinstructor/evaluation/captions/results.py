"""What a run over a split leaves beside its captions: scores, a row for a table, and a page to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.report import CaptionReport
from egoinstructor.evaluation.captions.samples import Sample
from egoinstructor.evaluation.captions.writer import Record
from egoinstructor.evaluation.metrics.base import BLEU
from egoinstructor.evaluation.score import score_set
from egoinstructor.files import atomic_file

MARKDOWN, LATEX = "row.md", "row.tex"
COLUMNS = (*BLEU, "METEOR", "ROUGE-L", "CIDEr", "SPICE")


def score_run(
    samples: Sequence[Sample],
    records: Sequence[Record],
    made_with: Mapping[str, Any],
    *,
    clean: bool = False,
    **scoring: Any,
) -> CaptionReport:
    """Score a run. What could not be read is left out of the scores, and the report says so.

    Args:
        samples: of the split.
        records: of each, in order.
        made_with: what `begin` noted.
        clean: as `score_set`.
        **scoring: as `score_set`.

    Raises:
        InputError: no sample could be captioned; the first reason is named.
    """
    pairs = list(zip(samples, records, strict=True))
    captioned = [(sample, record) for sample, record in pairs if record["caption"] is not None]
    failures = {record["id"]: record["failure"] for record in records if record["caption"] is None}
    if not captioned:
        raise InputError(
            f"of {len(pairs)} samples none could be captioned; of the first: {next(iter(failures.values()))} Mend "
            "it, and run the same command again."
        )
    report = score_set(
        {sample.id: record["caption"] for sample, record in captioned},
        {sample.id: [sample.answer] for sample, _ in captioned},
        {sample.id: str(sample.video) for sample, _ in captioned},
        settings=dict(made_with),
        clean=clean,
        **scoring,
    )
    unread = sum(len(record["dropped"]) for _, record in captioned)
    report.notes = {
        "counts": {
            "samples in the split": len(pairs),
            "samples that could not be read": len(failures),
            "captions without references": sum(not record["references"] for _, record in captioned),
            "references passed over": unread,
        },
        "failures": failures,
    }
    report.details = {
        sample.id: {
            "start": sample.start,
            "end": sample.end,
            "score": record.get("score"),  # copied captions have none, and in an older run's folder not even the key
            "confidence": record.get("confidence"),
            "references": record["references"],
            "dropped": record["dropped"],
        }
        for sample, record in captioned
    }
    return report


def left_out(report: CaptionReport) -> str:
    """What must be said beside the scores of a run that could not read everything; "" if it could."""
    counts = report.counts
    failed = counts.get("samples that could not be read", 0)
    if not failed:
        return ""
    return f"scores are of {counts['samples']} of {counts['samples in the split']} samples: {failed} could not be read"


def write_rows(report: CaptionReport, folder: Path, name: str) -> None:
    """The run as a row of a table, ×100, in Markdown and in LaTeX: one for each treatment of the texts.

    Raises:
        InputError: they can't be written.
    """
    header = ["run", "samples", "texts", *COLUMNS]
    rows = []
    for scores in report.scores:
        if scores.treatment == "narration":
            continue
        texts = scores.treatment + (", cleaned" if scores.cleaned else "")
        values = [f"{100 * scores.corpus[c]:.1f}" if c in scores.corpus else "–" for c in COLUMNS]
        rows.append([name, str(len(scores.ids)), texts, *values])
    note = left_out(report)
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *map(_cells, rows))]
    with atomic_file(folder / MARKDOWN) as partial:
        partial.write_text("\n".join(lines) + "\n" + (f"\n{note}\n" if note else ""), encoding="utf-8")
    latex = [" & ".join(map(_latex, cells)) + r" \\" for cells in (header, *rows)]
    with atomic_file(folder / LATEX) as partial:
        partial.write_text("\n".join([*([f"% {note}"] if note else []), *latex]) + "\n", encoding="utf-8")


def _cells(row: Sequence[str]) -> list[str]:
    return [cell.replace("|", r"\|") for cell in row]


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
