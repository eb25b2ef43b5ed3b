"""What the frozen vision encoder makes of a clip, kept on disk: it then runs once for a clip, not once an epoch.

    FOLDER/.partial/5f3c… ──rename──▶ FOLDER/ab/ab12….safetensors     FOLDER/.ledger: bytes of all files, time of count

A file in its place is whole, whenever a writer was killed. Nothing is synced, so a machine that loses power can leave
holes in files: each carries a checksum, and one that doesn't fit counts as absent. Files are read into memory rather
than mapped: all of a clip is used at once, and a failing disk under a map would kill the process.

Any number of processes and machines share a folder, on a file system with `flock`. The files never outgrow the limit;
those being written add at most one a process. Nothing is evicted: every epoch needs every clip.

Shapes: **F** frames, **P** patches, **V** vision width.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.model.revision import raw_bytes
from egoinstructor.records import Clip
from egoinstructor.video.identity import content_identity

logger = logging.getLogger(__name__)

FORMAT = 1  # raise it when the same key would stand for other features: files, sampling or preprocessing changed
STALE_SECONDS = 600.0  # a partial file this old has lost its writer
RECOUNT_SECONDS = 60.0  # ranks that start together count the files once between them
_LEDGER = struct.Struct("<qd")


@dataclass(slots=True)
class CacheReport:
    """Clips that this process found, didn't find, added, couldn't add; damaged files it removed; bytes of all files.

    Clips can't be added when the limit is reached, or the disk is full or fails. A copy of a cache counts on from
    where its original was.
    """

    hits: int = 0
    misses: int = 0
    written: int = 0
    refused_full: int = 0
    damaged: int = 0
    bytes: int = 0


class FeatureCache:
    """Patch tokens by clip, in a folder; safe to pickle, to fork, and under several processes.

    Args:
        folder: made if it isn't there.
        encoder: `weights_revision`, and whatever else decides the encoder's output, such as autocast's number format.
        preprocessing: frames → pixel values: size, mean, standard deviation.
        limit_bytes: size at which the folder stops growing, of all processes together.

    Raises:
        InputError: a negative limit, or a folder that can't be written or locked.
    """

    def __init__(self, folder: str | Path, *, encoder: str, preprocessing: str, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise InputError(f"limit_bytes={limit_bytes} of feature cache {folder}; it must be 0 or more.")
        self._folder = Path(folder).absolute()
        self._partial = self._folder / ".partial"
        self._made_by, self._limit = (FORMAT, encoder, preprocessing), limit_bytes
        self._report = CacheReport()
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            with self._locked() as (ledger, _, counted):
                for path in self._partial.iterdir():
                    with suppress(FileNotFoundError):  # its writer lives after all, and has just finished
                        if time.time() - path.stat().st_mtime > STALE_SECONDS:
                            path.unlink()
                if abs(time.time() - counted) > RECOUNT_SECONDS:
                    used = sum(path.stat().st_size for path in self._folder.glob("??/*.safetensors"))
                    os.pwrite(ledger, _LEDGER.pack(used, time.time()), 0)
        except OSError as error:
            raise InputError(f"feature cache {folder}: {error}. Name a writable folder.") from error

    def key(self, clip: Clip, *, num_frames: int, sampling: str) -> str:
        """What a clip's features are filed under; `sampling` is the policy, which must leave nothing to chance.

        A file is known by name, size and time of change: in another folder it is found too, if a copy kept its time.
        A folder of pieces is known by its name and its pieces, an encoded video in memory by its content.

        Raises:
            VideoError: the video isn't there.
        """
        span = [None if seconds is None else float(seconds) for seconds in (clip.start, clip.end)]
        parts = (self._made_by, content_identity(clip.video), span, num_frames, sampling)
        return hashlib.blake2b(repr(parts).encode(), digest_size=20).hexdigest()

    def get(self, key: str) -> Tensor | None:
        """A clip's features `(F, P, V)` on the CPU, bit for bit as they were put; None if they aren't there.

        A damaged file is removed and counts as absent; one that can't be read just now only counts as absent.
        """
        with suppress(OSError):
            content = self._path(key).read_bytes()
            with suppress(SafetensorError, KeyError, ValueError, RuntimeError):
                tensors = safetensors.torch.load(content)
                if tensors["checksum"].item() == _checksum(key, tensors["patches"]):
                    self._report.hits += 1
                    return tensors["patches"]
            self._report.damaged += 1
            logger.warning("feature cache: %s is damaged; removed.", self._path(key))
            with self._locked() as (ledger, used, counted):
                size = self._path(key).stat().st_size
                self._path(key).unlink()
                os.pwrite(ledger, _LEDGER.pack(max(used - size, 0), counted), 0)
        self._report.misses += 1
        return None

    def put(self, key: str, patches: Tensor) -> bool:
        """Keep a clip's features `(F, P, V)` in their number format, whatever their device.

        Returns:
            Whether the cache has them now. If not, it is full: training goes on without, and the log says so once.

        Raises:
            InputError: another shape.
        """
        if patches.ndim != 3 or not patches.numel():
            raise InputError(
                f"features of shape {tuple(patches.shape)}; it must be (frames, patches, width), each > 0."
            )
        path, partial = self._path(key), self._partial / uuid.uuid4().hex
        full = OSError(errno.EDQUOT, f"its limit of {self._limit} bytes is reached")
        try:
            if path.exists():
                return True
            if self._used() + patches.nbytes > self._limit:
                raise full  # before anything is written; the exact check is below
            patches = patches.detach().cpu().contiguous()
            content = safetensors.torch.save({"patches": patches, "checksum": torch.tensor(_checksum(key, patches))})
            partial.write_bytes(content)
            path.parent.mkdir(exist_ok=True)
            with self._locked() as (ledger, used, counted):
                if path.exists():  # another process was faster
                    return True
                if used + len(content) > self._limit:
                    raise full
                os.pwrite(ledger, _LEDGER.pack(used + len(content), counted), 0)  # first: killed here, it errs upwards
                partial.replace(path)
        except OSError as error:
            if not self._report.refused_full:
                logger.warning("feature cache %s: %s; what it lacks is encoded anew.", self._folder, error.strerror)
            self._report.refused_full += 1
            return False
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        self._report.written += 1
        return True

    def report(self) -> CacheReport:
        """What has become of this process's clips."""
        return replace(self._report, bytes=self._used())

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    @contextmanager
    def _locked(self) -> Iterator[tuple[int, int, float]]:
        """The ledger, kept from all others: a descriptor, the bytes of all files, when they were last counted.

        It is opened each time, as forked processes share the locks of what they inherit.
        """
        ledger = os.open(self._folder / ".ledger", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            yield ledger, *_parse(os.pread(ledger, _LEDGER.size, 0))
        finally:
            os.close(ledger)

    def _used(self) -> int:
        """Bytes of all files, as it was a moment ago: without waiting for a lock."""
        with suppress(OSError):
            return _parse((self._folder / ".ledger").read_bytes())[0]
        return 0


def _parse(ledger: bytes) -> tuple[int, float]:
    """Zeros where nothing was counted yet."""
    used, counted = _LEDGER.unpack(ledger) if len(ledger) == _LEDGER.size else (0, 0.0)
    return used, counted


def _checksum(key: str, patches: Tensor) -> int:
    """Of the values, and of what gives them a meaning."""
    return zlib.crc32(raw_bytes(patches), zlib.crc32(f"{key} {patches.dtype} {tuple(patches.shape)}".encode()))
