"""The page: every query with its clip, its references and both captions. It needs nothing but the demo's folder."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from egoinstructor.demo.captions import Answer, Count
from egoinstructor.demo.pictures import Media, Medium
from egoinstructor.records import Reference, source_name


def page(answers: Sequence[Answer], counts: Sequence[Count], media: Media, note: str, sheet: str) -> str:
    """Write it.

    Args:
        answers: what to show.
        counts: how often the captions were exactly right; none where that is not known.
        media: the clips.
        note: what the model knows.
        sheet: the contact sheet's file name.

    Returns:
        HTML.
    """
    template = Template(files("egoinstructor.demo").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        note=escape(note),
        counts=_counts(counts),
        answers="\n".join(_answer(number, answer, media) for number, answer in enumerate(answers, 1)),
        sheet=escape(sheet),
    )


def _counts(counts: Sequence[Count]) -> str:
    if not counts:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(c.bucket)}</th><td>{c.clips}</td><td>{c.found}</td><td>{c.alone}</td></tr>'
        for c in counts
    )
    return (
        "<table>\n<caption>Captions that are exactly right</caption>\n"
        '<tr><th scope="col">clips</th><th scope="col">shown</th><th scope="col">with retrieval</th>'
        f'<th scope="col">without</th></tr>\n{rows}\n</table>'
    )


def _answer(number: int, answer: Answer, media: Media) -> str:
    query = answer.query
    bucket = f' <span class="tag">{escape(query.bucket)}</span>' if query.bucket else ""
    truth = f"<dt>What happens</dt><dd>{escape(query.truth)}</dd>" if query.truth else ""
    found = "\n".join(_reference(reference, media) for reference in answer.found.references)
    references = f"<ol>\n{found}\n</ol>" if found else "<p>None was found in the library.</p>"
    return f"""<article aria-labelledby="q{number}">
<h2 id="q{number}">{number}. {escape(query.name)}{bucket}</h2>
<div class="query">
{_clip(media.of(query.clip), f"Egocentric clip {number}" + (f": {query.truth}" if query.truth else ""))}
<dl>
<dt>With retrieval</dt>{_caption(answer.found.text, answer.right(answer.found))}
<dt>Without</dt>{_caption(answer.alone.text, answer.right(answer.alone))}
{truth}
</dl>
</div>
<h3>References, nearest first</h3>
{references}
</article>"""


def _caption(text: str, right: bool | None) -> str:
    shown = escape(text) or "(nothing)"
    if right is None:
        return f"<dd>{shown}</dd>"
    kind, sign, said = ("right", "✓", "exactly right") if right else ("wrong", "✗", "not the same words")
    return f'<dd class="{kind}"><span role="img" aria-label="{said}">{sign}</span> {shown}</dd>'


def _reference(reference: Reference, media: Media) -> str:
    score = "" if reference.score is None else f"similarity {reference.score:.2f}, "
    path = reference.clip.video
    name = path.name if isinstance(path, Path) else source_name(path)
    return f"""<li>
{_clip(media.of(reference.clip), f"How-to clip: {reference.narration}")}
<p>“{escape(reference.narration)}”</p>
<p class="score">{score}{escape(str(name))}</p>
</li>"""


def _clip(medium: Medium, description: str) -> str:
    said = escape(description)
    if medium.video:
        return (
            f'<video controls muted loop playsinline preload="none" poster="{escape(medium.poster)}" '
            f'src="{escape(medium.video)}" aria-label="{said}"></video>'
        )
    if medium.poster:
        return f'<img src="{escape(medium.poster)}" alt="{said}">'
    return '<div class="gone">its video is not here; what the model keeps of it was read</div>'
