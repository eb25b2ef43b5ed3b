"""Captions of a batch of samples under a condition, with what each was written from; what can't be read is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.data.actions import clean_narration
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.conditions import Candidates, Condition, Listed
from egoinstructor.evaluation.captions.samples import PooledClip, Sample, clip_of, reference_of
from egoinstructor.library.records import ClipEntry, Hit
from egoinstructor.library.references import Retrieval, find_references
from egoinstructor.library.roots import entry_path
from egoinstructor.model.prompt import clean_instruction
from egoinstructor.records import Caption, Clip, Dropped, Reference

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

Record = dict[str, Any]
"""Of one sample: `id`, `caption` (None if there is none), `failure` (why), `references`, `dropped`; `score` and `confidence`
as a `Caption` has them."""

DIGITS = 4
"""Of `score` and `confidence`. Those behind them depend on the number of threads that shared a sum."""

SILENT = "its narration has no words but Ego4D's codes"


class CaptionWriter:
    """Writes captions; the same for a batch whoever writes it, and whatever was written before.

    Args:
        condition: what is asked.
        samples: all of the split, which the guide of queries without references is taken from.
        captioner: None for `retrieval-only`, which may do without.
        candidates: where references are taken from, unless it is a library.
        library: for references from it, opened with its retriever; or where the candidates come from, whose latents
            are then read there.
        retrieval: how references are looked for; None for the defaults.
        clean: pass narrations found in a library through `clean_narration`.

    Raises:
        InputError: something that the condition needs is missing.
    """

    def __init__(
        self,
        condition: Condition,
        samples: Sequence[Sample],
        captioner: Captioner | None,
        *,
        candidates: Candidates | None = None,
        library: ExoLibrary | None = None,
        retrieval: Retrieval | None = None,
        clean: bool = False,
    ) -> None:
        if captioner is None and condition.baseline != "retrieval-only":
            raise InputError("no captioner was given; only the baseline retrieval-only does without.")
        if condition.references == "library" and library is None:
            raise InputError("references from a library were asked for, and no library was given.")
        self.condition = condition
        self._captioner = captioner
        self._candidates = candidates or Listed()
        self._library = library
        self._searched = condition.references == "library"
        self._retrieval = retrieval
        self._tidy: Callable[[str], str] = clean_narration if clean else str
        self._entries: dict[Clip, ClipEntry] = {}
        self._guides = [(sample.id, sample.answer) for sample in samples[:2]]
        self._unreadable: dict[Clip, str] = {}

    def write(self, batch: Sequence[Sample]) -> list[Record]:
        """A record of each sample, in order. A sample that can't be read costs no other."""
        work: Callable[[Sequence[Sample]], list[Record]] = self._caption
        if self.condition.baseline == "retrieval-only":
            work = self._copy_found if self._searched else self._copy
        return _one_by_one_if_need_be(work, batch)

    # ------------------------------------------------------------------ written by the model

    def _caption(self, batch: Sequence[Sample]) -> list[Record]:
        assert self._captioner is not None
        condition = self.condition
        options: dict[str, Any] = {
            "num_frames": condition.num_frames,
            "instruction": [condition.instruction or clean_instruction(sample.instruction) for sample in batch],
            "blind": condition.baseline == "text-only",
            "likeliest": condition.likeliest,
            **condition.generation,
        }
        clips = [clip_of(sample) for sample in batch]
        chosen = self._find(clips) if self._searched else self._choose(batch, blind=options["blind"])
        if condition.zero_shot_guide:
            options["guide"] = [
                None if references else self._guide(sample)
                for sample, (references, _) in zip(batch, chosen, strict=True)
            ]
        queries = [(clip, references) for clip, (references, _) in zip(clips, chosen, strict=True)]
        captions = self._captioner.caption_batch(queries, **options)
        return [
            _record(sample, caption, dropped)
            for sample, caption, (_, dropped) in zip(batch, captions, chosen, strict=True)
        ]

    def _guide(self, sample: Sample) -> str | None:
        """The first sample's answer; the second's for the first."""
        return next((answer for id, answer in self._guides if id != sample.id), None)

    def _find(self, clips: Sequence[Clip]) -> list[tuple[list[Reference], list[Dropped]]]:
        """Of each clip the references that the library has for it; and those that were passed over."""
        assert self._captioner is not None
        assert self._library is not None
        found = self._captioner.find(
            clips, self._library, self.condition.shots, self._retrieval, num_frames=self.condition.num_frames
        )
        return [self._tidied(references, others) for references, others in found]

    def _tidied(
        self, references: Sequence[Reference], dropped: Sequence[Dropped]
    ) -> tuple[list[Reference], list[Dropped]]:
        """References with their narrations as they are to be shown; one that is left without words is dropped."""
        said = [(reference, self._tidy(reference.narration)) for reference in references]
        shown = [replace(reference, narration=text) for reference, text in said if text.strip()]
        silent = [Dropped(r.clip, r.narration, SILENT, r.score) for r, text in said if not text.strip()]
        return shown, [*dropped, *silent]

    def _choose(self, batch: Sequence[Sample], *, blind: bool) -> list[tuple[list[Reference], list[Dropped]]]:
        """Of each sample the best references that can be read; and those that were passed over."""
        shots = self.condition.shots
        offered = [self._offered(sample) if shots else [] for sample in batch]
        encoded: dict[Clip, Tensor] = {}
        while True:
            chosen = [
                [reference for reference in some if reference.clip not in self._unreadable][:shots] for some in offered
            ]
            wanted = {reference.clip: None for references in chosen for reference in references} if not blind else {}
            missing = [clip for clip in wanted if clip not in encoded]
            if not missing:
                break
            encoded |= self._encode(missing)
        passed: list[list[Dropped]] = []
        for some, references in zip(offered, chosen, strict=True):
            last = some.index(references[-1]) if len(references) == shots and shots else len(some)
            broken = [(r, self._unreadable[r.clip]) for r in some[:last] if r.clip in self._unreadable]
            passed.append([Dropped(r.clip, r.narration, reason, r.score) for r, reason in broken])
        read = [[replace(r, latents=encoded.get(r.clip)) for r in references] for references in chosen]
        return list(zip(read, passed, strict=True))

    def _offered(self, sample: Sample) -> list[Reference]:
        """The candidates that have words and possible times."""
        found = []
        for how_to in self._candidates.of(sample):
            with suppress(InputError):
                found.append(reference_of(how_to))
                if isinstance(how_to, PooledClip):
                    self._entries[found[-1].clip] = how_to.entry
        return found

    def _encode(self, clips: list[Clip]) -> dict[Clip, Tensor]:
        """Latents of the clips that can be read; of the others the reason is noted."""
        assert self._captioner is not None
        pooled = {clip: self._entries[clip] for clip in clips if clip in self._entries}
        if pooled and self._library is not None:
            latents, failures = self._captioner.read_entries(
                self._library, list(pooled.values()), num_frames=self.condition.num_frames
            )
            self._unreadable |= {clip: failures[e.id] for clip, e in pooled.items() if e.id in failures}
            return {clip: latents[e.id] for clip, e in pooled.items() if e.id in latents}
        try:
            return self._captioner.encode(clips, num_frames=self.condition.num_frames)
        except InputError as error:
            if len(clips) == 1:
                self._unreadable[clips[0]] = str(error)
                return {}
        return {clip: latents for one in clips for clip, latents in self._encode([one]).items()}

    # ------------------------------------------------------------------ copied from a reference

    def _copy(self, batch: Sequence[Sample]) -> list[Record]:
        """The best reference's narration; an empty caption where there is none."""
        best = [self._offered(sample)[:1] for sample in batch]
        return [
            _record(sample, Caption(references[0].narration if references else "", clip_of(sample), tuple(references)))
            for sample, references in zip(batch, best, strict=True)
        ]

    def _copy_found(self, batch: Sequence[Sample]) -> list[Record]:
        assert self._library is not None
        clips = [clip_of(sample) for sample in batch]
        key = None if self._captioner is None else self._captioner.encoder.latents_key(self.condition.num_frames)
        found = find_references(self._library, clips, 1, self._retrieval, latents_key=key)
        roots, records = self._library.sources(), []

        def reference(hit: Hit) -> Reference:
            entry = hit.entry
            return Reference(entry_path(entry, roots), entry.text, entry.start, entry.end, hit.score)

        for sample, clip, selection in zip(batch, clips, found, strict=True):
            passed = [(reference(hit), why) for hit, why in selection.passed_over if hit.entry.text.strip()]
            references, dropped = self._tidied(
                [reference(hit) for hit in selection.chosen],
                [Dropped(one.clip, one.narration, why, one.score) for one, why in passed],
            )
            text = references[0].narration if references else ""
            records.append(_record(sample, Caption(text, clip, tuple(references)), dropped))
        return records


def _one_by_one_if_need_be(work: Callable[[Sequence[Sample]], list[Record]], batch: Sequence[Sample]) -> list[Record]:
    try:
        return work(batch)
    except InputError as error:
        if len(batch) == 1:
            failed: Record = {
                "id": batch[0].id,
                "caption": None,
                "failure": str(error),
                "score": None,
                "confidence": None,
                "references": [],
                "dropped": [],
            }
            return [failed]
    return [record for sample in batch for record in _one_by_one_if_need_be(work, [sample])]


def _record(sample: Sample, caption: Caption, dropped: Sequence[Dropped] = ()) -> Record:
    return {
        "id": sample.id,
        "caption": caption.text,
        "failure": None,
        "score": _rounded(caption.score),
        "confidence": _rounded(caption.confidence),
        "references": [reference.as_dict() for reference in caption.references],
        "dropped": [one.as_dict() for one in (*dropped, *caption.dropped)],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
