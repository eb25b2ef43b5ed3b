"""Frames of a clip as pictures that stand in a page itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError, MissingExtraError, require_extra
from egoinstructor.video.decode import load_video

HEIGHT = 120
QUALITY = 80


def stills(video: Path, start: float | None, end: float | None, count: int) -> list[str]:
    """Frames as `data:` addresses of JPEGs; none where the video can't be read, or Pillow is missing.

    Args:
        video: a file, or a folder of pieces.
        start: seconds, or None for the start of the video.
        end: seconds, or None for its end.
        count: how many.
    """
    try:
        require_extra("PIL", "demo", "Pictures in the report")
        frames = load_video(video, start=start, end=end, num_frames=count).pixels
    except (InputError, MissingExtraError):
        return []
    return [_address(frame) for frame in frames]


def _address(frame: Any) -> str:
    from PIL import Image

    picture, content = Image.fromarray(frame), io.BytesIO()
    picture.thumbnail((4 * HEIGHT, HEIGHT))
    picture.save(content, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
