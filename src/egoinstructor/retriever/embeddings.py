"""What leaves a retriever: unit vectors, and nothing that is no number."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from egoinstructor.errors import InputError


def unit(embeddings: Tensor) -> Tensor:
    """Rows of length 1 `(N, D)`, in fp32 on the CPU.

    Raises:
        InputError: numbers that are none, which half precision can make of large weights.
    """
    embeddings = F.normalize(embeddings.float(), dim=-1).cpu()
    if not bool(embeddings.isfinite().all()):
        raise InputError(
            "the model gave embeddings that are no numbers (NaN or infinite). Open it with dtype float32, "
            "or download it again."
        )
    return embeddings
