"""A training step: ours in its variants against a plain loop written the original's way, with the same weights and data.

    python benchmarks/training_step.py [--size medium] [--device cpu] [--dtype fp32] [--rounds 3] [--steps 3] [--json]

- original: eager attention over the latents of all clips, in the vision encoder too, all frames in one pass; labels masked
  by a Python loop over tokens; autocast without its weight cache; plain AdamW. As in the original the vision encoder runs
  without gradients: that is no advantage of ours.
- ours: `CaptionerTrainer.train`. Then the same with gradient checkpointing, with `torch.compile`, with the vision
  encoder's outputs from the feature cache (filled before, read from disk at every step), with cache and checkpointing.

A step is all that happens from the end of one to the end of the next: collating, labels, forward, backward, clipping,
optimiser. Decoding is not in it. Weights and pixels are random. Each variant runs in a process of its own, so that its
peak memory is its own (resident memory, libraries included; on a GPU, what torch allocated); the variants take turns
within each round, and the first steps of each process are not counted. The loss before the first update must agree.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import Dataset
from transformers import TrainerCallback

from egoinstructor.model import (
    EgoInstructorConfig,
    EgoInstructorForConditionalGeneration,
    EgoInstructorProcessor,
    modeling,
)
from egoinstructor.model.configuration import IGNORE
from egoinstructor.model.prompt import Prompt
from egoinstructor.model.tokenizer import load_tokenizer
from egoinstructor.records import Clip
from egoinstructor.training.arguments import CaptionerTrainingArguments
from egoinstructor.training.dataset import Collator, Draw, EpochSampler, Item
from egoinstructor.training.failures import FailureLog
from egoinstructor.training.feature_cache import FeatureCache
from egoinstructor.training.optimizer import parameter_groups
from egoinstructor.training.trainer import CaptionerTrainer
from published import machine, peak_gb, random_model

TOKENIZER = Path(__file__).parents[1] / "tests" / "golden" / "a" / "tokenizer"
"""Its ids are below any size's vocabulary; nothing here has words."""
ORIGINAL = "original"
VARIANTS = {
    "ours": (),
    "checkpointing": ("gradient_checkpointing",),
    "compile": ("torch_compile",),
    "cache": ("cache",),
    "cache, checkpointing": ("cache", "gradient_checkpointing"),
}
WARM_UP = 2
ANSWER_TOKENS, QUESTION_TOKENS = 15, 14


def configuration(size: str) -> tuple[EgoInstructorConfig, dict[str, int]]:
    """A model, and the batch, frames and pixels that go with it."""
    if size == "published":
        return EgoInstructorConfig(), {"batch": 4, "frames": 32, "pixels": 224}
    small = size == "tiny"
    vision, layers, text, depth = (64, 2, 64, 2) if small else (256, 12, 512, 8)
    pixels = 28 if small else 112
    config = EgoInstructorConfig(
        text_config={"hidden_size": text, "num_hidden_layers": depth, "num_attention_heads": text // 32}
        | ({"vocab_size": 512} if small else {}),
        vision_config={"hidden_size": vision, "intermediate_size": 4 * vision, "num_hidden_layers": layers,
                       "num_attention_heads": vision // 32, "image_size": pixels, "patch_size": 14},
        num_latents=8 if small else 64, resampler_depth=2 if small else 6,
    )  # fmt: skip
    return config, {"batch": 2, "frames": 4 if small else 8, "pixels": pixels}


class RandomSamples(Dataset):
    """Items as `CaptionDataset` makes them, of random pixels and words; with a cache, of what it has."""

    def __init__(self, settings: dict[str, int], shots: int, length: int, processor: EgoInstructorProcessor) -> None:
        self.settings, self.shots, self.length, self.processor = settings, shots, length, processor
        self.cache: FeatureCache | None = None
        shape = (settings["batch"], shots + 1, settings["frames"], 3, settings["pixels"], settings["pixels"])
        self.pixels = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw) -> Item:
        sample = draw.index % self.settings["batch"]
        item = Item(str(draw.index), self.prompt(draw.index), list(self.pixels[sample]))
        if self.cache is not None:
            item.keys = [self.key(sample, place) for place in range(self.shots + 1)]
            item.clips = [self.cache.get(key) for key in item.keys]
        return item

    def key(self, sample: int, place: int) -> str:
        return self.cache.key(Clip(bytes([sample, place])), num_frames=self.settings["frames"], sampling="random")

    def prompt(self, index: int) -> Prompt:
        """bos, then for each clip `<image>`, a question, `<answer>`, an answer, `<|endofchunk|>`; eos."""
        random = torch.Generator().manual_seed(index)
        image, answer, end = self.processor.tokenizer.convert_tokens_to_ids(["<image>", "<answer>", "<|endofchunk|>"])
        ids = [self.processor.tokenizer.bos_token_id]
        for _ in range(self.shots + 1):
            words = torch.randint(1, 400, (QUESTION_TOKENS + ANSWER_TOKENS,), generator=random).tolist()
            ids += [image, *words[:QUESTION_TOKENS], answer, *words[QUESTION_TOKENS:], end]
        ids.append(self.processor.tokenizer.eos_token_id)
        return Prompt("", tuple(ids), tuple(range(self.shots)), ())


def fill(cache: FeatureCache, samples: RandomSamples, model: EgoInstructorForConditionalGeneration, autocast) -> None:
    """What a first epoch would put there."""
    for sample, clips in enumerate(samples.pixels):
        for place, clip in enumerate(clips):
            with torch.no_grad(), autocast():
                patches = model.encode_frames(clip[None, None].to(model.device))[0, 0]
            cache.put(samples.key(sample, place), patches)


class StepEnds(TrainerCallback):
    """When each step ended, and the loss of the first."""

    def __init__(self, synchronize) -> None:
        self.ends: list[float] = []
        self.synchronize = synchronize

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.synchronize()
        self.ends.append(time.perf_counter())


def train_ours(model, samples: RandomSamples, arguments: argparse.Namespace, options: dict, scratch: Path):
    """The trainer's own loop.

    Returns:
        When each step ended, and the loss of the first.
    """
    settings = CaptionerTrainingArguments(
        output_dir=str(scratch), per_device_train_batch_size=samples.settings["batch"], max_steps=len(samples)
        // samples.settings["batch"], num_train_epochs=1, save_strategy="no", logging_strategy="steps", logging_steps=1,
        bf16=arguments.dtype == "bf16", use_cpu=arguments.device == "cpu", disable_tqdm=True, **options,
    )  # fmt: skip
    ends = StepEnds(arguments.synchronize)
    trainer = CaptionerTrainer(
        model, settings, collator=Collator(samples.processor), train_dataset=samples, cache=samples.cache,
        failures=FailureLog(None, 1.0), callbacks=[ends],
    )  # fmt: skip
    trainer.train()
    return ends.ends, next(line["loss"] for line in trainer.state.log_history if "loss" in line)


def train_as_the_original(model, samples: RandomSamples, arguments: argparse.Namespace):
    """A plain loop; returns as `train_ours`."""
    model.set_attn_implementation("eager")
    modeling.FRAMES_PER_PASS = sys.maxsize
    model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-5)
    processor, batch = samples.processor, samples.settings["batch"]
    ends, losses = [], []
    draws = list(EpochSampler(len(samples), seed=CaptionerTrainingArguments.seed))  # the trainer's order
    for first in range(0, len(draws), batch):
        items = [samples[draw] for draw in draws[first : first + batch]]
        inputs = processor([item.prompt for item in items], pixels=[item.clips for item in items]).to(arguments.device)
        labels = labels_token_by_token(inputs["input_ids"], inputs["attention_mask"], processor)
        with arguments.autocast(cache_enabled=False):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
        clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        arguments.synchronize()
        ends.append(time.perf_counter())
    return ends, losses[0]


def labels_token_by_token(ids: torch.Tensor, mask: torch.Tensor, processor: EgoInstructorProcessor) -> torch.Tensor:
    """The labels of reference §7, one token after the other, on the tensors' device as the original has it."""
    image, answer, end = processor.tokenizer.convert_tokens_to_ids(["<image>", "<answer>", "<|endofchunk|>"])
    labels = ids.clone()
    labels[mask == 0] = IGNORE
    labels[:, 0] = IGNORE
    for row in labels:
        starts = [0, *(int(place) + 1 for place in torch.where(row == end)[0][:-1])]
        for place in starts:
            while place < len(row) and row[place] != answer:
                row[place] = IGNORE
                place += 1
    labels[(labels == answer) | (labels == image)] = IGNORE
    return labels


def work(arguments: argparse.Namespace) -> dict:
    """One variant in this process: seconds of each step, memory, and vision alone."""
    on_gpu = arguments.device != "cpu"
    arguments.synchronize = torch.cuda.synchronize if on_gpu else lambda: None

    @contextmanager
    def autocast(**options):
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.dtype == "bf16", **options):
            yield

    arguments.autocast = autocast
    config, settings = configuration(arguments.size)
    settings |= {name: getattr(arguments, name) for name in ("batch", "frames") if getattr(arguments, name)}
    processor = EgoInstructorProcessor(load_tokenizer(TOKENIZER), settings["pixels"], settings["frames"])
    tokens = processor.tokenizer
    config.image_token_id = tokens.convert_tokens_to_ids("<image>")
    model = random_model(config).to(arguments.device)
    model.freeze_pretrained()
    model.config.use_cache = False
    samples = RandomSamples(settings, arguments.shots, settings["batch"] * (WARM_UP + arguments.steps), processor)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.worker == ORIGINAL:
            ends, loss = train_as_the_original(model, samples, arguments)
        else:
            options = dict.fromkeys(VARIANTS[arguments.worker], True)
            if options.pop("cache", False):
                samples.cache = FeatureCache(
                    f"{folder}/cache", encoder="random", preprocessing="none", limit_bytes=10**11
                )
                fill(samples.cache, samples, model, autocast)
                if on_gpu:
                    torch.cuda.reset_peak_memory_stats()
            ends, loss = train_ours(model, samples, arguments, options, Path(folder))
    peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_gb()
    steps = [after - before for before, after in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    return {"steps": steps, "loss": loss, "peak GB": peak, "vision": vision_seconds(model, samples, arguments)}


def vision_seconds(model, samples: RandomSamples, arguments: argparse.Namespace) -> float:
    """The vision encoder alone on one batch, the better of two."""
    pixels = samples.pixels.to(arguments.device)
    seconds = []
    for _ in range(2):
        arguments.synchronize()
        start = time.perf_counter()
        with torch.no_grad(), arguments.autocast():
            model.encode_frames(pixels)
        arguments.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(name: str) -> dict | str:
    """One variant in a process of its own; the end of its complaint if it fails."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        return (lines or [f"exit status {done.returncode}"])[-1][:200]
    return json.loads(done.stdout.splitlines()[-1])


def summarize(runs: list[dict], batch: int) -> dict:
    """Medians over all steps of all rounds."""
    seconds = statistics.median(step for run in runs for step in run["steps"])
    return {
        "s a step": seconds,
        "fastest": min(step for run in runs for step in run["steps"]),
        "samples/s": batch / seconds,
        "peak GB": max(run["peak GB"] for run in runs),
        "first loss": runs[0]["loss"],
        "vision alone s": statistics.median(run["vision"] for run in runs),
    }


def report(results: dict[str, dict | str]) -> None:
    """The table; ratios are of times and of peak memory, the original over the variant."""
    base = results.get(ORIGINAL)
    print(
        f"\n{'':<22}{'s a step':>10}{'fastest':>10}{'samples/s':>11}{'peak GB':>9}{'faster':>9}{'smaller':>9}{'loss':>10}"
    )
    for name, r in results.items():
        if isinstance(r, str):
            print(f"{name:<22}  skipped: {r}")
            continue
        ratios = [base[key] / r[key] if isinstance(base, dict) else float("nan") for key in ("s a step", "peak GB")]
        print(
            f"{name:<22}{r['s a step']:>10.3f}{r['fastest']:>10.3f}{r['samples/s']:>11.3f}{r['peak GB']:>9.2f}"
            f"{ratios[0]:>8.2f}×{ratios[1]:>8.2f}×{r['first loss']:>10.4f}"
        )
    if isinstance(ours := results.get("ours"), dict):
        share = ours["vision alone s"] / ours["s a step"]
        print(f"vision alone takes {ours['vision alone s']:.3f} s of a batch: {share:.0%} of a step of ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "medium", "published"), default="medium")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="bf16: autocast over fp32 weights")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--batch", type=int, help="samples; 2, published 4")
    parser.add_argument("--frames", type=int, help="a clip; tiny 4, medium 8, published 32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="counted, in each round")
    parser.add_argument("--only", nargs="+", choices=(ORIGINAL, *VARIANTS), default=[ORIGINAL, *VARIANTS])
    parser.add_argument("--json", action="store_true", help="all figures too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(arguments)))
        return
    print(machine(), flush=True)
    if arguments.device == "cuda":
        print(torch.cuda.get_device_name())
    runs: dict[str, list[dict]] = {name: [] for name in arguments.only}
    failed: dict[str, str] = {}
    for turn in range(arguments.rounds):
        for name in arguments.only:
            if name in failed:
                continue
            result = measure(name)
            print(f"round {turn + 1}, {name}", file=sys.stderr, flush=True)
            if isinstance(result, str):
                failed[name] = result
            else:
                runs[name].append(result)
    batch = arguments.batch or configuration(arguments.size)[1]["batch"]
    results = {name: failed.get(name) or summarize(runs[name], batch) for name in arguments.only}
    report(results)
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if name not in ("worker", "json")}
        print(json.dumps({"settings": settings, "results": results, "runs": runs}))
    losses = [r["first loss"] for r in results.values() if isinstance(r, dict)]
    if max(losses) - min(losses) > (1e-3 if arguments.dtype == "fp32" else 0.1):
        sys.exit("the losses before the first update differ: the variants did not compute the same")


if __name__ == "__main__":
    main()
