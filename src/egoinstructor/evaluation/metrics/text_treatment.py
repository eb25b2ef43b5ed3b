"""What is done to texts before they are compared: two treatments, which give different scores and so are always named.

`nlgeval`: white space at the ends goes, nothing else; what nlg-eval does, and with it the papers of EgoInstructor, LaViLa
and Video ReCap. `coco`: words as the Penn Treebank splits them, lower case, no punctuation; what coco-caption does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from egoinstructor.data.actions import clean_narration
from egoinstructor.errors import InputError
from egoinstructor.evaluation.metrics.java import JavaError, packaged, run_java

Treatment = Literal["nlgeval", "coco"]
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)

_TOKENIZER = "tokenizer/stanford-corenlp-3.4.1.jar"
_FEATURE = "The text treatment 'coco'"


def treat(texts: Iterable[str], treatment: Treatment, *, clean: bool = False) -> dict[str, str]:
    """Each different text, treated. All go through in one pass.

    Line breaks within a text become spaces first: METEOR and the tokeniser take a line for a text.

    Args:
        texts: as they were written.
        treatment: by its name.
        clean: take Ego4D's codes out before ("#C C cuts a leek" → "cuts a leek"), as the original's `--clean_narration`.

    Raises:
        InputError: no such treatment.
        MissingExtraError: `coco` without the extra `metrics`.
        JavaError: the tokeniser failed.
    """
    if treatment not in TREATMENTS:
        raise InputError(f"text treatment {treatment!r}: there are {' and '.join(TREATMENTS)}.")
    unique = list(dict.fromkeys(texts))
    lines = [_one_line(clean_narration(text) if clean else text) for text in unique]
    treated = lines if treatment == "nlgeval" else _tokenized(lines)
    return dict(zip(unique, treated, strict=True))


def _one_line(text: str) -> str:
    return " ".join(text.strip().splitlines())


def _tokenized(lines: list[str]) -> list[str]:
    """By the tokeniser of coco-caption, in one run of Java."""
    jar = packaged(_TOKENIZER, _FEATURE)
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    if not lines:
        return []
    program = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    out = run_java(program, "".join(line + "\n" for line in lines), _FEATURE).split("\n")[:-1]
    if len(out) != len(lines):
        raise JavaError(f"{_FEATURE}: the tokeniser gave {len(out)} lines for {len(lines)} texts.")
    drop = frozenset(PUNCTUATIONS)
    return [" ".join(word for word in line.rstrip().split(" ") if word not in drop) for line in out]
