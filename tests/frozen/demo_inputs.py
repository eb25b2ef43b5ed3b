"""Inputs of the recorded commands: the demo's clips and library, and small files in each format, made from one table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "src/egoinstructor/assets/demo"

CLIPS: list[tuple[str, str, dict[str, str]]] = [
    (
        "540",
        "#C C closes the sinil",
        {"302": "the secret lies in closing the sinil well", "263": "the next thing is to close the vilol"},
    ),
    (
        "242",
        "#C C pours the tubok into the sink",
        {
            "124": "the next thing is to pour the bitap into the sink",
            "573": "when you're ready, pour the kubav into the bowl",
        },
    ),
    (
        "563",
        "#C C puts the saguz in the sink",
        {"330": "when you're ready, put the saguz in the sink", "334": "don't forget to put the zugoz on the board"},
    ),
    (
        "356",
        "#C C wipes the rofun",
        {"252": "this is me wiping the gonor", "513": "my grandmother used to close the pagik this way"},
    ),
    (
        "409",
        "#C C puts the nenen on the plate",
        {"307": "don't forget to put the nenen on the plate", "198": "when you're ready, put the nenen on the board"},
    ),
]
"""Ego clips of the demo with their captions, and how-to clips of the same with their narrations.

Their captions are the same on processors with and without AVX2 and AVX-512, which those of ego clip 482 are not: two of its
references are equally near."""

SUBTITLES = """\
1
00:00:00,000 --> 00:00:01,200
now close the sinil

2
00:00:01,200 --> 00:00:02,000
well

3
00:00:02,000 --> 00:00:04,000
[Music]

4
00:00:04,000 --> 00:00:06,000
put the saguz in the sink
"""

WRONG: dict[str, str] = {
    "text.mp4": "this is no video\n" * 20,
    "list.json": "[1]",
    "broken.json": "{",
    "no_video.jsonl": '{"start": 0, "end": 1, "caption": "x"}\n',
    "no_start.csv": "video,narration\ntest-000302.mp4,x\n",
    "unknown_option.yaml": "shotz: 4\n",
    "short_token.txt": "secret\n",
    "file": "",
}
"""Unusable files: content by name."""


def make_inputs(folder: Path) -> Path:
    """Fill a folder.

    Args:
        folder: an empty one.
    """
    shutil.copytree(DEMO, folder / "demo")
    shutil.copytree(REPOSITORY / "tests/golden/a", folder / "toy")
    for source, names in (("ego", ("540", "242")), ("exo", ("302", "124"))):
        (folder / "few" / source).mkdir(parents=True)
        for name in names:
            shutil.copyfile(_demo(source, name), folder / "few" / source / f"test-000{name}.mp4")
    (folder / "howto").mkdir()
    for recording in ("howto/recording.mp4", "live.mkv"):
        join([_demo("ego", name) for name, *_ in CLIPS[:3]], folder / recording)
    (folder / "howto/recording.en.srt").write_text(SUBTITLES, encoding="utf-8")
    for name, content in WRONG.items():
        (folder / name).write_text(content, encoding="utf-8")
    _tables(folder)
    _library(folder / "demo")
    _clip(folder / "clip")
    _pipeline(folder / "pipeline")
    return folder


def _demo(view: str, name: str) -> Path:
    return DEMO / view / f"test-000{name}.mp4"


def join(videos: list[Path], out: Path) -> None:
    """Write videos of one encoding one after another, without decoding them: the same file on every machine."""
    import av

    with av.open(out, "w", options={"fflags": "+bitexact"}) as made:
        stream, end = None, 0
        for video in videos:
            with av.open(video) as source:
                stream = stream or made.add_stream_from_template(source.streams.video[0])
                packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
                start, end = end, end + sum(packet.duration for packet in packets)
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, stream
                    made.mux(packet)


def _write(path: Path, value: Any) -> None:
    lines = value if path.suffix == ".jsonl" else [value]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _tables(folder: Path) -> None:
    """The same clips in every format that a command reads."""
    import numpy as np

    whole = {"start": 0, "end": 2}
    in_seconds = {"start_second": 0, "end_second": 2}
    rows: list[dict[str, Any]] = []
    tests, table = [], ["video,start,end,narration"]
    instructions: dict[str, Any] = {}
    config: dict[str, list[str]] = {}
    pairs: dict[str, dict[str, Any]] = {"ego": {}, "exo": {}}

    def add(view: str, number: int, name: str, words: str, action: int, paired: Sequence[int] = ()) -> str:
        key = f"{view}{number}"
        image = {"vid": f"test-000{name}", "uid": key, **in_seconds}
        instructions[key] = {"instruction": "Describe it.", "answer": words, "image_ids": [image], "rel_ins_ids": []}
        own = {"noun": [action], "verb": [action], "nv_index": list(paired)}
        pairs[view][str(number)] = image | {"text": words, "refined_text": "", **own}
        return f"{view}/test-000{name}.mp4"

    for i, (name, caption, references) in enumerate(CLIPS):
        video = add("ego", i, name, caption, i, (2 * i, 2 * i + 1))
        spoken = [(add("exo", 2 * i + j, *one, i), one[1]) for j, one in enumerate(references.items())]
        listed = [{"video": path, **whole, "narration": words} for path, words in spoken]
        rows.append({"video": video, **whole, "caption": caption, "references": listed})
        tests.append(
            {
                "ego_video": f"demo/{video}",
                "exo_video": [{"path": f"demo/{path}", "caption": words} for path, words in spoken],
            }
        )
        table += [f'{path},0,2,"{words}"' for path, words in spoken]
        config[f"ego{i}"] = [f"exo{2 * i + j}" for j in range(len(spoken))]
    _write(folder / "demo/split.jsonl", rows)
    _write(folder / "testdata.json", tests[:2])
    _write(folder / "instructions.json", {"data": instructions})
    _write(folder / "config.json", config)
    for view, records in pairs.items():
        _write(folder / f"{view}_pairs.json", records)
    (folder / "demo/clips.csv").write_text("\n".join([*table, ""]), encoding="utf-8")

    truths = {row["video"]: row["caption"] for row in rows}
    said = {key: text.replace("tubok", "bitap").replace("rofun", "cucumber") for key, text in truths.items()}
    _write(folder / "truths.json", {key: [text, text.removeprefix("#C ")] for key, text in truths.items()})
    _write(folder / "said.jsonl", [{"id": key, "prediction": text, "video": key} for key, text in said.items()])
    _write(folder / "guessed.json", dict.fromkeys(truths, "#C C puts the pan in the sink"))
    np.save(folder / "queries.npy", np.eye(4, 3, dtype=np.float32) + 0.25)
    np.save(folder / "gallery.npy", np.eye(4, 3, k=-1, dtype=np.float32) + 0.5)


def _library(demo: Path) -> None:
    """Register the copied videos with the copied library."""
    from egoinstructor.library.library import ExoLibrary

    ExoLibrary.open(demo / "library").add_source("simkitchen", demo)


def _clip(folder: Path) -> None:
    """A CLIP checkpoint of 20,000 random weights, with the tokenizer of nano's retriever."""
    import numpy as np
    import torch
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(DEMO.parent / "nano/retriever")
    sizes = {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {"hidden_size": 16, "vocab_size": len(tokenizer), "max_position_embeddings": 32, **sizes, **ids}
    vision = {"hidden_size": 24, "image_size": 16, "patch_size": 8, **sizes}
    model, draw = (
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)),
        np.random.default_rng(0),
    )
    for weights in model.parameters():  # torch's own random numbers differ between processors
        weights.data = torch.from_numpy(draw.normal(0, 0.1, tuple(weights.shape)).astype(np.float32))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)


VERBS = {"clos": "close", "pour": "pour", "put": "put", "wip": "wipe"}
"""Verbs of the narrations: stem and dictionary form."""


def _pipeline(folder: Path) -> None:
    """A spaCy pipeline that parses "VERB ARTICLE NOUN" with one of four verbs."""
    import spacy
    from spacy.language import Language
    from spacy.tokens import Doc

    @Language.component("four verbs")
    def parse(doc: Doc) -> Doc:
        words = [word.text.lower() for word in doc]
        verbs = [next((verb for stem, verb in VERBS.items() if word.startswith(stem)), None) for word in words]
        done_to = [i >= 2 and verbs[i - 2] is not None for i in range(len(words))]
        return Doc(
            doc.vocab,
            [word.text for word in doc],
            lemmas=[verb or word for verb, word in zip(verbs, words, strict=True)],
            pos=["VERB" if verb else "NOUN" if thing else "X" for verb, thing in zip(verbs, done_to, strict=True)],
            heads=[i - 2 if thing else i for i, thing in enumerate(done_to)],
            deps=["dobj" if thing else "ROOT" for thing in done_to],
        )

    pipeline = spacy.blank("en")
    pipeline.add_pipe("four verbs", name="parser")
    pipeline.add_pipe("four verbs", name="lemmatizer")
    pipeline.to_disk(folder)
