"""The frames of clips as bytes in one file, decoded once: what a backbone that is trained along reads in every epoch.

    {folder}/{view}-{digest}.frames   (N, F, H, W, 3) uint8; a place for each clip
    {folder}/{view}-{digest}.done     (N,) a byte for each clip: 1 when its frames are whole

The digest is of the clips, their videos' sizes and times of change, and how pictures are prepared: what differs is another
file. A clip is marked behind its frames, so that one that was cut off is decoded anew.

N clips, F frames, H, W height and width in pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egoinstructor.data.pairs import PairRecord
from egoinstructor.errors import InputError
from egoinstructor.records import Clip
from egoinstructor.retriever.cross_view_retriever import seen_clip
from egoinstructor.retriever.interface import View
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.decode import load_video
from egoinstructor.video.folder import VideoFolder
from egoinstructor.video.identity import content_identity
from egoinstructor.video.prefetch import prefetch

logger = logging.getLogger(__name__)

CLIPS_PER_WRITE = 256
"""Clips whose frames are on disk before they are marked as whole."""
CLIPS_PER_REPORT = 8 * CLIPS_PER_WRITE


class FrameStore:
    """The frames of one view's clips. `fill` decodes what is not there yet.

    Args:
        folder: where the files are kept; it is made.
        videos: where the videos lie.
        records: the clips.
        view: from where they are seen.
        preprocessing: gives the size of a frame and how it is resized; values are kept as bytes, not normalised.
        num_frames: F.

    Raises:
        InputError: the videos' folder is not there, or the files can't be written.
    """

    def __init__(
        self,
        folder: Path,
        videos: Path,
        records: Sequence[PairRecord],
        view: View,
        preprocessing: Preprocessing,
        num_frames: int,
    ) -> None:
        if not videos.is_dir():
            raise InputError(f"{videos} is not a folder. Give the one that holds the {view} videos.")
        self.view: View = view
        self.records = records
        self.num_frames = num_frames
        self._videos = VideoFolder(videos)
        self._preprocessing = preprocessing
        self._resize = replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # to values of 0 to 1
        self._reasons: dict[int, str] = {}  # by clip, why it can't be read
        path = folder / f"{view}-{self._digest()}"
        self._path, self._done_path = path.with_suffix(".frames"), path.with_suffix(".done")
        self._shape = (num_frames, *preprocessing.shape, 3)
        self._size = int(np.prod(self._shape))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file, size in ((self._path, self._size), (self._done_path, 1)):
                file.touch()
                if file.stat().st_size != size * len(records):
                    os.truncate(file, size * len(records))  # a hole, which is no room taken
        except OSError as error:
            raise self._unwritable(error) from error
        self._frames: NDArray[np.uint8] = np.zeros((0, *self._shape), np.uint8)
        if records:
            self._frames = np.memmap(self._path, np.uint8, "r", shape=(len(records), *self._shape))

    def fill(self) -> None:
        """Decode the clips that are not there yet; what can't be read is remembered, and refused by `frames`.

        Raises:
            InputError: the files can't be written, or no clip can be read.
        """
        done = self._done_path.read_bytes()
        left = [index for index in range(len(self.records)) if not done[index]]
        try:
            with self._path.open("r+b") as frames, self._done_path.open("r+b") as marks:
                for start in range(0, len(left), CLIPS_PER_WRITE):
                    if start % CLIPS_PER_REPORT == 0:
                        logger.info("decoding %s clips: %d of %d", self.view, start, len(left))
                    some = left[start : start + CLIPS_PER_WRITE]
                    for index, decoded in zip(some, prefetch(self._decode, some), strict=True):
                        if isinstance(decoded, str):
                            self._reasons[index] = decoded
                        else:
                            os.pwrite(frames.fileno(), decoded, index * self._size)
                    os.fsync(frames.fileno())
                    for index in some:
                        if index not in self._reasons:
                            os.pwrite(marks.fileno(), b"\1", index)
        except OSError as error:
            raise self._unwritable(error) from error
        if self.records and len(self._reasons) == len(self.records):
            raise InputError(f"none of the {self.view} clips can be read. The last: {self._reasons[left[-1]]}")

    def frames(self, index: int, places: Sequence[int]) -> Tensor:
        """Some frames of a clip, as bytes `(places, H, W, 3)`.

        Raises:
            InputError: it could not be read.
        """
        if index in self._reasons:
            raise InputError(self._reasons[index])
        return torch.from_numpy(self._frames[index][list(places)])

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width."""
        return self._preprocessing.shape

    def _decode(self, index: int) -> bytes | str:
        """The frames of a clip, or why they can't be had."""
        try:
            clip = seen_clip(self._clip(self.records[index]), self.view)
            frames = load_video(clip.video, start=clip.start, end=clip.end, num_frames=self.num_frames)
        except InputError as error:
            return str(error)
        pixels = (self._resize(frames) * 255).round().clamp(0, 255).byte()  # (F, 3, H, W)
        return pixels.permute(0, 2, 3, 1).numpy().tobytes()

    def _clip(self, record: PairRecord) -> Clip:
        return Clip(self._videos.path(record.video), record.start, record.end)

    def _digest(self) -> str:
        """Of what decides the frames. A video that is not there counts as such."""
        made_from = hashlib.blake2b(digest_size=8)
        way = self._preprocessing
        made_from.update(json.dumps([self.num_frames, way.size, way.crop, way.filter, way.antialias]).encode())
        for record in self.records:
            content: Sequence[str | int] = ()
            with suppress(InputError):
                content = content_identity(self._videos.path(record.video))
            made_from.update(json.dumps([record.video, record.start, record.end, content]).encode())
        return made_from.hexdigest()

    def _unwritable(self, error: OSError) -> InputError:
        room = self._size * len(self.records) / 1e9
        return InputError(
            f"{self._path} can't be written: {error}. It needs {room:.1f} GB; make room, or name another frames_cache, "
            "and run the same command again: what was decoded is kept."
        )
