"""From scores to the probability of being right."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model.calibration import Calibration, cross_fitted, expected_calibration_error, reliability


@pytest.fixture(scope="module")
def measured():
    """20,000 captions whose truth is drawn from a known logistic of the score."""
    rng = np.random.default_rng(0)
    scores = -rng.exponential(0.5, 20_000)
    right = rng.random(len(scores)) < 1 / (1 + np.exp(-(4 * scores + 2)))
    return scores.tolist(), right.tolist()


def test_it_finds_the_logistic_that_the_truth_was_drawn_from(measured):
    fitted = Calibration.fit(*measured, measured_on="drawn")
    assert (fitted.slope, fitted.intercept) == (pytest.approx(4, rel=0.05), pytest.approx(2, rel=0.05))
    assert fitted.expected_calibration_error < 0.02
    assert fitted.captions == 20_000
    assert fitted(-0.5) == pytest.approx(0.5, abs=0.02)
    assert 0 <= fitted(-1e6) < fitted(-1) < fitted(0) < 1


def test_the_mean_probability_is_the_share_that_is_right(measured):
    fitted = Calibration.fit(*measured, measured_on="drawn")
    scores, right = measured
    assert np.mean([fitted(score) for score in scores]) == pytest.approx(np.mean(right), abs=1e-3)


@pytest.mark.parametrize(
    "right",
    [[True] * 8, [False] * 8, [False] * 4 + [True] * 4],
    ids=["always right", "never right", "told apart without fail"],
)
def test_truths_without_doubt_still_leave_some(right):
    scores = np.linspace(-2, -0.1, 8).tolist()
    fitted = Calibration.fit(scores, right, measured_on="few")
    assert all(0.001 < fitted(score) < 0.999 for score in scores)
    assert fitted(-0.1) >= fitted(-2) - 1e-9 or not any(right) or all(right)
    assert Calibration.fit([-1.0] * 8, right, measured_on="one score")(-1.0) == pytest.approx(np.mean(right), abs=0.11)


def test_held_out_captions_do_not_judge_themselves():
    """A caption's own truth must not move its probability."""
    scores = np.linspace(-2, -0.1, 20).tolist()
    right = [i % 3 > 0 for i in range(20)]
    before = cross_fitted(scores, right)
    right[7] = not right[7]
    after = cross_fitted(scores, right)
    same = [i for i in range(20) if i % 5 == 7 % 5]
    assert [before[i] for i in same] == [after[i] for i in same]
    assert before != after


def test_reliability_and_its_error():
    probabilities, right = [0.9] * 10 + [0.2] * 10, [True] * 9 + [False] * 5 + [True] * 1 + [False] * 5
    assert reliability(probabilities, right, bins=2) == [(0.2, 0.1, 10), (0.9, 0.9, 10)]
    assert expected_calibration_error(probabilities, right, bins=2) == pytest.approx(0.05)


def test_it_is_kept_with_the_model(measured, tmp_path):
    fitted = Calibration.fit(*measured, measured_on="drawn – «all»")
    assert Calibration.from_folder(tmp_path) is None
    fitted.save(tmp_path)
    assert Calibration.from_folder(tmp_path) == fitted


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"slope": "steep"}', None])
def test_a_file_that_is_something_else(text, tmp_path):
    calibration = Calibration(1, 0, "x", 9, 0.1)
    calibration.save(tmp_path)
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"slope": float("nan")}) if text is None else text)
    with pytest.raises(CheckpointError, match=r"calibration.json is no calibration.*Measure the model again"):
        Calibration.from_folder(tmp_path)


def test_what_can_not_be_measured():
    with pytest.raises(InputError, match="4 scores and 4 truths"):
        Calibration.fit([-1.0] * 4, [True] * 4, measured_on="x")
    with pytest.raises(InputError, match="6 scores and 5 truths"):
        Calibration.fit([-1.0] * 6, [True] * 5, measured_on="x")
    with pytest.raises(InputError, match="score -inf"):
        Calibration.fit([-1.0] * 5 + [float("-inf")], [True] * 6, measured_on="x")
