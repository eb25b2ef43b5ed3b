"""From a caption's score to the probability that the caption is right, as it was measured on captions of known truth.

A logistic of the score (Platt, 1999): two numbers, so a few hundred captions tell them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from egoinstructor.errors import CheckpointError, InputError

FILE = "calibration.json"
"""Beside a model's weights."""

FOLDS = 5
BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """The probability that a caption is right: `1 / (1 + exp(-(slope · score + intercept)))`.

    Args:
        slope: of the logistic.
        intercept: of the logistic.
        measured_on: the captions that it was measured on, in words.
        captions: how many they were.
        expected_calibration_error: how far probability and truth lay apart on captions that were held out.
    """

    slope: float
    intercept: float
    measured_on: str
    captions: int
    expected_calibration_error: float

    def __call__(self, score: float) -> float:
        """Probability that a caption of this score is right."""
        return _logistic(self.slope * score + self.intercept)

    @classmethod
    def fit(cls, scores: Sequence[float], right: Sequence[bool], *, measured_on: str) -> Calibration:
        """Measure it.

        Args:
            scores: of captions, as `Caption.score` gives them.
            right: for each, whether it says what is seen.
            measured_on: the captions, in words.

        Raises:
            InputError: fewer captions than folds, not one truth a score, or a score that isn't finite.
        """
        probabilities = cross_fitted(scores, right)
        slope, intercept = _fit(np.asarray(scores, float), np.asarray(right, bool))
        error = expected_calibration_error(probabilities, right)
        return cls(slope, intercept, measured_on, len(scores), error)

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_folder(cls, folder: Path) -> Calibration | None:
        """A model's calibration; None where it has none.

        Raises:
            CheckpointError: a file that is something else.
        """
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
            numbers = {name: float(read[name]) for name in ("slope", "intercept", "expected_calibration_error")}
            if not all(map(math.isfinite, numbers.values())):
                raise ValueError(f"numbers must be finite, not {numbers}")
            return cls(**numbers, measured_on=str(read["measured_on"]), captions=int(read["captions"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{file} is no calibration ({type(error).__name__}: {error}). Measure the model again with "
                "benchmarks/calibration.py, or remove the file: captions then have a score but no confidence."
            ) from error


def cross_fitted(scores: Sequence[float], right: Sequence[bool], folds: int = FOLDS) -> list[float]:
    """The probability of each caption by what was measured on the others: every fold by the rest.

    Args:
        scores: of captions.
        right: whether each says what is seen.
        folds: caption i is of fold `i % folds`.

    Raises:
        InputError: as `Calibration.fit`.
    """
    if len(scores) != len(right) or len(scores) < folds:
        raise InputError(
            f"{len(scores)} scores and {len(right)} truths; give one truth for each score, and at least {folds}."
        )
    x, y = np.asarray(scores, float), np.asarray(right, bool)
    if not np.isfinite(x).all():
        raise InputError(f"score {x[~np.isfinite(x)][0]}: a score must be a finite number.")
    fold = np.arange(len(x)) % folds
    probabilities = np.empty(len(x))
    for held_out in range(folds):
        slope, intercept = _fit(x[fold != held_out], y[fold != held_out])
        probabilities[fold == held_out] = [_logistic(slope * score + intercept) for score in x[fold == held_out]]
    listed: list[float] = probabilities.tolist()
    return listed


def reliability(
    probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Captions in bins of equal number, by probability: mean probability, share that is right, how many."""
    p, y = np.asarray(probabilities, float), np.asarray(right, bool)
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return [(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts if len(part)]


def expected_calibration_error(probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """How far mean probability and share right lie apart, over the bins of `reliability`, by their size."""
    table = reliability(probabilities, right, bins)
    return sum(abs(mean - share) * count for mean, share, count in table) / sum(count for *_, count in table)


def _fit(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of greatest likelihood, by Newton's method.

    The targets are Platt's, a little inside 0 and 1: scores that tell right from wrong without fail have a finite slope.
    """
    count_right = int(right.sum())
    high, low = (count_right + 1) / (count_right + 2), 1 / (len(right) - count_right + 2)
    target = np.where(right, high, low)
    mean, spread = float(scores.mean()), float(scores.std()) or 1.0
    design = np.stack([(scores - mean) / spread, np.ones(len(scores))], 1)  # (captions, 2)
    weights = np.array([0.0, math.log(target.mean() / (1 - target.mean()))])

    def loss(at: np.ndarray) -> float:
        return float((np.logaddexp(0, design @ at) - target * (design @ at)).sum())

    for _ in range(100):
        p = 1 / (1 + np.exp(-(design @ weights)))
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (p - target))
        size = 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-8:
            size /= 2  # a whole step may overshoot
        weights = weights - size * step
        if abs(size * step).max() < 1e-10:
            break
    slope = float(weights[0]) / spread
    return slope, float(weights[1]) - slope * mean


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
