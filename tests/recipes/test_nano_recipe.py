"""The whole way, from nothing to what is shipped, at toy size."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    from nano import Recipe, Scale
    from nano_steps.captioner import Sizes
    from simkitchen.rendering import Settings
    from simkitchen.screen import set_up_rendering

    set_up_rendering()  # before MuJoCo is imported, which chooses its way to render then
    out = tmp_path_factory.mktemp("nano")
    retriever = {
        "backbone_config": json.dumps({
            "model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1],
            "layer_type": "basic", "image_size": 32,
        }),
        "hidden_size": 8, "num_layers": 1, "num_heads": 2, "projection_dim": 8, "text_hidden_size": 8,
        "text_num_layers": 1, "text_num_heads": 2, "num_train_epochs": 1, "per_device_train_batch_size": 8,
        "frames_per_clip": 2, "augment_shift": 2, "dataloader_num_workers": 0,
    }  # fmt: skip
    captioner = {
        "max_steps": 4, "save_steps": 2, "eval_steps": 4, "sample_captions": 2, "per_device_train_batch_size": 4,
    }  # fmt: skip
    sizes = Sizes(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_latents=2, resampler_depth=1,
        resampler_heads=2, resampler_head_dim=4, cross_attention_heads=2, cross_attention_head_dim=4, max_new_tokens=4,
    )  # fmt: skip

    def options(values):
        return tuple(text for name, value in values.items() for text in (f"--{name}", str(value)))

    scale = Scale(
        events=(24, 10, 20), render=Settings(size=32, frames=8), sizes=sizes, practice=2, episodes=32,
        eval_episodes=4, library=20,
        retriever=options(retriever), captioner=options(captioner),
    )  # fmt: skip
    return Recipe(out / "out", workers=1, package=out / "package", scale=scale)


def test_from_nothing_to_what_is_shipped(recipe):
    from egoinstructor.errors import InputError
    from egoinstructor.library.library import ExoLibrary
    from nano_steps.shipping import open_model

    for step in ("render", "tokenizer", "retriever"):
        recipe.run(step)
    with pytest.raises(InputError, match="take the step 'gate' first"):
        recipe.run("captioner")
    with pytest.raises(InputError, match="above chance"):  # nothing is learned in three steps
        recipe.run("gate")
    assert not recipe.verdict.exists()
    recipe.verdict.write_text('{"passed": true}')
    recipe.run()

    package = recipe.package
    captioner, retriever = open_model(package / "nano")
    assert retriever is not None
    library = ExoLibrary.open(package / "demo" / "library", retriever)
    assert library.retriever_name == "nano"
    clips = json.loads((package / "demo" / "clips.json").read_text())
    asked = {clip["video"].removeprefix("ego/") for clip in clips}
    kept = {entry.video.removeprefix("exo/") for entry in library.entries()}
    assert len(asked) > 2
    assert (len(kept), kept & asked) == (20 - len(asked), set())
    assert library.sources() == {"simkitchen": package / "demo" / "library"}
    assert {clip["bucket"] for clip in clips} == {"seen", "novel words", "long tail"}
    queries = [(package / "demo" / clip["video"], ()) for clip in clips]
    caption = captioner.caption(queries[0][0], library=library, shots=4)
    assert len(caption.references) == 4
    for reference in caption.references:
        assert (package / "demo" / "exo" / reference.clip.video.name).is_file()
    for file in package.rglob("*"):
        assert not file.is_file() or str(recipe.out.parent).encode() not in file.read_bytes(), file


def test_what_is_finished_is_passed_over_and_the_card_stays(recipe):
    card = recipe.package / "nano" / "README.md"
    card.write_text("a card")
    before = (recipe.model / "model.safetensors").stat().st_mtime_ns
    recipe.run()
    assert (recipe.model / "model.safetensors").stat().st_mtime_ns == before
    assert card.read_text() == "a card"
