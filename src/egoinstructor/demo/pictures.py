"""What is shown of a clip: some of its frames, and its video where a browser can play it."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egoinstructor.demo.folder import DemoFolder
from egoinstructor.errors import VideoError
from egoinstructor.records import Clip
from egoinstructor.video.decode import load_video

FRAMES = 5
PLAYABLE = (".mp4", ".m4v", ".webm")
LARGEST = 25 * 2**20
"""Bytes of a video that is still copied; of a larger one a picture is shown."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A clip in the demo's folder; its paths are relative to that.

    Args:
        frames: `(F, H, W, 3)`; None where the video isn't there, and only what is kept of it was read.
        poster: its middle frame.
        video: with the span that is meant.
    """

    frames: NDArray[np.uint8] | None = None
    poster: str = ""
    video: str = ""


class Media:
    """The clips that are shown, each copied once."""

    def __init__(self, folder: DemoFolder) -> None:
        self._folder = folder
        self._shown: dict[Clip, Medium] = {}
        self._copies: dict[Path, str] = {}

    def of(self, clip: Clip) -> Medium:
        """A clip as it is shown; its files are written when it is first asked for.

        Raises:
            InputError: they can't be written.
        """
        if clip not in self._shown:
            self._shown[clip] = self._show(clip)
        return self._shown[clip]

    def _show(self, clip: Clip) -> Medium:
        from PIL import Image

        try:
            frames = load_video(clip.video, start=clip.start, end=clip.end, num_frames=FRAMES).pixels
        except VideoError:
            return Medium()
        file, content = self._folder.media / f"{len(self._shown)}.jpg", io.BytesIO()
        Image.fromarray(frames[FRAMES // 2]).save(content, "JPEG", quality=90)
        self._folder.write(file, content.getvalue())
        return Medium(frames, f"{file.parent.name}/{file.name}", self._video(clip))

    def _video(self, clip: Clip) -> str:
        path = clip.video
        if not isinstance(path, Path) or path.suffix.lower() not in PLAYABLE or path.stat().st_size > LARGEST:
            return ""
        if path not in self._copies:
            target = self._folder.media / f"{len(self._copies)}{path.suffix.lower()}"
            with self._folder.written():
                shutil.copyfile(path, target)
            self._copies[path] = f"{target.parent.name}/{target.name}"
        span = f"#t={clip.start or 0:g}" + ("" if clip.end is None else f",{clip.end:g}")
        return self._copies[path] + ("" if clip.start is None and clip.end is None else span)
