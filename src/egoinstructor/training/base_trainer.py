"""transformers' `Trainer` with what every run of ours needs: our sampler, our checkpoints, and no silent failure."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Dataset
from transformers import Trainer, TrainerControl
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from egoinstructor.errors import CheckpointError
from egoinstructor.training.dataset import EpochSampler
from egoinstructor.training.failures import FailureLog, TrainingError
from egoinstructor.training.optimizer import describe_groups

logger = logging.getLogger(__name__)

WEIGHTS = "trainable.safetensors"
COMPLETE = "complete"
"""Written last into a checkpoint's folder: one without it was cut off and is never resumed from."""


class RunTrainer(Trainer):
    """What the captioner's and the retriever's trainers share.

    Args:
        model: frozen as it is to be trained.
        failures: where unreadable clips are counted.
        **kwargs: further ones of `Trainer`.
    """

    optimizer: torch.optim.Optimizer | None
    control: TrainerControl

    def __init__(self, model: nn.Module, *, failures: FailureLog, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        self.failures = failures

    def create_accelerator_and_postprocess(self) -> None:
        """As the parent's; under FSDP in bf16 gradients are summed in fp32, as under DDP."""
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and self.accelerator.mixed_precision == "bf16":
            plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[Any]:
        """Autocast under FSDP2 too, where accelerate leaves it out: the vision encoder is not sharded and stays fp32."""
        if self.is_fsdp_enabled and self.accelerator.mixed_precision == "bf16":
            return torch.autocast(self.args.device.type, dtype=torch.bfloat16)
        return self.accelerator.autocast()

    # ------------------------------------------------------------------ data

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> EpochSampler:
        return self._sampler(self.train_dataset, self.args.per_device_train_batch_size, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Dataset[Any]) -> EpochSampler:
        return self._sampler(eval_dataset, self.args.per_device_eval_batch_size, None)

    def _sampler(self, dataset: Any, batch_size: int, seed: int | None) -> EpochSampler:
        multiple = batch_size * self.args.world_size
        epochs = self.args.num_train_epochs
        if self.args.max_steps > 0:  # which goes before the number of epochs
            steps_in_epoch = -(-len(dataset) // (multiple * self.args.gradient_accumulation_steps))
            epochs = self.args.max_steps / steps_in_epoch
        return EpochSampler(len(dataset), seed=seed, epochs=epochs, multiple=multiple)

    # ------------------------------------------------------------------ the optimizer, and what failed

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The trained parameters by their weight decay."""
        raise NotImplementedError

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the recipe's parameter groups."""
        if self.optimizer is None:
            groups = self.parameter_groups(model or self.model_wrapped or self.model)
            logger.info("%s", describe_groups(groups))
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind([group for group in groups if group["params"]], **options)
        return self.optimizer

    def check_finite(self, loss: Tensor, samples: Iterable[str]) -> None:
        """Check a loss.

        Raises:
            TrainingError: it is not a number; the samples are named.
        """
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step}, on the samples {', '.join(samples)}. Look at "
                "their videos and texts, lower learning_rate, or use another number format; the last checkpoint is from "
                "before."
            )

    def failure_counts(self) -> dict[str, int]:
        """What could not be read, of all processes together."""
        counts = self.failures.as_dict()
        total = self.accelerator.reduce(torch.tensor(list(counts.values()), device=self.args.device))
        return dict(zip(counts, total.tolist(), strict=True))

    # ------------------------------------------------------------------ checkpoints

    @property
    def _sharded(self) -> bool:
        """Whether the parameters live in pieces on several processes, and transformers' own checkpoints are needed."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint, marked when it is whole.

        Raises:
            TrainingError: it can't be written (a full disk); what was written of it is removed.
        """
        run = Path(self._get_output_dir(trial))
        folder = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # older ones go when this one is whole
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:  # what Python, safetensors and torch say of it
            shutil.rmtree(folder, ignore_errors=True)
            raise TrainingError(
                f"{folder} could not be written: {error}. Free some space, then go on with --resume_from_checkpoint last."
            ) from error
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (folder / COMPLETE).touch()
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write the trained tensors alone: the rest is in the model that the run started from."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        state = model.state_dict() if state_dict is None else state_dict
        names = trained_tensors(model)
        save_file({name: state[name].detach().cpu().contiguous() for name in names}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_trainable(self.accelerator.unwrap_model(model or self.model), Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: the trained parameters, and the running statistics of the BatchNorms among their modules."""
    trained: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{prefix}.weight" in trained:
            trained |= {f"{prefix}.{name}": buffer for name, buffer in module.named_buffers()}
    return trained


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's tensors into a model.

    Raises:
        CheckpointError: they are not exactly the model's trained tensors.
    """
    saved = load_file(folder / WEIGHTS)
    trained = trained_tensors(model)
    if wrong := saved.keys() ^ trained.keys():
        raise CheckpointError(
            f"{folder} was written by a run that trains other tensors: {', '.join(sorted(wrong)[:5])}. "
            "Resume with the options that it was started with."
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(saved[name])


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest whole checkpoint of a run; one that was cut off while it was written is passed over."""
    folders = [folder for folder in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (folder / COMPLETE).exists()]
    return max(folders, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
