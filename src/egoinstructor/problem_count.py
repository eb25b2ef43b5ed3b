"""Count of a problem, with its first cases, for the reports of long checks."""

from __future__ import annotations

from dataclasses import dataclass, field

EXAMPLES = 20


@dataclass(slots=True)
class ProblemCount:
    """One kind of problem: how often, and the first cases."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count a case, and keep it while there are few."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)
