"""Where the videos of a data set lie: which files are videos, and which one a name in metadata means."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePath

from egoinstructor.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".3gp", ".3g2", ".lrv", ".insv", ".ts", ".mts", ".m2ts",
    ".mpg", ".mpeg", ".vob", ".ogv", ".flv", ".wmv")  # fmt: skip
"""The files taken for videos, in any case; the first is preferred where a name has several."""

_MPEG_TS = (".ts", ".mts", ".m2ts")

ProgressCallback = Callable[[int, int, str], None]
"""Called after each video: how many have been dealt with, how many there are, which one it was."""


def find_videos(folder: Path) -> list[Path]:
    """Every video in a folder and its subfolders, relative to it, sorted; hidden files and folders are passed over.

    Raises:
        InputError: it is not a folder, or one in it can't be listed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder that the videos lie in.")

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be listed: {error.strerror}. Correct its permissions.") from error

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            suffix = PurePath(name).suffix.lower()
            if name.startswith(".") or suffix not in VIDEO_SUFFIXES:
                continue
            path = Path(parent, name)
            if suffix in _MPEG_TS and video_format(path) is None:
                continue  # TypeScript's sources end so too
            found.append(path.relative_to(folder))
    return sorted(found)


def video_format(path: Path) -> str | None:
    """The container that a file's first bytes are of; None for none, and for a file that can't be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as file:
            head = file.read(400)
    except OSError:
        return None
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "Matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head[:4] == b"\x00\x00\x01\xba":
        return "MPEG-PS"
    if head[:3] == b"FLV":
        return "Flash video"
    if head[:4] == b"\x30\x26\xb2\x75":
        return "Windows Media"
    # A packet of MPEG-TS has 188 bytes, in AVCHD with 4 of time before it.
    if any(head[first::step][:2] == b"GG" for first, step in ((0, 188), (4, 192))):
        return "MPEG-TS"
    return None


class VideoFolder:
    """The videos under one root, by the names that metadata gives them. Each folder is listed once.

    Args:
        root: the folder; need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[str, Path] = {}
        self._listings: dict[Path, dict[str, str]] = {}

    def path(self, name: str) -> Path:
        """The file or folder of pieces that `name` means: `{root}/{name}` itself, or with a video suffix.

        Where there is none, the path at which the original's layout has it, `{root}/{name}.mp4`.

        Raises:
            InputError: a name that leads out of the root.
        """
        if name not in self._paths:
            self._paths[name] = self._find(name)
        return self._paths[name]

    def _find(self, name: str) -> Path:
        inner = PurePath(name)
        if inner.is_absolute() and inner.is_relative_to(self.root.absolute()):
            inner = inner.relative_to(self.root.absolute())
        if inner.is_absolute() or ".." in inner.parts or "\0" in name or not inner.name:
            raise InputError(
                f"video {name!r} must lie inside {self.root}. Correct the name, or give the folder that holds it."
            )
        plain = self.root / inner
        if plain.parent not in self._listings:
            self._listings[plain.parent] = _listing(plain.parent)
        suffix = "" if plain.suffix.lower() in VIDEO_SUFFIXES else ".mp4"
        return plain.with_name(self._listings[plain.parent].get(plain.name, plain.name + suffix))


def _listing(folder: Path) -> dict[str, str]:
    """What each name means in one folder: an entry by its own name, and a video by its name without suffix."""
    try:
        entries = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    meant: dict[str, str] = {}
    for suffix in reversed(VIDEO_SUFFIXES):
        meant |= {PurePath(entry).stem: entry for entry in entries if PurePath(entry).suffix.lower() == suffix}
    return meant | {entry: entry for entry in entries}
