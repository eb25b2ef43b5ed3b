"""int8 inference on CPUs, through oneDNN.

Weights are quantised per output channel, activations per token when they come (so that a result does not depend on what else
is in the batch). torchao's int8 linears do the same, but uncompiled they are slower than fp32 on the few rows of a
generation step; these are a fifteenth of fp32's time there (`benchmarks/generation.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egoinstructor.errors import InputError
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration

LEVELS = 127
"""Codes run from −127 to 127; activations' are shifted by 128, for oneDNN takes them unsigned."""


class Int8Linear(nn.Module):
    """An `nn.Linear` with int8 weights.

    Args:
        linear: what it stands for.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()  # (N, K)
        self.scale = weight.abs().amax(1).clamp_min(1e-12) / LEVELS  # (N,)
        self.zero = torch.zeros(linear.out_features, dtype=torch.int64)
        codes = (weight / self.scale[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """`(…, K)` → `(…, N)`."""
        rows = x.reshape(-1, self.in_features)  # (M, K)
        top = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-12)  # (M, 1)
        codes = (rows * (LEVELS / top)).round_().add_(128).to(torch.uint8)
        y = torch.ops.onednn.qlinear_pointwise(
            codes, 1 / LEVELS, 128, self.packed, self.scale, self.zero, None, 1.0, 0, x.dtype, "none", [], ""
        )  # (M, N)
        y = y * top.to(x.dtype)
        if self.bias is not None:
            y = y + self.bias
        return y.unflatten(0, x.shape[:-1])


def quantize_int8(model: EgoInstructorForConditionalGeneration) -> EgoInstructorForConditionalGeneration:
    """Put int8 linears into the vision encoder and the decoder, in place; embeddings, head and resampler stay.

    Args:
        model: on the CPU. It can generate afterwards, not be trained or saved.

    Raises:
        InputError: a model on another device, or a torch without oneDNN.
    """
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        raise InputError(f"int8 on {model.device}: it runs on CPUs only, by oneDNN. Use bfloat16 there.")
    for part in (model.vision_encoder, model.decoder):
        for name, module in list(part.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, child = name.rpartition(".")
                setattr(part.get_submodule(parent), child, Int8Linear(module))
    return model
