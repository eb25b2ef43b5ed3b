"""What is trained on: ego segments with their captions, each with its retrieved how-to segments, best first.

Two forms are read into the same records:

- the original's pair, an instructions file (`{"data": {id: {"instruction", "answer", "chat_answer", "image_ids"}}}`)
  with a config file of one split (`{ego id: [reference ids]}`);
- plain JSONL, one `{"video", "start", "end", "caption", "references": [{"video", "start", "end", "narration"}]}` a line.

`read_metadata` checks types, `Metadata.samples` resolves names. Whether times and videos make sense is `inspection`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from egoinstructor import fields
from egoinstructor.data.actions import clean_narration as clean_narration
from egoinstructor.errors import InputError
from egoinstructor.video.folder import VideoFolder

INSTRUCTION = "Describe the main action in the video."
"""The instruction of JSONL samples: the one that the published metadata gives all of its own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A how-to segment that a sample's prompt may show; times are None for the whole video.

    `score` is its similarity to the sample, where a JSONL tells it.
    """

    id: str
    video: Path
    start: float | None
    end: float | None
    narration: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An ego segment to describe.

    Args:
        id: its key in the instructions file, or `{file}:{line}` of a JSONL.
        video: a file, or a folder of pieces.
        start: seconds, or None for the start of the video.
        end: seconds, or None for its end.
        instruction: what the prompt asks.
        caption: the text to learn: `answer`, or `chat_answer` where asked.
        answer: the text that evaluation compares with.
        references: most relevant first, none twice.
    """

    id: str
    video: Path
    start: float | None
    end: float | None
    instruction: str
    caption: str
    answer: str
    references: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A segment as the metadata has it, ego or how-to: types are checked, sense is not."""

    video: str
    start: float | None
    end: float | None
    instruction: str
    answer: str
    chat_answer: str | None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """One split.

    Args:
        origin: its config file or JSONL.
        entries: segments by id; those that no sample uses may be among them.
        shots: for each ego id the ids of its references, best first.
        root: where the videos are looked for if no folder is given.
    """

    origin: Path
    entries: Mapping[str, Entry]
    shots: Mapping[str, tuple[str, ...]]
    root: Path

    def samples(
        self,
        datapath_ego: str | os.PathLike[str] | None = None,
        datapath_exo: str | os.PathLike[str] | None = None,
        *,
        use_chat: bool = False,
        clean: bool = False,
        max_references: int | None = None,
    ) -> list[Sample]:
        """The samples, in the order of the file.

        Args:
            datapath_ego: folder of the ego videos: `{video}/` of pieces, or `{video}.mp4` or another video suffix.
            datapath_exo: folder of the how-to videos, by the same rule.
            use_chat: learn `chat_answer` in place of `answer`, of samples and references alike.
            clean: pass every caption, answer and narration through `clean_narration`.
            max_references: keep the best so many.

        Raises:
            InputError: an id that has no entry or refers to itself, a video outside its folder, no `chat_answer`.
        """
        ego, exo = self.folders(datapath_ego, datapath_exo)
        tidy = clean_narration if clean else str
        candidates: dict[str, Candidate] = {}

        def learned(key: str, entry: Entry) -> str:
            if not use_chat:
                return tidy(entry.answer)
            if entry.chat_answer is None:
                raise InputError(f"{self.origin}: {key} has no 'chat_answer'. Add it, or leave use_chat off.")
            return tidy(entry.chat_answer)

        def candidate(key: str) -> Candidate:
            if key not in candidates:
                entry = self._entry(key)
                path = exo.path(entry.video)
                candidates[key] = Candidate(key, path, entry.start, entry.end, learned(key, entry), entry.score)
            return candidates[key]

        samples = []
        for key, references in self.shots.items():
            entry = self._entry(key)
            if key in references:
                raise InputError(
                    f"{self.origin}: {key} is among its own references, so its answer would be given away."
                )
            best = list(dict.fromkeys(references))[:max_references]
            samples.append(
                Sample(
                    id=key,
                    video=ego.path(entry.video),
                    start=entry.start,
                    end=entry.end,
                    instruction=entry.instruction,
                    caption=learned(key, entry),
                    answer=tidy(entry.answer),
                    references=tuple(candidate(reference) for reference in best),
                )
            )
        return samples

    def folders(
        self, datapath_ego: str | os.PathLike[str] | None, datapath_exo: str | os.PathLike[str] | None
    ) -> tuple[VideoFolder, VideoFolder]:
        """The folders of the ego and of the how-to videos."""
        ego = self.root if datapath_ego is None else Path(datapath_ego)
        exo = self.root if datapath_exo is None else Path(datapath_exo)
        return VideoFolder(ego), VideoFolder(exo)

    def _entry(self, key: str) -> Entry:
        if key not in self.entries:
            raise InputError(
                f"{self.origin}: {key!r} is not in the instructions file. `egoinstructor prepare inspect` lists all such."
            )
        return self.entries[key]


def read_metadata(path: str | os.PathLike[str], config: str | os.PathLike[str] | None = None) -> Metadata:
    """Read one split.

    Args:
        path: an instructions file, or a JSONL, whose name ends in `.jsonl`.
        config: the split's config file; None with a JSONL.

    Raises:
        InputError: as `read_splits`.
    """
    return read_splits(path, *([] if config is None else [config]))[0]


def read_splits(path: str | os.PathLike[str], *configs: str | os.PathLike[str]) -> list[Metadata]:
    """Read an instructions file once, with the config file of each of its splits; or a JSONL, which is a split.

    Args:
        path: an instructions file, or a JSONL, whose name ends in `.jsonl`.
        configs: config files; none with a JSONL.

    Raises:
        InputError: a file that can't be read, or a value of the wrong type: the file, the key, the value and what is
            allowed.
    """
    path = Path(path)
    if path.suffix.lower() == ".jsonl":
        if configs:
            raise InputError(
                f"config={configs[0]} with {path}: a JSONL has its references in it; leave the config out."
            )
        return [_read_jsonl(path)]
    if not configs:
        raise InputError(f"{path} without a config: give the split's config file too, or a file named *.jsonl.")
    entries = _read_instructions(path)
    return [Metadata(config, entries, _read_config(config), path.parent) for config in map(Path, configs)]


def _read_instructions(path: Path) -> dict[str, Entry]:
    data = fields.as_object(
        fields.get(
            fields.as_object(fields.parse_json(fields.read_text(path), str(path)), str(path)), "data", str(path)
        ),
        f"{path}: data",
    )
    entries = {}
    for key in list(data):
        where = f"{path}: {key}"
        record = fields.as_object(data.pop(key), where)  # popped: the file's own form and ours need not both be held
        images = fields.as_list(fields.get(record, "image_ids", where), f"{where}.image_ids")
        if not images:
            raise InputError(f"{where}.image_ids: it is empty; it must hold the segment's video and times.")
        segment = fields.as_object(images[0], f"{where}.image_ids[0]")
        entries[key] = Entry(
            video=fields.text(segment, "vid", where),
            start=fields.seconds(segment, "start_second", where),
            end=fields.seconds(segment, "end_second", where),
            instruction=fields.text(record, "instruction", where),
            answer=fields.text(record, "answer", where),
            chat_answer=fields.text(record, "chat_answer", where) if "chat_answer" in record else None,
        )
    return entries


def _read_config(path: Path) -> dict[str, tuple[str, ...]]:
    shots = {}
    for key, value in fields.read_object(path).items():
        references = [value] if isinstance(value, str) else fields.as_list(value, f"{path}: {key}")
        for reference in references:
            fields.check(isinstance(reference, str), reference, f"{path}: {key}", "an id, as text")
        shots[key] = tuple(references)
    return shots


def _read_jsonl(path: Path) -> Metadata:
    entries: dict[str, Entry] = {}
    shots: dict[str, tuple[str, ...]] = {}
    for number, where, value in fields.json_lines(path):
        key = f"{path.name}:{number}"
        record = fields.only(value, ("video", "start", "end", "caption", "references"), where)
        entries[key] = _entry(record, "caption", where)
        references = []
        for rank, value in enumerate(fields.as_list(record.get("references", []), f"{where}: references")):
            place = f"{where}: references[{rank}]"
            reference = fields.only(
                fields.as_object(value, place), ("video", "start", "end", "narration", "score"), place
            )
            references.append(f"{key}#{rank}")
            score = None if reference.get("score") is None else fields.number(reference, "score", place)
            entries[references[-1]] = replace(_entry(reference, "narration", place), score=score)
        shots[key] = tuple(references)
    return Metadata(path, entries, shots, path.parent)


def _entry(record: dict[str, Any], words: str, where: str) -> Entry:
    text = fields.text(record, words, where)
    start, end = (None if record.get(key) is None else fields.seconds(record, key, where) for key in ("start", "end"))
    return Entry(fields.text(record, "video", where), start, end, INSTRUCTION, text, text)
