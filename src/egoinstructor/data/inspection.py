"""Metadata against the videos on disk: what of it can be trained on, and what is wrong with the rest."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from egoinstructor.data.metadata import Entry, Metadata, clean_narration, read_splits
from egoinstructor.errors import InputError
from egoinstructor.problem_count import ProblemCount
from egoinstructor.records import Clip
from egoinstructor.video.chunked import open_pieces
from egoinstructor.video.decode import probe
from egoinstructor.video.folder import ProgressCallback, VideoFolder
from egoinstructor.video.sampling import clip_span


@dataclass(slots=True)
class Totals:
    """What one split holds.

    Args:
        samples: ego segments.
        usable_samples: those that can be trained on: their video is there, their times lie in it, they have a caption.
        ego_videos: different videos of them.
        ego_hours: length of the usable ones together.
        references: how-to segments, counted for each sample that lists them.
        usable_references: those of usable samples that can be shown.
        exo_videos: different videos of the references.
    """

    samples: int = 0
    usable_samples: int = 0
    ego_videos: int = 0
    ego_hours: float = 0.0
    references: int = 0
    usable_references: int = 0
    exo_videos: int = 0


@dataclass(frozen=True, slots=True)
class InspectReport:
    """The result of `inspect_metadata`.

    Args:
        splits: totals by the split's file.
        errors: by kind, what can't be trained on, or must not be.
        warnings: by kind, what is odd, but does no harm.
    """

    splits: Mapping[str, Totals]
    errors: Mapping[str, ProblemCount]
    warnings: Mapping[str, ProblemCount]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table of totals, then one of problems."""
        totals = Table("", *self.splits, title="Totals")
        for name in Totals.__dataclass_fields__:
            values = [getattr(split, name) for split in self.splits.values()]
            totals.add_row(name.replace("_", " "), *(f"{v:,.1f}" if isinstance(v, float) else f"{v:,}" for v in values))
        yield totals
        for title, findings, style in (("Errors", self.errors, "red"), ("Warnings", self.warnings, "yellow")):
            if findings:
                table = Table("what", "count", "first cases", title=title, style=style, show_lines=True)
                for kind, found in findings.items():
                    table.add_row(kind, f"{found.count:,}", escape("\n".join(found.examples[:3])))
                yield table


def inspect_metadata(
    path: str | os.PathLike[str],
    *configs: str | os.PathLike[str],
    datapath_ego: str | os.PathLike[str] | None = None,
    datapath_exo: str | os.PathLike[str] | None = None,
    use_chat: bool = False,
    clean: bool = False,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> InspectReport:
    """Check metadata against the videos on disk. Each video is opened once.

    Args:
        path: an instructions file, or a JSONL, whose name ends in `.jsonl`.
        configs: the config file of each split; none with a JSONL.
        datapath_ego: folder of the ego videos; by default that of `path`.
        datapath_exo: folder of the how-to videos; by default that of `path`.
        use_chat: captions will be taken from `chat_answer`.
        clean: captions will be cleaned: those of which nothing remains count as empty.
        workers: how many videos are opened at a time; by default four for each CPU, since disks are waited for.
        progress: see `videos.Progress`.

    Raises:
        InputError: a file that can't be read as metadata at all, as `metadata.read_splits` says.
    """
    workers = workers if workers is not None else 4 * (os.cpu_count() or 1)
    if workers < 1:
        raise InputError(f"workers={workers}: give 1 or more.")
    splits = read_splits(path, *configs)
    inspector = _Inspector(*splits[0].folders(datapath_ego, datapath_exo), use_chat, clean)
    inspector.look(splits, workers, progress)
    return InspectReport(
        {str(split.origin): inspector.count(split) for split in splits}, inspector.errors, inspector.warnings
    )


@dataclass(frozen=True, slots=True)
class _Video:
    """What a look at a video told."""

    seconds: float = 0.0
    missing_pieces: frozenset[int] = frozenset()
    piece_seconds: int = 300
    fault: tuple[str, str] | None = None  # kind and case


class _Inspector:
    """Judges segments, each once however many samples list it, and keeps what it found."""

    def __init__(self, ego: VideoFolder, exo: VideoFolder, use_chat: bool, clean: bool) -> None:
        self.errors: dict[str, ProblemCount] = {}
        self.warnings: dict[str, ProblemCount] = {}
        self._ego, self._exo, self._use_chat, self._clean = ego, exo, use_chat, clean
        self._videos: dict[Path, _Video] = {}
        self._judged: dict[tuple[Path, str], bool] = {}  # by root and id: whether it is usable
        self._splits: dict[str, Path] = {}  # of each ego id

    def look(self, splits: Iterable[Metadata], workers: int, progress: ProgressCallback | None) -> None:
        """Open every video that the splits name."""
        paths: dict[Path, None] = {}
        for split in splits:
            for key, references in split.shots.items():
                for folder, entry in self._entries(split, key, references):
                    with suppress(InputError):  # told with the segment
                        paths[folder.path(entry.video)] = None
        with ThreadPoolExecutor(workers) as pool:
            for number, (path, video) in enumerate(zip(paths, pool.map(_look, paths), strict=True), 1):
                self._videos[path] = video
                if video.fault is not None:
                    self._error(*video.fault)
                if progress is not None:
                    progress(number, len(paths), str(path))

    def count(self, split: Metadata) -> Totals:
        """Judge every segment of a split."""
        totals = Totals(samples=len(split.shots))
        videos: dict[VideoFolder, set[str]] = {self._ego: set(), self._exo: set()}
        for key, references in split.shots.items():
            if self._splits.setdefault(key, split.origin) != split.origin:
                self._warn("samples in two splits", f"{key}: {self._splits[key]} and {split.origin}")
            usable = self._usable(self._ego, split, key, "samples that don't exist", f"{split.origin.name}: {key}")
            if key in references:
                self._error("samples among their own references", f"{split.origin.name}: {key}")
                usable = False
            if len(set(references)) < len(references):
                self._warn("samples with a reference twice", f"{split.origin.name}: {key}")
            shown = sum(
                self._usable(self._exo, split, reference, "references that don't exist", f"{key}: {reference}")
                for reference in references
                if reference != key
            )
            if usable and not shown:
                self._warn("samples without a usable reference", f"{split.origin.name}: {key}")
            totals.references += len(references)
            if usable:
                sample = split.entries[key]
                totals.usable_samples += 1
                totals.usable_references += shown
                end = self._videos[self._ego.path(sample.video)].seconds if sample.end is None else sample.end
                totals.ego_hours += (end - (sample.start or 0.0)) / 3600
            for folder, entry in self._entries(split, key, references):
                videos[folder].add(entry.video)
        totals.ego_videos, totals.exo_videos = len(videos[self._ego]), len(videos[self._exo])
        return totals

    def _entries(self, split: Metadata, key: str, references: Iterable[str]) -> Iterator[tuple[VideoFolder, Entry]]:
        """The segments of a sample that exist, each with the folder of its video."""
        if key in split.entries:
            yield self._ego, split.entries[key]
        for reference in references:
            if reference != key and reference in split.entries:
                yield self._exo, split.entries[reference]

    def _usable(self, folder: VideoFolder, split: Metadata, key: str, unknown: str, case: str) -> bool:
        """Whether a segment can be trained on; what is wrong with it is told the first time."""
        if key not in split.entries:
            self._error(unknown, case)
            return False
        known = folder.root, key
        if known not in self._judged:
            fault = self._fault(folder, split.entries[key])
            if fault is not None and fault[1]:
                self._error(fault[0], f"{key}: {fault[1]}")
            self._judged[known] = fault is None
        return self._judged[known]

    def _fault(self, folder: VideoFolder, entry: Entry) -> tuple[str, str] | None:
        """Kind and case of what is wrong with a segment; no case where it was told with the video."""
        text = (entry.chat_answer or "") if self._use_chat else entry.answer
        if not (clean_narration(text) if self._clean else text).strip():
            return "empty captions", repr(text)
        try:
            video = self._videos[folder.path(entry.video)]
        except InputError as error:
            return "videos outside their folder", str(error)
        try:
            clip = Clip(folder.path(entry.video), entry.start, entry.end)
            if video.fault is not None:
                return video.fault[0], ""
            start, end = clip_span(clip, video.seconds)
        except InputError as error:
            return "impossible times", str(error)
        first, last = int(start // video.piece_seconds), max(math.ceil(end / video.piece_seconds) - 1, 0)
        missing = sorted(video.missing_pieces.intersection(range(first, last + 1)))
        if missing:
            return "missing pieces", f"{clip} needs {missing[0]:04d}.mp4"
        return None

    def _error(self, kind: str, case: str) -> None:
        self.errors.setdefault(kind, ProblemCount()).add(case)

    def _warn(self, kind: str, case: str) -> None:
        self.warnings.setdefault(kind, ProblemCount()).add(case)


def _look(path: Path) -> _Video:
    if not path.exists():
        return _Video(fault=("missing videos", str(path)))
    try:
        seconds = probe(path).duration
        if not path.is_dir():
            return _Video(seconds)
        pieces = open_pieces(path)
    except InputError as error:
        return _Video(fault=("unreadable videos", str(error)))
    missing = (number for number in range(pieces.last + 1) if not (path / f"{number:04d}.mp4").exists())
    return _Video(seconds, frozenset(missing), pieces.seconds)
