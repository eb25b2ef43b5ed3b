"""The demo's output, from the captions on: the page and the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

from egoinstructor.demo.captions import Answer, counts
from egoinstructor.demo.folder import DemoFolder
from egoinstructor.demo.page import page
from egoinstructor.demo.pictures import Media
from egoinstructor.demo.sheet import contact_sheet

NOTE = "The model is nano, which comes with the package and knows the simulated kitchen only."
OWN = f"{NOTE} What it says of other videos means nothing; for those, 'egoinstructor caption' takes the published weights."
PANELS = 3


def write_demo(folder: DemoFolder, answers: Sequence[Answer], note: str = NOTE) -> None:
    """Write the page, with every query, and the contact sheet, with the first of each bucket.

    Args:
        folder: the demo's.
        answers: what to show; at least one.
        note: what the model knows.

    Raises:
        InputError: something can't be written.
    """
    media = Media(folder)
    folder.write(folder.sheet, contact_sheet(_panels(answers), media))
    html = page(answers, counts(answers), media, note, folder.sheet.name)
    folder.write(folder.page, html.encode())


def _panels(answers: Sequence[Answer]) -> list[Answer]:
    """The first query of each bucket, then more, in the order of the queries: none is picked for its caption."""
    buckets = [answer.query.bucket for answer in answers]
    rank = sorted(range(len(answers)), key=lambda i: (buckets[:i].count(buckets[i]), i))
    return [answers[i] for i in sorted(rank[:PANELS])]
