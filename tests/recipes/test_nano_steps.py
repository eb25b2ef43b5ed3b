"""What nano learns from, and what it starts from."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, ResNetConfig, ResNetModel

from egoinstructor.checkpoints.loading import load
from egoinstructor.data.metadata import read_metadata
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model.tokenizer import SPECIAL_TOKENS
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.training.base_trainer import COMPLETE, WEIGHTS
from nano_steps import processes
from nano_steps.captioner import Sizes, make_captioner
from nano_steps.clips import is_invented, of_camera, read_clips
from nano_steps.cycles import LAST_END, train_in_cycles
from nano_steps.embedding import embed_split, neighbours
from nano_steps.episodes import Episodes, Mixture, fresh_names, renew
from nano_steps.gate import same_verb_gate
from nano_steps.shipping import queries_and_library, replace_folders
from nano_steps.tokenizer import CAPTIONER, RETRIEVER, make_tokenizers
from simkitchen import names
from simkitchen.catalogue import nouns
from simkitchen.narration import ego_narration

INVENTED = [noun.name for noun in nouns().values() if noun.rule]
NAME = re.compile(r"\b[bdfgjklmnprstvz][aeiou][bdfgklmnprstvz][aeiou][bdfgklmnprtvz]\b")


@pytest.fixture(scope="session")
def clips(split):
    return read_clips(split)


@pytest.fixture(scope="session")
def words(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "words"
    make_tokenizers(clips, folder)
    return folder


# ---------------------------------------------------------------------- clips


def test_clips_are_those_of_the_first_events(split, clips):
    few = read_clips(split, 10)
    assert few == clips[: len(few)]
    assert {clip.event for clip in few} == {f"train-{i:06d}" for i in range(10)}
    assert all(clip.noun in clip.narration for clip in clips)


# ---------------------------------------------------------------------- tokenizer


def test_common_words_are_one_token_and_every_name_is_spelled(words):
    tokenizer = AutoTokenizer.from_pretrained(words / CAPTIONER)
    said = "Describe the main action in the video."
    assert tokenizer.tokenize(said) == [*(f"{'Ġ' * (i > 0)}{word}" for i, word in enumerate(said[:-1].split())), "."]
    lengths = Counter(len(tokenizer.tokenize(f" {name}")) for name in INVENTED)
    assert min(lengths) >= 2
    known, new = INVENTED[:500], fresh_names(Random(1), 500)
    mean = [sum(len(tokenizer.tokenize(f" {name}")) for name in some) / 500 for some in (known, new)]
    assert mean[0] == pytest.approx(mean[1], rel=0.1)  # having been seen makes no difference


def test_names_are_drawn_as_they_always_were():
    """A seed's episodes, and with them a model, can be made again."""
    random = Random(0)
    assert fresh_names(random, 6) == ["vovob", "junoz", "vinir", "zepek", "farip", "sufid"]
    many = fresh_names(random, 3000)
    assert len(set(many)) == 3000
    assert not set(many) & {*nouns(), *names.WORDS.split()}


def test_each_model_gets_what_it_needs(words):
    text = "#C C puts the durul on the plate"
    reader, captioner = (AutoTokenizer.from_pretrained(words / name) for name in (RETRIEVER, CAPTIONER))
    assert reader(text)["input_ids"][-1] == reader.eos_token_id
    assert reader.eos_token_id not in captioner(text)["input_ids"]
    assert len(captioner.tokenize(" durul")) < len(reader.tokenize(" durul"))  # it knows syllables
    assert reader.pad_token_id not in (None, reader.eos_token_id)
    assert captioner.bos_token_id == captioner.eos_token_id == reader.eos_token_id
    assert captioner.decode(captioner(text)["input_ids"]) == text
    assert captioner.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(captioner) - 4, len(captioner)))


# ---------------------------------------------------------------------- captioner


TOY = Sizes(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_latents=2, resampler_depth=1, resampler_heads=2,
    resampler_head_dim=4, cross_attention_heads=2, cross_attention_head_dim=4, num_frames=2,
)  # fmt: skip


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic"}
    preprocessing = Preprocessing((32, 32), None, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), antialias=False)
    encoder = TowerFrameEncoder(ResNetModel(ResNetConfig(**sizes)), preprocessing, num_frames=2)
    folder = tmp_path_factory.mktemp("backbone")
    encoder.save_pretrained(folder)
    return folder


def test_a_captioner_starts_over_the_retrievers_eye(backbone, words, tmp_path, short_videos):
    make_captioner(backbone, words / CAPTIONER, tmp_path / "one", seed=1, sizes=TOY, practice=2)
    model, processor = load(tmp_path / "one")
    gates = [p for name, p in model.named_parameters() if name.endswith("_gate")]
    assert [gate.item() for gate in gates] == pytest.approx([1.0] * 4, abs=0.01)
    eye = TowerFrameEncoder.from_pretrained(backbone, num_frames=2)
    for name, tensor in eye.tower.state_dict().items():
        assert torch.equal(model.vision_encoder.state_dict()[name], tensor), name
    assert Preprocessing.of_captioner(processor) == eye.preprocessing
    assert (processor.num_frames, processor.max_length) == (2, 512)
    assert (model.generation_config.num_beams, model.generation_config.no_repeat_ngram_size) == (1, 0)
    make_captioner(backbone, words / CAPTIONER, tmp_path / "same", seed=1, sizes=TOY, practice=2)
    make_captioner(backbone, words / CAPTIONER, tmp_path / "other", seed=2, sizes=TOY, practice=2)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "same", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_the_mean_of_the_last_two_cycles_ends(resnet_captioner, tmp_path):
    """The eye, which is frozen, stays what it is to the bit; what is trained already is not trained again."""
    run, asked = tmp_path / "run", []

    def train(folder):
        asked.append(folder)
        model, processor = load(resnet_captioner, dtype=torch.float32)
        trained = {n: w for n, w in model.named_parameters() if not n.startswith("vision_encoder.")}
        for step, change in ((4, 5), (8, 2), (12, 1)):
            checkpoint = folder / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            save_file({name: weights.detach() + change for name, weights in trained.items()}, checkpoint / WEIGHTS)
            (checkpoint / COMPLETE).touch()
        with torch.no_grad():
            for weights in trained.values():
                weights += change
        (folder / "config.yaml").write_text("max_steps: 12\nlr_scheduler_kwargs: {num_cycles: 3}\n")
        for part in (model, processor):
            part.save_pretrained(folder / "model")

    train_in_cycles(run, train)
    start, model = load(resnet_captioner, dtype=torch.float32)[0], load(run / "model")[0]
    for name, weights in model.state_dict().items():
        before = start.state_dict()[name]
        if name.startswith("vision_encoder."):
            assert torch.equal(weights, before), name
        else:
            torch.testing.assert_close(weights, before + 1 + (1 - LAST_END), msg=name)
    shutil.rmtree(run / "model")
    (asked[0] / "checkpoint-8" / COMPLETE).unlink()
    with pytest.raises(InputError, match="checkpoint-8 is missing"):
        train_in_cycles(run, train)
    assert asked == [run / "cycles"]


# ---------------------------------------------------------------------- episodes


@pytest.fixture(scope="session")
def drawn(clips):
    """Three episodes around each ego clip, nothing renewed."""
    episodes = Episodes(clips, mixture=Mixture(renewed=0))
    return [episodes.draw(Random(f"{i}/{clip.name}"), clip) for clip in episodes.ego for i in range(3)]


def names_it(query, clip):
    return clip.noun == query.noun


def test_references_come_from_elsewhere_and_at_most_the_first_matches(drawn):
    assert len(drawn) > 900
    for episode in drawn:
        query, references = episode.query, episode.references
        assert len(references) == len(set(references)) == 4
        assert all(clip.camera == "exo" for clip in references)
        assert all(clip.event != query.event and clip.kitchen != query.kitchen for clip in references)
        assert not any(names_it(query, clip) for clip in references[1:])


def test_the_mixture_is_what_it_says(drawn, clips):
    exo = of_camera(clips, "exo")
    counts = Counter(clip.noun for clip in exo)
    frequent = [episode for episode in drawn if counts[episode.query.noun] >= 5]
    lost = sum(not names_it(episode.query, episode.references[0]) for episode in frequent)
    assert lost / len(frequent) == pytest.approx(0.2, abs=0.06)
    others = [(e.query, clip) for e in drawn for clip in e.references if not names_it(e.query, clip)]
    by_chance = sum(c * (c - 1) for c in Counter(clip.verb for clip in exo).values()) / len(exo) ** 2
    same = sum(query.verb == clip.verb for query, clip in others) / len(others)
    assert same == pytest.approx(0.5 + 0.5 * by_chance, abs=0.05)


@pytest.mark.parametrize("share", [1, 0.5])
def test_new_names_replace_old_ones_everywhere_and_are_no_others(clips, share):
    """The reference's name and the query's are renewed together, each thing for itself; what no reference tells stays."""
    changed = kept = 0
    for clip in of_camera(clips, "ego"):
        old = Episodes(clips, mixture=Mixture(renewed=0)).draw(Random(clip.name), clip)
        new = renew(Random(clip.name), old, share)
        told = {one.noun for one in old.references if is_invented(one.noun)}
        names: dict[str, str] = {}
        for after, before in zip((new.query, *new.references), (old.query, *old.references), strict=True):
            assert (after.event, after.camera) == (before.event, before.camera)
            if before.noun not in told:
                assert after.narration == before.narration
                continue
            (name,) = NAME.findall(after.narration)
            assert names.setdefault(before.noun, name) == name
            assert after.narration == before.narration.replace(before.noun, name)
        fresh = [name for noun, name in names.items() if name != noun]
        assert not set(fresh) & set(nouns())
        assert len(set(fresh)) == len(fresh)
        changed, kept = changed + len(fresh), kept + len(names) - len(fresh)
    assert changed > 400
    assert changed / (changed + kept) == pytest.approx(share, abs=0.05)


def test_episodes_as_a_library_gives_them(clips):
    """The nearest, matching or not, as many as there may be."""
    query, exo = of_camera(clips, "ego")[0], of_camera(clips, "exo")
    near = [clip.name for clip in exo if clip.kitchen != query.kitchen][:6]
    episodes = Episodes(clips, {query.name: near}, Mixture(retrieved=1, renewed=0))
    assert [clip.name for clip in episodes.draw(Random(0), query).references] == near[:4]


def test_neighbours_are_the_hard_ones(clips):
    exo = of_camera(clips, "exo")
    query = of_camera(clips, "ego")[0]
    near = [clip.name for clip in exo if clip.noun != query.noun][:6]
    episodes = Episodes(clips, {query.name: near}, Mixture(retrieved=0, hard=1, no_match=1, renewed=0))
    for i in range(5):
        references = episodes.draw(Random(i), query).references
        assert {clip.name for clip in references} <= set(near)


def test_episodes_are_written_for_training(clips, split, tmp_path):
    episodes = Episodes(clips)
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        episodes.write(tmp_path / f"{name}.jsonl", 200, seed=seed, prefix="train/")
    one, same, other = ((tmp_path / f"{name}.jsonl").read_text() for name in ("one", "same", "other"))
    assert one == same != other
    samples = read_metadata(tmp_path / "one.jsonl").samples(split.parent, split.parent)
    assert len(samples) == 200
    views = Counter(sample.video.parent.name for sample in samples)
    assert views == {"ego": 160, "exo": 40}
    assert samples[0].video == split / "ego" / "train-000000.mp4"
    assert all(sample.caption.startswith("#C C ") for sample in samples)
    assert all(len(sample.references) == 4 for sample in samples)
    assert all(one.score is None for sample in samples for one in sample.references)
    length = Episodes(clips, similarity=lambda query, clip: len(query.name) / len(clip.narration))
    length.write(tmp_path / "scored.jsonl", 20, seed=0)
    for line in (tmp_path / "scored.jsonl").read_text().splitlines():
        record = json.loads(line)
        written = [one.pop("score") for one in record["references"]]
        shown = [len(record["video"]) / len(one["narration"]) for one in record["references"]]
        assert written == pytest.approx(shown, abs=1e-4)


def test_a_baseline_learns_from_the_same_clips(clips, tmp_path):
    episodes = Episodes(clips)
    for how_to in (False, True):
        episodes.write_without_references(tmp_path / "base.jsonl", how_to=how_to)
        samples = read_metadata(tmp_path / "base.jsonl").samples()
        expected = [*episodes.ego, *(episodes.exo if how_to else [])]
        assert [sample.caption for sample in samples] == [
            ego_narration(clip.verb, clip.noun, clip.target) for clip in expected
        ]
        assert not any(sample.references for sample in samples)


# ---------------------------------------------------------------------- neighbours and the gate


def rows(clips, of):
    """A vector for each clip, the same for those of the same kind."""
    kinds = {kind: i for i, kind in enumerate(sorted({of(clip) for clip in clips}))}
    return torch.stack([torch.nn.functional.one_hot(torch.tensor(kinds[of(c)]), len(kinds)).float() for c in clips])


def test_neighbours_are_the_nearest_from_elsewhere(clips):
    some = clips[:100]
    found = neighbours(
        some, {view: rows(some, lambda c: c.verb)[[c.camera == view for c in some]] for view in ("ego", "exo")}
    )
    by_name = {clip.name: clip for clip in some}
    assert found.keys() == by_name.keys()
    for name, near in found.items():
        others = [by_name[other] for other in near]
        assert all(clip.camera == "exo" for clip in others)
        assert not any(clip.kitchen == by_name[name].kitchen or clip.event == by_name[name].event for clip in others)
        same = [clip.verb == by_name[name].verb for clip in others]
        assert same == sorted(same, reverse=True)


def test_embeddings_are_kept_for_one_retriever_and_its_clips(clips, tmp_path):
    made = []

    def retriever(revision):
        def encode(files, view):
            made.append((view, len(files)))
            return torch.full((len(files), 2), float(len(made)))

        return SimpleNamespace(identity=SimpleNamespace(revision=revision), encode_video=encode)

    kept = tmp_path / "deep" / "kept.safetensors"
    few = clips[:20]
    counts = [(view, len(of_camera(few, view))) for view in ("ego", "exo")]
    first = embed_split(retriever("a"), few, tmp_path, kept)
    again = embed_split(retriever("a"), few, tmp_path, kept)
    assert made == counts
    assert all(torch.equal(first[view], again[view]) for view in ("ego", "exo"))
    embed_split(retriever("b"), few, tmp_path, kept)
    assert made == counts * 2
    more = embed_split(retriever("b"), clips[:40], tmp_path, kept)
    assert len(made) == 6
    assert len(more["exo"]) == len(of_camera(clips[:40], "exo"))


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    from simkitchen.events import generate

    folder = tmp_path_factory.mktemp("simkitchen") / "validation"
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(json.dumps(e.as_dict()) + "\n" for e in generate("validation", 300)))
    clips = read_clips(folder)
    return of_camera(clips, "ego"), of_camera(clips, "exo")


@pytest.mark.parametrize(("knows", "passes"), [("noun", True), ("verb", False), ("kitchen", False)])
def test_the_gate_opens_for_who_knows_nouns(held_out, knows, passes):
    ego, exo = held_out
    both = rows([*ego, *exo], lambda clip: getattr(clip, knows))
    verdict = same_verb_gate(ego, both[: len(ego)], exo, both[len(ego) :])
    assert verdict.passed == passes
    assert verdict.other_events.queries < verdict.all_clips.queries
    for found in (verdict.all_clips, verdict.other_events):
        assert 0 < found.chance < 0.4
        assert found.low <= found.r1 - found.chance <= found.high
        if passes:
            assert found.r1 == 1
    assert verdict.as_dict()["r1"] == verdict.all_clips.r1


def test_the_own_events_clip_alone_is_not_enough_without_it(held_out):
    """A retriever that knows events finds them, and nothing else."""
    ego, exo = held_out
    both = rows([*ego, *exo], lambda clip: clip.event)
    verdict = same_verb_gate(ego, both[: len(ego)], exo, both[len(ego) :])
    assert verdict.all_clips.r1 == 1
    assert verdict.other_events.r1 == 0  # all others are equally far


def test_a_gate_without_queries_says_so(clips):
    ego, exo = of_camera(clips, "ego"), of_camera(clips, "exo")
    with pytest.raises(InputError, match="novel words"):
        same_verb_gate(ego, torch.zeros(len(ego), 2), exo, torch.zeros(len(exo), 2))


# ---------------------------------------------------------------------- the demo's files


def test_the_demos_library_has_no_clip_of_a_querys_event(clips):
    queries, library = queries_and_library(clips, 4, seed=0)
    assert set(Counter(clip.bucket for clip in queries).values()) == {4}
    asked = {clip.event for clip in queries}
    assert {clip.camera for clip in queries} == {"ego"}
    assert {clip.name for clip in library} == {clip.name for clip in of_camera(clips, "exo") if clip.event not in asked}
    assert queries != queries_and_library(clips, 4, seed=1)[0]


def test_a_folder_takes_its_place_whole_and_the_card_stays(tmp_path, monkeypatch):
    made, package = tmp_path / "made", tmp_path / "package"
    for name in ("nano", "demo"):
        (made / name).mkdir(parents=True)
        (made / name / "new").write_text(name)
    sources = (made / "nano", made / "demo")
    replace_folders(sources, package, keep="README.md")
    (package / "nano" / "README.md").write_text("a card")
    (package / "nano" / "old").touch()
    (package / "nano" / "calibration.json").touch()  # of the model that was there
    copy = shutil.copytree
    with monkeypatch.context() as patch:  # the second copy fails: nothing has changed

        def fails(source, target, **more):
            if source.name == "demo":
                raise OSError("no space")
            copy(source, target, **more)

        patch.setattr(shutil, "copytree", fails)
        with pytest.raises(CheckpointError, match="no space"):
            replace_folders(sources, package, keep="README.md")
    assert (package / "nano" / "old").exists()
    (package / "nano").rename(package / ".nano.old")  # killed between the two moves
    replace_folders(sources, package, keep="README.md")
    assert sorted(path.name for path in package.iterdir()) == ["demo", "nano"]
    assert {path.name: path.read_text() for path in (package / "nano").iterdir()} == {
        "new": "nano", "README.md": "a card",
    }  # fmt: skip


def test_a_process_is_waited_for_after_ctrl_c(monkeypatch):
    waits = iter([KeyboardInterrupt, KeyboardInterrupt, 7])

    class Child:
        def wait(self):
            if (said := next(waits)) is KeyboardInterrupt:
                raise said
            return said

    monkeypatch.setattr(processes.subprocess, "Popen", lambda command, env: Child())
    with pytest.raises(KeyboardInterrupt):
        processes.run_to_end(["train"])
    assert next(waits, None) is None  # it has ended by itself


def test_a_process_gets_its_environment_and_says_how_it_ended(monkeypatch):
    monkeypatch.setenv("NANO_A", "1")
    script = "import os; raise SystemExit(int(os.environ['NANO_A'] + os.environ['NANO_B']))"
    assert processes.run_to_end([sys.executable, "-S", "-c", script], {"NANO_B": "2"}) == 12
