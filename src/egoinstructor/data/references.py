"""The references of a whole data set out of a library, as the original's instructions and config JSONs hold them.

The original was published with lists of 15 retrieved how-to clips for each ego clip, and without what retrieved them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape

from egoinstructor.data.metadata import INSTRUCTION, Metadata, Sample
from egoinstructor.errors import InputError, VideoError
from egoinstructor.files import JsonlLog, atomic_file
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import Hit
from egoinstructor.library.references import Retrieval, find_references
from egoinstructor.library.selection import Selection
from egoinstructor.records import Clip
from egoinstructor.video.decode import probe
from egoinstructor.video.folder import ProgressCallback

REFERENCES = 15
"""References of a sample in the published lists."""

BATCH = 16
"""Ego clips embedded together, and noted together."""

JOURNAL = "references.jsonl"


@dataclass(frozen=True, slots=True)
class ReferencesReport:
    """What became of each ego clip.

    Args:
        out: the folder that was written.
        found: number of ego clips with references, by this run or by an earlier one.
        resumed: how many of them an earlier run had found.
        short: how many have fewer than were asked for, as the library has no more that the rules allow.
        passed_over: how often each rule passed over a hit.
        failures: why each of the other ego clips has none, by its id.
    """

    out: Path
    found: int
    resumed: int
    short: int
    passed_over: Mapping[str, int]
    failures: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether every ego clip was read."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "out": str(self.out)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A few lines."""
        out = escape(str(self.out))
        yield f"{self.found} ego clips with references in {out}, {self.resumed} of them from an earlier run"
        if self.short:
            yield f"{self.short} have fewer than were asked for"
        for id, reason in self.failures.items():
            yield f"[red]no references[/red] for {escape(id)}: {escape(reason)}"


def prepare_references(
    library: ExoLibrary,
    metadata: Metadata,
    out: Path,
    *,
    datapath_ego: Path | None = None,
    datapath_exo: Path | None = None,
    count: int = REFERENCES,
    retrieval: Retrieval | None = None,
    progress: ProgressCallback | None = None,
) -> ReferencesReport:
    """Find each ego clip's references and write `instructions.json` and `config.json`; go on where a run was stopped.

    Args:
        library: opened with its retriever.
        metadata: the ego clips; references that it has already are not looked at.
        out: a folder, made if need be.
        datapath_ego: folder of the ego videos; None for the metadata's own.
        datapath_exo: folder that training will be given for the how-to videos, which the references' videos are named
            in; None for the root of the library's only source.
        count: references of each, at most.
        retrieval: how they are looked for; None for the defaults.
        progress: called after each batch.

    Raises:
        InputError: a library without a retriever, a reference outside `datapath_exo`, a folder that holds the work of
            another library or of other settings.
    """
    library.need_retriever()
    exo_root = _exo_root(library, datapath_exo)
    retrieval = retrieval or Retrieval()
    samples = metadata.samples(datapath_ego, exo_root, max_references=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} can't be made: {error}. Name another folder.") from error
    journal = JsonlLog(out / JOURNAL)
    settings = {
        "library": library.identity.as_dict(),
        "clips": len(library),
        "exo": str(exo_root.absolute()),
        "count": count,
        **asdict(retrieval),
    }
    _check_settings(journal, hashlib.blake2b(json.dumps(settings).encode(), digest_size=16).hexdigest(), out)

    asked = {sample.id: _asked(sample) for sample in samples}
    finished = {
        line["id"] for line in journal.lines[1:] if "failure" not in line and line["of"] == asked.get(line["id"])
    }
    todo = [sample for sample in samples if sample.id not in finished]
    resumed = len(samples) - len(todo)
    done = resumed
    for first in range(0, len(todo), BATCH):
        batch = todo[first : first + BATCH]
        _note(journal, _find(library, batch, count, retrieval, exo_root), out)
        done += len(batch)
        if progress is not None:
            progress(done, len(samples), batch[-1].id)

    lines = {line["id"]: line for line in journal.lines[1:]}  # the last one of an id counts: a failure may be mended
    ordered = {sample.id: lines[sample.id] for sample in samples}
    failures = {id: line["failure"] for id, line in ordered.items() if "failure" in line}
    found = {id: line for id, line in ordered.items() if "failure" not in line}
    _write(out, metadata, [sample for sample in samples if sample.id in found], found)
    passed_over: dict[str, int] = {}
    for line in found.values():
        for reason, times in line["passed_over"].items():
            passed_over[reason] = passed_over.get(reason, 0) + times
    short = sum(len(line["references"]) < count for line in found.values())
    return ReferencesReport(out, len(found), resumed, short, passed_over, failures)


def _exo_root(library: ExoLibrary, given: Path | None) -> Path:
    if given is not None:
        return given
    roots = library.sources()
    if len(roots) != 1:
        raise InputError(
            f"library {library.uri} has the sources {', '.join(roots) or 'none'}; name the folder that training will be "
            "given for the how-to videos (datapath_exo), which must hold them all."
        )
    return Path(next(iter(roots.values())))


def _check_settings(journal: JsonlLog, digest: str, out: Path) -> None:
    if not journal.lines:
        _note(journal, [{"settings": digest}], out)
    elif journal.lines[0].get("settings") != digest:
        raise InputError(
            f"{out} holds references of another library or of other settings. Name another folder, or remove this one."
        )


def _note(journal: JsonlLog, lines: Iterable[dict[str, Any]], out: Path) -> None:
    try:
        journal.add(*lines)
    except OSError as error:
        raise InputError(f"{out} can't be written: {error}. Free some space, and run it again: it goes on.") from error


def _asked(sample: Sample) -> list[Any]:
    """What a sample's references were found for: an id may come to mean another clip, as when a JSONL's line changes."""
    return [str(sample.video), sample.start, sample.end]


def _find(
    library: ExoLibrary, batch: Sequence[Sample], count: int, retrieval: Retrieval, exo_root: Path
) -> Iterator[dict[str, Any]]:
    """A journal line for each sample; one that can't be read does not take the others with it."""
    try:
        selections = find_references(
            library, [Clip(sample.video, sample.start, sample.end) for sample in batch], count, retrieval
        )
    except VideoError as error:
        if len(batch) == 1:
            yield {"id": batch[0].id, "of": _asked(batch[0]), "failure": str(error)}
        else:
            for sample in batch:
                yield from _find(library, [sample], count, retrieval, exo_root)
        return
    for sample, selection in zip(batch, selections, strict=True):
        yield {
            "id": sample.id,
            "of": _asked(sample),
            "references": [_reference(library, hit, exo_root) for hit in selection.chosen],
            "passed_over": _reasons(selection),
        }


def _reference(library: ExoLibrary, hit: Hit, exo_root: Path) -> dict[str, Any]:
    path = library.path(hit.entry)
    try:
        inner = path.absolute().relative_to(exo_root.absolute())
    except ValueError as error:
        raise InputError(
            f"{path} lies outside {exo_root}; name a folder (datapath_exo) that holds every reference."
        ) from error
    vid = inner.with_suffix("") if inner.suffix == ".mp4" else inner  # the original appends ".mp4" itself
    return {"uid": hit.entry.id, "vid": vid.as_posix(), **_span(hit.entry.start, hit.entry.end), "text": hit.entry.text}


def _span(start: float, end: float) -> dict[str, float]:
    return {"start_second": start, "end_second": end}


def _reasons(selection: Selection) -> dict[str, int]:
    """How often each rule passed over a hit: numbers in a reason ("score 0.31 below 0.4") are left out."""
    return dict(Counter(re.sub(r" -?\d+(\.\d+)?|: .*", "", reason) for _, reason in selection.passed_over))


def _write(out: Path, metadata: Metadata, samples: Iterable[Sample], found: Mapping[str, dict[str, Any]]) -> None:
    """The original's two files, each whole or not at all."""
    data: dict[str, Any] = {}
    config: dict[str, list[str]] = {}
    for sample in samples:
        references = found[sample.id]["references"]
        config[sample.id] = [f"EXO_INS_{reference['uid']}" for reference in references]
        entry = metadata.entries[sample.id]
        end = probe(sample.video).duration if sample.end is None else sample.end
        segment = {"vid": entry.video, "uid": sample.id, **_span(sample.start or 0.0, end)}
        chat_answer = entry.answer if entry.chat_answer is None else entry.chat_answer
        data[sample.id] = _record(entry.instruction, entry.answer, chat_answer, segment, config[sample.id])
        for key, reference in zip(config[sample.id], references, strict=True):
            segment = {name: reference[name] for name in ("vid", "uid", "start_second", "end_second")}
            data[key] = _record(INSTRUCTION, reference["text"], reference["text"], segment, [])
    for name, value in (("instructions.json", {"data": data}), ("config.json", config)):
        with atomic_file(out / name) as partial:
            partial.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _record(
    instruction: str, answer: str, chat_answer: str, segment: Mapping[str, Any], references: Sequence[str]
) -> dict[str, Any]:
    return {
        "instruction": instruction,
        "answer": answer,
        "chat_answer": chat_answer,
        "image_ids": [segment],
        "rel_ins_ids": references,
    }
