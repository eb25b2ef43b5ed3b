"""Parameter groups of the published recipe, and a table of them."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from egoinstructor.checkpoints.keys import to_theirs

_MATRICES = re.compile(r"decoder\.layers\.\d+\.(attention|mlp)\.\w+(?<!_norm)\.weight")
"""The decoder's own, which only `train_decoder` trains. (LoRA's names have more parts.)"""


def decays(name: str) -> bool:
    """Whether weight decay applies (reference §7): to gated cross-attention, without its gates, `norm` and biases.

    The rule goes by the original's names, in which the feed-forward's LayerNorm is no `norm`: its weight decays.
    The decoder's own matrices, which the original never trains, decay; LoRA adapters don't.
    """
    if _MATRICES.fullmatch(name):
        return True
    theirs = to_theirs(name) or ""
    return "gated_cross_attn_layer" in theirs and not any(part in theirs for part in ("_gate", "norm", "bias"))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters in two groups, with and without decay."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # Wrappers (DDP, FSDP, torch.compile) put their own prefixes before our names.
    plain = {name: name.replace("module.", "").replace("_orig_mod.", "") for name, _ in named}
    return [
        {"params": [p for name, p in named if decays(plain[name]) == decay], "weight_decay": weight_decay * decay}
        for decay in (True, False)
    ]


def describe_groups(groups: list[dict[str, Any]]) -> str:
    """A line a group."""
    return "\n".join(
        f"weight decay {group['weight_decay']:<6g} {len(group['params']):>5} tensors "
        f"{sum(p.numel() for p in group['params']):>14,} parameters"
        for group in groups
    )
