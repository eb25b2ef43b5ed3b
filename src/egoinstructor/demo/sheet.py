"""The contact sheet: a panel for each query, its frames above, the references' frames and words below.

┌ bucket ────────────────────────────────────────────────┐
│ [ego][ego][ego][ego][ego]   with retrieval  … ✓        │
│                             without         … ✗        │
│ [exo][exo]   [exo][exo]   [exo][exo]   [exo][exo]      │
│ "what is said"  …                                      │
└────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from egoinstructor.demo.captions import Answer
from egoinstructor.demo.pictures import Media
from egoinstructor.records import Caption, Reference

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

WIDTH, MARGIN, GAP = 1200, 24, 4
EGO, EXO = 136, 136  # height of a frame
COLUMN = (WIDTH - 2 * MARGIN) // 4
PANEL = 412
SMALL, TEXT = 17, 20
PAPER, INK, FAINT, LINE = "#ffffff", "#1a1a1a", "#5c5c5c", "#d9d9d9"
RIGHT, WRONG = "#1a7f37", "#b42318"
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf")
"""For what isn't ASCII, which is all that Pillow's own font has."""


def contact_sheet(answers: Sequence[Answer], media: Media) -> bytes:
    """Draw it.

    Args:
        answers: what to show, 4 references of each at most.
        media: the clips.

    Returns:
        A PNG.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, PANEL * len(answers)), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, answer in enumerate(answers):
        top = number * PANEL
        if number:
            draw.line([(MARGIN, top), (WIDTH - MARGIN, top)], LINE, 2)
        title = "Egocentric clip" + (f" ({answer.query.bucket})" if answer.query.bucket else "")
        _write(draw, (MARGIN, top + 14), title, SMALL, FAINT)
        frames = media.of(answer.query.clip).frames
        end = _strip(picture, frames, (MARGIN, top + 40), EGO, 5 * (EGO + GAP), 5)
        _captions(draw, answer, end + 16, top + 40)
        _write(draw, (MARGIN, top + 190), _above_references(answer.found), SMALL, FAINT)
        for column, reference in enumerate(answer.found.references[:4]):
            _reference(picture, draw, reference, media, (MARGIN + column * COLUMN, top + 216))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _above_references(caption: Caption) -> str:
    if not caption.references:
        return "No reference was found in the library"
    return "References found in the library, nearest first, and what is said in them"


def _captions(draw: ImageDraw, answer: Answer, left: int, top: int) -> None:
    """The captions beside the ego frames."""
    said = [("With retrieval", answer.found.text, answer.right(answer.found))]
    said += [("Without", answer.alone.text, answer.right(answer.alone))]
    if answer.query.truth:
        said += [("What happens", answer.query.truth, None)]
    for label, text, right in said:
        _write(draw, (left, top), label, 15, FAINT)
        shown = left + (24 if right is not None else 0)
        if right is not None:
            _mark(draw, right, (left, top + 23))
        colour = INK if right is None else RIGHT if right else WRONG
        _write(draw, (shown, top + 19), _fit(draw, text or "(nothing)", TEXT, WIDTH - MARGIN - shown), TEXT, colour)
        top += 50


def _reference(picture: object, draw: ImageDraw, reference: Reference, media: Media, place: tuple[int, int]) -> None:
    """One column: two frames, and below them what is said."""
    left, top = place
    width = COLUMN - 12
    frames = media.of(reference.clip).frames
    if frames is None:
        draw.rectangle([(left, top), (left + 2 * EXO + GAP, top + EXO)], "#f2f2f2")
        _write(draw, (left + 12, top + EXO // 2 - 10), "its video is not here", SMALL, FAINT)
    else:
        _strip(picture, frames, place, EXO, width, 2)
    lines = _wrap(draw, f"“{reference.narration}”", SMALL, width, 2)
    for number, line in enumerate(lines):
        _write(draw, (left, top + EXO + 6 + number * 22), line, SMALL, INK)


def _strip(
    picture: object, frames: NDArray[np.uint8] | None, place: tuple[int, int], height: int, width: int, count: int
) -> int:
    """Frames beside one another, as many of `count` as the width has room for; where the last ends."""
    from PIL import Image

    left, top = place
    if frames is None:
        return left
    each = max(1, round(height * frames.shape[2] / frames.shape[1]))
    count = max(1, min(count, (width + GAP) // (each + GAP)))
    chosen = frames[np.linspace(0, len(frames) - 1, count + 2).round().astype(int)[1:-1]] if count < 5 else frames
    assert isinstance(picture, Image.Image)
    for frame in chosen:
        shown = Image.fromarray(frame).resize((each, height), Image.Resampling.LANCZOS)
        picture.paste(shown.crop((0, 0, min(each, width), height)), (left, top))
        left += min(each, width) + GAP
    return left


def _mark(draw: ImageDraw, right: bool, place: tuple[int, int]) -> None:
    """A tick or a cross, drawn: Pillow's own font has neither."""
    x, y = place
    if right:
        draw.line([(x, y + 9), (x + 5, y + 14), (x + 15, y + 2)], RIGHT, 3, "curve")
    else:
        draw.line([(x + 1, y + 2), (x + 13, y + 14)], WRONG, 3)
        draw.line([(x + 1, y + 14), (x + 13, y + 2)], WRONG, 3)


def _write(draw: ImageDraw, place: tuple[int, int], text: str, size: int, colour: str) -> None:
    draw.text(place, text, fill=colour, font=_font(size, _plain(text)))


def _width(draw: ImageDraw, text: str, size: int) -> float:
    return draw.textlength(text, font=_font(size, _plain(text)))


def _wrap(draw: ImageDraw, text: str, size: int, width: int, lines: int) -> list[str]:
    """A text in lines, the last cut where there are too many."""
    words, made = text.split(), [""]
    while words:
        longer = f"{made[-1]} {words[0]}".strip()
        if made[-1] and _width(draw, longer, size) > width:
            if len(made) == lines:
                return [*made[:-1], _fit(draw, " ".join([made[-1], *words]), size, width)]
            made.append("")
        else:
            made[-1] = longer
            words.pop(0)
    return [_fit(draw, line, size, width) for line in made]


def _fit(draw: ImageDraw, text: str, size: int, width: int) -> str:
    """A line, cut to a width."""
    if _width(draw, text, size) <= width:
        return text
    shorter = range(len(text))
    fits = bisect_right(shorter, width, key=lambda letters: ceil(_width(draw, f"{text[:letters]}…", size))) - 1
    return f"{text[: max(0, fits)].rstrip()}…"


def _plain(text: str) -> bool:
    """Whether Pillow's own font has all its letters."""
    return all(letter.isascii() or letter in "“”…" for letter in text)


@cache
def _font(size: int, plain: bool) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    for name in () if plain else _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
