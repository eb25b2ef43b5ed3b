"""Conditions on rows in the SQL that Lance reads. Every value passes through `quote`, or is a number."""

from __future__ import annotations

from collections.abc import Iterable

from egoinstructor.library.records import Filter
from egoinstructor.library.schema import TEXTS


def quote(text: str) -> str:
    """Text as a literal: in this SQL a quote is written twice, and nothing else means anything."""
    return "'" + text.replace("'", "''") + "'"


def one_of(column: str, values: Iterable[str]) -> str:
    """The column has one of these values."""
    return f"{column} IN ({', '.join(map(quote, values)) or 'NULL'})"


def condition(where: Filter) -> str | None:
    """What a clip's row must fulfil; None where nothing is asked."""
    parts = []
    if where.sources:
        parts.append(one_of("source", where.sources))
    if where.min_seconds is not None:
        parts.append(f"seconds >= {where.min_seconds!r}")
    if where.max_seconds is not None:
        parts.append(f"seconds <= {where.max_seconds!r}")
    if where.contains:
        # A function rather than LIKE, in which % and _ would have to be escaped; one lower() for both sides.
        stands = (f"contains(lower({column}), lower({quote(where.contains)}))" for column in TEXTS)
        parts.append(f"({' OR '.join(stands)})")
    if where.narrated:
        parts.append("(narration IS NOT NULL OR refined IS NOT NULL)")
    if where.exclude_digests:
        parts.append(f"NOT {one_of('video_digest', where.exclude_digests)}")
    if where.videos:
        parts.append(one_of("video", where.videos))
    return " AND ".join(parts) or None


def both(first: str | None, second: str | None) -> str | None:
    """Two conditions at once."""
    return f"({first}) AND ({second})" if first and second else first or second
