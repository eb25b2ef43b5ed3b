"""A folder of videos into the form that training reads: `resize_folder`, `chunk_folder`.

    SRC/a/b.mkv ──a process──▶ OUT/.prepare/partial/17 ──rename──▶ OUT/a/b.mp4 ──▶ a line in OUT/.prepare/manifest.jsonl

Workers write only under `partial`, which every run empties first; this process alone renames what they finished, then
notes it in the manifest. So a file outside `.prepare` is whole, whenever the run was killed, and one in the manifest
is not made again, as long as its source (size and time of change), the settings and its own size are as noted.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from egoinstructor.data.transcode import Chunk, Operation, Resize
from egoinstructor.engine import ATTEMPTS, Died, Failed, each
from egoinstructor.errors import InputError
from egoinstructor.files import JsonlLog, exclusive
from egoinstructor.video.folder import ProgressCallback, find_videos

FORMAT = 1  # raise it when the same settings would write something else
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What became of each video.

    Args:
        out: the folder that was written.
        made: number of videos finished by this run, by how: "copied", "re-encoded", "resampled to 30 frames/s".
        skipped: number of videos that an earlier run had finished.
        failures: why each of the others failed, by its name in the source folder.
    """

    out: Path
    made: Mapping[str, int]
    skipped: int
    failures: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether every video is finished."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "out": str(self.out),
            "made": dict(self.made),
            "skipped": self.skipped,
            "failures": dict(self.failures),
        }

    def __str__(self) -> str:
        """A line of totals, then a line for each failure."""
        made = ", ".join(f"{count} {how}" for how, count in self.made.items()) or "none made"
        totals = f"{self.out}: {made}, {self.skipped} finished before, {len(self.failures)} failed"
        return "\n".join([totals, *(f"  {name}: {reason}" for name, reason in self.failures.items())])


def resize_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shorter_side: int = 320,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> PrepareReport:
    """Make every video in a folder smaller: `source/a/b.mkv` becomes `out/a/b.mp4`.

    Args:
        source: the folder; subfolders are read too.
        out: another folder; what it holds under the same names is replaced.
        shorter_side: pixels; a video that is smaller keeps its size.
        workers: processes; by default one for each CPU.
        progress: see `videos.Progress`.

    Raises:
        InputError: folders or settings that can't be used, another run on the same `out`, a full disk.
    """
    return _prepare(Resize(shorter_side), Path(source), Path(out), workers, progress)


def chunk_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    seconds_per_chunk: int = 300,
    fps: int = 30,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> PrepareReport:
    """Cut every video in a folder into pieces: `source/a.mp4` becomes `out/a/0000.mp4`, `out/a/0001.mp4`, ….

    Args:
        source: the folder; subfolders are read too.
        out: another folder; pieces that it holds under the same names are replaced.
        seconds_per_chunk: length of a piece.
        fps: frames a second of the pieces, see `transcode.Chunk`.
        workers: processes; by default one for each CPU.
        progress: see `videos.Progress`.

    Raises:
        InputError: folders or settings that can't be used, another run on the same `out`, a full disk.
    """
    return _prepare(Chunk(seconds_per_chunk, fps), Path(source), Path(out), workers, progress)


@dataclass(frozen=True, slots=True)
class _Job:
    """One video to do."""

    operation: Operation
    source: Path
    partial: Path
    name: str
    output: Path  # relative to the folder that is written
    made_from: dict[str, Any]  # what the output depends on


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a video was made, or why not."""

    how: str | None = None
    reason: str = ""
    disk_full: bool = False


def _prepare(
    operation: Operation, source: Path, out: Path, workers: int | None, progress: ProgressCallback | None
) -> PrepareReport:
    workers = workers if workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise InputError(f"workers={workers}: give 1 or more.")
    if source.resolve() == out.resolve():
        raise InputError(f"{out} is the folder that is read: give another one to write to.")
    with _exclusive(out) as state:
        jobs, failures = _jobs(operation, source, out, state / "partial")
        manifest = _Manifest(state / "manifest.jsonl")
        todo = [job for job in jobs if not manifest.finished(job, out)]
        skipped, total = len(jobs) - len(todo), len(jobs) + len(failures)
        made: Counter[str] = Counter()
        with closing(each(_worker, todo, workers=workers)) as ended:
            for end in ended:
                job = end.job
                if isinstance(end, Failed):
                    raise end.error
                if isinstance(end, Died):
                    outcome = _Outcome(reason=f"its process ended with exit code {end.exit_code}, {ATTEMPTS} times")
                else:
                    outcome = end.result
                if outcome.how is not None:
                    outcome = _publish(job, out, manifest, outcome)
                if outcome.disk_full:
                    raise InputError(
                        f"no space is left for {out}. Make room and run the same command again: "
                        f"{skipped + made.total()} of {total} videos are finished and kept."
                    )
                if outcome.how is None:
                    failures[job.name] = outcome.reason
                    _remove(job.partial)
                else:
                    made[outcome.how] += 1
                if progress is not None:
                    progress(skipped + made.total() + len(failures), total, job.name)
        report = PrepareReport(out, dict(made), skipped, dict(sorted(failures.items())))
        (state / "report.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    return report


@contextmanager
def _exclusive(out: Path) -> Iterator[Path]:
    """The folder `.prepare`, for one run at a time, with an empty `partial`; that one is gone afterwards."""
    state = out / ".prepare"
    partial = state / "partial"
    try:
        with exclusive(out, state / "lock"):
            _remove(partial)
            partial.mkdir()
            try:
                yield state
            finally:
                _remove(partial)
    except OSError as error:
        raise InputError(f"{out} can't be written to: {error}. Make it writable, or choose another folder.") from error


def _jobs(operation: Operation, source: Path, out: Path, partial: Path) -> tuple[list[_Job], dict[str, str]]:
    """What there is to do, and why some of it can't be done."""
    jobs: list[_Job] = []
    failures: dict[str, str] = {}
    outputs: dict[Path, str] = {}
    folders: dict[Path, str] = {}  # those that outputs lie in
    inside = out.resolve().relative_to(source.resolve()) if out.resolve().is_relative_to(source.resolve()) else None
    for video in find_videos(source):
        if inside is not None and video.is_relative_to(inside):
            continue
        name, output = str(video), operation.output(video)
        taken = next((outputs[path] for path in (output, *output.parents) if path in outputs), folders.get(output))
        if taken is not None:
            failures[name] = f"its output {output} is in the way of that of {taken}: rename one of them"
            continue
        outputs[output] = name
        folders.update(dict.fromkeys(output.parents, name))
        try:
            stat = (source / video).stat()
        except OSError as error:
            failures[name] = str(error)
            continue
        settings = {"operation": operation.name, "format": FORMAT, **asdict(operation)}
        made_from = {"source": name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, **settings}
        jobs.append(_Job(operation, source / video, partial / str(len(jobs)), name, output, made_from))
    if not jobs and not failures:
        raise InputError(f"{source} holds no videos.")
    return jobs, failures


def _worker(rank: int, workers: int) -> Callable[[_Job], _Outcome]:
    """Makes one video at a time, in a worker process."""
    av.logging.set_level(None)  # a broken file is reported once, in the report
    return _work


def _work(job: _Job) -> _Outcome:
    """Make one video."""
    _remove(job.partial)  # of a process that died
    try:
        return _Outcome(how=job.operation.write(job.source, job.partial))
    except (InputError, OSError, av.FFmpegError) as error:
        return _failure(error)


def _failure(error: Exception) -> _Outcome:
    return _Outcome(reason=str(error), disk_full=getattr(error, "errno", None) in FULL)


def _publish(job: _Job, out: Path, manifest: _Manifest, outcome: _Outcome) -> _Outcome:
    """Move a finished output to its place and note it."""
    target = out / job.output
    pieces = sorted(job.partial.iterdir()) if job.partial.is_dir() else None
    try:
        if pieces is None:
            files = {str(job.output): job.partial.stat().st_size}
        else:
            files = {str(job.output / piece.name): piece.stat().st_size for piece in pieces}
            _clear_pieces(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        job.partial.replace(target)
        manifest.add(job, files)
    except OSError as error:
        return _failure(error)
    return outcome


def _clear_pieces(folder: Path) -> None:
    """Remove a folder of pieces; fails, and leaves it, where it holds anything else."""
    if folder.is_dir():
        for path in sorted(folder.iterdir(), reverse=True):
            if re.fullmatch(r"\d{4,}\.mp4", path.name):
                path.unlink()
        folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Manifest:
    """What is finished: a line an output, the last one counts."""

    def __init__(self, path: Path) -> None:
        self._journal = JsonlLog(path)
        self._notes = {line["output"]: line for line in self._journal.lines}

    def finished(self, job: _Job, out: Path) -> bool:
        """Whether the output is there, complete, made from this source with these settings."""
        note = self._notes.get(str(job.output))
        return (
            note is not None
            and note["made_from"] == job.made_from
            and all(_size(out / file) == size for file, size in note["files"].items())
        )

    def add(self, job: _Job, files: Mapping[str, int]) -> None:
        """Note an output that is in its place."""
        self._journal.add({"output": str(job.output), "made_from": job.made_from, "files": files})


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
