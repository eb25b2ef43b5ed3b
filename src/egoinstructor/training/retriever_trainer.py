"""The trainer of the cross-view retriever: EgoExoNCE over the batch of all processes, and recall on held-out pairs.

N rows of the batch of all processes, D the embedding's width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from egoinstructor.errors import InputError
from egoinstructor.retriever.cross_view import CrossViewModel, CrossViewOutput
from egoinstructor.retriever.egoexonce import egoexo_positives, egoexonce, gather, noun_nce, same_action, same_item
from egoinstructor.retriever.recall import index_recall_at
from egoinstructor.training.base_trainer import RunTrainer
from egoinstructor.training.dataset import EpochSampler
from egoinstructor.training.failures import FailureLog, TrainingError
from egoinstructor.training.retriever_arguments import RetrieverTrainingArguments
from egoinstructor.training.retriever_data import PairCollator, PairDataset, PairItem
from egoinstructor.training.retriever_model import VideoCrossViewModel
from egoinstructor.training.verb_sampler import VerbSampler

MAX_SCALE = 100.0
"""What the learned temperature's inverse is held to, as CLIP's."""

_FEATURES = ("ego_features", "exo_features")
_FRAMES = ("frames", "places", "shifts", "colours")


class RetrieverTrainer(RunTrainer):
    """Trains `CrossViewModel`, or it together with its backbone.

    Args:
        model: all of it is trained.
        args: the run's.
        same_verb_share: of a batch; see `VerbSampler`.
        collator: for both datasets.
        train_dataset: what is learned.
        eval_dataset: pairs that are looked for, if any.
        failures: where unreadable clips are counted.
        **kwargs: further ones of `Trainer`.

    Raises:
        InputError: a sharded run (FSDP, DeepSpeed): the model is small, and the loss needs the batch of all processes.
    """

    def __init__(
        self,
        model: CrossViewModel | VideoCrossViewModel,
        args: RetrieverTrainingArguments,
        *,
        same_verb_share: float = 0.0,
        collator: PairCollator,
        train_dataset: PairDataset,
        eval_dataset: PairDataset | None = None,
        failures: FailureLog,
        **kwargs: Any,
    ) -> None:
        self.same_verb_share = same_verb_share
        super().__init__(
            model,
            failures=failures,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        if self._sharded:
            raise InputError(
                "a retriever is not trained sharded (FSDP, DeepSpeed); launch it with a DDP configuration."
            )
        self.add_callback(HeldScale())

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> EpochSampler:
        plain = super()._get_train_sampler(train_dataset)
        if not self.same_verb_share:
            return plain
        dataset: PairDataset = self.train_dataset
        verbs = [dataset.verb(place) for place in range(len(dataset))]
        return VerbSampler(
            verbs, self.same_verb_share, seed=self.args.seed, epochs=plain.epochs, multiple=plain.multiple
        )

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weight decay on matrices, as CLIP's; none on biases, LayerNorms and the temperature."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        return [
            {
                "params": [p for p in parameters if (p.ndim > 1) == decays],
                "weight_decay": self.args.weight_decay * decays,
            }
            for decays in (True, False)
        ]

    # ------------------------------------------------------------------ a step

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of the batch of all processes, after what is unreadable of this process's has been counted.

        It is a mean over that batch: gradients accumulated over several of them are those of smaller batches.

        Raises:
            TrainingError: a loss that is not a number (the samples are named), or too many unreadable clips.
        """
        items = self._count(inputs)
        output: CrossViewOutput = model(**_model_inputs(inputs))
        assert output.video_embeds is not None
        assert output.text_embeds is not None
        assert output.scale is not None
        video, text, numbers, nouns, verbs = gather(
            output.video_embeds, output.text_embeds, inputs["numbers"], inputs["nouns"], inputs["verbs"]
        )  # (N, D), (N, D), (N,), (N, K), (N, K)
        plain = self.args.loss == "infonce"
        positives = same_item(numbers) if plain else egoexo_positives(numbers, nouns, verbs)  # (N, N)
        loss = egoexonce(video, text, positives, output.scale)
        if self.args.view_weight:  # rows alternate: a clip, its pair
            between = egoexonce(video[::2], video[1::2], positives[::2, 1::2], output.scale)
            loss = loss + self.args.view_weight * between
        if output.noun_vectors is not None:
            loss = loss + self.args.noun_weight * noun_nce(video, output.noun_vectors, nouns, output.scale)
        self.check_finite(loss, (item.id for item in items if item.rows))
        return (loss, output) if return_outputs else loss

    def _count(self, inputs: dict[str, Any]) -> list[PairItem]:
        """The batch's items, counted."""
        items: list[PairItem] = inputs["items"]
        self.failures.add(items)
        return items

    # ------------------------------------------------------------------ evaluation

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Recall on held-out pairs, on any number of processes.

        Returns:
            `ego_exo_r1`, `ego_exo_r5`: the share of ego clips that find one of their valid pairs among all exo clips of the
            pairs, in first place or in the first five; `same_verb_r1`: the share that finds one of the same noun in first
            place among the exo clips of the same verb, and `same_verb_chance`: what chance finds there; `video_text_r1`:
            the share of clips of both views that find their text among all texts; `pairs`: how many could be read.

        Raises:
            TrainingError: none could.
        """
        dataset: PairDataset = self.eval_dataset if eval_dataset is None else eval_dataset
        model: nn.Module = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        was_training = model.training
        model.eval()
        loader: DataLoader[Any] = self.get_eval_dataloader(eval_dataset)
        parts: list[tuple[Tensor, ...]] = []
        for batch in loader:
            inputs = self._prepare_inputs(batch)
            self._count(inputs)
            with self.compute_loss_context_manager():
                output = model(**_model_inputs(inputs))
            embeddings = (output.video_embeds.float(), output.text_embeds.float())
            facts = [inputs["is_ego"].long()]
            facts += [inputs[name] for name in ("numbers", "indices", "texts", "nouns", "verbs")]
            gathered = gather(*embeddings, *facts)
            parts.append(tuple(part.cpu() for part in gathered))
        model.train(was_training)
        scores = _recalls(dataset, *(torch.cat(part) for part in zip(*parts, strict=True)))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _recalls(
    dataset: PairDataset,
    video: Tensor,
    text: Tensor,
    is_ego: Tensor,
    numbers: Tensor,
    indices: Tensor,
    texts: Tensor,
    nouns: Tensor,
    verbs: Tensor,
) -> dict[str, float]:
    """Recall of what was read: rows alternate, an ego clip, then its pair, or itself where that could not be read."""
    egos = torch.arange(0, len(video), 2)
    egos = egos[is_ego[egos + 1] == 0]
    if not len(egos):
        raise TrainingError(f"none of the {len(dataset)} evaluation pairs can be read; failures-N.jsonl says why.")
    exos = {int(indices[row + 1]): int(row + 1) for row in egos}  # by clip, a row of it
    places = {clip: place for place, clip in enumerate(exos)}
    answers = [[places[clip] for clip in dataset.answers(int(numbers[row])) if clip in places] for row in egos]
    ego_exo = index_recall_at(video[egos], video[list(exos.values())], answers, (1, 5))
    same_verb = _within_verb(video, nouns, verbs, egos, torch.tensor(list(exos.values())))
    paired = torch.stack((egos, egos + 1), dim=1).flatten()
    distinct, first = _distinct(texts[paired])
    video_text = index_recall_at(video[paired], text[paired][first], [[place] for place in distinct.tolist()], (1,))
    return {
        "ego_exo_r1": ego_exo[1],
        "ego_exo_r5": ego_exo[5],
        **same_verb,
        "video_text_r1": video_text[1],
        "pairs": float(len(egos)),
    }


def _within_verb(video: Tensor, nouns: Tensor, verbs: Tensor, egos: Tensor, exos: Tensor) -> dict[str, float]:
    """How often the nearest exo clip of the same verb has the same noun, and how often any would have.

    Args:
        video: unit vectors `(N, D)`.
        nouns: ids `(N, K)`.
        verbs: ids `(N, L)`.
        egos: rows that are looked for; each has a right one among `exos`.
        exos: rows of the gallery.
    """
    rows = torch.cat((egos, exos))
    right = same_action(nouns[rows], verbs[rows])[: len(egos), len(egos) :]  # (egos, exos)
    gallery = same_action(verbs[rows], verbs[rows])[: len(egos), len(egos) :]
    scores = video[egos] @ video[exos].T
    best = scores.masked_fill(~right, float("-inf")).amax(dim=1)
    wrong = scores.masked_fill(right | ~gallery, float("-inf")).amax(dim=1)
    return {
        "same_verb_r1": (best > wrong).double().mean().item(),
        "same_verb_chance": (right.sum(dim=1) / gallery.sum(dim=1)).double().mean().item(),
    }


def _distinct(texts: Tensor) -> tuple[Tensor, list[int]]:
    """For each text its place among the distinct ones; and a row of each of those."""
    kinds, places = texts.unique(return_inverse=True)
    first = {int(place): row for row, place in reversed(list(enumerate(places)))}
    return places, [first[place] for place in range(len(kinds))]


def _model_inputs(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """What a model takes of a batch: features, or frames where it has a backbone."""
    return {name: inputs[name] for name in ("input_ids", "is_ego", *(_FRAMES if "frames" in inputs else _FEATURES))}


class HeldScale(TrainerCallback):
    """Holds the learned temperature's inverse at `MAX_SCALE` behind each step, as CLIP does."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cut what the step made of it."""
        with torch.no_grad():
            kwargs["model"].logit_scale.clamp_(max=math.log(MAX_SCALE))
