"""A folder of videos → their frame features, for training a retriever: `encode_folder`.

    SRC/a/b.mkv → OUT/a/b.safetensors: `features` (T, W), half precision, row t the frame in the middle of second t

A file is written whole or not at all and says what it was made from, so that a run that was stopped goes on behind the last
one, and a video or a backbone that changed is done anew.

T seconds, W width of a frame's features.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from egoinstructor.data.prepare import PrepareReport
from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.video.decode import probe
from egoinstructor.video.folder import ProgressCallback, find_videos
from egoinstructor.video.identity import content_identity

SECONDS_PER_READ = 60
"""Seconds whose frames are decoded together: bounds memory."""

_PIECE = re.compile(r"\d{4,}\.mp4")


def encode_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    encoder: TowerFrameEncoder,
    *,
    progress: ProgressCallback | None = None,
) -> PrepareReport:
    """Encode every video in a folder; a folder of pieces (`0000.mp4`, …) is one video.

    Args:
        source: the folder; subfolders are read too.
        out: another folder; features that it holds under the same names, made from something else, are replaced.
        encoder: the backbone; how many frames it takes of a clip doesn't matter here.
        progress: see `videos.Progress`.

    Returns:
        What was encoded, what an earlier run had finished, and why each of the others failed.

    Raises:
        InputError: folders that can't be used, a full disk.
    """
    source, out = Path(source), Path(out)
    done: dict[Path, str] = {}
    failures: dict[str, str] = {}
    made = skipped = 0
    videos = sorted(set(_videos(source)))
    if not videos:
        raise InputError(f"{source} holds no videos.")
    for video in videos:
        target = out / video.with_name(f"{video.name if (source / video).is_dir() else video.stem}.safetensors")
        try:
            if target in done:
                raise InputError(f"its features {target} are those of {done[target]}: rename one of them")
            done[target] = str(video)
            made_from = _made_from(source / video, encoder)
            if _finished(target, made_from):
                skipped += 1
            else:
                _write(target, encode_video(source / video, encoder), made_from)
                made += 1
        except InputError as error:
            failures[str(video)] = str(error)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{target} can't be written: {error}. Make room or choose another folder, and run the same command again: "
                f"{skipped + made} of {len(videos)} videos are finished and kept."
            ) from error
        if progress is not None:
            progress(skipped + made + len(failures), len(videos), str(video))
    return PrepareReport(out, {"encoded": made}, skipped, failures)


def encode_video(video: Path, encoder: TowerFrameEncoder) -> Tensor:
    """Encode a video to a row of features a second `(T, W)`, in half precision.

    A last part of under half a second has none. Seconds before the first picture have the first picture's row.

    Raises:
        VideoError: it can't be read, or its features are no numbers in half precision.
    """
    info = probe(video)
    lead = round(info.start)
    tables = []
    for start, end, rows in _reads(info.duration, lead):
        frames = TowerFrameEncoder(encoder.tower, encoder.preprocessing, num_frames=rows)
        (features,) = frames.encode_clips([Clip(video, start, end)])
        tables.append(features.half().cpu())  # (rows, W)
    table = torch.cat([*[tables[0][:1]] * lead, *tables])
    if not bool(table.isfinite().all()):
        raise VideoError(f"{video}: its features leave the range of half precision. Check the backbone.")
    return table


def _reads(duration: float, lead: int) -> list[tuple[float, float, int]]:
    """Start, end and rows of each part that is decoded together, from second `lead` on; the last rest is one by itself."""
    whole = int(duration)
    starts = range(lead, whole, SECONDS_PER_READ)
    reads = [
        (float(start), float(end), end - start) for start in starts for end in [min(start + SECONDS_PER_READ, whole)]
    ]
    if duration - whole >= 0.5 or not reads:
        reads.append((float(max(whole, lead)), duration, 1))
    return reads


def _videos(source: Path) -> Iterator[Path]:
    """Files, and folders of pieces, relative to the source."""
    for video in find_videos(source):
        yield video.parent if _PIECE.fullmatch(video.name) and video.parent.name else video


def _made_from(video: Path, encoder: TowerFrameEncoder) -> str:
    """What features depend on."""
    return json.dumps([encoder.revision, str(encoder.preprocessing), *content_identity(video)])


def _finished(target: Path, made_from: str) -> bool:
    try:
        with safe_open(target, framework="pt") as file:
            return (file.metadata() or {}).get("made_from") == made_from
    except (SafetensorError, OSError):  # not there, or cut off
        return False


def _write(target: Path, table: Tensor, made_from: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        save_file({"features": table}, partial, {"made_from": made_from})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
