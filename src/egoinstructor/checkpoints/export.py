"""Our model → the original's layout, so that its code could load ours: the round trip of `convert`."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from egoinstructor.checkpoints.configs import config_to_original
from egoinstructor.checkpoints.keys import to_theirs
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.errors import CheckpointError
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor

SHARDS = 2
"""The published base comes in two files."""


def save_original(
    model: EgoInstructorForConditionalGeneration, processor: EgoInstructorProcessor, out: str | Path
) -> None:
    """Write `base/` (every tensor but the frame embeddings), `captioner.pt` (the trainable ones) and `tokenizer/`.

    The folder appears under its name when it is whole.

    Args:
        model: any of ours.
        processor: its processor.
        out: the folder to make; it must not exist, or be empty.

    Raises:
        CheckpointError: a model that the original has no place for, or a folder that is in use or can't be written.
    """
    config = config_to_original(model.config)
    named = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    theirs = {name: to_theirs(name) for name in named}
    if unknown := [name for name, original in theirs.items() if original is None]:
        raise CheckpointError(f"the original has no tensors for {', '.join(unknown)}.")
    trainable = set(model.trainable_names())
    base = {str(theirs[name]): tensor for name, tensor in named.items() if name != "resampler.frame_embeddings"}
    captioner = {str(theirs[name]): tensor for name, tensor in named.items() if name in trainable}

    with whole_folder(out) as folder:
        (folder / "base").mkdir()
        weight_map = {}
        names = sorted(base)
        half = -(-len(names) // SHARDS)
        for shard in range(SHARDS):
            file = f"pytorch_model-{shard + 1:05d}-of-{SHARDS:05d}.bin"
            part = names[shard * half : (shard + 1) * half]
            torch.save({name: base[name] for name in part}, folder / "base" / file)
            weight_map.update(dict.fromkeys(part, file))
        index = {"metadata": {"total_size": sum(t.nbytes for t in base.values())}, "weight_map": weight_map}
        (folder / "base" / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        (folder / "base" / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        torch.save(captioner, folder / "captioner.pt")
        processor.tokenizer.save_pretrained(folder / "tokenizer")
