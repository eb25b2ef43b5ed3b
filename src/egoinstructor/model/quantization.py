"""int8 inference on CPUs, through oneDNN.

Weights are quantised per output channel, activations per token when they come: a clip's latents still depend on that clip
alone, which a scale for the whole batch (torch's own dynamic quantisation) would not keep. torchao's linears do the same,
but need compiling to be fast.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from egoinstructor.errors import InputError
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.revision import raw_bytes

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
        digest = hashlib.blake2b(raw_bytes(codes), digest_size=16)
        digest.update(raw_bytes(self.scale))
        self.weights_revision = digest.hexdigest()
        self.packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """`(…, K)` → `(…, N)`."""
        rows = x.reshape(-1, self.in_features)  # (M, K)
        top = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-12)  # (M, 1); in bf16, 127.5 would become 128
        codes = (rows * (LEVELS / top)).round_().add_(128).to(torch.uint8)
        y = torch.ops.onednn.qlinear_pointwise(
            codes, 1 / LEVELS, 128, self.packed, self.scale, self.zero, None, 1.0, 0, x.dtype, "none", [], ""
        )  # (M, N)
        y = y * top.to(x.dtype)
        if self.bias is not None:
            y = y + self.bias
        return y.unflatten(0, x.shape[:-1])

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Packed weights are of this machine: refuse, rather than write a checkpoint without them."""
        raise InputError("an int8 model can't be saved. Save it before it is quantised.")


def quantize_int8(model: EgoInstructorForConditionalGeneration) -> EgoInstructorForConditionalGeneration:
    """Put int8 linears into the vision encoder and the decoder, in place; embeddings, head and resampler stay.

    Args:
        model: on the CPU. It can generate afterwards, not be trained or saved.

    Raises:
        InputError: a model on another device, or a processor that can't do it exactly.
    """
    if model.device.type != "cpu":
        raise InputError(f"int8 on {model.device}: it runs on CPUs only. Use bfloat16 there.")
    if not _exact_here():
        raise InputError(
            "int8 on this CPU: it lacks VNNI instructions (AVX512-VNNI, AVX-VNNI). Use bfloat16 or float32."
        )
    for part in (model.vision_encoder, model.decoder):
        for name, module in list(part.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, child = name.rpartition(".")
                setattr(part.get_submodule(parent), child, Int8Linear(module))
    return model


@torch.inference_mode()
def _exact_here() -> bool:
    """Whether products come out right: without VNNI oneDNN adds pairs of them in 16 bits, which overflow in silence."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return False
    layer = nn.Linear(256, 16, bias=False, dtype=torch.float32)
    nn.init.ones_(layer.weight)
    return torch.allclose(Int8Linear(layer)(torch.ones(16, 256)), torch.full((16, 16), 256.0))
