"""Frame features in a folder, a file a video, a row a second: what a frozen backbone made of the frames, once for all.

    {folder}/{video}.pth.tar | .safetensors | .npy        a tensor (T, W): row t is second t of the video

`.pth.tar` is the original's. Files are memory-mapped and nothing in them is executed. Which rows make a clip is arithmetic,
and stands apart from reading them.

T rows of a video, F frames of a clip, W width of a frame's features.
"""

from __future__ import annotations

import os
import random
from collections import OrderedDict
from pathlib import Path, PurePath

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from egoinstructor.checkpoints.reading import read_pickle
from egoinstructor.errors import InputError
from egoinstructor.retriever.interface import View
from egoinstructor.video.sampling import segment_centers

SUFFIXES = (".pth.tar", ".safetensors", ".npy")
"""The kinds of files, in the order in which they are looked for."""

OPEN_TABLES = 128
"""Tables that stay mapped; they cost no memory of their own, and no file handle."""

SHORT_EXO = 1.0
"""Seconds up to which an exo clip is too short to see anything in: speech is cut finer than what is done."""
WIDENING = 5.0
"""Seconds that such a clip gets on each side."""
SLACK = 1.0
"""Seconds by which a clip may start behind the last row, since the last second of a video may have none of its own."""


def seen(start: float, end: float, view: View) -> tuple[float, float]:
    """From where to where a clip is looked at: training, evaluation and libraries alike.

    A clip shorter than a second is stretched to one; an exo clip of at most a second is widened, not before the video's
    begin. Where the video ends is the caller's to know.

    Args:
        start: seconds.
        end: seconds.
        view: from where the clip is seen.
    """
    end = max(end, start + 1)
    if view == "exo" and end - start <= SHORT_EXO + 1e-6:  # times are decimals: 8.3 − 7.3 is a little more than 1
        return max(start - WIDENING, 0.0), end + WIDENING
    return start, end


def frame_rows(
    start: float, end: float, rows: int, num_frames: int, view: View, rng: random.Random | None = None
) -> list[int]:
    """Which rows of a table make a clip: its segment in F equal parts, one row of each.

    Short clips are stretched as `seen` says. What reaches over the end of the table is cut (the original could ask for the
    row behind the last).

    Args:
        start: seconds.
        end: seconds.
        rows: T.
        num_frames: F.
        view: from where the clip is seen.
        rng: for training: a random row of each part instead of the middle one.

    Raises:
        InputError: a clip that is not in the video, or `num_frames` below 1.
    """
    if not 0 <= start < rows + SLACK:
        raise InputError(f"a clip from {start:g} s of a video whose features cover {rows} s; correct its times.")
    start, end = seen(start, end, view)
    last = rows - 1
    first = min(round(start), last)
    behind = max(min(round(end), rows), first + 1)
    return segment_centers(first, behind, num_frames, rng)


class FeatureFolder:
    """The features of the videos of one view.

    Args:
        root: the folder.

    Raises:
        InputError: it is not a folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder. Give the one that holds the videos' features.")
        self._tables: OrderedDict[str, Tensor] = OrderedDict()

    def path(self, video: str) -> Path:
        """The file of a video.

        Raises:
            InputError: there is none, or the name leads out of the folder.
        """
        inner = PurePath(video)
        if inner.is_absolute() or ".." in inner.parts or "\0" in video or not inner.name:
            raise InputError(f"video {video!r} must lie inside {self.root}. Correct the name.")
        for suffix in SUFFIXES:
            path = self.root / f"{video}{suffix}"
            if path.is_file():
                return path
        raise InputError(f"{self.root / video} has no features ({', '.join(SUFFIXES)}). Make them, or leave it out.")

    def table(self, video: str) -> Tensor:
        """All features of a video `(T, W)`, in the number format of the file. It is kept: do not change it.

        Raises:
            InputError: no such file, damaged, not a table of numbers, or a pickle that wants to run code.
        """
        if video in self._tables:
            self._tables.move_to_end(video)
            return self._tables[video]
        path = self.path(video)
        table = _READERS[path.suffix](path)
        if table.ndim != 2 or 0 in table.shape or not table.is_floating_point():
            raise InputError(
                f"{path} holds {table.dtype} of shape {tuple(table.shape)}; it must be floats (seconds, width)."
            )
        self._tables[video] = table
        if len(self._tables) > OPEN_TABLES:
            self._tables.popitem(last=False)
        return table

    def clip(
        self,
        video: str,
        start: float,
        end: float,
        num_frames: int,
        view: View,
        rng: random.Random | None = None,
    ) -> Tensor:
        """The features of a clip `(F, W)`, fp32; arguments as of `frame_rows`.

        Raises:
            InputError: features that can't be read, that hold something else than finite numbers, or a clip that is not in
                the video.
        """
        table = self.table(video)
        try:
            rows = frame_rows(start, end, len(table), num_frames, view, rng)
        except InputError as error:
            raise InputError(f"{self.path(video)}: {error}") from error
        features = table[rows].float()
        if not bool(features.isfinite().all()):
            raise InputError(f"{self.path(video)}: rows {rows} hold values that are no numbers. Make it anew.")
        return features


def _read_pickle(path: Path) -> Tensor:
    table = read_pickle(path)
    if not isinstance(table, Tensor):
        raise InputError(f"{path} holds a {type(table).__name__}; it must be one tensor (seconds, width).")
    return table


def _read_safetensors(path: Path) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) == 1:
                return file.get_tensor(names[0])
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} can't be read: {error}. Make it anew.") from error
    raise InputError(f"{path} holds {len(names)} tensors; it must be one (seconds, width).")


def _read_npy(path: Path) -> Tensor:
    try:
        # Which maps no pickled objects; "c" is copy on write, for torch warns of what is read-only.
        return torch.from_numpy(np.lib.format.open_memmap(path, mode="c"))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InputError(f"{path} can't be read: {error}. Make it anew.") from error


_READERS = {".tar": _read_pickle, ".safetensors": _read_safetensors, ".npy": _read_npy}
