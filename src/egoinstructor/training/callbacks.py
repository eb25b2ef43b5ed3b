"""What a run leaves behind while it goes on: metrics, a loss plot, captions of a few samples; and how it is interrupted."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.training.dataset import CaptionDataset, Draw

logger = logging.getLogger(__name__)


class RunRecord(TrainerCallback):
    """Appends every log to `metrics.jsonl` and draws `loss.png` from it (extra `train`), on the main process.

    Args:
        folder: the run's.
        unit: what the plot calls the loss.
    """

    def __init__(self, folder: Path, unit: str = "loss") -> None:
        self.path = folder / "metrics.jsonl"
        self.unit = unit

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After a resume, what was logged behind the checkpoint will be logged again: drop it."""
        if state.is_world_process_zero and self.path.exists():
            kept = [line for line in self._lines() if line["step"] <= state.global_step]
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One line a log."""
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, "epoch": state.epoch, **kwargs["logs"]}) + "\n")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A plot of the losses so far."""
        if state.is_world_process_zero:
            self.plot()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The last plot."""
        self.on_save(args, state, control)

    def plot(self) -> None:
        """Write `loss.png`, where matplotlib is installed."""
        if find_spec("matplotlib") is None:
            logger.info("no loss plot: it needs matplotlib (pip install 'egoinstructor[train]')")
            return
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        axes = (figure := Figure(figsize=(8, 4.5), layout="constrained")).subplots()
        lines = self._lines()
        for name in ("loss", "eval_loss"):
            points = [(line["step"], line[name]) for line in lines if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if name == "eval_loss" else "")
        axes.set(xlabel="step", ylabel=self.unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend()
        figure.savefig(self.path.with_name("loss.png"), dpi=120)

    def _lines(self) -> list[dict[str, Any]]:
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        # A line that a kill cut in two has no end.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class SampleCaptions(TrainerCallback):
    """At each evaluation, captions of the same few samples, in `captions.jsonl`.

    Every process generates them, so that sharded parameters are gathered alike; the main one writes.

    Args:
        folder: the run's.
        dataset: evaluation samples.
        processor: the model's.
        count: how many samples, from the first.
    """

    def __init__(self, folder: Path, dataset: CaptionDataset, processor: EgoInstructorProcessor, count: int) -> None:
        self.path = folder / "captions.jsonl"
        self.dataset = dataset
        self.processor = processor
        self.count = min(count, len(dataset))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Caption and write."""
        written = [caption_sample(kwargs["model"], self.processor, self.dataset, i) for i in range(self.count)]
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                for line in written:
                    file.write(json.dumps({"step": state.global_step, **line}, ensure_ascii=False) + "\n")


@torch.no_grad()
def caption_sample(
    model: EgoInstructorForConditionalGeneration,
    processor: EgoInstructorProcessor,
    dataset: CaptionDataset,
    index: int,
) -> dict[str, Any]:
    """Caption one sample of a dataset as it is read in training, its own answer left out.

    Returns:
        Sample id, caption (None if the sample can't be read), the answer it is compared with, and the references read.
    """
    sample = dataset.samples[index]
    item = dataset[Draw(0, index)]
    result: dict[str, Any] = {"id": sample.id, "caption": None, "answer": sample.answer, "failures": item.failures}
    if item.prompt is None:
        return result
    prompt = processor.query_of(item.prompt)
    batch = processor([prompt]).to(model.device)
    was_training = model.training
    model.eval()
    with _gathered(model):
        # One by one: a full cache has some clips as patches (F, P, V), the others come as pixels (F, 3, H, W).
        latents = [
            model.encode_videos(clip) if clip.ndim == 6 else model.resample(clip)
            for clip in (clip[None, None].to(model.device) for clip in item.clips)
        ]
    sequences = model.generate(**batch, video_latents=torch.cat(latents, dim=1))  # (1, C, L, V)
    model.train(was_training)
    return {**result, "caption": processor.captions(sequences)[0], "prompt": prompt.text}


@contextmanager
def _gathered(model: nn.Module) -> Iterator[None]:
    """FSDP2 gathers parameters around `forward` alone: do it for what else is called."""
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


class Interruption(TrainerCallback):
    """Ctrl-C (and a scheduler's SIGTERM) ends the run behind the current step with a checkpoint; a second one at once."""

    SIGNALS: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        logger.warning("%s: saving a checkpoint behind this step; once more to stop at once", self.received.name)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Listen."""
        self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save and stop, if any process was asked: all must do the same."""
        asked = torch.tensor(int(self.received is not None), device=args.device)
        if dist.is_initialized():
            dist.all_reduce(asked, dist.ReduceOp.MAX)
        if asked:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def restore(self) -> None:
        """Listen no longer."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
