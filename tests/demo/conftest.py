"""What the package ships, at toy size: a captioner with its retriever inside, a library, ego clips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

WORDS = ["we", "open", "the", "microwave", "stir", "soup", "cut", "a", "leek", "<unk>", "<end>"]


def make_assets(
    target: Path,
    captioner: Path,
    ego: list[tuple[Path, str, str]],
    exo: list[tuple[Path, str]],
    seconds: float,
    gone: int = 0,
) -> None:
    """Lay a package's assets out.

    Args:
        target: the folder that stands for `egoinstructor/assets`.
        captioner: a captioner's folder.
        ego: clips with what happens in them and their buckets.
        exo: how-to clips with what is said in them.
        seconds: how long each how-to clip is.
        gone: so many how-to clips are in the library alone, without their videos.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.records import ClipEntry
    from egoinstructor.model.vision import vision_width
    from egoinstructor.records import Clip
    from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
    from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever
    from egoinstructor.video.identity import content_digest

    nano, demo = target / "nano", target / "demo"
    shutil.copytree(captioner, nano, ignore=shutil.ignore_patterns("retriever"))
    opened = Captioner.from_pretrained(nano, device="cpu")
    generation = opened.processor.generation_config()
    generation.max_new_tokens = 8
    generation.save_pretrained(nano)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", len(WORDS) - 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<end>", eos_token="<end>", pad_token="<end>"
    )
    width = vision_width(opened.model.config.vision_config)
    torch.manual_seed(3)
    config = CrossViewConfig(
        ego_frame_width=width, exo_frame_width=width, hidden_size=16, num_layers=1, num_heads=2,
        num_frames=opened.processor.num_frames, projection_dim=12, text_vocab_size=len(WORDS), text_context=12,
        text_hidden_size=20, text_num_layers=1, text_num_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    CrossViewRetriever(CrossViewModel(config), tokenizer).save_pretrained(nano / "retriever")
    settings = {"num_frames": opened.processor.num_frames, "sampling": "segment_center"}
    settings["backbones"] = {"ego": "..", "exo": ".."}
    (nano / "retriever/retriever.json").write_text(json.dumps(settings))
    retriever = CrossViewRetriever.from_pretrained(nano / "retriever", device="cpu")
    assert retriever.look_through(opened.encoder)

    clips = []
    for video, caption, bucket in ego:
        name = f"ego/{video.name}"
        (demo / "ego").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, demo / name)
        clips.append({"video": name, "caption": caption, "bucket": bucket})
    (demo / "clips.json").write_text(json.dumps(clips))
    (demo / "exo").mkdir()
    entries = []
    for video, narration in exo:
        shutil.copyfile(video, demo / "exo" / video.name)
        digest = content_digest(demo / "exo" / video.name)
        entries.append(ClipEntry(f"exo/{video.name}", 0.0, seconds, narration, "simkitchen", digest))
    library = ExoLibrary.create(demo / "library", retriever, retriever_name="nano")
    library.add_source("simkitchen", demo)
    seen = [Clip(demo / entry.video, entry.start, entry.end) for entry in entries]
    library.add(entries, retriever.encode_video(seen), retriever.encode_text([entry.narration for entry in entries]))
    latents = opened.encode(seen)
    library.put_latents(
        {entry.id: latents[clip] for entry, clip in zip(entries, seen, strict=True)}, opened.latents_key
    )
    library.add_source("simkitchen", "/where/it/was/made")
    for entry in entries[len(entries) - gone :]:
        (demo / entry.video).unlink()


@pytest.fixture(scope="session")
def toy_assets(resnet_captioner: Path, short_videos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ego clips of two buckets; three how-to clips, one without its video. Tests must not change it."""
    target = tmp_path_factory.mktemp("package") / "assets"
    ego = [(short_videos["ego"], "#C C opens the microwave", "seen"), (short_videos["exo1"], "", "novel words")]
    exo = [
        (short_videos["exo1"], "open the microwave"),
        (short_videos["exo2"], "cut the <b>leek</b>"),
        (short_videos["exo3"], "stir the soup"),
    ]
    make_assets(target, resnet_captioner, ego, exo, 3.0, gone=1)
    return target
