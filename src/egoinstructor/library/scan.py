"""A video on its way into a library: its content, whether an earlier ingest finished it, and its clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from egoinstructor.errors import VideoError
from egoinstructor.library.log import Place
from egoinstructor.library.records import ClipEntry, VideoRecord
from egoinstructor.library.sources.rows import Finding, SourceVideo
from egoinstructor.video.decode import probe
from egoinstructor.video.identity import content_digest, stamp

LEFT = " and earlier rows"
"""Ends the fingerprint of a video with clips that its rows no longer name: the run that may remove them must look again."""


@dataclass(slots=True)
class ScannedVideo:
    """A video on its way in: what its file is, and what becomes of its clips.

    Args:
        of: the video as its source names it.
        path: its file.
        rows: fingerprint of its rows and of what makes clips of them.
        latents: key of the latents that are asked for; "" if none are.
        digest: of the file's content; "" where it can't be read.
        stamp: size and time of change of the file with that content.
        finished_before: an earlier run did all of it.
        entries: its clips, by id; of one that was finished before only if they are needed.
        findings: what is to be told of it.
        waiting: clips that are not dealt with yet.
        missing: clips that can't be embedded.
        errors: why something of it can't be read.
    """

    of: SourceVideo
    path: Path
    rows: str
    latents: str
    digest: str = ""
    stamp: str = ""
    finished_before: bool = False
    entries: dict[str, ClipEntry] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    waiting: int = 0
    missing: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """What the log files it under."""
        return self.of.source, self.of.video

    @property
    def fingerprint(self) -> str:
        """What the log remembers it by: its rows, then the latents that were made."""
        return f"{self.rows} {self.latents}".rstrip()

    def finished(self, record: VideoRecord | None) -> bool:
        """Whether a record says that all of this is done, latents or not if none are asked for."""
        if record is None or record.digest != self.digest or record.error or record.fingerprint.endswith(LEFT):
            return False
        return record.fingerprint == self.fingerprint or (not self.latents and _rows(record) == self.rows)

    def changed(self, record: VideoRecord | None) -> bool:
        """Whether there may be clips by other rows or content than it has now."""
        if record is None or not self.entries:
            return False
        return record.fingerprint.endswith(LEFT) or (record.digest, _rows(record)) != (self.digest, self.rows)

    def fail(self, reason: str, where: str = "") -> None:
        """Note that it, or a clip of it, can't be read."""
        self.errors.append(reason)
        self.findings.append(Finding("failure", self.of.video, where, reason))


def scan_video(
    item: SourceVideo, root: Path, latents: str, record: VideoRecord | None, shared: Callable[[str], bool]
) -> ScannedVideo:
    """Read a video's file, unless it is finished, and make its rows clips. A file that can't be read is a finding.

    Args:
        item: the video as its source names it.
        root: of the source.
        latents: key of the latents that are asked for; "" if none are.
        record: what the log has of it.
        shared: whether other files may have the content of a digest: what a video names is then made out though it is
            finished.
    """
    video = ScannedVideo(item, root / item.video, item.fingerprint, latents)
    try:
        video.stamp = stamp(video.path)  # before its content: a file that is written meanwhile is read again next time
        known = record.digest if record is not None and record.stamp == video.stamp else ""
        video.digest = known or content_digest(video.path)
        video.finished_before = video.finished(record)
        if video.finished_before and not shared(video.digest):
            return video
        info = probe(video.path)
    except VideoError as error:
        video.finished_before = False
        video.fail(str(error))
        return video
    clips, video.findings = item.clips(info.duration, info.start)
    for clip in clips:
        entry = ClipEntry(item.video, clip.start, clip.end, clip.narration, item.source, video.digest, clip.refined)
        video.entries[entry.id] = entry
    return video


def holds(path: Path, digest: str) -> bool:
    """Whether a file is there with this content: another one may have taken its name."""
    try:
        return content_digest(path) == digest
    except VideoError:
        return False


def _rows(record: VideoRecord) -> str:
    return record.fingerprint.partition(" ")[0]
