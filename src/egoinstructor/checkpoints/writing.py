"""Writing a folder so that it is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from egoinstructor.errors import CheckpointError


@contextmanager
def whole_folder(target: str | Path) -> Iterator[Path]:
    """A folder to write into, which takes the target's name when the block ends well and disappears when it doesn't.

    Args:
        target: must not exist, or be an empty folder.

    Raises:
        CheckpointError: the target is in use, or can't be written (a full disk).
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists and is not an empty folder; name another one, or remove it.")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    except (OSError, SafetensorError, RuntimeError) as error:  # what Python, safetensors and torch say of a full disk
        raise CheckpointError(
            f"{target} could not be written: {error}. Free some space, or name another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
