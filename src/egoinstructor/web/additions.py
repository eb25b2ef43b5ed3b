"""A video that somebody uploaded, with narrations, into the library: its file into a folder that the operator named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file
from egoinstructor.library.records import ClipEntry, Filter, VideoRecord
from egoinstructor.records import Clip
from egoinstructor.video.identity import stamp
from egoinstructor.web.limits import Limits
from egoinstructor.web.results import AddReport, Narration

if TYPE_CHECKING:
    from torch import Tensor

    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary

SOURCE = "uploads"
"""The collection that additions belong to."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A clip for the library: what is said in it, and what the models made of its frames.

    Args:
        narration: its span and words.
        vector: the retriever's embedding `(D,)`.
        latents: the captioner's `(L, V)`.
    """

    narration: Narration
    vector: Tensor
    latents: Tensor


def check_folder(library: ExoLibrary, folder: Path) -> None:
    """Refuse a folder that additions can't be kept in.

    Raises:
        InputError: it isn't there, or the library has additions in another one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Make it, or name another one for the videos that are added.")
    known = library.sources().get(SOURCE)
    if known is not None and known.resolve() != folder.resolve():
        raise InputError(
            f"videos were added to library {library.uri} before, and lie in {known}, not in {folder}. Name that folder; "
            "or if they have moved, say so with 'egoinstructor library sources'."
        )


def look(captioner: Captioner, library: ExoLibrary, narration: Narration, clip: Clip, seen: Clip) -> Seen:
    """Embed and encode a clip.

    Args:
        captioner: that will read it.
        library: with its retriever.
        narration: what is said in it.
        clip: its frames, as the captioner samples them.
        seen: its frames, as the retriever samples them.
    """
    (vector,) = library.need_retriever().encode_video([seen], view="exo")
    return Seen(narration, vector, captioner.encode([clip])[clip])


def check_room(
    library: ExoLibrary, folder: Path, upload: Path, digest: str, narrations: Sequence[Narration], limits: Limits
) -> None:
    """Refuse an addition for which there is no room; what is there already takes none.

    Args:
        library: that is added to.
        folder: where the videos of additions lie.
        upload: the video.
        digest: of its content.
        narrations: what is said in it.
        limits: how much users may add.

    Raises:
        LimitError: it would be more than that.
    """
    new = {entry.id for entry in _entries(upload, digest, narrations)}
    more = len(new - library.known(new))
    size = 0 if (folder / _file_name(upload, digest)).exists() else upload.stat().st_size
    if more or size:
        limits.check_additions(library.count(Filter(sources=(SOURCE,))) + more, _bytes_in(folder) + size)


def add(
    captioner: Captioner,
    library: ExoLibrary,
    folder: Path,
    upload: Path,
    digest: str,
    clips: Sequence[Seen],
    limits: Limits,
) -> AddReport:
    """Copy the file, and commit the clips with their latents: nobody need decode the file in this process later.

    Raises:
        InputError: the folder or the library can't be written; nothing was added then.
        LimitError: as in `check_room`; nothing was added then.
    """
    narrations = [seen.narration for seen in clips]
    check_room(library, folder, upload, digest, narrations, limits)  # others may have come since it was last looked at
    name = _file_name(upload, digest)
    target = folder / name
    entries = _entries(upload, digest, narrations)
    texts = library.need_retriever().encode_text([entry.narration for entry in entries])
    fresh = not target.exists()
    if fresh:
        with atomic_file(target) as partial:
            shutil.copyfile(upload, partial)
    try:
        if SOURCE not in library.sources():
            library.add_source(SOURCE, folder)
        added = library.add(entries, torch.stack([seen.vector for seen in clips]), texts)
    except Exception:
        if fresh:
            target.unlink(missing_ok=True)
        raise
    latents: Mapping[str, Tensor] = {entry.id: seen.latents for entry, seen in zip(entries, clips, strict=True)}
    library.put_latents(latents, captioner.latents_key)
    library.log_videos([VideoRecord(SOURCE, name, digest, "added by hand", len(entries), stamp=stamp(target))])
    return AddReport(tuple(entry.id for entry in entries), added)


def _entries(upload: Path, digest: str, narrations: Sequence[Narration]) -> list[ClipEntry]:
    name = _file_name(upload, digest)
    return [ClipEntry(name, one.start, one.end, one.text.strip(), SOURCE, digest) for one in narrations]


def _file_name(upload: Path, digest: str) -> str:
    return digest + ending(upload)


def _bytes_in(folder: Path) -> int:
    """Of the files in a folder; what was left there half written takes room like the rest."""
    with os.scandir(folder) as files:
        return sum(file.stat().st_size for file in files if file.is_file())


def ending(video: Path) -> str:
    """A file's ending by its first bytes, whatever it was called: what browsers play must say what it is."""
    with video.open("rb") as file:
        head = file.read(64)
    if head[4:8] == b"ftyp":
        return ".mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return ".webm" if b"webm" in head else ".mkv"
    return ".video"
