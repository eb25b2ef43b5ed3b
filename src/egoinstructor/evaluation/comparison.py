"""Two scored runs over the same samples: which is better, and could that be chance?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from egoinstructor import fields
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.report import RESULTS, SAMPLES
from egoinstructor.evaluation.metrics.base import Array, combine_of, family_of
from egoinstructor.evaluation.statistics import Paired, compare_paired

NARRATION_SETTINGS = ("spacy", "encoder")
"""With what narrations are scored; a run without these metrics lacks them."""


@dataclass(frozen=True, slots=True)
class Run:
    """A folder that `egoinstructor score --out` wrote.

    Args:
        folder: which.
        samples: by id.
        treatments: of each, the metrics that were computed, and whether the texts were cleaned.
        settings: what it was scored with.
    """

    folder: Path
    samples: dict[str, dict[str, Any]]
    treatments: dict[str, tuple[tuple[str, ...], bool]]
    settings: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Run:
        """Read it.

        Raises:
            InputError: it is no such folder.
        """
        folder = Path(folder)
        if absent := [name for name in (RESULTS, SAMPLES) if not (folder / name).is_file()]:
            raise InputError(f"{folder} has no {absent[0]}; name a folder that 'egoinstructor score --out' wrote.")
        where = str(folder / RESULTS)
        results = fields.read_object(folder / RESULTS)
        scores = fields.as_object(fields.get(results, "scores", where), f"{where}.scores")
        settings = fields.as_object(fields.get(results, "settings", where), f"{where}.settings")
        treatments = {}
        for name, given in scores.items():
            record = fields.as_object(given, f"{where}.scores.{name}")
            metrics = fields.as_object(
                fields.get(record, "metrics", f"{where}.scores.{name}"), f"{where}.scores.{name}.metrics"
            )
            treatments[name] = (tuple(metrics), bool(record.get("cleaned")))
        samples = {}
        for _, place, record in fields.json_lines(folder / SAMPLES):
            samples[fields.text(record, "id", place)] = record
            for key in ("scores", "parts"):
                fields.as_object(fields.get(record, key, place), f"{place}.{key}")
        return cls(folder, samples, treatments, settings)

    def parts(self, treatment: str, metric: str) -> Array:
        """What the set's score is made of `(N,)` or `(N, K)`, as `bootstrap` takes it.

        Raises:
            InputError: a sample lacks it.
        """
        family = family_of(metric)
        kind, name = ("scores", metric) if family is None else ("parts", family)
        try:
            rows = [sample[kind][treatment][name] for sample in self.samples.values()]
            return np.array(rows, dtype=np.float64)  # None, of a sample without a score, becomes NaN
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.folder / SAMPLES} lacks {kind} of {metric!r} ({treatment}); score it again."
            ) from error


def compare_runs(a: str | os.PathLike[str], b: str | os.PathLike[str], **options: Any) -> dict[str, dict[str, Paired]]:
    """Compare two runs, in each metric that both have, by treatment.

    Args:
        a: a run's folder.
        b: another's.
        **options: as `compare_paired` takes them: resamples, confidence, seed.

    Raises:
        InputError: a folder is no run, or the two are not comparable: other samples, references, videos, cleaning, spaCy
            model or sentence encoder, or no metric in common.
    """
    one, two = Run.read(a), Run.read(b)
    _check(one, two)
    two = replace(two, samples={name: two.samples[name] for name in one.samples})
    clusters = [_cluster(name, sample) for name, sample in one.samples.items()]
    found: dict[str, dict[str, Paired]] = {}
    for treatment, (metrics, cleaned) in one.treatments.items():
        others, also_cleaned = two.treatments.get(treatment, ((), cleaned))
        if cleaned != also_cleaned:
            raise InputError(
                f"narrations were cleaned in {(one if cleaned else two).folder} and not in the other; score both alike."
            )
        for metric in metrics:
            if metric in others:
                first, second = one.parts(treatment, metric), two.parts(treatment, metric)
                paired = compare_paired(first, second, clusters, combine=combine_of(metric), **options)
                found.setdefault(treatment, {})[metric] = paired
    if not found:
        raise InputError(f"{one.folder} and {two.folder} have no metric of one treatment in common; score both alike.")
    return found


def as_dict(compared: Mapping[str, Mapping[str, Paired]]) -> dict[str, Any]:
    """For JSON."""
    return {treatment: {name: asdict(paired) for name, paired in row.items()} for treatment, row in compared.items()}


def _check(one: Run, two: Run) -> None:
    only = [(name, run) for run, other in ((one, two), (two, one)) for name in run.samples if name not in other.samples]
    if only:
        raise InputError(
            f"{len(only)} samples are in one run only, such as {only[0][0]!r} in {only[0][1].folder}. Runs are compared "
            "over the same samples."
        )
    for name, sample in one.samples.items():
        if sample.get("ground_truth") != two.samples[name].get("ground_truth"):
            raise InputError(f"sample {name!r} has other references in {one.folder} than in {two.folder}.")
    _check_videos(one, two)
    for key in NARRATION_SETTINGS:
        if key in one.settings and key in two.settings and one.settings[key] != two.settings[key]:
            raise InputError(
                f"{one.folder} was scored with {key}={one.settings[key]!r}, {two.folder} with {two.settings[key]!r}; "
                "score both alike."
            )


def _check_videos(one: Run, two: Run) -> None:
    """Samples of one video in one run are of one video in the other; its folder may have been another."""
    for run, other in ((one, two), (two, one)):
        same: dict[str, str] = {}
        for name, sample in run.samples.items():
            its, others = _cluster(name, sample), _cluster(name, other.samples[name])
            if same.setdefault(its, others) != others:
                raise InputError(
                    f"sample {name!r} is of {its} in {run.folder}, together with samples that are not of its video in "
                    f"{other.folder}, {others}; score both with the same videos."
                )


def _cluster(name: str, sample: Mapping[str, Any]) -> str:
    return f"video {sample['video']}" if sample.get("video") is not None else f"sample {name}"
