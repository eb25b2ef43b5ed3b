"""What is said of rendered clips, in the forms that training, retrieval and the library read. See `docs/simulation.md`."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from egoinstructor.data.pairs import PairRecord, write_pairs
from egoinstructor.files import atomic_file
from simkitchen.catalogue import nouns, verb_id
from simkitchen.encoding import SECONDS
from simkitchen.events import Camera, Event
from simkitchen.splits import seed_of

REFERENCES = 15
"""How many an egocentric clip is given, as in the published metadata."""
INSTRUCTION = "Describe the main action in the video."


def clip_name(event: Event, camera: Camera) -> str:
    """A clip's place in its split's folder, without suffix."""
    return f"{camera}/{event.id}"


def write_metadata(folder: Path, events: Sequence[Event]) -> None:
    """Write a split's metadata, each file whole or not at all.

    Args:
        folder: of the split.
        events: those whose clips are there.

    Raises:
        InputError: it can't be written.
    """
    exo = [event for event in events if event.view("exo")]
    ego = [event for event in events if event.view("ego")]
    shots = dict(zip((event.id for event in ego), best_references(ego, exo), strict=True))
    _write(folder / "events.jsonl", _lines(event.as_dict() for event in events))
    _write(folder / "metadata.jsonl", _lines(_sample(event, shots[event.id]) for event in ego))
    entries = {key: entry for event in events for key, entry in _entries(event, shots.get(event.id, []))}
    _write(folder / "instructions.json", json.dumps({"data": entries}, indent=1) + "\n")
    config = {_key(event, "ego"): [_key(reference, "exo") for reference in shots[event.id]] for event in ego}
    _write(folder / "config.json", json.dumps(config, indent=1) + "\n")
    _write(folder / "library.csv", _library(exo))
    same = defaultdict(list)
    for index, event in enumerate(exo):
        same[event.verb, event.noun].append(index)
    write_pairs(folder / "pairs_exo.json", (_pair(event, "exo", ()) for event in exo))
    write_pairs(folder / "pairs_ego.json", (_pair(event, "ego", same[event.verb, event.noun]) for event in ego))


def best_references(ego: Sequence[Event], exo: Sequence[Event]) -> list[list[Event]]:
    """For each egocentric clip the how-to clips that suit it best, best first: an oracle's choice.

    First those of the same verb and noun, then of the same noun, then of the same verb; among equals in any order, but
    always the same.
    """
    by_noun: dict[str, list[Event]] = defaultdict(list)
    by_verb: dict[str, list[Event]] = defaultdict(list)
    for event in exo:
        by_noun[event.noun].append(event)
        by_verb[event.verb].append(event)
    chosen = []
    for event in ego:
        random = Random(seed_of("references", event.seed, event.id))
        alike = random.sample(by_noun[event.noun], len(by_noun[event.noun]))
        alike.sort(key=lambda other: (other.verb != event.verb, other.target != event.target))
        if len(alike) < REFERENCES:
            fill = random.sample(by_verb[event.verb], min(len(by_verb[event.verb]), 2 * REFERENCES))
            alike += [other for other in fill if other.noun != event.noun]
        chosen.append(alike[:REFERENCES])
    return chosen


def _said(event: Event, camera: Camera) -> str:
    view = event.view(camera)
    assert view is not None  # asked only of events that this camera saw
    return view.narration


def _sample(event: Event, references: Iterable[Event]) -> dict[str, object]:
    return {
        "video": clip_name(event, "ego"),
        "start": 0.0,
        "end": SECONDS,
        "caption": _said(event, "ego"),
        "references": [
            {"video": clip_name(other, "exo"), "start": 0.0, "end": SECONDS, "narration": _said(other, "exo")}
            for other in references
        ],
    }


def _key(event: Event, camera: Camera) -> str:
    return f"{event.id}-{camera}"


def _entries(event: Event, references: Iterable[Event]) -> Iterable[tuple[str, dict[str, object]]]:
    """A clip each, in the published form."""
    for view in event.views:
        segment = {
            "vid": clip_name(event, view.camera),
            "uid": _key(event, view.camera),
            "start_second": 0.0,
            "end_second": SECONDS,
        }
        yield (
            _key(event, view.camera),
            {
                "instruction": INSTRUCTION,
                "answer": view.narration,
                "chat_answer": view.narration,
                "image_ids": [segment],
                "rel_ins_ids": [_key(other, "exo") for other in references] if view.camera == "ego" else [],
            },
        )


def _library(exo: Iterable[Event]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["video", "start", "end", "narration"])
    writer.writerows([f"{clip_name(e, 'exo')}.mp4", 0.0, SECONDS, _said(e, "exo")] for e in exo)
    return file.getvalue()


def _pair(event: Event, camera: Camera, paired: Sequence[int]) -> PairRecord:
    return PairRecord(
        video=clip_name(event, camera),
        start=0.0,
        end=SECONDS,
        text=_said(event, camera),
        uid=_key(event, camera),
        nouns=(nouns()[event.noun].id,),
        verbs=(verb_id(event.verb),),
        paired=tuple(paired),
    )


def _lines(records: Iterable[dict[str, object]]) -> str:
    return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text, "utf-8")
