"""The journal of a narration: what it is made with, then a line for each batch of windows that is finished.

    {"made with": {…}}
    {"windows": [{"start", "end", "caption", …}, …]}

A batch is a line, so that a run which is gone on with has the same batches as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.captioners.egoinstructor import SHOTS, Captioner
from egoinstructor.errors import InputError
from egoinstructor.files import append_log, read_log
from egoinstructor.library.references import Retrieval
from egoinstructor.model.revision import weights_revision
from egoinstructor.narration.captions import WindowCaption
from egoinstructor.narration.options import NarrationOptions
from egoinstructor.video.identity import content_identity

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

MADE_WITH = "made with"
WINDOWS = "windows"
_LATER = ("batch_size", "threshold", "merge")
"""Options that what was made of a window does not depend on: they may change from run to run."""


class NarrationJournal:
    """A narration's journal, of which no more than a line is in memory.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, facts: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Note what the narration is made with, or check that it is gone on with in the same way.

        Args:
            facts: as `describe` gives them.
            overwrite: forget what is there.

        Raises:
            InputError: it was begun in another way; what differs is named. Or the file can't be read or written.
        """
        asked = json.loads(json.dumps(facts))
        if overwrite:
            self._written(self._path.unlink, missing_ok=True)
        for line in islice(read_log(self._path), 1):
            kept = line.get(MADE_WITH) if isinstance(line, dict) else None
            if not isinstance(kept, dict):
                raise InputError(f"{self._path} is no journal of a narration. Name another --out, or remove it.")
            if different := _differences(kept, asked):
                raise InputError(
                    f"{self._path} is of a narration that was begun in another way: {'; '.join(different)}. Give the "
                    "same to go on, name another --out, or start anew with --overwrite."
                )
            return
        self._written(append_log, self._path, {MADE_WITH: asked})

    def told(self) -> Iterator[WindowCaption]:
        """The windows that are finished, in order.

        Raises:
            InputError: the file can't be read.
        """
        for line in islice(read_log(self._path), 1, None):
            try:
                told = [WindowCaption.from_dict(one) for one in line[WINDOWS]]
            except (KeyError, TypeError) as error:
                raise InputError(
                    f"{self._path} is damaged ({error!r} in a line). Start anew with --overwrite."
                ) from error
            yield from told

    def add(self, batch: list[WindowCaption]) -> None:
        """Note a batch; when this returns it is on disk.

        Raises:
            InputError: the file can't be written.
        """
        self._written(append_log, self._path, {WINDOWS: [told.as_dict() for told in batch]})

    def _written(self, write: Any, *arguments: Any, **options: Any) -> None:
        try:
            write(*arguments, **options)
        except OSError as error:
            raise InputError(
                f"{self._path} can't be written: {error}. Make room, and run the same command again to go on."
            ) from error


def describe(
    captioner: Captioner,
    recording: Path,
    duration: float,
    options: NarrationOptions,
    library: ExoLibrary | None,
    retrieval: Retrieval | None,
) -> dict[str, Any]:
    """What windows' captions are made with: the same facts make the same captions."""
    model = captioner.model
    facts: dict[str, Any] = {
        "recording": " ".join(map(str, content_identity(recording))),
        "duration": duration,
        **{name: value for name, value in asdict(options).items() if name not in _LATER},
        "shots": (SHOTS if options.shots is None else options.shots) if library is not None else 0,
        "num_frames": options.num_frames or captioner.processor.num_frames,
        "max_length": captioner.processor.max_length,
        "model": weights_revision(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "calibration": None if captioner.calibration is None else asdict(captioner.calibration),
    }
    if library is not None:
        facts |= {"library": _clips_digest(library), "retriever": library.identity.as_dict()}
        facts["retrieval"] = asdict(retrieval or Retrieval())
    return facts


def _differences(kept: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {kept.get(name)!r} and is {asked.get(name)!r}"
        for name in dict.fromkeys([*kept, *asked])
        if kept.get(name) != asked.get(name)
    ]


def _clips_digest(library: ExoLibrary) -> str:
    """What tells one library's clips from another's, in whatever order they are given."""
    count, total = 0, 0
    for entry in library.entries():
        count += 1
        total += int.from_bytes(hashlib.blake2b(entry.id.encode(), digest_size=16).digest())
    return f"{count} clips, {total % 2**128:032x}"
