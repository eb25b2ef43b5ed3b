"""What tells one set of weights from another: caches and libraries are keyed by this."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from egoinstructor.errors import InputError


def weights_revision(*modules: nn.Module) -> str:
    """A digest of modules' weights: names, number formats, shapes and values.

    Raises:
        InputError: weights that aren't here, as on the meta device or under ZeRO-3.
    """
    digest = hashlib.blake2b(digest_size=16)
    for module in modules:
        for name, weight in sorted(module.state_dict().items()):
            if weight.is_meta or not weight.numel():
                raise InputError(f"weight {name} of the model has no values. Take the revision before it is sharded.")
            digest.update(repr((name, str(weight.dtype), tuple(weight.shape))).encode())
            digest.update(raw_bytes(weight))
    return digest.hexdigest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """A tensor's values as they lie in memory, copied to the CPU if they are elsewhere."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
