"""Videos stored as pieces of fixed length: `{video}/{number:04d}.mp4`, as Ego4D is laid out for this work.

A piece lasts 300 s, or 15 s where the folder's path has `15s` in it. Frames are numbered through all pieces at the
pieces' own rate (30 per second in Ego4D), so a segment may straddle two of them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip, Frames
from egoinstructor.video import sampling
from egoinstructor.video.display import resize
from egoinstructor.video.file import Backend, Sampling, VideoFile, VideoInfo, open_file
from egoinstructor.video.reader import Size

_PATTERN = "[0-9][0-9][0-9][0-9].mp4"


@dataclass(frozen=True, slots=True)
class ChunkedVideo:
    """A folder of pieces; made by `open_pieces`.

    Args:
        folder: where the pieces are.
        last: number of the last piece.
        seconds: length of every piece but the last.
        rate: frames per second.
        total_frames: of all pieces.
        stored_size: width and height of the last piece's pictures, by its header.
    """

    folder: Path
    last: int
    seconds: int
    rate: Fraction
    total_frames: int
    stored_size: Size

    def info(self) -> VideoInfo:
        """Facts of the video: the last piece's picture, the length of all."""
        with open_file(self._piece(self.last)) as piece:
            last = piece.info()
        return replace(last, num_frames=self.total_frames, duration=float(self.total_frames / self.rate))

    def choose(self, clip: Clip, num_frames: int, policy: Sampling, rng: random.Random | None = None) -> list[int]:
        """Frame numbers, counted through all pieces, that stand for a clip.

        Raises:
            VideoError: the clip isn't in the video.
        """
        start, end = sampling.clip_span(clip, float(self.total_frames / self.rate))
        fps = float(self.rate)
        if policy == "linspace":
            return sampling.linspace_segment(start, end, fps, self.total_frames, num_frames)
        # A clip in the video's last second is stretched past its end; there the last frame stands for what is missing.
        numbers = sampling.ego_segment(start, end, num_frames, fps, rng)
        return [min(number, self.total_frames - 1) for number in numbers]

    def read(self, indices: Sequence[int], backend: Backend = "auto") -> Frames:
        """Exactly the frames with those numbers, in that order, each from its piece.

        Raises:
            InputError: no indices, or one outside the video.
            VideoError: a piece is missing, shorter than it must be, or damaged.
        """
        outside = [index for index in indices if not 0 <= index < self.total_frames]
        if outside or not len(indices):
            raise InputError(
                f"frames {outside} of {self.folder}: give at least one index, each from 0 to {self.total_frames - 1}."
            )
        rows: dict[int, list[int]] = defaultdict(list)
        for row, index in enumerate(indices):
            rows[int(index / (self.seconds * self.rate))].append(row)
        parts = {number: self._read_piece(number, [indices[row] for row in rows[number]], backend) for number in rows}
        sizes = {part.pixels.shape[2:0:-1] for part, _ in parts.values()}
        if len(sizes) == 1 and all(size == self.stored_size for _, size in parts.values()):
            width, height = sizes.pop()
        else:  # whichever pieces are read, pictures are as large as the last one's
            info = self.info()
            width, height = info.width, info.height
        pixels = np.empty((len(indices), height, width, 3), np.uint8)
        timestamps = np.empty(len(indices))
        for number, (part, _) in parts.items():
            for row, picture in zip(rows[number], part.pixels, strict=True):
                pixels[row] = resize(picture, width, height)
            timestamps[rows[number]] = part.timestamps + number * self.seconds
        return Frames(pixels, timestamps, np.array(indices, dtype=np.int64), str(self.folder))

    def _read_piece(self, number: int, indices: list[int], backend: Backend) -> tuple[Frames, Size]:
        """Frames of a piece, and the size of its pictures by its header."""
        first = _first_frame(number, self.seconds, self.rate)
        with open_file(self._piece(number)) as piece:
            local = [max(index - first, 0) for index in indices]
            self._check_length(piece, max(local))
            frames = piece.read([piece.timeline.display_index(index) for index in local], backend)
            return frames, piece.stored_size

    def _check_length(self, piece: VideoFile, wanted: int) -> None:
        """A piece may lack a few frames at its end (its last frame then stays on); more is a damaged piece.

        One that is longer has another length than its folder's path says, and frames would be counted wrongly.
        """
        there = piece.timeline.nominal_frames
        if there > (self.seconds + sampling.END_SLACK) * self.rate:
            raise VideoError(
                f"video {self.folder}: its piece {piece.source!s} lasts {float(piece.timeline.duration):.2f} s, more than "
                f"{self.seconds} s. Pieces have 300 s, or 15 s in a folder whose path has '15s' in it."
            )
        if wanted - there + 1 > sampling.END_SLACK * self.rate:
            raise VideoError(
                f"video {self.folder}: its piece {piece.source!s} lasts {float(piece.timeline.duration):.2f} s instead "
                f"of {self.seconds} s, and frame {wanted} of it is needed. Fetch it again."
            )

    def _piece(self, number: int) -> Path:
        path = self.folder / f"{number:04d}.mp4"
        if not path.exists():
            raise VideoError(
                f"video {self.folder}: its piece {path.name} is missing, and the segment needs it. Fetch it, or choose "
                f"a segment outside {number * self.seconds} s to {(number + 1) * self.seconds} s."
            )
        return path


def open_pieces(folder: Path) -> ChunkedVideo:
    """Look at a folder of pieces; only the last one is opened, which has the rate, the length and the picture size of all.

    Raises:
        VideoError: no such pieces in the folder, or the last can't be read.
    """
    pieces = sorted(folder.glob(_PATTERN))
    if not pieces:
        raise VideoError(
            f"video {folder}: a folder without pieces 0000.mp4, 0001.mp4, …. Give a video file or a folder of pieces."
        )
    last = int(pieces[-1].stem)
    seconds = 15 if "15s" in str(folder) else 300
    with open_file(pieces[-1]) as piece:
        rate = piece.timeline.rate
        total = _first_frame(last, seconds, rate) + piece.timeline.nominal_frames
        return ChunkedVideo(folder, last, seconds, rate, total, piece.stored_size)


def _first_frame(number: int, seconds: int, rate: Fraction) -> int:
    """The number, counted through all pieces, of a piece's first frame."""
    return round(number * seconds * rate)
