"""`report.html`: a run's scores, how they are spread, and its best and worst captions. One file that needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from egoinstructor.evaluation.captions.report import CaptionReport
from egoinstructor.evaluation.captions.results import left_out
from egoinstructor.evaluation.charts import histogram, points
from egoinstructor.files import atomic_file
from egoinstructor.video.pictures import stills

PAGE = "report.html"
SHOWN = 6
"""Of the best, and of the worst samples."""

SURE = {"score": "Mean log-probability of its tokens", "confidence": "Confidence"}
"""What the model says of its own caption, where it says it."""

RANKED_BY = ("CIDEr", "METEOR", "ROUGE-L", "BLEU-4", "BLEU-1")
"""The first of these that was computed orders the samples."""


def write_page(report: CaptionReport, folder: Path, name: str) -> None:
    """Write it.

    Args:
        report: a scored run; `details` has each sample's span and references.
        folder: the run's.
        name: of the run.

    Raises:
        InputError: it can't be written.
    """
    template = Template(files("egoinstructor.evaluation").joinpath("page.html").read_text(encoding="utf-8"))
    metric, ranked = _ranked(report)
    text = template.substitute(
        name=escape(name),
        summary=_summary(report),
        scores=_scores(report),
        charts=_charts(report, metric, ranked),
        samples=_samples(report, metric, ranked),
        failures=_failures(report),
        settings=escape(json.dumps(report.settings, indent=1, ensure_ascii=False)),
    )
    with atomic_file(folder / PAGE) as partial:
        partial.write_text(text, encoding="utf-8")


def _ranked(report: CaptionReport) -> tuple[str, dict[str, float]]:
    """The metric that orders the samples, and each sample's score, the best first; nothing where none was computed."""
    for metric in RANKED_BY:
        for scores in report.scores:
            if metric in scores.metrics:
                values = dict(zip(scores.ids, scores.metrics[metric].samples.tolist(), strict=True))
                found = {name: value for name, value in values.items() if math.isfinite(value)}
                order = sorted(found, key=lambda name: -found[name])
                return f"{metric} ({scores.treatment})", {name: found[name] for name in order}
    return "", {}


def _summary(report: CaptionReport) -> str:
    lines = [f"{name}: {count:,}" for name, count in report.counts.items() if count]
    note = left_out(report)
    warnings = [*([note] if note else []), *dict.fromkeys(w for scores in report.scores for w in scores.warnings)]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" + "".join(f'<p class="warning">{escape(text)}</p>' for text in warnings)


def _scores(report: CaptionReport) -> str:
    rows, missing = [], dict[str, list[str]]()
    for scores in report.scores:
        treatment = scores.treatment + (", cleaned" if scores.cleaned else "")
        for metric, value in scores.corpus.items():
            interval = report.intervals.get((scores.treatment, metric))
            reach = f"{interval.low:.4f} to {interval.high:.4f}" if interval else "–"
            rows.append(
                f'<tr><th scope="row">{escape(metric)}</th><td>{escape(treatment)}</td><td>{value:.4f}</td>'
                f"<td>{100 * value:.2f}</td><td>{reach}</td></tr>"
            )
        for metric, why in scores.missing.items():
            missing.setdefault(why, []).append(f"{metric} ({treatment})")
    head = "".join(f'<th scope="col">{name}</th>' for name in ("metric", "texts", "×1", "×100", "95 % interval, ×1"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    table = f'<div class="wide" tabindex="0" role="region" aria-label="Scores">{table}</div>'
    return table + "".join(
        f"<p>Missing: {escape(', '.join(names))}. {escape(why)}</p>" for why, names in missing.items()
    )


def _charts(report: CaptionReport, metric: str, ranked: Mapping[str, float]) -> str:
    if not ranked:
        return "<p>No score of single captions was computed.</p>"
    note = "Scores of the captions; the dashed line is their mean."
    found = [f"<figure>{histogram(list(ranked.values()), metric)}<figcaption>{note}</figcaption></figure>"]
    best = {name: _similarity(report.details.get(name, {})) for name in ranked}
    pairs = [(similarity, ranked[name]) for name, similarity in best.items() if similarity is not None]
    if pairs:
        xs, ys = zip(*pairs, strict=True)
        drawn = points(xs, ys, "similarity of the best reference", metric)
        found.append(
            f"<figure>{drawn}<figcaption>Does a more similar reference make a better caption?</figcaption></figure>"
        )
    else:
        found.append("<p>No reference has a similarity: references from a library have one.</p>")
    return "".join(found)


def _similarity(details: Mapping[str, Any]) -> float | None:
    return max((r["score"] for r in details.get("references", ()) if r["score"] is not None), default=None)


def _samples(report: CaptionReport, metric: str, ranked: Mapping[str, float]) -> str:
    names = list(ranked)
    shown = min(SHOWN, -(-len(names) // 2))
    best, worst = names[:shown], names[len(names) - min(shown, len(names) - shown) :][::-1]
    return "".join(
        f"<h2>{title}</h2>" + "".join(_sample(report, metric, name, ranked[name]) for name in some)
        for title, some in (("Best captions", best), ("Worst captions", worst))
        if some
    )


def _sample(report: CaptionReport, metric: str, name: str, score: float) -> str:
    details = report.details.get(name, {})
    frames = _pictures(report.videos.get(name), details.get("start"), details.get("end"), 4, "Frame of the clip")
    references = "".join(_reference(reference) for reference in details.get("references", ()))
    listed = f"<h4>References</h4><ol>{references}</ol>" if references else "<p>No references.</p>"
    truth = " / ".join(report.references[name])
    told = [
        ("Caption", report.predictions[name] or "(empty)"),
        ("Written by a person", truth),
        (metric, f"{score:.4f}"),
        *((label, f"{value:.4f}") for key, label in SURE.items() if (value := details.get(key)) is not None),
    ]
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in told)
    return f"<article><h3>{escape(name)}</h3>{frames}<dl>{rows}</dl>{listed}</article>"


def _reference(reference: Mapping[str, Any]) -> str:
    similarity = "" if reference["score"] is None else f" <small>similarity {reference['score']:.3f}</small>"
    frames = _pictures(reference["video"], reference["start"], reference["end"], 2, "Frame of the reference")
    return f"<li><p>“{escape(reference['narration'])}”{similarity}</p>{frames}</li>"


def _pictures(video: str | None, start: float | None, end: float | None, count: int, said: str) -> str:
    pictures = [] if video is None else stills(Path(video), start, end, count, width=480, height=120)
    if not pictures:
        return '<p class="gone">no pictures: its video can\'t be read</p>'
    images = (f'<img src="{address}" alt="{said} {number}">' for number, address in enumerate(pictures, 1))
    return f'<div class="frames">{"".join(images)}</div>'


def _failures(report: CaptionReport) -> str:
    failures: Mapping[str, str] = report.notes.get("failures", {})
    if not failures:
        return "<p>Every sample could be read.</p>"
    items: Sequence[str] = [f"<li>{escape(name)}: {escape(why)}</li>" for name, why in failures.items()]
    return f"<ul>{''.join(items)}</ul>"
