"""One process of several: trains, and notes which samples it learned from."""

import json
import os
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from egoinstructor.training.arguments import parse
from egoinstructor.training.run import train
from egoinstructor.training.trainer import CaptionerTrainer

read = CaptionerTrainer._read


def noted(self, batch):
    if self.model.training:
        with Path(f"{os.environ['SEEN']}{os.environ['RANK']}").open("a") as file:
            for item in batch["items"]:
                if item.prompt is not None:
                    file.write(json.dumps({"id": item.id, "epoch": int(self.state.epoch)}) + "\n")
    return read(self, batch)


def as_gpus(self, *args, **kwargs):
    """accelerate shards on accelerators only; on CPUs it quietly makes DDP of an FSDP configuration."""
    if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    initialise(self, *args, **kwargs)


def checked(self, *args, **kwargs):
    """Train, having seen that the model is sharded."""
    result = train_sharded(self, *args, **kwargs)
    assert type(self.model_wrapped).__name__.startswith("FSDP"), type(self.model_wrapped)
    return result


CaptionerTrainer._read = noted
if "FSDP_ON_CPU" in os.environ:
    initialise, AcceleratorState.__init__ = AcceleratorState.__init__, as_gpus
    train_sharded, CaptionerTrainer.train = CaptionerTrainer.train, checked
train(parse(None, sys.argv[1:]))
