"""From a folder of how-to videos to a caption: one vision pass for both models, real clips, and the example."""

from __future__ import annotations

import json
import runpy
import shutil
import sys

import pytest
import torch
from transformers import CLIPModel

from egoinstructor import Captioner, Clip
from egoinstructor.cli import main
from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.sources.opening import open_source
from egoinstructor.model.quantization import quantize_int8
from egoinstructor.retriever.interface import Retriever
from egoinstructor.retriever.opening import open_retriever

GENERATION = {"max_new_tokens": 6, "num_beams": 1}


@pytest.fixture
def captioner(toy):
    return Captioner(*toy)


@pytest.fixture
def passes(monkeypatch, toy):
    """Frames that went through the captioner's vision encoder."""
    model, _ = toy
    counts: list[int] = []
    model.vision_encoder.register_forward_pre_hook(lambda _, images: counts.append(len(images[0])))
    yield counts
    model.vision_encoder._forward_pre_hooks.clear()


def clips_of(videos):
    return [Clip(path, start, start + 1.2) for path in videos.values() for start in (0.0, 0.5)]


def howto_folder(short_videos, folder):
    """How-to videos with subtitles beside them."""
    folder.mkdir()
    for name, said in {"exo1": "Now open the microwave.", "exo2": "Cut the leek.", "exo3": "Stir the sauce."}.items():
        shutil.copy2(short_videos[name], folder)
        (folder / f"{name}.srt").write_text(f"1\n00:00:00,200 --> 00:00:02,600\n{said}\n", encoding="utf-8")
    return folder


def test_one_vision_pass_serves_both(captioner, clip_of_toy, short_videos, passes):
    retriever = captioner.open_retriever(clip_of_toy)
    clips = clips_of(short_videos)
    embedded = retriever.encode_video(clips)
    assert sum(passes) == len(clips) * 8
    latents = captioner.encode(clips)
    assert sum(passes) == len(clips) * 8, "the latents came of the same pass"
    assert latents.keys() == set(clips)
    # The same without a captioner, for a process that only searches: by the options that a library remembers.
    alone = open_retriever(clip_of_toy, device="cpu", **json.loads(json.dumps(retriever.options)))
    retriever.identity.check_same(alone.identity, "a library")
    torch.testing.assert_close(alone.encode_video(clips), embedded, atol=1e-5, rtol=1e-4)


def test_as_it_was_published_it_is_another_retriever(captioner, clip_of_toy):
    plain = open_retriever(clip_of_toy, device="cpu", num_frames=8)
    assert not plain.look_through(captioner.encoder)
    with pytest.raises(InputError, match="preprocessing"):
        captioner.open_retriever(clip_of_toy).identity.check_same(plain.identity, "a library")


def test_another_clip_is_refused(captioner, clip_of_toy, tmp_path):
    clip = CLIPModel.from_pretrained(clip_of_toy)
    with torch.no_grad():
        clip.vision_model.post_layernorm.bias[3] += 1e-4
    folder = shutil.copytree(clip_of_toy, tmp_path / "tuned")
    clip.save_pretrained(folder)
    with pytest.raises(InputError, match="tuned is not this captioner's"):
        captioner.open_retriever(folder)


def test_a_captioner_in_int8_has_a_library_and_a_pass_of_its_own(golden_a, clip_of_toy, captioner):
    try:
        small = Captioner(quantize_int8(golden_a.load()[0]), golden_a.load()[1])
    except InputError as error:
        pytest.skip(str(error))
    assert small.latents_key != captioner.latents_key
    with pytest.raises(InputError, match="not in int8"):
        small.open_retriever(clip_of_toy)


def test_ingest_search_and_caption_share_their_passes(captioner, clip_of_toy, short_videos, tmp_path, passes):
    retriever = captioner.open_retriever(clip_of_toy)
    library = ExoLibrary.create(tmp_path / "library", retriever)
    report = library.ingest(howto_folder(short_videos, tmp_path / "howto"), latents=captioner)
    assert (report.added, report.latents, report.ok) == (3, 3, True)
    assert sum(passes) == 3 * 8
    caption = captioner.caption(short_videos["ego"], library=library, shots=2, **GENERATION)
    assert sum(passes) == 4 * 8, "the ego clip, for retrieval and captioning together"
    assert len(caption.references) == 2
    assert {r.narration for r in caption.references} < {"Now open the microwave.", "Cut the leek.", "Stir the sauce."}


def test_real_clips(shared_data, captioner, clip_of_toy, tmp_path):
    """Ingest the exo clips, search with the ego clip, caption with what was found. The weights are toys."""
    assets = shared_data / "egoinstructor_assets"
    (sample,) = json.loads((assets / "testdata.json").read_text(encoding="utf-8"))[:1]
    rows = [
        {"video": exo["path"].rsplit("/", 1)[-1], "start": 0, "end": 3, "narration": exo["caption"]}
        for exo in sample["exo_video"]
    ]
    table = tmp_path / "clips.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    library = ExoLibrary.create(tmp_path / "library", captioner.open_retriever(clip_of_toy))
    report = library.ingest(open_source(table, root=assets))
    assert (report.added, report.ok) == (len(rows), True)
    assert library.verify(files=True).ok
    ego = assets / sample["ego_video"].rsplit("/", 1)[-1]
    hits = library.search(Clip(ego), k=4)
    caption = captioner.caption(ego, library=library, shots=4, **GENERATION)
    assert [r.narration for r in caption.references] == [hit.entry.text for hit in hits]
    assert {r.narration for r in caption.references} == {row["narration"] for row in rows}
    assert caption.prompt.count("<image>") == 5


def test_the_example(short_videos, model_folder, clip_of_toy, tmp_path, monkeypatch, capsys, pytestconfig):
    """examples/your_own_library.py, as its reader runs it; again, with the library that it made."""
    howto = howto_folder(short_videos, tmp_path / "howto")
    script = str(pytestconfig.rootpath / "examples" / "your_own_library.py")
    given = [str(howto), str(short_videos["ego"]), "--clip", str(clip_of_toy), "--model", str(model_folder)]
    monkeypatch.setattr(sys, "argv", [script, *given, "--library", str(tmp_path / "library")])
    said = []
    for _ in range(2):
        runpy.run_path(script, run_name="__main__")
        said.append(capsys.readouterr().out)
    assert "Now open the microwave." in said[0]
    assert said[0].splitlines()[-2:] == said[1].splitlines()[-2:], "the same captions"


def test_a_retriever_says_what_opens_it_again(clip_of_toy):
    retriever: Retriever = open_retriever(clip_of_toy, device="cpu", num_frames=3, dtype="bfloat16")
    assert retriever.identity == open_retriever(clip_of_toy, device="cpu", **retriever.options).identity
    assert retriever.options["dtype"] == "bfloat16"


def test_on_the_command_line(short_videos, model_folder, clip_of_toy, tmp_path, capsys):
    howto, library = howto_folder(short_videos, tmp_path / "howto"), str(tmp_path / "library")
    create = ["library", "create", library, "--retriever", str(clip_of_toy), "--model", str(model_folder)]
    assert main(create) == 0
    assert main(["library", "ingest", library, str(howto)]) == 0
    capsys.readouterr()
    caption = ["caption", str(short_videos["ego"]), "--library", library, "--model", str(model_folder)]
    assert main([*caption, "--shots", "2", "--max-new-tokens", "6", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["caption"]
    assert len(said["references"]) == 2
    for reference in said["references"]:
        assert reference.keys() == {"video", "start", "end", "narration", "score"}
        assert reference["narration"] in {"Now open the microwave.", "Cut the leek.", "Stir the sauce."}
        assert (reference["start"], reference["end"]) == (0.2, 2.6)
    assert said["references"][0]["score"] >= said["references"][1]["score"]
    assert main([*caption, "--min-score", "1", "--json"]) == 0
    few = json.loads(capsys.readouterr().out)
    assert few["references"] == []
    assert {one["reason"].split(" below")[1] for one in few["dropped"]} == {" 1"}
    assert main([*caption, "--source", "elsewhere"]) == 2
    assert main([*caption[:2], *caption[4:], "--min-score", "0.5"]) == 2  # no library
    assert main([*caption, "--retriever", str(tmp_path / "gone")]) == 2


def test_references_of_a_data_set_on_the_command_line(short_videos, clip_of_toy, tmp_path, capsys):
    howto, library = howto_folder(short_videos, tmp_path / "howto"), str(tmp_path / "library")
    samples = tmp_path / "samples.jsonl"
    samples.write_text(json.dumps({"video": str(short_videos["ego"].name), "caption": "#C C cuts"}) + "\n")
    assert main(["library", "create", library, "--retriever", str(clip_of_toy)]) == 0
    assert main(["library", "ingest", library, str(howto)]) == 0
    capsys.readouterr()
    prepare = ["prepare", "references", str(tmp_path / "out"), "--library", library, "--instructions", str(samples)]
    assert main([*prepare, "--ego", str(short_videos["ego"].parent), "--count", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["found"], report["short"], report["failures"]) == (1, 0, {})
    (references,) = json.loads((tmp_path / "out/config.json").read_text()).values()
    assert len(references) == 2
    assert main(prepare[:3] + prepare[5:]) == 2  # no library
