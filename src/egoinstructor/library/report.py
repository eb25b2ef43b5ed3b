"""What an ingest did, and what it could not do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from egoinstructor.library.sources.rows import Finding

SHOWN = 20
"""Findings of a kind that are shown to a person; `as_dict` has them all."""


@dataclass(slots=True)
class IngestReport:
    """The result of `ingest`.

    Args:
        finished: videos that this run finished.
        skipped: videos that an earlier run had finished.
        failed: videos that can't be read, or of which a clip can't.
        added: clips that are new in the library.
        known: clips that were there already.
        latents: clips whose latents were made.
        moved: videos whose file had moved, and is found again.
        stale: clips of changed videos or rows that the source no longer names.
        removed: how many of them were removed, as asked.
        findings: what a person should know of; rows are told in the run that reads them, failures in every run.
    """

    finished: int = 0
    skipped: int = 0
    failed: int = 0
    added: int = 0
    known: int = 0
    latents: int = 0
    moved: int = 0
    stale: int = 0
    removed: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything could be read."""
        return not self.of("failure")

    def of(self, kind: str) -> list[Finding]:
        """The findings of a kind: "failure", "row" or "note"."""
        return [finding for finding in self.findings if finding.kind == kind]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """As it is shown, without colours."""
        console = Console(width=120, color_system=None)
        with console.capture() as shown:
            console.print(self, soft_wrap=True)
        return shown.get().rstrip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table of totals, then the findings by kind."""
        totals = Table("", "count", title="Ingest")
        counts = {
            "videos finished": self.finished,
            "videos finished before": self.skipped,
            "videos failed": self.failed,
            "clips added": self.added,
            "clips known": self.known,
            "latents made": self.latents,
            "videos moved": self.moved,
            "clips no longer named": self.stale,
            "of them removed": self.removed,
        }
        for name, count in counts.items():
            if count or name in ("videos finished", "clips added"):
                totals.add_row(name, f"{count:,}")
        yield totals
        titles = (
            ("failure", "Can't be read", "red"),
            ("row", "Rows left out or cut", "yellow"),
            ("note", "Notes", "dim"),
        )
        for kind, title, style in titles:
            found = self.of(kind)
            if found:
                yield f"[{style}]{title}: {len(found):,}[/{style}]"
                yield from (f"  {escape(str(finding))}" for finding in found[:SHOWN])
                if len(found) > SHOWN:
                    yield f"  … and {len(found) - SHOWN:,} more"
        if self.stale > self.removed:
            yield f"{self.stale - self.removed:,} clips of earlier rows are still there; --replace removes them."
