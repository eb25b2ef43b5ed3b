"""The trainer of the captioner: exact losses, and the frozen vision encoder's outputs kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from egoinstructor.model.configuration import IGNORE
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.training.arguments import CaptionerTrainingArguments
from egoinstructor.training.augment import drop_features
from egoinstructor.training.base_trainer import RunTrainer
from egoinstructor.training.dataset import CaptionDataset, Collator, Item
from egoinstructor.training.failures import FailureLog
from egoinstructor.training.feature_cache import FeatureCache
from egoinstructor.training.optimizer import parameter_groups


class CaptionerTrainer(RunTrainer):
    """Trains `EgoInstructorForConditionalGeneration`.

    Args:
        model: frozen as it is to be trained.
        args: the run's.
        collator: for both datasets.
        train_dataset: what is learned.
        eval_dataset: what is evaluated, if anything.
        failures: where unreadable clips are counted.
        cache: the frozen vision encoder's outputs, if they are kept.
        feature_dropout: share of their numbers that training sets to 0, the others scaled up.
        frame_dropout: share of their frames that training leaves out.
        **kwargs: further ones of `Trainer`.
    """

    def __init__(
        self,
        model: EgoInstructorForConditionalGeneration,
        args: CaptionerTrainingArguments,
        *,
        collator: Collator,
        train_dataset: CaptionDataset,
        eval_dataset: CaptionDataset | None = None,
        failures: FailureLog,
        cache: FeatureCache | None = None,
        feature_dropout: float = 0.0,
        frame_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model,
            failures=failures,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,  # no processing_class: Trainer would put the tokenizer's eos in place of <|endofchunk|>
        )
        self.processor = collator.processor
        if self.is_deepspeed_enabled:
            model.frames_per_pass = None  # ZeRO-3 gathers at every pass: all processes must make the same number
        self.cache = cache
        self.dropout = feature_dropout, frame_dropout

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """As published."""
        return parameter_groups(model, self.args.weight_decay)

    # ------------------------------------------------------------------ a step

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch, after its unreadable clips have been counted.

        Raises:
            TrainingError: a loss that is not a number (the samples are named), or too many unreadable clips.
        """
        read, items = self._read(inputs)
        if num_items_in_batch is not None:
            num_items_in_batch = torch.as_tensor(num_items_in_batch).clamp(min=1)  # a batch of nothing has none
        loss, output = super().compute_loss(model, read, return_outputs=True, num_items_in_batch=num_items_in_batch)
        self.check_finite(loss, (item.id for item in items if item.prompt is not None))
        return (loss, output) if return_outputs else loss

    def _read(self, batch: dict[str, Any]) -> tuple[dict[str, Any], list[Item]]:
        """What the model takes of a batch, and its items, counted."""
        inputs = dict(batch)
        items: list[Item] = inputs.pop("items")
        self.failures.add(items)
        inputs["skip_logits"] = True
        if "clips" in inputs:
            inputs["patches"] = self._patches(inputs.pop("clips"), len(inputs["input_ids"]))
        return inputs, items

    def _patches(self, clips: list[tuple[int, int, str, Tensor]], rows: int) -> Tensor:
        """Cached patches as they are, pixels through the frozen encoder and into the cache → `(B, C, F, P, V)`."""
        assert self.cache is not None
        encoder: EgoInstructorForConditionalGeneration = self.accelerator.unwrap_model(self.model)
        found: dict[tuple[int, int], Tensor] = {}
        with torch.no_grad(), self.autocast_smart_context_manager():
            for row, place, key, clip in clips:
                patches = clip.to(self.args.device)
                if patches.ndim == 4:  # pixels (F, 3, H, W), not patches (F, P, V)
                    patches = encoder.encode_frames(patches[None, None])[0, 0]
                    self.cache.put(key, patches.cpu())
                found[row, place] = patches
        blank = torch.zeros_like(next(iter(found.values())))
        places = 1 + max(place for _, place in found)
        patches = torch.stack(
            [torch.stack([found.get((row, place), blank) for place in range(places)]) for row in range(rows)]
        )
        return drop_features(patches, *self.dropout) if self.model.training else patches

    # ------------------------------------------------------------------ evaluation

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Mean loss over the labelled tokens of all samples, each counted once, on any number of processes."""
        model = self.model_wrapped if self.is_in_train else self._wrap_model(self.model, training=False)
        model.eval()
        loader: DataLoader[Any] = self.get_eval_dataloader(eval_dataset)
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for batch in loader:
            inputs, _ = self._read(self._prepare_inputs(batch))
            with self.compute_loss_context_manager():
                loss = model(**inputs, num_items_in_batch=1).loss  # the sum
            total += torch.stack((loss, (inputs["labels"][:, 1:] != IGNORE).sum()))
        loss_sum, tokens = self.accelerator.reduce(total).tolist()
        metrics = {f"{metric_key_prefix}_loss": loss_sum / max(tokens, 1)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
