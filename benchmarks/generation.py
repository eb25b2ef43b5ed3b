"""How fast a caption is written, against the original's way, with the same weights and the same output tokens.

    python benchmarks/generation.py [--size published] [--frames 8] [--new-tokens 32] [--shots 4] [--ways a b c d e]

(a) the original's way: eager attention, videos repeated for each beam, no cache, logits of every token; (b) ours, cold;
(c) ours with the references' latents given; (d) as (b) in bf16; (e) as (b) with int8 linears. Random weights of the
published size, random pixels: the work is the same as with real ones. Beam 3, no n-gram of 3 twice, one query. At the end,
on the toy checkpoints of `tests/golden` (briefly trained), the share of captions that stay equal in bf16 and int8.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
from transformers import GenerationConfig, GenerationMixin

from egoinstructor.checkpoints.convert import load_original
from egoinstructor.model import EgoInstructorConfig, EgoInstructorForConditionalGeneration
from egoinstructor.model.quantization import quantize_int8
from published import machine, random_model

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
BEAMS = 3
TOKENS_A_CHUNK = 30
"""Tokens of one example in a prompt: a narration of about 15 words behind the question."""


class AsTheOriginal(EgoInstructorForConditionalGeneration):
    """The published code's way to generate, on our weights."""

    _expand_inputs_for_generation = GenerationMixin._expand_inputs_for_generation
    _prefill = GenerationMixin._prefill

    def generate(self, input_ids, *, pixel_values, **kwargs):
        with torch.no_grad():
            beams = kwargs["generation_config"].num_beams
            latents = self.resample(self.encode_frames(pixel_values.repeat_interleave(beams, dim=0)))[::beams]
        kwargs["generation_config"].use_cache = False
        return GenerationMixin.generate(self, input_ids, video_latents=latents, **kwargs)

    def forward(self, input_ids, attention_mask=None, video_latents=None, logits_to_keep=0, **kwargs):
        return super().forward(input_ids, attention_mask, video_latents=video_latents, **kwargs)


def prompt(config: EgoInstructorConfig, clips: int) -> torch.Tensor:
    """Ids of a prompt of that many examples, without special tokens but `<image>`."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(100, config.text_config.vocab_size - 500, (1, clips * TOKENS_A_CHUNK), generator=generator)
    ids[:, ::TOKENS_A_CHUNK] = config.image_token_id
    return ids


def run(arguments: argparse.Namespace) -> dict:
    """Time the ways; every one gets the same prompt and pixels."""
    torch.manual_seed(0)
    config = EgoInstructorConfig()
    if arguments.size == "tiny":
        config = EgoInstructorConfig(
            text_config={"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
            vision_config={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
                           "patch_size": 32},
        )  # fmt: skip
    model = random_model(config)
    ids = prompt(config, arguments.shots + 1)
    pixels = torch.randn(1, arguments.shots + 1, arguments.frames, 3, 224, 224)
    settings = GenerationConfig(
        num_beams=BEAMS, no_repeat_ngram_size=3, min_new_tokens=arguments.new_tokens, max_new_tokens=arguments.new_tokens,
        eos_token_id=config.end_of_chunk_token_id, pad_token_id=config.end_of_chunk_token_id,
        suppress_tokens=[config.image_token_id],
    )  # fmt: skip
    seconds, tokens = {}, {}

    def timed(way: str, model: EgoInstructorForConditionalGeneration, **clips: torch.Tensor) -> None:
        if way not in arguments.ways:
            return
        start = time.perf_counter()
        mask = torch.ones_like(ids)
        sequences = model.generate(ids, attention_mask=mask, generation_config=copy.deepcopy(settings), **clips)
        seconds[way] = time.perf_counter() - start
        tokens[way] = sequences[0, ids.shape[1] :].tolist()
        print(f"({way}) {seconds[way]:.1f} s", file=sys.stderr, flush=True)

    model.generate(ids[:, :4], video_latents=None, max_new_tokens=2)  # wake the threads
    timed("b", model, pixel_values=pixels)
    if "c" in arguments.ways:
        with torch.no_grad():
            references = model.encode_videos(pixels[:, :-1])
        start = time.perf_counter()
        with torch.no_grad():
            query = model.encode_videos(pixels[:, -1:])
        extra = time.perf_counter() - start
        timed("c", model, video_latents=torch.cat((references, query), dim=1))
        seconds["c"] += extra  # the query is always encoded
    if "a" in arguments.ways:
        model.set_attn_implementation("eager")
        model.__class__ = AsTheOriginal
        timed("a", model, pixel_values=pixels)
        model.__class__ = EgoInstructorForConditionalGeneration
        model.set_attn_implementation("sdpa")
    if "d" in arguments.ways or "e" in arguments.ways:
        half = copy.deepcopy(model).bfloat16() if "e" in arguments.ways else model.bfloat16()
        timed("d", half, pixel_values=pixels)
        del half
    if "e" in arguments.ways:
        timed("e", quantize_int8(model), pixel_values=pixels)
    for way in {"a", "c"} & tokens.keys():
        assert tokens[way] == tokens["b"], f"({way}) wrote other tokens than (b)"
    base = seconds.get("a")
    return {
        "seconds": seconds,
        "times faster than a": {way: base / s for way, s in seconds.items()} if base else None,
        "same tokens as b": {way: ids == tokens.get("b") for way, ids in tokens.items()},
    }


def equal_captions(samples: int) -> dict[str, float]:
    """The share of captions that stay equal on the briefly trained toy weights, with random pixels and narrations."""
    shares: dict[str, list[bool]] = {"bf16": [], "int8": []}
    for name in ("a", "b"):
        paths = GOLDEN / name / "base", GOLDEN / name / "captioner.pt"
        models = {}
        for kind in ("fp32", "bf16", "int8"):
            dtype = torch.bfloat16 if kind == "bf16" else None
            models[kind], processor = load_original(*paths, tokenizer=GOLDEN / name / "tokenizer", dtype=dtype)
        quantize_int8(models["int8"])
        narrations = [
            "so let's open the microwave here",
            "you stir",
            "now it's time to add",
            "and then you pour the water",
        ]
        for i in range(samples // 2):
            generator = torch.Generator().manual_seed(i)
            chosen = [narrations[(i + j) % 4] for j in range(i % 3)]
            clips = [torch.randn(4, 3, 28, 28, generator=generator) for _ in range(len(chosen) + 1)]
            batch = processor([processor.prompt(chosen)], pixels=[clips])
            captions = {
                kind: processor.captions(model.generate(**batch, max_new_tokens=24)) for kind, model in models.items()
            }
            for kind, same in shares.items():
                same.append(captions[kind] == captions["fp32"])
    return {kind: sum(same) / len(same) for kind, same in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("published", "tiny"), default="published")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--samples", type=int, default=100, help="captions compared at toy size")
    parser.add_argument("--ways", nargs="+", default=list("abcde"))
    arguments = parser.parse_args()
    print(machine())
    print(json.dumps({"settings": vars(arguments), **run(arguments)}, indent=1), flush=True)
    print(json.dumps({"share of captions equal to fp32, toy weights": equal_captions(arguments.samples)}))


if __name__ == "__main__":
    main()
