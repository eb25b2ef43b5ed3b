"""What an evaluation of retrieval leaves: `results.json`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egoinstructor.evaluation.retrieval import RetrievalScores
from egoinstructor.files import atomic_file

RESULTS = "results.json"


@dataclass(slots=True)
class RetrievalReport:
    """What was measured, of what, and what could not be.

    Args:
        settings: as they were given.
        retriever: its identity; None for matrices.
        counts: clips, pairs and questions, and those that were left out.
        scores: by direction, such as "ego → exo".
        choices: EgoMCQ's accuracy by kind of question.
        failures: each clip that could not be read: where it stands, and why.
    """

    settings: dict[str, Any]
    retriever: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    scores: dict[str, RetrievalScores] = field(default_factory=dict)
    choices: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": "retrieval",
            "settings": self.settings,
            "retriever": self.retriever,
            "counts": self.counts,
            "scores": {name: scores.as_dict() for name, scores in self.scores.items()},
            "multiple_choice": self.choices,
            "failures": self.failures,
        }

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `results.json`; it is there whole or not at all.

        Raises:
            InputError: it can't be written.
        """
        path = Path(folder) / RESULTS
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path
