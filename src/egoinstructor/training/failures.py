"""What could not be read during a run: counted, written down, and too much of it ends the run."""

from __future__ import annotations

import json
from pathlib import Path

from egoinstructor.errors import EgoInstructorError
from egoinstructor.training.dataset import Item

FEWEST = 20
"""Clips tried before a rate means anything."""


class TrainingError(EgoInstructorError):
    """A run that must not go on."""


class FailureLog:
    """Counts clips, and appends each failure to a file: one a process, so that none is lost.

    Args:
        path: the file.
        max_rate: share of unreadable clips above which `add` raises.
    """

    def __init__(self, path: Path, max_rate: float) -> None:
        self.path = path
        self.max_rate = max_rate
        self.tried = 0
        self.failed = 0
        self.skipped = 0
        self.dropped = 0
        self._last: list[str] = []

    def add(self, items: list[Item]) -> None:
        """Count a batch.

        Raises:
            TrainingError: too many failures; the message has the last of them.
        """
        for item in items:
            self.tried += item.tried
            self.failed += len(item.failures)
            self.dropped += item.dropped
            self.skipped += bool(item.id) and item.prompt is None
            for video, reason in item.failures:
                self._last = [*self._last[-4:], reason]
                line = {"sample": item.id, "video": video, "reason": reason, "skipped": item.prompt is None}
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.tried >= FEWEST and self.failed > self.max_rate * self.tried:
            raise TrainingError(
                f"{self.failed} of {self.tried} clips could not be read, more than max_failure_rate={self.max_rate} allows. "
                f"The last: {'; '.join(self._last)}. Check the data with 'egoinstructor prepare inspect'."
            )

    def as_dict(self) -> dict[str, int]:
        """Counts, for the run's record."""
        return {
            "clips_tried": self.tried,
            "clips_unreadable": self.failed,
            "samples_skipped": self.skipped,
            "references_without_room": self.dropped,
        }
