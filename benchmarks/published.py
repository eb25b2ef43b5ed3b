"""What the benchmarks share: a model of exactly the published size with random weights, and stopwatches."""

from __future__ import annotations

import functools
import json
import platform
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from egoinstructor.checkpoints.configs import config_to_original
from egoinstructor.checkpoints.keys import to_theirs
from egoinstructor.model import EgoInstructorConfig, EgoInstructorForConditionalGeneration


def random_(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Fill a weight in place: open gates, unit norms, small matrices; numbers a trained model might have."""
    if name.endswith("gate"):
        return tensor.fill_(0.5)
    if "norm" in name:
        return tensor.fill_(0.0 if name.endswith("bias") else 1.0)
    return tensor.normal_(std=0.02, generator=generator)


def random_model(
    config: EgoInstructorConfig, dtype: torch.dtype = torch.float32
) -> EgoInstructorForConditionalGeneration:
    """A model with random weights, without transformers' slow initialisation."""
    with torch.device("meta"):
        model = EgoInstructorForConditionalGeneration(config)
    model.to_empty(device="cpu")
    positions = model.vision_encoder.embeddings.position_ids
    positions.copy_(torch.arange(positions.shape[-1]))
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            random_(name, parameter, generator)
    return model.to(dtype).eval()


def write_published_checkpoint(folder: Path) -> tuple[Path, Path]:
    """Random weights in the published shapes, names and files: a base in two shards and a captioner, fp32.

    Returns:
        The base's folder and the captioner's file.
    """
    config = EgoInstructorConfig()
    with torch.device("meta"):
        model = EgoInstructorForConditionalGeneration(config)
    shapes = {str(to_theirs(n)): t.shape for n, t in model.state_dict().items() if n != "lm_head.weight"}
    base = folder / "base"
    base.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)

    def tensors(names: list[str]) -> dict[str, torch.Tensor]:
        return {name: random_(name, torch.empty(shapes[name]), generator) for name in names}

    names = sorted(name for name in shapes if name != "perceiver.frame_embs")
    half, held = sum(shapes[n].numel() for n in names) // 2, 0
    shards: list[list[str]] = [[], []]
    for name in names:
        shards[held >= half].append(name)
        held += shapes[name].numel()
    weight_map = {}
    for i, shard in enumerate(shards, start=1):
        file = f"pytorch_model-{i:05d}-of-00002.bin"
        torch.save(tensors(shard), base / file)
        weight_map.update(dict.fromkeys(shard, file))
    (base / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (base / "config.json").write_text(json.dumps(config_to_original(config)))
    captioner = folder / "captioner.pt"
    torch.save(tensors([str(to_theirs(n)) for n in model.trainable_names()]), captioner)
    return base, captioner


class Stopwatch:
    """Seconds by name; `watch` times every call of a method."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add one timing."""
        start = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - start)

    def watch(self, owner: Any, method: str, name: Any) -> None:
        """Time every call of `owner.method` under `name`, or under what `name` says of its arguments."""
        original = getattr(owner, method)

        @functools.wraps(original)  # generate() reads forward's signature
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.time(name(*args, **kwargs) if callable(name) else name):
                return original(*args, **kwargs)

        setattr(owner, method, timed)


def watch_model(watch: Stopwatch, model: EgoInstructorForConditionalGeneration) -> None:
    """Time vision, prefill and each new token."""
    watch.watch(model, "read_frames", "vision")
    watch.watch(model, "resample", "vision")
    watch.watch(model, "forward", lambda input_ids, **_: "new token" if input_ids.shape[1] == 1 else "prefill")


def peak_gb() -> float:
    """The most memory that this process had resident, mapped files included, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def machine() -> str:
    """One line for the record."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"
