"""A folder of videos, each with its subtitles beside it or with none."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging
from egoinstructor.library.sources.paths import Names
from egoinstructor.library.sources.rows import Finding, Row, SourceVideo
from egoinstructor.library.subtitles import SUBTITLE_SUFFIXES, read_subtitles
from egoinstructor.video.folder import find_videos

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A subtitle file beside a video; its language is "" where the name doesn't tell."""

    path: Path
    language: str


class FolderSource:
    """Every video in a folder and its subfolders; `a.mp4` has its words in `a.srt`, `a.vtt`, `a.en.srt`, ….

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

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._videos)

    def __iter__(self) -> Iterator[SourceVideo | Finding]:
        """The videos by name; a video's subtitles are read when it is its turn."""
        names = Names(self.root, allow_outside=self._allow_outside)
        sidecars, others = self._sidecars()
        yield from others
        for video in self._videos:
            try:
                path = names.find(video.as_posix())
                rows, notes = self._rows(path, sidecars.get(video, []), names)
            except InputError as error:
                yield Finding("failure", str(video), "", str(error))
                continue
            yield SourceVideo(self.name, path, rows, self._merging, self._window, notes)

    def _sidecars(self) -> tuple[dict[Path, list[Sidecar]], list[Finding]]:
        """The subtitles of each video; and those of none, and links to folders."""
        by_stem: dict[Path, list[Path]] = defaultdict(list)
        for video in self._videos:
            by_stem[video.with_suffix("")].append(video)
        found: dict[Path, list[Sidecar]] = defaultdict(list)
        others = []
        for parent, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            here = Path(parent).relative_to(self.root)
            for name in folders:
                if Path(parent, name).is_symlink():
                    others.append(Finding("note", str(here / name), "", "a link to a folder; not followed"))
            for name in sorted(files):
                file = PurePath(name)
                if name.startswith(".") or file.suffix.lower() not in SUBTITLE_SUFFIXES:
                    continue
                stem, language = here / file.stem, ""
                if stem not in by_stem and _LANGUAGE.fullmatch(stem.suffix[1:]):
                    stem, language = stem.with_suffix(""), stem.suffix[1:].replace("_", "-").lower()
                for video in by_stem.get(stem, []):
                    found[video].append(Sidecar(here / name, language))
                if stem not in by_stem:
                    others.append(Finding("note", str(here / name), "", "subtitles of no video; not read"))
        return found, others

    def _rows(self, video: str, sidecars: list[Sidecar], names: Names) -> tuple[tuple[Row, ...], tuple[Finding, ...]]:
        """What is said in a video, and what is to be told of it.

        Raises:
            InputError: subtitles that can't be read, or may not be.
        """
        chosen = choose_sidecar(sidecars, self._language)
        if chosen is None:
            tongues = ", ".join(sorted({sidecar.language for sidecar in sidecars}))
            reason = f"no narration in {self._language!r}, only in {tongues}; it goes in without words"
            return (), (Finding("note", video, "", reason),) if sidecars else ()
        names.refuse_link_out(self.root / chosen.path, f"subtitles {chosen.path.as_posix()!r}")
        subtitles = read_subtitles(self.root / chosen.path)
        lost = tuple(Finding("row", str(chosen.path), "", reason) for reason in subtitles.lost)
        notes = tuple(Finding("note", str(chosen.path), "", note) for note in subtitles.notes)
        rows = tuple(
            Row(cue.start, cue.end, cue.text, where=f"{chosen.path} at {cue.start:g} s") for cue in subtitles.cues
        )
        return rows, lost + notes


def choose_sidecar(sidecars: list[Sidecar], language: str | None) -> Sidecar | None:
    """The file to read: in the language asked for (`en` is `en-US` too), or of none that the name tells.

    Without a language: one whose name tells none, then English, then the first by name. `.srt` goes before `.vtt`.
    """
    wanted = (language or "en").replace("_", "-").lower()

    def rank(sidecar: Sidecar) -> tuple[int, str, int, str]:
        tongue = sidecar.language
        if tongue == wanted:
            fit = 0
        elif tongue.startswith(f"{wanted}-"):
            fit = 1
        else:
            fit = 2 if not tongue else 3
        if language is None and not tongue:
            fit = -1
        suffix = SUBTITLE_SUFFIXES.index(sidecar.path.suffix.lower())
        return fit, tongue, suffix, str(sidecar.path)

    best = min(sidecars, key=rank, default=None)
    return None if best is None or (language is not None and rank(best)[0] == 3) else best
