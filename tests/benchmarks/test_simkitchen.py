"""The SimKitchen table at toy size: what is shown, what counts as right, what is found again."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from egoinstructor import Captioner, Reference
from egoinstructor.errors import InputError
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.preprocessing import Preprocessing
from nano_steps.captioner import Sizes
from nano_steps.clips import KitchenClip, read_clips
from nano_steps.episodes import Episodes
from nano_steps.tokenizer import make_tokenizers
from on_simkitchen import main
from simkitchen.events import generate
from simkitchen_parts import evaluation, models, scores, table
from simkitchen_parts import references as choose
from simkitchen_parts.captions import Written, caption_all, latents, likeliest, patches, read_captions, write_captions
from simkitchen_parts.kitchen import Kitchen, KitchenLibrary, library_vectors, open_library
from simkitchen_parts.models import MODELS, Files, check_alike, check_learned, library_data, train, training_facts
from simkitchen_parts.plot import add_plot, draw
from simkitchen_parts.references import Shown
from simkitchen_parts.retriever_scores import retriever_scores
from simkitchen_parts.table import BEGIN, END, markdown, write_between
from simkitchen_parts.words import verb_and_noun, with_noun

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def kitchen(rendered):
    return Kitchen.read(rendered / "test")


@pytest.fixture
def few(kitchen):
    """Three queries, one of a bucket each, and the whole library."""
    return replace(kitchen, queries=kitchen.queries[3:8:2])


@pytest.fixture
def shelf(kitchen, toy_retriever, tmp_path):
    return open_library(kitchen, toy_retriever, tmp_path / "split")


def query(event, verb="cut", noun="durul", bucket="seen", kitchen="k0", target=None):
    return KitchenClip(event, "ego", bucket, verb, noun, target, kitchen, "")


def test_verb_and_noun_of_every_narration():
    for split in ("train", "validation", "test"):
        for event in generate(split, 300):
            for view in event.views:
                assert verb_and_noun(view.narration) == (event.verb, event.noun)
                renamed = with_noun(view.narration, event.noun, "zzz")
                assert verb_and_noun(renamed) == (event.verb, "zzz")
                assert event.target is None or event.target in renamed
    assert verb_and_noun("#C C floats the mug") == (None, "mug")
    assert verb_and_noun("nothing at all") == (None, None)


def test_no_condition_but_one_shows_the_own_event(few, monkeypatch, tmp_path):
    kitchen = few
    places = {event: place for place, event in enumerate(sorted(few.howto))}
    entries = {event: SimpleNamespace(id=event, video=f"{event}.mp4", video_digest=event) for event in places}
    eye = torch.eye(len(places))

    def nearest(library, clips, shots, retrieval, queries):
        """As the library's, without its searches: the own event comes first, unless the filter has it."""
        order = (queries[0] @ eye).argsort(descending=True, stable=True).tolist()
        left = [event for event in (list(places)[i] for i in order) if event not in retrieval.where.exclude_digests]
        return [SimpleNamespace(chosen=[SimpleNamespace(entry=entries[event], score=0.5) for event in left[:shots]])]

    monkeypatch.setattr(choose, "find_references", nearest)
    shelf = KitchenLibrary(None, entries, {q.event: eye[places[q.event]] for q in few.queries})
    shown, nouns = evaluation.all_references(kitchen, shelf, tmp_path / "references")
    for condition, references in shown.items():
        assert references.keys() == {q.event for q in kitchen.queries}, condition
        own = sum(event == one.event for event, ones in references.items() for one in ones)
        assert own == (3 if condition == "own event kept" else 0), condition
        if condition not in (*evaluation.ALONE, "retrieved 2"):
            assert {len(ones) for ones in references.values()} == {4}, condition
    for q in kitchen.queries:
        taken_out = {kitchen.howto[one.event].noun for one in shown["noun taken out"][q.event]}
        assert q.noun not in taken_out
        fits = [kitchen.howto[one.event] for one in shown["oracle 4"][q.event]]
        best = [c.noun == q.noun for c in kitchen.howto.values() if c.event != q.event]
        assert sum(c.noun == q.noun for c in fits) == min(4, sum(best))
        for plain, wrong in zip(shown["retrieved 4"][q.event], shown["shuffled narrations"][q.event], strict=True):
            assert plain.event == wrong.event
            assert plain.narration == kitchen.howto[plain.event].narration
        for plain, swapped in zip(shown["retrieved 4"][q.event], shown["swapped nouns"][q.event], strict=True):
            verb, noun = verb_and_noun(plain.narration)
            assert verb_and_noun(swapped.narration) == (verb, nouns[q.event].get(noun, noun))
            assert nouns[q.event].get(noun) not in (noun, q.noun)
    assert any(shown["shuffled narrations"][q][0] != ones[0] for q, ones in shown["retrieved 4"].items())


def test_queries_of_the_first_events_and_the_library_of_all(rendered, kitchen):
    some = Kitchen.read(rendered / "test", 5)
    assert [q.event for q in some.queries] == [f"test-{i:06d}" for i in range(5)]
    assert some.howto == kitchen.howto
    for number in (0, 21):
        with pytest.raises(InputError, match=f"first {number} events: .* has 20; give 1 to 20"):
            Kitchen.read(rendered / "test", number)


def test_what_is_kept_of_another_number_of_queries_is_not_mixed(rendered, kitchen, tmp_path):
    every, some = (Files(rendered, tmp_path, tmp_path / "none.yaml", queries=number) for number in (None, 5))
    assert every.split("test") == some.split("test")  # one library
    assert every.asked("test") != some.asked("test")
    assert every.captions("ego", 0, "test", "none").parent.name == "test"
    assert some.captions("ego", 0, "test", "none").parent.name == "test-first-5"
    made = choose.at_random(kitchen)
    for _ in range(2):
        choose.check_made_of(kitchen, tmp_path / "references")
        choose.kept(tmp_path / "references" / "a.jsonl", lambda: made)
    smaller = replace(kitchen, howto=dict(list(kitchen.howto.items())[1:]))
    for other in (replace(kitchen, queries=kitchen.queries[:5]), smaller):
        with pytest.raises(InputError, match="made of other clips"):
            choose.check_made_of(other, tmp_path / "references")


def test_both_numbers_are_told():
    about = {"split": "test", "seeds": [0], "queries": 600, "library": 1800, "coverage": {}, "missing metrics": {}}
    about |= {"date": "", "machine": "", "versions": {}}
    assert "`test`: 600 queries, a library of 1,800 how-to clips." in table._head(about)
    told = table._head(about | {"first events": 600})
    assert "`test`: 600 queries of its first 600 events, a library of 1,800 how-to clips." in told


@pytest.mark.slow
def test_fewer_references_are_the_first_of_more(few, shelf):
    looks = {q.event: library_vectors(shelf, [q.event])[0] for q in few.queries}  # the own event is the nearest
    shelf = replace(shelf, ego=looks)
    more = choose.retrieved(few, shelf, choose.own_event)
    assert all(event not in [one.event for one in shown] for event, shown in more.items())
    assert choose.retrieved(few, shelf, choose.own_event, shots=2) == choose.cut(more, 0, 2)


def test_a_larger_share_of_the_library_has_all_of_a_smaller_one(kitchen):
    rest = {share: set(choose.own_event_and_rest(kitchen, share)(kitchen.queries[0])) for share in (0.25, 0.5)}
    assert rest[0.5] < rest[0.25]
    assert len(rest[0.5] - {kitchen.queries[0].event}) == pytest.approx(len(kitchen.howto) / 2, abs=1)


def test_captions_are_the_products_own(kitchen, resnet_captioner, monkeypatch, tmp_path):
    """The model is handed what the product hands it; what it then says is `generate`'s own matter."""
    howto = {event: kitchen.howto[event] for event in list(kitchen.howto)[5:9]}
    kitchen = replace(kitchen, queries=kitchen.queries[:3], howto=howto)
    captioner = Captioner.from_pretrained(resnet_captioner, device="cpu")
    model, processor = captioner.model, captioner.processor
    model.generation_config.update(max_new_tokens=6)
    handed = {}

    def generate(input_ids, attention_mask, video_latents=None, **options):
        for i, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            read = None if video_latents is None else [clip for clip in video_latents[i] if clip.any()]
            handed[tuple(ids[mask.bool()].tolist())] = read
        written = torch.cat([input_ids, input_ids[:, :1]], 1)
        return SimpleNamespace(sequences=written, logits=[torch.zeros(len(written), 2000)]) if options else written

    monkeypatch.setattr(model, "generate", generate)
    seen = latents(model, patches(kitchen, model, processor, tmp_path / "patches.safetensors"))
    shown = {event: ones[:i] for i, (event, ones) in enumerate(choose.at_random(kitchen).items())}
    files = {event: kitchen.clip(clip).video for event, clip in howto.items()}
    asked = [
        (kitchen.clip(q), [Reference(files[one.event], one.narration, 0.0, 2.0) for one in shown[q.event]])
        for q in kitchen.queries
    ]
    for blind in (False, True):
        caption_all(model, processor, [q.event for q in kitchen.queries], None if blind else seen, shown, batch=2)
        ours = dict(handed)
        handed.clear()
        captioner.caption_batch(asked, blind=blind)
        assert ours.keys() == handed.keys()
        assert len(ours) == 3
        assert sorted(len(read or ()) for read in ours.values()) == ([0, 0, 0] if blind else [1, 2, 3])
        for prompt, read in ours.items():
            for one, other in zip(read or (), handed[prompt] or (), strict=True):
                torch.testing.assert_close(one, other, rtol=0.01, atol=0.01)  # of references in bf16, as a library's
        handed.clear()
    with torch.no_grad():
        next(model.vision_encoder.parameters()).add_(1)
    with pytest.raises(InputError, match="another vision tower"):
        patches(kitchen, model, processor, tmp_path / "patches.safetensors")


def test_captions_are_found_again_only_if_nothing_has_changed(tmp_path):
    file, shown = tmp_path / "captions.jsonl", {"a": [Shown("e", "cut it")], "b": []}
    written = {"a": Written("x", -0.1, 3), "b": Written("y", -2.0, 4)}
    write_captions(file, "m", written, shown)
    assert read_captions(file, "m", ["b", "a"], shown) == written
    assert read_captions(file, "m", ["a", "b"], {**shown, "b": [Shown("e", "cut it")]}) is None
    assert read_captions(file, "m", ["a", "b"], {**shown, "a": [Shown("e", "cut that")]}) is None
    assert read_captions(file, "m", ["a"], shown) is None
    assert read_captions(file, "m", ["a", "b", "c"], {**shown, "c": []}) is None
    assert read_captions(file, "another", ["a", "b"], shown) is None
    assert read_captions(tmp_path / "none", "m", ["a"]) is None


def test_the_likeliest_is_what_the_captioner_keeps():
    shown = {"a": [Shown("e", "x", 0.9), Shown("f", "y", 0.5)], "b": [Shown("e", "x", 0.9)], "c": []}
    together = {"a": Written("x", -0.5, 4), "b": Written("y", -0.1, 4), "c": Written("w", -0.9, 4)}
    alone = [{"a": Written("z", -0.3, 4), "b": together["b"], "c": together["c"]}, {"a": Written("u", -0.01, 4)}]
    none = {"a": Written("v", -0.5, 4), "b": Written("v", -0.4, 2), "c": together["c"]}
    # a: x 0.1 · e^-2, z 0.4 · e^-1.2, u next to nothing (its reference is not like the clip), v 0.5 · e^-2
    # b: y 0.5 · e^-0.4, v 0.5 · e^-0.8
    assert likeliest(shown, together, alone, none) == {"a": alone[0]["a"], "b": together["b"], "c": none["c"]}
    none["a"] = Written("x", -0.35, 4)  # as all together: 0.1 · e^-2 + 0.5 · e^-1.4
    none["b"] = Written("v", -0.3, 1)  # a shorter one
    assert likeliest(shown, together, alone, none) == {"a": none["a"], "b": none["b"], "c": none["c"]}


def test_shuffled_narrations_never_tell_of_the_own_event(kitchen):
    references = {q.event: [Shown(event, "") for event in kitchen.howto if event != q.event] for q in kitchen.queries}
    told = {clip.narration: clip.event for clip in kitchen.howto.values()}
    assert len(told) == len(kitchen.howto)
    for event, shown in choose.other_narrations(kitchen, references).items():
        assert not {event} & {told[one.narration] for one in shown}
        assert all(told[one.narration] != one.event for one in shown)


def test_an_empty_caption_counts_as_one():
    found = scores.caption_metrics([query("a"), query("b")], {"a": "", "b": "#C C cuts the durul"}, ["CIDEr"])
    assert found.metrics["CIDEr"].parts.shape[0] == 2


def test_what_counts_as_right():
    one = query("e", "put", "durul", target="plate")
    assert scores.right(one, "#C C puts the durul on the plate") == (1, 1, 1)
    assert scores.right(one, "#C C puts the durul in the sink") == (1, 1, 0)
    assert scores.right(one, "don't forget to put the mug on the plate") == (1, 0, 0)


def test_scores_of_a_condition():
    queries = [
        query("a", "cut", "mug", kitchen="k0"),
        query("b", "cut", "durul", kitchen="k1"),
        query("c", "push", "mug", "novel words", "k1"),
    ]
    good = {"a": "#C C cuts the mug", "b": "#C C cuts the durul", "c": "#C C pushes the mug"}
    bad = {**good, "b": "#C C cuts the mug"}
    found = scores.condition_scores(queries, [good, bad], {"b"}, ["CIDEr"])
    cider = [scores.condition_scores(queries, [one], {"b"}, ["CIDEr"])["all"]["CIDEr"] for one in (good, bad)]
    assert found["all"]["CIDEr"]["mean"] == pytest.approx((cider[0]["mean"] + cider[1]["mean"]) / 2)
    assert found["all"]["CIDEr"]["low"] <= found["all"]["CIDEr"]["mean"] <= found["all"]["CIDEr"]["high"]
    assert found["all"]["noun"]["mean"] == pytest.approx(5 / 6)
    assert found["all"]["noun"]["sd"] == pytest.approx(np.std([1, 2 / 3], ddof=1))
    assert found["all"]["noun"]["low"] < 5 / 6 < found["all"]["noun"]["high"]
    assert found["all"][scores.BY_VERB]["mean"] == pytest.approx((1 + 0.75) / 2)
    assert found["novel words"]["sentence"] == {"mean": 1, "sd": 0}  # of one kitchen there is no interval
    assert "long tail" not in found
    assert found["all"][scores.IF_NAMED]["mean"] == 0.5
    assert found["novel words"][scores.IF_NAMED] == {}
    gained = scores.gain(queries, scores.judged(queries, [good])["noun"], scores.judged(queries, [bad])["noun"])
    assert gained["seen"]["value"] == pytest.approx(0.5)


def test_the_guess_by_the_verb():
    queries = [query("a", "cut", "mug"), query("b", "cut", "durul"), query("c", "push", "mug")]
    training = [query("t", "cut", "mug"), replace(query("u", "push", "mug"), camera="exo")]
    found = scores.guesses(queries, training, [*queries, query("d", "cut", "durul")])["all"]
    assert found["training's ego clips"] == pytest.approx({"noun": 1 / 3, scores.BY_VERB: 0.25})
    assert found["all of training"] == pytest.approx({"noun": 2 / 3, scores.BY_VERB: 0.75})
    assert found["the library"] == pytest.approx({"noun": 2 / 3, scores.BY_VERB: 0.75})


def test_nouns_that_can_be_read():
    queries = [query("a", "cut", "mug"), query("b", "cut", "durul")]
    named = scores.named_elsewhere(queries, [*queries, query("c", "push", "mug")])
    assert named == {"a"}
    assert scores.coverage(queries, named)["all"] == 0.5


def test_shuffled_videos_are_all_pairs():
    queries = [query("a", "cut", "mug"), query("b", "cut", "durul"), query("c", "push", "mug")]
    captions = {"a": "#C C cuts the mug", "b": "#C C cuts the durul", "c": "#C C pushes the durul"}
    found = scores.shuffled_videos(queries, [captions])["all"]
    pairs = [verb_and_noun(captions[i.event])[1] == j.noun for i in queries for j in queries if i is not j]
    assert found["noun"]["mean"] == pytest.approx(np.mean(pairs))
    assert found["noun"]["chance"] == pytest.approx(2 / 6)


def test_swapped_nouns_are_followed_or_not():
    queries = [query("a", "cut", "mug"), query("b", "cut", "durul")]
    plain = {"a": "#C C cuts the mug", "b": "#C C cuts the durul"}
    after = {"a": "#C C cuts the can", "b": "#C C cuts the durul"}
    nouns = {"a": {"mug": "can"}, "b": {"durul": "taboz", "mug": "pan"}}
    found = scores.swap_scores(queries, [plain], [after], nouns)["all"]
    assert found["of those, the noun follows the swap"]["mean"] == 0.5
    assert found["of those, the noun stays"]["mean"] == 0.5
    assert found["verb after"]["mean"] == 1


def test_the_retriever_is_measured_without_the_own_event():
    """One that finds the own event alone is worse than chance, for the others are all equally far."""
    queries = [query(f"e{i}", "cut" if i % 2 else "push", f"noun{i // 4}") for i in range(20)]
    vectors = {one.event: torch.eye(20)[i] for i, one in enumerate(queries)}
    entries = {event: SimpleNamespace(id=event) for event in vectors}
    library = SimpleNamespace(vectors=lambda ids: torch.stack([vectors[i] for i in ids]))
    made = Kitchen(Path(), tuple(queries), {one.event: one for one in queries})
    found = retriever_scores(made, KitchenLibrary(library, entries, vectors))["all"]
    assert {cells["queries"] for cells in found.values()} == {20}
    assert {cells["R@1"]["mean"] for cells in found.values()} == {0.0}
    assert [cells["R@1 by chance"] for cells in found.values()] == pytest.approx([1 / 19, 3 / 19, 1 / 9])
    for i in range(20):  # and one that finds the same verb and noun is always right
        vectors[f"e{i}"] = torch.eye(20)[2 * (i // 4) + i % 2]
    found = retriever_scores(made, KitchenLibrary(library, entries, vectors))["all"]
    assert {cells["R@1"]["mean"] for cells in found.values()} == {1.0}


@pytest.fixture
def trained(rendered, resnet_captioner, tmp_path):
    """The benchmark's folder with four models of two seeds, all of them the toy."""
    files = Files(rendered, tmp_path / "work", tmp_path / "none.yaml")
    for model in MODELS:
        for seed in (0, 1):
            folder = files.model(model, seed, "test")
            shutil.copytree(resnet_captioner, folder)
            settings = json.loads((folder / "generation_config.json").read_text("utf-8"))
            settings |= {"num_beams": 1, "max_new_tokens": 4, "no_repeat_ngram_size": 0}
            (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
            (folder.parent / "config.yaml").write_text(f"max_steps: {1 if '+library' in model else 10}\n", "utf-8")
    return files


@pytest.mark.slow
def test_the_whole_table(trained, toy_retriever, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(evaluation, "open_retriever", lambda folder: toy_retriever)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    command = ["--data", str(trained.data), "--work", str(trained.work), "--seeds", "0", "1", "--metrics", "CIDEr"]
    assert main(["evaluate", *command, "--markdown", str(page)]) == 0
    first = capsys.readouterr().out
    picture = tmp_path / "images" / "simkitchen_shots.svg"
    drawn = picture.read_bytes()
    assert b"<svg" in drawn
    results = json.loads((trained.split("test") / "results.json").read_text("utf-8"))
    assert len(results["conditions"]) == 3 + len(evaluation.MAIN) + len(evaluation.SWEEPS) + 3
    assert {len(row["buckets"]) for row in results["conditions"]} == {4}
    for name in (
        "random: 4 references",
        "4 retrieved",
        "retrieval-only",
        "text-only",
        "video-only",
        "Blind controls",
        "The retriever",
        "oracle",
        "the likeliest caption",
    ):
        assert name in first
    text = page.read_text("utf-8")
    assert (text.split("\n")[0], text.split("\n")[-2]) == ("before", "after")
    assert "\nold\n" not in text
    assert first.strip() in text
    assert "](images/simkitchen_shots.svg)" in text
    assert (main(["table", "--work", str(trained.work)]), capsys.readouterr().out) == (0, markdown(results) + "\n")
    assert main(["table", "--work", str(trained.work), "--markdown", str(page)]) == 0
    assert (page.read_text("utf-8"), picture.read_bytes()) == (text, drawn)
    few = [*command, "--models", "ego", "--seeds", "0", "--queries", "8"]
    assert main(["caption", *few]) == 0
    asked = replace(trained, queries=8)
    assert len(asked.captions("ego", 0, "test", "none").read_text("utf-8").splitlines()) == 8
    assert len((asked.asked("test") / "references" / "own_event_kept.jsonl").read_text("utf-8").splitlines()) == 8
    monkeypatch.setattr(evaluation, "caption_all", None)  # what was captioned is found again
    assert main(["caption", *command]) == 0
    assert main(["evaluate", *command]) == 0
    assert main(["caption", *few]) == 0


def test_no_panel_of_the_plot_is_cut_off():
    def cell(value):
        return {"queries": 2, "CIDEr": {"mean": value, "sd": 0.0}}

    curve = {shots: {"seen": cell(1.0), "long tail": cell(1.0 + shots)} for shots in (0, 1, 2, 4)}
    figure = draw({("ego", "none"): {"seen": cell(0.5), "long tail": cell(7.0)}}, curve, ("seen", "long tail"))
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] > 500


def test_without_cider_there_is_no_plot(tmp_path):
    rows = [
        {
            "model": "retrieval",
            "condition": condition,
            "buckets": {"seen": {"queries": 2, "noun": {"mean": 1, "sd": 0}}},
        }
        for condition in evaluation.MAIN
    ]
    assert add_plot(tmp_path / "page.md", {"conditions": rows}) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_missing_is_trained(rendered, tmp_path):
    work = tmp_path / "work"
    torch.manual_seed(0)
    tower = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[6, 8], depths=[1, 1], layer_type="basic"))
    eye = TowerFrameEncoder(tower, Preprocessing((16, 16), None, (0.5,) * 3, (0.3,) * 3, antialias=False), num_frames=2)
    eye.save_pretrained(work / "retriever" / "model" / "ego_backbone")
    clips = read_clips(rendered / "train")
    make_tokenizers(clips, work / "tokenizer", 300)
    Episodes(clips, similarity=lambda *_: 0.5).write(work / "episodes.jsonl", 8, seed=0, prefix="train/")
    sizes = Sizes(16, 1, 2, 2, 1, 2, 4, 2, 4, num_frames=2, max_length=512)
    files = Files(rendered, work, ROOT / "configs" / "nano_captioner.yaml", sizes, practice=2)
    more = ["--max_steps", "4", "--save_steps", "2", "--per_device_train_batch_size", "2", "--bf16", "false"]
    for model in ("retrieval", "ego+exo+library"):  # the second needs ego+exo first
        assert train(files, model, 1, "test", more)
        assert not train(files, model, 1, "test", more)
        assert files.model(model, 1, "test").is_dir()
    facts = {
        model: training_facts(files.run(model, 1, "test")) for model in ("retrieval", "ego+exo", "ego+exo+library")
    }
    assert [fact["steps"] for fact in facts.values()] == [4, 4, 1]
    assert all(fact["seconds"] > 0 for fact in facts.values())
    with pytest.raises(InputError, match="max_steps 8, not 4"):
        train(files, "ego", 0, "test", ["--max_steps", "8", *more[2:]])


@pytest.mark.parametrize("more", [["--max_steps", "12001"], ["--lr_scheduler_kwargs", "{}"], ["--save_steps", "4000"]])
def test_a_training_of_which_there_is_no_mean(more):
    with pytest.raises(InputError, match="each must end with a checkpoint"):
        models.read_options(ROOT / "configs" / "nano_captioner.yaml", more)


def test_the_recipes_own_captioner_is_one_of_them(tmp_path):
    files = Files(tmp_path, tmp_path, tmp_path)
    assert files.run("retrieval", 0, "test") == tmp_path / "benchmark" / "models" / "retrieval-0"
    (tmp_path / "captioner" / "cycles").mkdir(parents=True)
    (tmp_path / "captioner" / "cycles" / "config.yaml").write_text("task: captioner\nseed: 0\n", "utf-8")
    assert files.run("retrieval", 0, "test") == tmp_path / "captioner"
    assert files.run("retrieval", 1, "test") != tmp_path / "captioner"
    assert files.run("ego", 0, "test") != tmp_path / "captioner"


def test_the_recipes_own_captioner_is_not_trained_here(rendered, tmp_path):
    files = Files(rendered, tmp_path, tmp_path / "none.yaml")
    (tmp_path / "captioner" / "cycles").mkdir(parents=True)
    (tmp_path / "captioner" / "cycles" / "config.yaml").write_text("seed: 0\n", "utf-8")
    with pytest.raises(InputError, match=r"finish recipes/nano\.py"):
        train(files, "retrieval", 0, "test")


def test_models_are_compared_after_the_same_training(tmp_path):
    files = Files(tmp_path, tmp_path, tmp_path)
    told = {"retrieval": "max_steps: 9\nlearning_rate: 0.001\n", "ego": "max_steps: 9\nlearning_rate: 1.0e-3\n"}
    told["ego+exo+library"] = "max_steps: 1\n"
    for model, text in told.items():
        for seed in (0, 1):
            folder = files.run(model, seed, "test") / ("" if model == "ego+exo+library" else "cycles")
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(text, "utf-8")
    check_alike(files, list(told), (0, 1), "test")
    record = files.run("ego", 1, "test") / "cycles" / "config.yaml"
    record.write_text(f"{told['ego']}per_device_train_batch_size: 64\nmax_steps: 8\n", "utf-8")
    with pytest.raises(
        InputError, match=r"ego-1: max_steps 8, not 9, per_device_train_batch_size 64, not \d+ as in .*al-0"
    ):
        check_alike(files, list(told), (0, 1), "test")
    record.write_text(f"{told['ego']}lr_scheduler_kwargs: {{num_cycles: 2}}\n", "utf-8")
    with pytest.raises(InputError, match=r"ego-1: cycles 2, not 1"):
        check_alike(files, list(told), (0, 1), "test")
    record.unlink()
    with pytest.raises(InputError, match=r"ego-1 has no config\.yaml"):
        check_alike(files, list(told), (0, 1), "test")


def test_a_run_is_one_process_at_a_time(tmp_path, capsys):
    entered = threading.Event()

    def second():
        with models.one_at_a_time(tmp_path / "run"):
            entered.set()

    with models.one_at_a_time(tmp_path / "run"):
        other = threading.Thread(target=second)
        other.start()
        assert not entered.wait(0.1)
    other.join()
    assert entered.is_set()
    assert "waiting for run" in capsys.readouterr().err


def test_a_page_without_a_place_for_it(tmp_path):
    (tmp_path / "page.md").write_text("# Other\n", "utf-8")
    with pytest.raises(InputError, match="write the lines"):
        write_between(tmp_path / "page.md", "text")


def test_a_model_that_is_not_trained(rendered, tmp_path, capsys):
    assert main(["evaluate", "--data", str(rendered), "--work", str(tmp_path)]) == 1
    assert "'train' it first" in capsys.readouterr().err
    assert main(["train", "--data", str(rendered), "--work", str(tmp_path)]) == 1
    assert "finish recipes/nano.py" in capsys.readouterr().err
    assert main(["evaluate", "--work", str(tmp_path)]) == 1
    assert "--data is missing" in capsys.readouterr().err


def test_the_librarys_clips_are_half_of_what_is_learned_of_it(rendered, tmp_path):
    files = Files(rendered, tmp_path, tmp_path / "none.yaml")
    lines = [json.loads(line) for line in library_data(files, "test").read_text("utf-8").splitlines()]
    mine = [line for line in lines if line["video"].startswith("test/")]
    assert {line["video"] for line in mine} == {f"test/exo/test-{i:06d}" for i in range(20)}
    assert len(mine) == len(lines) / 2
    assert all(line["references"] == [] for line in lines)
    check_learned(files, "test")
    fewer = "".join(f"{json.dumps(line)}\n" for line in lines if "exo/test-000007" not in line["video"])
    (tmp_path / "benchmark" / "data" / "library-test.jsonl").write_text(fewer, "utf-8")
    with pytest.raises(InputError, match="has learned 19 how-to clips, and .* has 20"):
        check_learned(files, "test")
    assert all(line["caption"].startswith("#C C ") for line in lines)
