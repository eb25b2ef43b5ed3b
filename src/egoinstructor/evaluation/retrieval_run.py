"""Retrieval evaluation from start to end: what is embedded, which directions are measured, and the report.

pairs files + features or videos + a retriever → ego↔exo, and video↔text of each view      evaluate_pairs
EgoMCQ's questions + features or videos + a retriever → accuracy                           evaluate_choices
two matrices of embeddings → each finds the other                                          evaluate_matrices
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from egoinstructor.data.actions import clean_narration
from egoinstructor.data.clips import ClipSource, Embedded, Span, embed_clips
from egoinstructor.data.pairs import PairRecord, check_paired
from egoinstructor.errors import InputError
from egoinstructor.evaluation.multiple_choice import Question, accuracy, chosen
from egoinstructor.evaluation.relevancy import Answers, SharedWords
from egoinstructor.evaluation.report import RetrievalReport
from egoinstructor.evaluation.retrieval import evaluate_retrieval
from egoinstructor.retriever.interface import Retriever
from egoinstructor.video.folder import ProgressCallback


def evaluate_pairs(
    report: RetrievalReport,
    retriever: Retriever,
    ego: tuple[Sequence[PairRecord], ClipSource] | None,
    exo: tuple[Sequence[PairRecord], ClipSource] | None,
    *,
    clean: bool = True,
    progress: ProgressCallback | None = None,
) -> None:
    """Measure every direction that the given views allow, and add it to the report.

    Args:
        report: to add to.
        retriever: embeds texts.
        ego: the ego clips and where to find them.
        exo: the exo clips.
        clean: pass ego narrations through `clean_narration`, as the retriever was trained with.
        progress: called after each portion of clips.

    Raises:
        InputError: nothing that could be read, pairs that don't exist, directions without any answer.
    """
    sides = []
    for given in (ego, exo):
        if given is not None:
            records, source = given
            spans = [(record.video, record.start, record.end) for record in records]
            embedded = embed_counted(report, f"{source.view} clip", spans, source, progress)
            side = _Side(source.view, [records[i] for i in embedded.kept], embedded)
            sides.append(side)
            _video_and_text(report, retriever, side, clean=clean and source.view == "ego")
    if ego is not None and exo is not None:
        check_paired(ego[0], exo[0], "the ego file")
        _ego_and_exo(report, *sides)


def evaluate_choices(
    report: RetrievalReport,
    retriever: Retriever,
    questions: Sequence[Question],
    source: ClipSource,
    *,
    clean: bool = True,
    progress: ProgressCallback | None = None,
) -> None:
    """Answer EgoMCQ's questions; one with a choice that can't be read is left out and counted.

    Args:
        report: to add to.
        retriever: embeds texts.
        questions: what is asked.
        source: where the choices' clips are.
        clean: pass narrations through `clean_narration`.
        progress: called after each portion of clips.

    Raises:
        InputError: no question can be asked.
    """
    spans = sorted({(c.video, c.start, c.end) for question in questions for c in question.choices})
    embedded = embed_counted(report, "choice", spans, source, progress)
    rows = {spans[place]: row for row, place in enumerate(embedded.kept)}
    texts = [clean_narration(question.text) if clean else question.text for question in questions]
    asked = [
        (question, text)
        for question, text in zip(questions, texts, strict=True)
        if text.strip() and all((c.video, c.start, c.end) in rows for c in question.choices)
    ]
    report.counts |= {"questions": len(asked), "questions left out": len(questions) - len(asked)}
    if not asked:
        raise InputError(f"of {len(questions)} questions none has words and five clips that can be read.")
    right = []
    vectors = retriever.encode_text([text for _, text in asked])  # (Q, D)
    for (question, _), vector in zip(asked, vectors, strict=True):
        choices = embedded.embeddings[[rows[c.video, c.start, c.end] for c in question.choices]]
        right.append(chosen(vector, choices, question.answer))
    report.choices = accuracy(right, [question for question, _ in asked])


ActionClasses = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Side:
    """The clips of one view that could be read, and their embeddings; `embedded.kept` are their places in the file."""

    view: str
    records: list[PairRecord]
    embedded: Embedded

    @property
    def words(self) -> list[ActionClasses]:
        """Verbs and nouns of each clip."""
        return [(record.verbs, record.nouns) for record in self.records]

    @property
    def labels(self) -> list[ActionClasses | tuple[str, int]]:
        """The same for clips of exactly the same verbs and nouns; a clip without any is like no other."""
        return [words if all(words) else (self.view, index) for index, words in enumerate(self.words)]


def embed_counted(
    report: RetrievalReport, name: str, spans: Sequence[Span], source: ClipSource, progress: ProgressCallback | None
) -> Embedded:
    """Embed clips; count those that could be read and name the others in the report.

    Raises:
        InputError: none could be read.
    """
    embedded = embed_clips(spans, source, progress)
    report.counts |= {f"{name}s": len(embedded.kept), f"{name}s unreadable": len(embedded.failures)}
    report.failures |= {f"{name} {place}": reason for place, reason in embedded.failures.items()}
    if not embedded.kept:
        first = next(iter(embedded.failures.values()), "there is none")
        raise InputError(f"of {len(spans)} {name}s none can be read; of the first: {first}")
    return embedded


def _video_and_text(report: RetrievalReport, retriever: Retriever, side: _Side, *, clean: bool) -> None:
    """A clip and a narration belong together if the clip has just these words, for several may have the same."""
    texts = [clean_narration(record.text) if clean else record.words for record in side.records]
    said = [place for place, text in enumerate(texts) if text.strip()]
    report.counts[f"{side.view} clips without words"] = len(texts) - len(said)
    if not said:
        return
    texts = [texts[place] for place in said]
    words = [side.words[place] for place in said]
    graded = SharedWords(words, words) if any(verbs or nouns for verbs, nouns in words) else None
    videos, sentences = side.embedded.embeddings[said], retriever.encode_text(texts)
    answers = Answers.same_label(texts, texts)
    report.scores[f"{side.view} video → text"] = evaluate_retrieval(videos, sentences, answers, graded)
    report.scores[f"{side.view} text → video"] = evaluate_retrieval(sentences, videos, answers, graded)


def _ego_and_exo(report: RetrievalReport, ego: _Side, exo: _Side) -> None:
    """An exo clip answers an ego clip that is paired with it, or that has exactly its verbs and nouns.

    The second, since pairs may have been cut to some of those that fit. A pair that shares no verb or no noun is none, as
    in training.
    """
    place = {index: row for row, index in enumerate(exo.embedded.kept)}
    alike = Answers.same_label(ego.labels, exo.labels)
    answers: list[list[int]] = []
    refused = 0
    for row, record in enumerate(ego.records):
        pairs = [place[index] for index in record.paired if index in place]
        good = [other for other in pairs if record.same_action(exo.records[other])]
        refused += len(pairs) - len(good)
        answers.append(good + alike.of(row))
    report.counts["pairs that share no verb or no noun"] = refused
    report.counts["ego clips with an answer"] = sum(map(bool, answers))
    if not any(answers):  # of ego clips and texts alone, say, much can be measured all the same
        return
    found = Answers(answers, len(exo.records))
    here, there = ego.embedded.embeddings, exo.embedded.embeddings
    report.scores["ego → exo"] = evaluate_retrieval(here, there, found, SharedWords(ego.words, exo.words))
    report.scores["exo → ego"] = evaluate_retrieval(there, here, found.turned(), SharedWords(exo.words, ego.words))
