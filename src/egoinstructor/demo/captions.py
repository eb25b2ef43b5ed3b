"""Each query captioned twice, with references from a library and without any; and how often each was right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from egoinstructor.captioners.egoinstructor import SHOTS, Captioner
from egoinstructor.demo.queries import DemoClip
from egoinstructor.library.library import ExoLibrary
from egoinstructor.records import Caption


@dataclass(frozen=True, slots=True)
class Answer:
    """A query with its two captions."""

    query: DemoClip
    found: Caption
    alone: Caption

    def right(self, caption: Caption) -> bool | None:
        """Whether a caption says exactly what happens; None where that is not known."""
        return plain(caption.text) == plain(self.query.truth) if self.query.truth else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.found.as_dict(),
            "without_retrieval": self.alone.text,
            "truth": self.query.truth,
            "bucket": self.query.bucket,
            "exact": self.right(self.found),
            "exact_without_retrieval": self.right(self.alone),
        }


@dataclass(frozen=True, slots=True)
class Count:
    """Of so many clips, how many captions were exactly right."""

    bucket: str
    clips: int
    found: int
    alone: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bucket": self.bucket,
            "clips": self.clips,
            "exact": self.found,
            "exact_without_retrieval": self.alone,
        }


def answers(captioner: Captioner, library: ExoLibrary, queries: Iterable[DemoClip]) -> Iterator[Answer]:
    """Caption each query; its vision pass serves the search and both captions.

    Args:
        captioner: the model.
        library: opened with its retriever, which looks through the captioner where it can.
        queries: what to caption.

    Raises:
        VideoError: a clip that can't be read.
    """
    for query in queries:
        (found,) = captioner.caption_batch([(query.clip, ())], library=library, shots=SHOTS)
        (alone,) = captioner.caption_batch([(query.clip, ())], shots=0)
        yield Answer(query, found, alone)


def counts(shown: Iterable[Answer]) -> list[Count]:
    """Exact captions in each bucket, and in all; nothing where no ground truth is known."""
    known = [answer for answer in shown if answer.query.truth]
    if not known:
        return []
    buckets = dict.fromkeys(answer.query.bucket for answer in known)
    rows = [_count(name, [answer for answer in known if answer.query.bucket == name]) for name in buckets]
    return [*rows, _count("all", known)] if len(rows) > 1 else [_count("all", known)]


def plain(text: str) -> str:
    """A caption as it is compared: without case, spare blanks and a full stop."""
    return " ".join(text.casefold().split()).removesuffix(".")


def _count(name: str, some: list[Answer]) -> Count:
    found = sum(bool(answer.right(answer.found)) for answer in some)
    return Count(name, len(some), found, sum(bool(answer.right(answer.alone)) for answer in some))
