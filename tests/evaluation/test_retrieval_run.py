"""The evaluation run: on embeddings that are known, on features, on videos, on matrices; and its command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from egoinstructor.cli.evaluate import add
from egoinstructor.data.clips import CLIPS_PER_PASS, FeatureSource, VideoSource, embed_clips
from egoinstructor.data.pairs import PairRecord, write_pairs
from egoinstructor.errors import InputError, VideoError
from egoinstructor.evaluation.matrices import evaluate_matrices, read_embeddings, read_labels, read_relevancy
from egoinstructor.evaluation.multiple_choice import Choice, Question
from egoinstructor.evaluation.relevancy import Matrix
from egoinstructor.evaluation.report import RESULTS, RetrievalReport
from egoinstructor.evaluation.retrieval_run import evaluate_choices, evaluate_pairs
from egoinstructor.records import Clip

D = 8
NARRATIONS = ["#C C cuts a leek", "#C C opens a jar", "#C C cuts a leek", "#C C folds a shirt"]
HOW_TO = ["so cut your leek", "open the jar", "hello", "fold it"]


class Known:
    """A retriever and a source in one: text or video "k …" is the k-th axis, and "broken" can't be read."""

    def __init__(self, view="ego", axes=None):
        self.view = view
        self.axes = axes or {}
        self.texts = []

    def encode_text(self, texts):
        self.texts += texts
        return torch.stack([torch.eye(D)[self.axes[text]] for text in texts])

    def embed(self, spans):
        if any(video == "broken" for video, *_ in spans):
            raise VideoError("broken: no frames")
        return torch.stack([torch.eye(D)[int(video)] for video, *_ in spans])


def sides():
    ego = [
        PairRecord("0", 0, 2, NARRATIONS[0], nouns=(0,), verbs=(0,), paired=(0,)),
        PairRecord("1", 0, 2, NARRATIONS[1], nouns=(1,), verbs=(1,), paired=(1, 2)),
        PairRecord("0", 4, 6, NARRATIONS[2], nouns=(0,), verbs=(0,)),
        PairRecord("3", 0, 2, NARRATIONS[3], nouns=(2,), verbs=(2,)),
    ]
    exo = [
        PairRecord("0", 0, 2, HOW_TO[0], nouns=(0,), verbs=(0,)),
        PairRecord("1", 0, 2, HOW_TO[1], nouns=(1, 3), verbs=(1,)),
        PairRecord("2", 0, 2, HOW_TO[2]),
        PairRecord("4", 0, 2, HOW_TO[3], nouns=(4,), verbs=(2,)),
    ]
    return ego, exo


@pytest.fixture
def retriever():
    cleaned = {"cuts a leek": 0, "opens a jar": 1, "folds a shirt": 3}
    return Known(axes=cleaned | {text: i for i, text in enumerate(HOW_TO)})


def test_every_direction_is_measured(retriever):
    report, (ego, exo) = RetrievalReport({}), sides()
    evaluate_pairs(report, retriever, (ego, Known("ego")), (exo, Known("exo")))
    assert list(report.scores) == [
        "ego video → text", "ego text → video", "exo video → text", "exo text → video", "ego → exo", "exo → ego",
    ]  # fmt: skip
    found = report.scores["ego → exo"]
    # the last ego clip is paired with none and shares its words with none; the third has the first one's words
    assert (found.queries, found.unanswered, found.gallery) == (3, 1, 4)
    assert found.metrics["R@1"] == 1
    assert found.metrics["nDCG"] == pytest.approx(1.0)
    back = report.scores["exo → ego"]
    assert (back.queries, back.unanswered) == (2, 2)
    assert report.counts["pairs that share no verb or no noun"] == 1  # of the second ego clip with the third exo clip
    assert report.scores["ego video → text"].metrics["R@1"] == 1  # either clip of the leek finds both of its texts
    assert report.scores["ego video → text"].metrics["mAP"] == 1
    assert report.scores["exo video → text"].metrics["R@1"] == pytest.approx(3 / 4)  # the last is at another place
    assert set(retriever.texts) == set(retriever.axes)  # ego narrations without their codes


def test_what_cannot_be_read_is_counted_and_costs_nothing_else(retriever):
    report, (ego, exo) = RetrievalReport({}), sides()
    exo[0] = replace(exo[0], video="broken")
    ego[3] = replace(ego[3], text="#C C")
    evaluate_pairs(report, retriever, (ego, Known("ego")), (exo, Known("exo")))
    assert report.failures == {"exo clip 0": "broken: no frames"}
    assert (report.counts["exo clips"], report.counts["exo clips unreadable"]) == (3, 1)
    assert report.counts["ego clips without words"] == 1
    found = report.scores["ego → exo"]
    assert (found.queries, found.gallery, found.metrics["R@1"]) == (1, 3, 1)  # rows moved up with their pairs


def test_one_view_alone_and_no_answers(retriever):
    report, (ego, exo) = RetrievalReport({}), sides()
    evaluate_pairs(report, retriever, (ego, Known("ego")), None)
    assert list(report.scores) == ["ego video → text", "ego text → video"]
    report = RetrievalReport({})
    strangers = [replace(record, nouns=(9,)) for record in exo]
    evaluate_pairs(report, retriever, (ego, Known("ego")), (strangers, Known("exo")))
    assert "ego → exo" not in report.scores
    assert report.counts["ego clips with an answer"] == 0


def test_pairs_of_another_file_are_refused(retriever):
    ego, exo = sides()
    with pytest.raises(InputError, match="nv_index has 1, but the exo file has 1 clips"):
        evaluate_pairs(RetrievalReport({}), retriever, (ego, Known("ego")), (exo[:1], Known("exo")))


def test_nothing_readable_is_an_error_that_says_why(retriever):
    broken = [PairRecord("broken", 0, 1, "x")]
    with pytest.raises(InputError, match="of 1 ego clips none can be read; of the first: broken"):
        evaluate_pairs(RetrievalReport({}), retriever, (broken, Known("ego")), None)


def test_a_clip_fails_alone_in_portions():
    spans = [("broken" if i == 70 else str(i % D), 0.0, 1.0) for i in range(3 * CLIPS_PER_PASS)]
    seen = []
    embedded = embed_clips(spans, Known(), lambda done, total, name: seen.append((done, total)))
    assert embedded.failures == {70: "broken: no frames"}
    assert embedded.kept == [i for i in range(len(spans)) if i != 70]
    assert [int(row.argmax()) for row in embedded.embeddings] == [i % D for i in embedded.kept]
    assert seen == [(64, 192), (128, 192), (192, 192)]


def question(text, videos, answer, kind):
    return Question(text, tuple(Choice(video, 0.0, 1.0) for video in videos), answer, kind)


def test_questions(retriever):
    questions = [
        question(NARRATIONS[0], "01234", 0, "inter"),
        question(NARRATIONS[1], "02341", 1, "intra"),
        question(NARRATIONS[1], ["0", "broken"], 0, "intra"),
        question("#C C", "01", 0, "inter"),
    ]
    report = RetrievalReport({})
    evaluate_choices(report, retriever, questions, Known())
    assert report.choices["inter"] == {"accuracy": 1.0, "chance": pytest.approx(0.2), "questions": 1}
    assert report.choices["intra"]["accuracy"] == 0.0
    assert (report.counts["questions"], report.counts["questions left out"]) == (2, 2)
    with pytest.raises(InputError, match="of 2 questions none"):
        evaluate_choices(RetrievalReport({}), retriever, questions[2:], Known())


# From files


def test_videos_are_looked_at(toy_retriever, short_videos):
    source = VideoSource(short_videos["ego"].parent, toy_retriever, "exo")
    embedded = embed_clips([("exo1", 0.0, 2.0), ("exo2", 1.0, 1.2), ("none", 0, 1)], source)
    assert embedded.kept == [0, 1]
    assert "none.mp4" in embedded.failures[2]
    alone = toy_retriever.encode_video([Clip(short_videos["exo2"], 1.0, 1.2)])  # as a library would
    assert torch.equal(embedded.embeddings[1], alone[0])


def test_a_clip_that_ends_before_it_starts_gets_a_second(toy_retriever, short_videos):
    source = VideoSource(short_videos["ego"].parent, toy_retriever, "exo")
    embedded = embed_clips([("exo1", 1.0, 1.0), ("exo1", 2.5, 0.0), ("exo1", 4.0, 4.0)], source)
    assert embedded.kept == [0, 1]
    assert "exo1" in embedded.failures[2]
    alone = toy_retriever.encode_video([Clip(short_videos["exo1"], *span) for span in ((1.0, 2.0), (2.5, 3.0))])
    assert torch.allclose(embedded.embeddings, alone)


def test_what_is_measured_is_what_a_library_has(short_videos):
    """The retriever widens, not who calls it: the same clips reach it from a library."""
    seen = []

    class Spy:
        def encode_video(self, clips, view):
            seen.extend((clip.start, clip.end, view) for clip in clips)
            return torch.zeros(len(clips), D)

    VideoSource(short_videos["ego"].parent, Spy(), "exo").embed([("exo1", 1.0, 1.5), ("exo1", 0.0, 1.0)])
    assert seen == [(1.0, 1.5, "exo"), (0.0, 1.0, "exo")]


@pytest.fixture(scope="module")
def cross_view(tmp_path_factory):
    """A tiny cross-view retriever without backbones, features of six videos, and metadata of both views."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
    from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever

    root = tmp_path_factory.mktemp("cross_view")
    words = {word: i for i, word in enumerate(["[UNK]", "cuts", "opens", "a", "leek", "jar", "<start>", "<end>"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", words["<end>"])])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="[UNK]")
    torch.manual_seed(0)
    config = CrossViewConfig(
        ego_frame_width=6, exo_frame_width=8, hidden_size=8, num_layers=1, num_heads=2, projection_dim=8,
        text_vocab_size=len(words), text_context=16, text_hidden_size=8, text_num_layers=1, text_num_heads=2,
        eos_token_id=words["<end>"],
    )  # fmt: skip
    CrossViewRetriever(CrossViewModel(config), tokenizer).save_pretrained(root / "retriever")
    for view, width in (("ego", 6), ("exo", 8)):
        (root / view).mkdir()
        for i in range(3):
            torch.save(torch.randn(20, width), root / view / f"{view}{i}.pth.tar")
        records = [
            PairRecord(f"{view}{i}", 2.0, 5.0, f"opens a {t}", nouns=(i,), verbs=(0,), paired=(i,) * (view == "ego"))
            for i, t in enumerate(["leek", "jar", "jar"])
        ]
        write_pairs(root / f"{view}.json", [*records, PairRecord("gone", 0, 1, "opens a jar")])
    choices = {str(i): {"video_uid": f"ego{i}", "clip_start": 1, "clip_end": 3} for i in range(3)}
    questions = {"0": {"query": {"clip_text": "#C C cuts a leek"}, "choices": choices, "answer": 1, "types": 1}}
    (root / "mcq.json").write_text(json.dumps(questions))
    return root


@pytest.fixture
def run(capsys, monkeypatch):
    import argparse

    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        parser = argparse.ArgumentParser()
        add(parser.add_subparsers())
        arguments = parser.parse_args(["evaluate", "--task", "retrieval", *map(str, words)])
        arguments.run(arguments)
        return capsys.readouterr().out

    return run


def test_the_command_on_features(run, cross_view, tmp_path):
    words = [
        "--ego-pairs", cross_view / "ego.json", "--exo-pairs", cross_view / "exo.json", "--device", "cpu",
        "--ego-features", cross_view / "ego", "--exo-features", cross_view / "exo",
        "--questions", cross_view / "mcq.json", "--retriever", cross_view / "retriever",
    ]  # fmt: skip
    printed = json.loads(run(*words, "--json", "--out", tmp_path))
    assert printed == json.loads((tmp_path / RESULTS).read_text())
    assert printed["scores"]["ego → exo"]["queries"] == 3
    assert printed["counts"]["ego clips unreadable"] == 1
    assert "gone" in printed["failures"]["ego clip 3"]
    assert printed["multiple_choice"]["inter"]["questions"] == 1
    assert printed["retriever"]["dimension"] == 8
    assert printed["settings"]["ego_features"] == str(cross_view / "ego")
    table = run(*words)
    assert "ego → exo" in table
    assert "33.3" in table  # R@1 by chance, of three
    assert "inter" in table
    fewer = json.loads(run(*words, "--json", "--num-frames", 2))
    assert fewer["retriever"]["num_frames"] == 2
    assert fewer["scores"] != printed["scores"]


def test_features_of_another_backbone_are_refused(cross_view):
    from egoinstructor.retriever.opening import open_retriever

    retriever = open_retriever(cross_view / "retriever", device="cpu")
    wrong = FeatureSource(cross_view / "exo", retriever, "ego")
    with pytest.raises(InputError, match="features of width 8; the retriever takes 6 of ego clips"):
        wrong.embed([("exo0", 0.0, 2.0)])


def test_features_need_a_retriever_that_takes_them(toy_retriever, cross_view):
    with pytest.raises(InputError, match="looks at videos itself"):
        FeatureSource(cross_view / "ego", toy_retriever, "ego")


def test_the_command_on_a_benchmark(run, cross_view, tmp_path):
    rows = {
        str(i): {"ego_vid": f"ego{i}.mp4", "ego_start_second": 1, "ego_end_second": 4,
                 "exo_vid": f"exo{i}.mp4", "exo_start_second": 2, "exo_end_second": 6}
        for i in range(3)
    }  # fmt: skip
    (tmp_path / "charades.json").write_text(json.dumps(rows))
    words = [
        "--benchmark", "charades-ego", tmp_path / "charades.json", "--retriever", cross_view / "retriever",
        "--device", "cpu", "--ego-features", cross_view / "ego", "--exo-features", cross_view / "exo",
    ]  # fmt: skip
    found = json.loads(run(*words, "--json"))
    assert found["counts"]["pairs"] == 3
    assert found["scores"].keys() == {"ego → exo", "exo → ego"}
    np.save(tmp_path / "r.npy", np.eye(3))
    with pytest.raises(InputError, match="charades-ego has no use for a relevancy"):
        run(*words, "--relevancy", tmp_path / "r.npy")
    with pytest.raises(InputError, match="choose one of ek100-mir"):
        run("--benchmark", "egomcq", "x", "--retriever", cross_view / "retriever", "--device", "cpu")
    with pytest.raises(InputError, match="has clips of its own"):
        run(*words, "--questions", cross_view / "mcq.json")


def test_the_command_on_matrices(run, tmp_path):
    np.save(tmp_path / "q.npy", np.eye(4, dtype=np.float32))
    save_file({"x": torch.eye(4)[[1, 0, 2, 3]].contiguous()}, tmp_path / "g.safetensors")
    words = ["--queries", tmp_path / "q.npy", "--gallery", tmp_path / "g.safetensors", "--json"]
    scores = json.loads(run(*words))["scores"]
    assert scores["queries → gallery"]["metrics"]["R@1"] == 0.5
    for name, labels in (("q", "abcd"), ("g", "bacd")):
        (tmp_path / f"{name}.json").write_text(json.dumps(list(labels)))
    labels = ["--query-labels", tmp_path / "q.json", "--gallery-labels", tmp_path / "g.json"]
    scores = json.loads(run(*words, *labels))["scores"]
    assert scores["gallery → queries"]["metrics"]["R@1"] == 1


RELEVANCY = [[1.0, 0.5, 0.0], [0.0, 1.0, 1.0]]


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_the_command_on_a_relevancy_matrix(run, tmp_path, suffix):
    queries, gallery = torch.eye(3)[:2], torch.tensor([[0.9, 0.1, 0], [1.0, 0.2, 0], [0, 1.0, 0]])
    np.save(tmp_path / "q.npy", queries.numpy())
    np.save(tmp_path / "g.npy", gallery.numpy())
    if suffix == ".npy":
        np.save(tmp_path / "r.npy", np.array(RELEVANCY))  # float64, as EPIC-KITCHENS' is
    else:
        save_file({"relevancy": torch.tensor(RELEVANCY)}, tmp_path / "r.safetensors")
    words = [
        "--queries",
        tmp_path / "q.npy",
        "--gallery",
        tmp_path / "g.npy",
        "--relevancy",
        tmp_path / f"r{suffix}",
        "--json",
    ]
    printed = json.loads(run(*words))
    assert printed["settings"]["relevancy"].endswith(f"r{suffix}")
    there, back = printed["scores"]["queries → gallery"], printed["scores"]["gallery → queries"]
    # The first query ranks items 1, 0, 2 and is answered by 0; the second 2, 1, 0 and is answered by both of those.
    assert (there["queries"], there["gallery"], there["metrics"]["R@1"], there["metrics"]["mAP"]) == (2, 3, 0.5, 0.75)
    one = (0.5 + 1 / np.log2(3)) / (1 + 0.5 / np.log2(3))
    assert there["metrics"]["nDCG"] == pytest.approx((one + 1) / 2)
    assert (back["queries"], back["unanswered"], back["gallery"]) == (3, 0, 2)
    # With labels, these say what answers, and the matrix is for nDCG alone.
    for name, labels in (("q", "ab"), ("g", "bac")):
        (tmp_path / f"{name}.json").write_text(json.dumps(list(labels)))
    labelled = [*words, "--query-labels", tmp_path / "q.json", "--gallery-labels", tmp_path / "g.json"]
    there = json.loads(run(*labelled))["scores"]["queries → gallery"]
    assert there["metrics"]["R@1"] == 0.5
    assert there["metrics"]["mAP"] == pytest.approx((1 + 1 / 3) / 2)
    assert there["metrics"]["nDCG"] == pytest.approx((one + 1) / 2)


def test_wrong_relevancies_are_refused(tmp_path):
    report, queries, gallery = RetrievalReport({}), torch.eye(3)[:2], torch.eye(3)
    with pytest.raises(InputError, match=r"shape \(3, 2\) for 2 queries and 3 items"):
        evaluate_matrices(report, queries, gallery, relevancy=Matrix(torch.tensor(RELEVANCY).T))
    with pytest.raises(InputError, match=r"shape \(2, 2\) for 2 queries and 3 items"):
        evaluate_matrices(report, queries, gallery, (list("ab"), list("abc")), Matrix(torch.eye(2)))
    assert not report.scores
    evaluate_matrices(report, queries, gallery, relevancy=Matrix(torch.tensor(RELEVANCY)))
    for name, values, message in (
        ("flat", np.ones(3), r"float64 \(3,\)"),
        ("high", np.full((2, 3), 1.5), r"high.npy: .* from 0 to 1"),
        ("nan", np.full((2, 3), np.nan), "from 0 to 1"),
        ("complex", np.ones((2, 3), complex), "complex128"),
        ("pickle", np.array([[{}]], dtype=object), "can't be read"),
    ):
        np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
        with pytest.raises(InputError, match=message):
            read_relevancy(tmp_path / f"{name}.npy")
    np.save(tmp_path / "whole.npy", np.eye(2, dtype=np.int64))
    assert read_relevancy(tmp_path / "whole.npy").rows(0, 2).equal(torch.eye(2))
    with pytest.raises(InputError, match="int64 .* must be floats"):
        read_embeddings(tmp_path / "whole.npy")


def test_the_way_from_a_pickle_that_the_manual_gives(tmp_path, monkeypatch):
    """`docs/evaluation.md`'s lines turn a pickled array into `.npy`, and refuse what would run code."""
    import os
    import pickle
    from pathlib import Path

    manual = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    (lines,) = [block.split("```")[0] for block in manual.split("```python") if "Unpickler" in block.split("```")[0]]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "caption_relevancy_EPIC_100_retrieval_test.pkl"
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps(np.array(RELEVANCY), protocol))
        exec(lines, {})
        assert read_relevancy(tmp_path / "relevancy.npy").rows(0, 2).equal(torch.tensor(RELEVANCY))
        (tmp_path / "relevancy.npy").unlink()

    class Evil:
        def __reduce__(self):
            return os.mkdir, ("ran",)

    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="is no part of an array"):
        exec(lines, {})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to measure"),
        (["--ego-pairs", "e.json"], "no retriever"),
        (["--queries", "q.npy"], "belong together"),
        (["--relevancy", "r.npy"], "belong together"),
        (["--relevancy", "r.npy", "--ego-pairs", "e.json"], "--relevancy and --ego-pairs"),
        (["--queries", "q.npy", "--gallery", "g.npy", "--query-labels", "q.json"], "belong together"),
        (["--queries", "q.npy", "--gallery", "g.npy", "--retriever", "r"], "--queries and --retriever"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, words, message):
    with pytest.raises(InputError, match=message):
        run(*words)


def test_neither_features_nor_videos_and_both(run, cross_view):
    words = ["--ego-pairs", cross_view / "ego.json", "--retriever", cross_view / "retriever"]
    for more in ([], ["--ego-features", cross_view / "ego", "--ego-videos", cross_view]):
        with pytest.raises(InputError, match="either --ego-features or --ego-videos"):
            run(*words, *more)


def test_wrong_matrices_are_refused(tmp_path):
    report = RetrievalReport({})
    with pytest.raises(InputError, match="row i belongs to row i"):
        evaluate_matrices(report, torch.eye(3), torch.eye(3)[:2])
    with pytest.raises(InputError, match="2 labels for 3 rows of the gallery"):
        evaluate_matrices(report, torch.eye(3), torch.eye(3), (list("abc"), list("ab")))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(3))
    save_file({"a": torch.eye(2), "b": torch.eye(2)}, tmp_path / "two.safetensors")
    for name, message in (("pickle.npy", "can't be read"), ("flat.npy", r"float64 \(3,\)"), ("two.safetensors", "one")):
        with pytest.raises(InputError, match=message):
            read_embeddings(tmp_path / name)
    (tmp_path / "labels.json").write_text("[1, 1.5]")
    with pytest.raises(InputError, match="labels.json: 1"):
        read_labels(tmp_path / "labels.json")


def test_results_that_cannot_be_written_say_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        RetrievalReport({}).save(tmp_path / "file" / "out")
