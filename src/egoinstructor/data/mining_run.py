"""Two files of narrated clips → the same with what is done in each and which exo clips show the same: `mine_pairs`.

    EGO.json, EXO.json → OUT/.narrations/*.json → OUT/exo.json, ego.json, vocabulary.json, report.json

What the tagger made of each portion of narrations is kept in `.narrations`, under a digest of the narrations and of the
tagger. A run that was stopped goes on there, and one with other synonyms or another `top_k` need not read anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from egoinstructor.data.actions import Action
from egoinstructor.data.mining import TOP_K, Actions, match
from egoinstructor.data.pairs import PairRecord, read_pairs, write_pairs
from egoinstructor.data.vocabulary import SIMILAR, Synonyms, Vocabulary, WordKind, read_synonyms, similar_words
from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file
from egoinstructor.video.folder import ProgressCallback

FORMAT = 1  # raise it when the same narrations would give other actions
PORTION = 20_000
"""Narrations that are read between two saves: some 20 s."""

_PLACES: dict[WordKind, int] = {"verbs": 0, "nouns": 1}  # in an action


class ActionReader(Protocol):
    """What reads actions from narrations: `narration.Tagger`."""

    @property
    def identity(self) -> str:
        """What decides the actions."""

    def actions(self, texts: Sequence[str]) -> Iterator[list[Action]]:
        """The actions of each text, in order."""


@dataclass(frozen=True, slots=True)
class MiningReport:
    """What was found.

    Args:
        out: the folder that was written.
        tagger: what read the narrations.
        ego: number of ego clips.
        exo: number of exo clips.
        ego_without_action: in whose narration no verb with an object was found.
        exo_without_action: the same of exo clips.
        ego_without_pair: with an action that no exo clip shares.
        exo_in_pairs: exo clips that some ego clip is paired with.
        pairs: number of pairs by the rule that gave them: "same words", or "synonyms" where only those agree.
        capped: ego clips with `top_k` pairs, which may have lost others.
        verbs: different verbs, synonyms counted once.
        nouns: different nouns.
    """

    out: Path
    tagger: str
    ego: int
    exo: int
    ego_without_action: int
    exo_without_action: int
    ego_without_pair: int
    exo_in_pairs: int
    pairs: Mapping[str, int]
    capped: int
    verbs: int
    nouns: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"out": str(self.out)}

    def __str__(self) -> str:
        """A line for each thing that one wants to know."""
        total = sum(self.pairs.values())
        rules = ", ".join(f"{count} by {rule}" for rule, count in self.pairs.items())
        paired = self.ego - self.ego_without_action - self.ego_without_pair
        return "\n".join(
            [
                f"{self.out}: {total} pairs ({rules})",
                f"  {paired} of {self.ego} ego clips have some, {self.capped} of them as many as they may",
                f"  {self.ego_without_action} ego clips have no action in words, {self.ego_without_pair} one that no exo "
                "clip shares: each is its own pair in training",
                f"  {self.exo_in_pairs} of {self.exo} exo clips are in pairs; {self.exo_without_action} have no action",
                f"  {self.verbs} verbs, {self.nouns} nouns; read by {self.tagger}",
            ]
        )


def mine_pairs(
    ego: str | os.PathLike[str],
    exo: str | os.PathLike[str],
    out: str | os.PathLike[str],
    tagger: ActionReader,
    *,
    synonyms: str | os.PathLike[str] | None = None,
    encode: Callable[[Sequence[str]], Tensor] | None = None,
    similar: float = SIMILAR,
    top_k: int = TOP_K,
    replace_lists: bool = False,
    progress: ProgressCallback | None = None,
) -> MiningReport:
    """Read both files' narrations and pair what shares an action.

    Args:
        ego: ego clips, as `read_pairs` reads them.
        exo: exo clips.
        out: the folder to write.
        tagger: reads actions.
        synonyms: a file for `read_synonyms`.
        encode: a sentence encoder, which finds more synonyms; see `similar_words`.
        similar: cosine from which it does.
        top_k: exo clips kept for an ego clip.
        replace_lists: make new lists of nouns, verbs and pairs where a file has some.
        progress: called after each portion of narrations.

    Raises:
        InputError: files that can't be read or written, one file for both views, `top_k` below 1, or a file that has
            lists already.
    """
    out = Path(out)
    if top_k < 1:
        raise InputError(f"top_k={top_k}: give 1 or more.")
    if Path(ego).resolve() == Path(exo).resolve():
        raise InputError(f"{ego} was given as ego and as exo clips: give a file for each view.")
    if {Path(ego).resolve(), Path(exo).resolve()} & {(out / name).resolve() for name in ("ego.json", "exo.json")}:
        raise InputError(f"{out} holds a file that is read: give another folder to write to.")
    records = {path: read_pairs(path) for path in (ego, exo)}
    for path, clips in records.items():
        if not replace_lists and any(clip.nouns or clip.verbs or clip.paired for clip in clips):
            raise InputError(f"{path} has lists of nouns, verbs or pairs already. Train with them, or replace them.")
    said = _read_narrations({clip.words for clips in records.values() for clip in clips}, out, tagger, progress)
    given = read_synonyms(Path(synonyms)) if synonyms is not None else {}
    vocabularies = {}
    for kind, place in _PLACES.items():
        counts = Counter(action[place] for clips in records.values() for clip in clips for action in said[clip.words])
        stands: Synonyms = given.get(kind, {})
        if encode is not None:
            stands = similar_words(counts, encode, kind, threshold=similar, known=stands)
        vocabularies[kind] = Vocabulary.build(counts, stands)
    numbered = {
        text: _numbered(actions, vocabularies["verbs"], vocabularies["nouns"]) for text, actions in said.items()
    }
    ego_actions, exo_actions = ([numbered[clip.words] for clip in clips] for clips in records.values())
    found = match(ego_actions, exo_actions, top_k)
    no_pairs = [()] * len(records[exo])
    write_pairs(out / "exo.json", map(_labelled, records[exo], exo_actions, no_pairs))
    write_pairs(out / "ego.json", map(_labelled, records[ego], ego_actions, found))
    rules = _rules([said[c.words] for c in records[ego]], [said[c.words] for c in records[exo]], found)
    report = MiningReport(
        out=out,
        tagger=tagger.identity,
        ego=len(ego_actions),
        exo=len(exo_actions),
        ego_without_action=sum(not actions for actions in ego_actions),
        exo_without_action=sum(not actions for actions in exo_actions),
        ego_without_pair=sum(bool(actions) and not pairs for actions, pairs in zip(ego_actions, found, strict=True)),
        exo_in_pairs=len({clip for pairs in found for clip in pairs}),
        pairs=rules,
        capped=sum(len(pairs) == top_k for pairs in found),
        verbs=len(vocabularies["verbs"].names),
        nouns=len(vocabularies["nouns"].names),
    )
    words = {kind: vocabulary.as_list() for kind, vocabulary in vocabularies.items()}
    _write_json(out / "vocabulary.json", words)
    _write_json(out / "report.json", report.as_dict())
    return report


def _read_narrations(
    texts: Iterable[str], out: Path, tagger: ActionReader, progress: ProgressCallback | None
) -> dict[str, list[Action]]:
    """The actions of each narration, in portions of which those that were read before are not read again."""
    folder = out / ".narrations"
    ordered = sorted(texts)
    said: dict[str, list[Action]] = {}
    kept = set()
    for first in range(0, len(ordered), PORTION):
        portion = ordered[first : first + PORTION]
        key = json.dumps([FORMAT, tagger.identity, portion], ensure_ascii=False).encode()
        path = folder / f"{hashlib.blake2b(key, digest_size=16).hexdigest()}.json"
        if not path.exists():
            _write_json(path, list(tagger.actions(portion)))
        kept.add(path)
        actions = json.loads(path.read_text(encoding="utf-8"))
        said |= {text: [(verb, noun) for verb, noun in of_text] for text, of_text in zip(portion, actions, strict=True)}
        if progress is not None:
            progress(min(first + PORTION, len(ordered)), len(ordered), "narrations")
    for path in set(folder.glob("*.json")) - kept:  # of other narrations, or of another tagger
        path.unlink()
    return said


def _numbered(actions: Sequence[Action], verbs: Vocabulary, nouns: Vocabulary) -> Actions:
    return tuple(sorted({(verbs.ids[verb], nouns.ids[noun]) for verb, noun in actions}))


def _labelled(clip: PairRecord, actions: Actions, paired: tuple[int, ...]) -> PairRecord:
    """The clip with the verbs and nouns of its actions: a noun that nothing is done to would make clips alike."""
    verbs, nouns = (tuple(sorted({action[place] for action in actions})) for place in _PLACES.values())
    return replace(clip, verbs=verbs, nouns=nouns, paired=paired)


def _rules(
    ego: Sequence[Sequence[Action]], exo: Sequence[Sequence[Action]], found: Sequence[tuple[int, ...]]
) -> dict[str, int]:
    same = sum(not set(ego[clip]).isdisjoint(exo[other]) for clip, pairs in enumerate(found) for other in pairs)
    return {"same words": same, "synonyms": sum(map(len, found)) - same}


def _write_json(path: Path, content: Any) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
