"""A run over a split: batches, each captioned exactly once, shared out among processes, and kept as they are finished.

    OUT/captions/settings.json      what the captions were made with
    OUT/captions/0.jsonl …          one line a finished batch, a file for each process

A batch is the same samples in the same order whoever captions it, so that the result depends neither on the number of
processes nor on a run having been stopped. Going on with other settings is refused. A batch with a sample that could not
be read is done again when a run is gone on with, all of it, so that the result is that of a run which could read it at once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor import fields
from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.conditions import Condition
from egoinstructor.evaluation.captions.samples import Sample, digest
from egoinstructor.evaluation.captions.writer import CaptionWriter, Record
from egoinstructor.files import JsonlLog, atomic_file, exclusive
from egoinstructor.library.references import Retrieval
from egoinstructor.model.revision import weights_revision
from egoinstructor.video.folder import ProgressCallback

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

FOLDER = "captions"
SETTINGS = "settings.json"
LOCK = ".lock"
GENERATION = ("num_beams", "max_new_tokens", "no_repeat_ngram_size")
SCORE = "mean natural-log probability of the tokens"
"""What a record's `score` is. A setting, so that a run from before there were scores is not gone on with."""

POLL = 0.5
"""Seconds between two looks at what other processes have done."""

Facts = Mapping[str, Any]


def describe(
    condition: Condition,
    samples: Sequence[Sample],
    captioner: Captioner | None,
    library: ExoLibrary | None = None,
    retrieval: Retrieval | None = None,
) -> dict[str, Any]:
    """What captions are made with: captions of the same facts are the same.

    Args:
        condition: what is asked.
        samples: of the split.
        captioner: with what; None for captions that are copied.
        library: where references are taken from, if they are.
        retrieval: how they are looked for.
    """
    facts: dict[str, Any] = {"data": digest(samples), "samples": len(samples), **asdict(condition)}
    if captioner is not None:
        model = captioner.model
        defaults = {name: getattr(model.generation_config, name) for name in GENERATION}
        facts |= {"model": weights_revision(model), "dtype": str(model.dtype).removeprefix("torch.")}
        facts["generation"] = defaults | condition.generation
        facts["num_frames"] = condition.num_frames or captioner.processor.num_frames
        facts["max_length"] = captioner.processor.max_length
        facts["score"] = SCORE
        facts["calibration"] = None if captioner.calibration is None else asdict(captioner.calibration)
    if library is not None:
        facts |= {"library": _library_digest(library), "library clips": len(library)}
        facts["retriever"] = library.identity.as_dict()
    if retrieval is not None:
        facts["retrieval"] = asdict(retrieval)
    return facts


def begin(out: Path, settings: Facts) -> None:
    """Note what a run is made with, or check that it is gone on with in the same way.

    Raises:
        InputError: the folder holds captions that were made with other settings; those are named.
    """
    path = out / FOLDER / SETTINGS
    asked = json.loads(json.dumps(settings))
    if not path.exists():
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(asked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    kept = fields.read_object(path)
    different = [
        f"{name} was {kept.get(name)!r} and is {asked.get(name)!r}"
        for name in dict.fromkeys([*kept, *asked])
        if kept.get(name) != asked.get(name)
    ]
    if different:
        raise InputError(
            f"{out} holds captions made with other settings: {'; '.join(different)}. Name another --out, give the same "
            f"settings to go on, or remove {path.parent} to start over."
        )


def alone(out: Path) -> AbstractContextManager[None]:
    """A run's folder, for one run at a time; its other processes are started by the one that is here.

    Raises:
        InputError: another run is there, or the folder can't be written.
    """
    return exclusive(out, out / FOLDER / LOCK)


def forget_failures(out: Path) -> None:
    """Take batches with samples that could not be read out of what is finished, so that they are tried again.

    Raises:
        InputError: the captions so far can't be read or written.
    """
    for path in sorted((out / FOLDER).glob("*.jsonl")):
        lines = _entries(path)
        kept = [line for line in lines if all(record["caption"] is not None for record in line["records"])]
        if len(kept) < len(lines):
            with atomic_file(path) as partial:
                partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), "utf-8")


def settings_of(out: Path) -> dict[str, Any]:
    """What `begin` noted.

    Raises:
        InputError: nothing was begun there.
    """
    return fields.read_object(out / FOLDER / SETTINGS)


def work_share(
    out: Path,
    writer: CaptionWriter,
    samples: Sequence[Sample],
    batch_size: int,
    *,
    rank: int = 0,
    processes: int = 1,
    progress: ProgressCallback | None = None,
) -> None:
    """Caption this process's share of the batches that no process has captioned yet.

    Args:
        out: the run's folder, after `begin`.
        writer: writes captions.
        samples: of the whole split.
        batch_size: samples at a time.
        rank: this process, from 0.
        processes: how many there are.
        progress: called after each batch, with the samples of the split that are done if the others are as far.

    Raises:
        InputError: the journal can't be read or written.
    """
    journal, done = journal_of(out, rank), finished(out)
    share = range(rank, batches(samples, batch_size), processes)
    ready = sum(number in done for number in share)
    for number in share:
        if number not in done:
            records = writer.write(samples[number * batch_size : (number + 1) * batch_size])
            add_batch(journal, number, records)
            ready += 1
        if progress is not None:
            progress(min(ready * batch_size * processes, len(samples)), len(samples), "captioning")


def journal_of(out: Path, rank: int = 0) -> JsonlLog:
    """The journal of a process, of which a last line that a kill cut off is removed.

    Raises:
        InputError: it can't be read.
    """
    return JsonlLog(out / FOLDER / f"{rank}.jsonl")


def add_batch(journal: JsonlLog, number: int, records: Sequence[Record]) -> None:
    """Write a finished batch down; when this returns it is on disk.

    Args:
        journal: of the process that writes.
        number: of the batch.
        records: of its samples, in order.

    Raises:
        InputError: it can't be written.
    """
    try:
        journal.add({"batch": number, "records": list(records)})
    except OSError as error:
        raise InputError(
            f"{journal.path} can't be written: {error}. Make room, and run the same command again to go on."
        ) from error


def batches(samples: Sequence[Sample], batch_size: int) -> int:
    """How many there are."""
    return -(-len(samples) // batch_size)


def finished(out: Path) -> dict[int, list[Record]]:
    """The records of each batch that some process has finished. A line that is just being written doesn't count.

    Raises:
        InputError: they can't be read.
    """
    found: dict[int, list[Record]] = {}
    for path in sorted((out / FOLDER).glob("*.jsonl")):
        for entry in _entries(path):
            found.setdefault(entry["batch"], entry["records"])
    return found


def await_all(
    out: Path,
    samples: Sequence[Sample],
    batch_size: int,
    *,
    progress: ProgressCallback | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Wait until every batch is finished.

    Args:
        out: the run's folder.
        samples: of the whole split.
        batch_size: as they were captioned.
        progress: called at each look.
        check: called at each look; raises where waiting is vain.
    """
    wanted = batches(samples, batch_size)
    while (done := _lines(out)) < wanted or len(finished(out)) < wanted:
        if progress is not None:
            progress(min(done * batch_size, len(samples)), len(samples), "captioning")
        check()
        time.sleep(POLL)


def gather(out: Path, samples: Sequence[Sample], batch_size: int) -> list[Record]:
    """The record of each sample, in the samples' order.

    Raises:
        InputError: a batch is missing.
    """
    found = finished(out)
    wanted = range(batches(samples, batch_size))
    if missing := [number for number in wanted if number not in found]:
        raise InputError(f"{out / FOLDER} lacks {len(missing)} of {len(wanted)} batches; run the same command again.")
    records = [record for number in wanted for record in found[number]]
    if [record["id"] for record in records] != [sample.id for sample in samples]:
        raise InputError(f"{out / FOLDER} holds other samples; name another folder, or remove it.")
    return records


def _entries(path: Path) -> list[dict[str, Any]]:
    """A journal's whole lines."""
    try:
        content = path.read_bytes()
        return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}. Remove it to caption its part anew.") from error


def _library_digest(library: ExoLibrary) -> str:
    """What tells one library's clips from another's."""
    found = hashlib.blake2b(digest_size=16)
    for id in sorted(entry.id for entry in library.entries()):
        found.update(id.encode())
    return found.hexdigest()


def _lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (out / FOLDER).glob("*.jsonl"))
