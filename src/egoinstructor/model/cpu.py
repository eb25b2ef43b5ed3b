"""Inference on CPUs: oneDNN for the linear layers in fp32, and a bound on what it keeps.

PyTorch gives fp32 matrix products to MKL, which on other makers' processors runs at a half to a fifth of what oneDNN, in the
same wheel, reaches (AMD EPYC: half at the vision encoder's shapes, a fifth for the three rows of a beam search;
`benchmarks/generation.py`). Half precision goes to oneDNN anyway.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode

KERNELS = 128
"""Products of matrices, each of other sizes, that are kept compiled: more than a batch of captions has."""


def bound_kernels() -> None:
    """Let oneDNN keep few compiled products, so that the memory of a process that lives long stays flat.

    It compiles each product anew for each number of rows, 0.3 MB a time, and a decoder's rows are as many as the tokens of
    a batch: ever other ones. Both oneDNN and PyTorch's layer above it, there for each thread, keep 1,024 of every kind
    unless told otherwise, and what either keeps is not freed. Compiling takes 0.2 ms.

    To be called before the first product. What the environment says already stays.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, str(KERNELS))


class _OneDNNLinears(TorchFunctionMode):
    """Within it, `F.linear` on fp32 CPU tensors is oneDNN's; everything else is as it was. Per thread, as modes are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.linear and not kwargs and not torch.is_grad_enabled() and _fits(*args):
            return torch.ops.mkldnn._linear_pointwise(*args, *((None,) * (3 - len(args))), "none", [], "")
        return func(*args, **(kwargs or {}))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Leave it. PyTorch takes a mode off while a call is in it: an interruption may have come before it was put back."""
        if error is None or _get_current_function_mode() is self:
            super().__exit__(kind, error, trace)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    if torch.is_autocast_enabled("cpu"):  # which casts to half precision, and that goes to oneDNN
        return False
    return x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu" and x.numel() > 0


def fast_linears(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which inference on this device uses the faster linear layers; no change of result beyond rounding.

    `torch.compile` makes its own choice: under it the block does nothing.
    """
    if torch.compiler.is_compiling():
        return nullcontext()
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return _OneDNNLinears() if device.type == "cpu" and available else nullcontext()
