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
        for path, part in sorted(module.named_modules()):
            own: str | None = getattr(part, "weights_revision", None)  # of an int8 layer, whose weights are packed
            if own is not None:
                digest.update(repr((path, own)).encode())
            for name, weight in sorted(_weights(part).items()):
                if weight.is_meta or not weight.numel():
                    raise InputError(f"weight {path}.{name} has no values. Take the revision before it is sharded.")
                digest.update(repr((path, name, str(weight.dtype), tuple(weight.shape))).encode())
                digest.update(raw_bytes(weight))
    return digest.hexdigest()


def _weights(part: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint would hold of a module itself."""
    buffers = {n: b for n, b in part.named_buffers(recurse=False) if n not in part._non_persistent_buffers_set}
    return {**dict(part.named_parameters(recurse=False)), **buffers}


def raw_bytes(tensor: Tensor) -> memoryview:
    """A tensor's values as they lie in memory, copied to the CPU if they are elsewhere."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
