"""Whether a library is sound: what is wrong with it, by kind, with the first cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from egoinstructor.errors import InputError
from egoinstructor.library.adding import LENGTH_TOLERANCE
from egoinstructor.library.exact import to_block
from egoinstructor.library.records import ClipEntry
from egoinstructor.library.roots import entry_path
from egoinstructor.library.schema import ENTRY_COLUMNS, NARRATION_VECTOR, VIDEO_VECTOR, to_entries
from egoinstructor.library.store import Store
from egoinstructor.problem_count import ProblemCount
from egoinstructor.video.identity import content_digest


@dataclass(slots=True)
class VerifyReport:
    """The result of `ExoLibrary.verify`.

    Args:
        uri: of the library.
        clips: rows looked at.
        videos: videos in the log.
        latents: latents looked at.
        files: video files looked at.
        findings: by kind, what is wrong.
    """

    uri: str
    clips: int = 0
    videos: int = 0
    latents: int = 0
    files: int = 0
    findings: dict[str, ProblemCount] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def problems(self) -> list[str]:
        """A line for each kind."""
        return [f"{found.count} {kind}: {'; '.join(found.examples[:3])}" for kind, found in self.findings.items()]

    def add(self, kind: str, case: str) -> None:
        """Count a problem."""
        self.findings.setdefault(kind, ProblemCount()).add(case)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ok": self.ok}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A line of totals, then a table of problems."""
        files = f", {self.files:,} files" if self.files else ""
        yield f"{escape(self.uri)}: {self.clips:,} clips, {self.videos:,} videos, {self.latents:,} latents{files} looked at"
        if self.findings:
            table = Table("what", "count", "first cases", title="Problems", style="red", show_lines=True)
            for kind, found in self.findings.items():
                table.add_row(kind, f"{found.count:,}", escape("\n".join(found.examples[:3])))
            yield table
        else:
            yield "no problems"


def verify_library(store: Store, roots: dict[str, Path], *, files: bool) -> VerifyReport:
    """Look at every row.

    Args:
        store: the library's tables.
        roots: the root of each source.
        files: also read every video, and compare its digest.
    """
    report = VerifyReport(store.uri)
    ids: set[bytes] = set()
    of_video: Counter[str] = Counter()  # clips by digest
    places: dict[tuple[str, str], ClipEntry] = {}
    for key, entry, fault in _clips(store):
        report.clips += 1
        of_video[entry.video_digest] += 1
        if bytes.fromhex(key) in ids:
            report.add("clips twice", f"{key} of {entry.video}")
        ids.add(bytes.fromhex(key))
        if key != entry.id:
            report.add("ids that aren't their content's", f"{key} of {entry.video}")
        if fault:
            report.add(fault, f"{key} of {entry.video}")
        if entry.source not in roots:
            report.add("sources that aren't known", entry.source)
        places.setdefault((entry.source, entry.video), entry)
    _check_latents(store, ids, report)
    _check_log(store, of_video, report)
    if files:
        for entry in places.values():
            report.files += 1
            _check_file(entry, roots, report)
    return report


def _clips(store: Store) -> Iterator[tuple[str, ClipEntry, str]]:
    """Each row's id, its clip, and what is wrong with its vectors, if anything."""
    import pyarrow as pa

    columns = ["id", *ENTRY_COLUMNS, VIDEO_VECTOR, NARRATION_VECTOR]
    for batch in store.batches("clips", columns):
        rows = pa.Table.from_batches([batch])
        vectors = to_block(rows, [VIDEO_VECTOR, NARRATION_VECTOR]).vectors
        # NaN is far from 1 too
        wrong = {name: ~((values.float().norm(dim=1) - 1).abs() < LENGTH_TOLERANCE) for name, values in vectors.items()}
        said = rows[NARRATION_VECTOR].is_valid().to_pylist()
        for row, (key, entry) in enumerate(zip(rows["id"].to_pylist(), to_entries(rows), strict=True)):
            fault = ""
            if wrong[VIDEO_VECTOR][row] or (said[row] and wrong[NARRATION_VECTOR][row]):
                fault = "vectors that aren't of length 1"
            elif said[row] != bool(entry.text):
                fault = "narrations without a vector, or vectors without a narration"
            yield key, entry, fault


def _check_latents(store: Store, ids: set[bytes], report: VerifyReport) -> None:
    for batch in store.batches("latents", ["clip", "captioner", "shape", "data"]):
        for clip, captioner, shape, data in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            report.latents += 1
            if bytes.fromhex(clip) not in ids:
                report.add("latents of clips that aren't there", f"{clip} of {captioner}")
            if len(data) != 2 * shape[0] * shape[1]:
                report.add("latents that are cut off", f"{clip} of {captioner}: {len(data)} bytes for {tuple(shape)}")


def _check_log(store: Store, of_video: Counter[str], report: VerifyReport) -> None:
    """A video that the log calls finished has its clips; one that it doesn't know was interrupted, which is no fault."""
    for row in store.rows("videos", ["source", "video", "digest", "clips"]).to_pylist():
        report.videos += 1
        if of_video[row["digest"]] < row["clips"]:
            report.add(
                "finished videos that lack clips",
                f"{row['video']} of {row['source']}: {of_video[row['digest']]} of {row['clips']}",
            )


def _check_file(entry: ClipEntry, roots: dict[str, Path], report: VerifyReport) -> None:
    try:
        path = entry_path(entry, roots)
        digest = content_digest(path)
    except InputError as error:
        report.add("videos that can't be read", str(error))
        return
    if digest != entry.video_digest:
        report.add("videos that have changed", str(path))
