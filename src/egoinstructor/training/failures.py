"""What could not be read during a run: counted, written down, and too much of it ends the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from egoinstructor.errors import EgoInstructorError

FEWEST = 20
"""Clips tried before a rate means anything."""


class TrainingError(EgoInstructorError):
    """A run that must not go on."""


class Read(Protocol):
    """A sample as a dataset read it; one without an id only filled up a batch."""

    @property
    def id(self) -> str:
        """The sample's."""

    @property
    def tried(self) -> int:
        """Clips that were tried."""

    @property
    def failures(self) -> Sequence[tuple[str, str]]:
        """Video and reason of those that could not be read."""

    @property
    def skipped(self) -> bool:
        """Whether it was left out of its batch."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What else is counted of its kind; of each sample of a run the same names."""


class FailureLog:
    """Counts clips, and appends each failure to a file: one a process, so that none is lost.

    Args:
        path: the file.
        max_rate: share of unreadable clips above which `add` raises.
        also: what else is counted, the names of `Read.counts`.
    """

    def __init__(self, path: Path, max_rate: float, also: Sequence[str] = ("references_without_room",)) -> None:
        self.path = path
        self.max_rate = max_rate
        self.tried = 0
        self.failed = 0
        self.skipped = 0
        self.also = dict.fromkeys(also, 0)
        self._last: list[str] = []

    def add(self, items: Sequence[Read]) -> None:
        """Count a batch.

        Raises:
            TrainingError: too many failures; the message has the last of them.
        """
        for item in items:
            self.tried += item.tried
            self.failed += len(item.failures)
            self.skipped += item.skipped
            for name, count in item.counts.items():
                self.also[name] += count
            for video, reason in item.failures:
                self._last = [*self._last[-4:], reason]
                line = {"sample": item.id, "video": video, "reason": reason, "skipped": item.skipped}
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.tried >= FEWEST and self.failed > self.max_rate * self.tried:
            raise TrainingError(
                f"{self.failed} of {self.tried} clips could not be read, more than max_failure_rate={self.max_rate} allows. "
                f"The last: {'; '.join(self._last)}. Check the data; 'egoinstructor prepare inspect' checks a captioner's."
            )

    def as_dict(self) -> dict[str, int]:
        """Counts, for the run's record."""
        return {
            "clips_tried": self.tried,
            "clips_unreadable": self.failed,
            "samples_skipped": self.skipped,
            **self.also,
        }
