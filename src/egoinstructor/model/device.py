"""Where a model runs."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from egoinstructor.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


def place(module: Module, device: str | torch.device | None) -> Module:
    """Move to a device; None for the first accelerator, else the CPU.

    Raises:
        InputError: a device that can't be used.
    """
    if device is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} can't be used here: {error}. Try 'cpu'.") from error
