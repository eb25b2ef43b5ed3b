"""The calibration of the shipped model: what is judged, what is drawn, what is written."""

from __future__ import annotations

import json

import pytest

import calibration
from calibration import Judged, at_threshold, right_above_wrong, summary, table
from egoinstructor import assets
from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.model.calibration import Calibration
from egoinstructor.records import Caption, Clip
from nano_steps.clips import KitchenClip


def test_right_is_verb_and_noun():
    clip = KitchenClip("e", "ego", "seen", "open", "drawer", None, "k", "#C C opens the drawer")
    told = ["#C C opens the drawer", "#C C opens the fridge", "#C C closes the drawer", "the drawer"]
    captions = [Caption(text, Clip("x.mp4"), score=-0.5) for text in told]
    assert Judged.of(captions, [clip] * 4) == Judged([-0.5] * 4, [True, False, False, False])


def test_what_a_threshold_says():
    probabilities, right = [0.9, 0.8, 0.3, 0.2], [True, False, True, False]
    assert at_threshold(probabilities, right, 0) == (1, 0.5)
    assert at_threshold(probabilities, right, 0.85) == (0.25, 1)
    assert at_threshold(probabilities, right, 0.95) == (0, None)


def test_right_above_wrong_counts_pairs():
    assert right_above_wrong(Judged([-1.0, -2.0, -3.0], [True, True, False])) == 1
    assert right_above_wrong(Judged([-1.0, -2.0, -2.0, -3.0], [False, True, False, True])) == pytest.approx(0.125)


def test_summary_table_and_plot(tmp_path):
    pytest.importorskip("matplotlib")
    scores = [-i / 40 for i in range(80)]
    judged = Judged(scores, [i % 7 > i // 20 for i in range(80)])
    results = summary(judged, judged, judged)
    assert results["accuracy"] == judged.accuracy
    assert sum(row["captions"] for row in results["reliability"]) == 80
    assert json.loads(json.dumps(results)) == results
    assert "three beams" in table(results)
    plots = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for plot in plots:
        calibration.draw(judged, plot)
    assert plots[0].read_text() == plots[1].read_text(), "the same figures, the same file"


@pytest.mark.slow
@pytest.mark.skipif(not (assets.FOLDER / assets.NANO / "config.json").exists(), reason="no model is shipped yet")
def test_the_whole_way(rendered, tmp_path, monkeypatch, capsys):
    """No query is shown its own event's how-to clip, and the file that is written is the one that a captioner reads."""
    pytest.importorskip("matplotlib")
    asked = []
    caption_batch = Captioner.caption_batch
    monkeypatch.setattr(
        Captioner,
        "caption_batch",
        lambda self, queries, **kw: asked.extend(queries) or caption_batch(self, queries, **kw),
    )
    (tmp_path / "config.json").touch()
    options = ["--data", str(rendered / "test"), "--write", str(tmp_path), "--plot", str(tmp_path / "p.svg"), "--json"]
    assert calibration.main(options) == 0
    results = json.loads(capsys.readouterr().out)
    assert len(asked) == 3 * results["captions"]
    shown = [(query.video.stem, {r.video.stem for r in references}) for query, references in asked if references]
    assert len(shown) == 2 * results["captions"]
    assert not [own for own, others in shown if own in others]
    assert {len(others) for _, others in shown} == {4}
    written = Calibration.from_folder(tmp_path)
    assert written.captions == results["captions"]
    assert round(written.slope, 3) == results["slope"]
    assert (tmp_path / "p.svg").exists()
    assert calibration.main([*options, "--write", str(tmp_path / "none")]) == 1
    assert "no model's folder" in capsys.readouterr().err
