"""A folder of videos, each with its words in a file beside it or with none."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging
from egoinstructor.library.sources.paths import Names
from egoinstructor.library.sources.rows import Finding, Row, SourceVideo
from egoinstructor.library.sources.sidecars import SUFFIXES, UNREAD, Sidecar, owner, ranked
from egoinstructor.library.subtitles import SUBTITLE_SUFFIXES, Subtitles, read_subtitles
from egoinstructor.library.transcripts import read_transcript
from egoinstructor.video.folder import VIDEO_SUFFIXES, find_videos, video_format

_OTHER = frozenset((
    ".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".heic", ".thm", ".xmp", ".pdf", ".md", ".html", ".xml", ".yaml",
    ".yml", ".toml", ".ini", ".log", ".py", ".csv", ".jsonl", ".parquet", ".npy", ".npz", ".pt", ".safetensors", ".wav",
    ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".zip", ".gz", ".tar", ".part", ".ytdl", ".db",
))  # fmt: skip
"""Files that are neither video nor words, whatever their first bytes: m4a and ogg begin as videos do."""


class FolderSource:
    """Every video in a folder and its subfolders; `a.mp4` has its words in `a.srt`, `a.en.vtt`, `a.json`, …: see `sidecars`.

    Hidden files are passed over, and links to folders are not followed.

    Args:
        root: the folder.
        name: of the collection.
        language: of the narration to read, such as "en"; None for a file whose name tells none, then English, then the
            first by name.
        merging: how long clips may be.
        window: seconds; length of the clips of a video in which nothing is said.
        allow_outside: read links that lead out of the folder, of videos and of subtitles.

    Raises:
        InputError: it is not a folder, or can't be listed.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        language: str | None = None,
        merging: Merging | None = None,
        window: float = 4.0,
        allow_outside: bool = False,
    ) -> None:
        self.root = root
        self.name = name
        self._language = language
        self._merging = merging or Merging()
        self._window = window
        self._allow_outside = allow_outside
        self._videos = find_videos(root)
        self._unread: list[str] = []  # files of words of videos that have others

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._videos)

    def __iter__(self) -> Iterator[SourceVideo | Finding]:
        """The videos by name; a video's words are read when it is its turn. Last, how many have none."""
        names = Names(self.root, allow_outside=self._allow_outside)
        previews = _previews(self._videos)
        sidecars, others = self._sidecars()
        yield from others
        silent = total = 0
        self._unread.clear()
        for video in self._videos:
            if video in previews:
                reason = f"a preview of {previews[video].name}, which is read; left out"
                yield Finding("note", str(video), "", reason)
                continue
            try:
                path = names.find(video.as_posix())
                rows, notes = self._rows(path, sidecars.get(video, []), names)
            except InputError as error:
                yield Finding("failure", str(video), "", str(error))
                continue
            total, silent = total + 1, silent + (not rows)
            yield SourceVideo(self.name, path, rows, self._merging, self._window, notes)
        if self._unread:
            named = ", ".join(self._unread[:3]) + (", …" if len(self._unread) > 3 else "")
            reason = f"{len(self._unread)} further files of words are not read, as one is read for each video: {named}"
            yield Finding("note", self.name, "", reason)
        if silent:
            reason = f"{silent} of {total} videos go in without words, in clips of {self._window:g} s"
            yield Finding("note", self.name, "", reason)

    def _sidecars(self) -> tuple[dict[Path, list[Sidecar]], list[Finding]]:
        """The files of words of each video; and what is left aside: words of no video or no known form, links."""
        videos = set(self._videos)
        by_folder: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for video in videos:
            for name in {video.name, video.stem}:
                by_folder[video.parent][name].append(video)
        found: dict[Path, list[Sidecar]] = defaultdict(list)
        others = []
        for parent, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            here = Path(parent).relative_to(self.root)
            for name in folders:
                if Path(parent, name).is_symlink():
                    others.append(Finding("note", str(here / name), "", "a link to a folder; not followed"))
            for name in sorted(files):
                file = here / name
                if name.startswith(".") or file in videos or file.suffix.lower() in _OTHER:
                    continue
                if file.suffix.lower() in VIDEO_SUFFIXES:
                    others.append(Finding("note", str(file), "", "ends as MPEG-TS does and isn't; not read"))
                    continue
                match = owner(file, by_folder[here])
                if match is not None and file.suffix.lower() in SUFFIXES:
                    for video in match[0]:
                        found[video].append(match[1])
                elif reason := _left_aside(self.root / file, match is not None):
                    others.append(Finding("note", str(file), "", reason))
        return found, others

    def _rows(self, video: str, sidecars: list[Sidecar], names: Names) -> tuple[tuple[Row, ...], tuple[Finding, ...]]:
        """What is said in a video, and what is to be told of it.

        Raises:
            InputError: subtitles that can't be read, or may not be.
        """
        candidates = ranked(sidecars, self._language)
        if sidecars and not candidates:
            tongues = ", ".join(sorted({sidecar.language for sidecar in sidecars}))
            reason = f"no narration in {self._language!r}, only in {tongues}; it goes in without words"
            return (), (Finding("note", video, "", reason),)
        for chosen in candidates:
            names.refuse_link_out(self.root / chosen.path, f"subtitles {chosen.path.as_posix()!r}")
            if (subtitles := self._read(chosen)) is not None:
                self._unread += [str(sidecar.path) for sidecar in sidecars if sidecar is not chosen]
                break
        else:
            return (), tuple(
                Finding("note", str(other.path), "", "no transcript of speech; not read") for other in candidates
            )
        lost = tuple(Finding("row", str(chosen.path), "", reason) for reason in subtitles.lost)
        notes = tuple(Finding("note", str(chosen.path), "", note) for note in subtitles.notes)
        rows = tuple(
            Row(cue.start, cue.end, cue.text, where=f"{chosen.path} at {cue.start:g} s") for cue in subtitles.cues
        )
        return rows, lost + notes

    def _read(self, sidecar: Sidecar) -> Subtitles | None:
        path = self.root / sidecar.path
        if path.suffix.lower() in SUBTITLE_SUFFIXES:
            return read_subtitles(path, sidecar.language)
        return read_transcript(path, sidecar.language)


def _previews(videos: Sequence[Path]) -> dict[Path, Path]:
    """The low-resolution copies that GoPro cameras write beside their recordings, with the recording of each."""
    there = {video.with_suffix("").as_posix().upper(): video for video in videos if video.suffix.lower() != ".lrv"}
    found = {}
    for video in videos:
        if video.suffix.lower() == ".lrv" and video.name.upper().startswith("GL"):
            for prefix in ("GX", "GH", "GP"):
                whole = there.get(video.with_name(prefix + video.stem[2:]).as_posix().upper())
                if whole is not None:
                    found[video] = whole
    return found


def _left_aside(path: Path, of_a_video: bool) -> str | None:
    """Why a file that looks like words or like a video is not read; None for any other."""
    suffix = path.suffix.lower()
    if suffix in SUBTITLE_SUFFIXES or (suffix in UNREAD and suffix != ".txt" and not of_a_video):
        return "subtitles of no video; not read"
    if suffix in UNREAD and of_a_video:
        return (
            f"words in a form that isn't read ({suffix}); not read. Convert it: ffmpeg -i {path.name} {path.stem}.srt"
        )
    if suffix in SUFFIXES or suffix in UNREAD:
        return None
    if (kind := video_format(path)) is not None:
        return f"begins as a video does ({kind}), but its suffix is no video's; not read. Rename it, as {path.stem}.mp4"
    return None
