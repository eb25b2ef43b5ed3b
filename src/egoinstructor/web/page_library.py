"""The page's second tab: what is in the library, search in it, and adding to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError
from egoinstructor.web.page_parts import Outputs, clip_list, html, note, safely, take, upload_player, video_input
from egoinstructor.web.results import MAX_HITS, MAX_TEXT, Narration

if TYPE_CHECKING:
    import gradio as gr

    from egoinstructor.web.service import Service

_MOST = 24
_ROWS, _ROWS_AT_FIRST = 12, 2  # of narrations
_NOTHING = "The library has nothing that is near enough."


@dataclass(frozen=True, slots=True)
class FormRow:
    """Where one narration is written; Gradio's own table loses the first key that is pressed in a cell."""

    row: gr.Row
    start: gr.Textbox
    end: gr.Textbox
    text: gr.Textbox


class LibraryTab:
    """Draws itself when it is made, within a `gr.Tab`.

    Args:
        service: does the work; its library is there.
    """

    def __init__(self, service: Service) -> None:
        import gradio as gr

        self._service = service
        self._error = html("", "library-error", "alerts")
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=2, min_width=300):
                self._draw_search()
                self._draw_adding()
            with gr.Column(scale=3, min_width=300):
                html("<h2>Found</h2>")
                self._found = html(note("Search in words or by a clip."), "library-found", "live")
        with gr.Accordion("What the library holds", open=False):
            self._stats = html(stats_table(service.library_stats()), "library-stats")
        self._connect()

    def _draw_search(self) -> None:
        import gradio as gr

        html("<h2>Search</h2>")
        self._text = gr.Textbox(label="What is said or shown", max_length=400, elem_id="library-text")
        self._hits = gr.Slider(1, _MOST, 8, step=1, label="Clips to find")
        self._playable = gr.Checkbox(False, label="Only clips whose video is on this server")
        self._search = gr.Button("Search", variant="primary")
        self._clip = video_input("… or search by a clip", "library-clip")
        self._clip_player = html()

    def _draw_adding(self) -> None:
        import gradio as gr

        with gr.Accordion("Add a video", open=False):
            self._new = video_input("How-to video", "library-new")
            self._new_id = gr.State(None)
            self._new_player = html()
            self._rows = [self._row(number) for number in range(1, _ROWS + 1)]
            self._shown = gr.State(_ROWS_AT_FIRST)
            self._more = gr.Button("One more row", size="sm")
            self._add = gr.Button("Add to the library")
            self._added = html("", "library-added", "live")

    @staticmethod
    def _row(number: int) -> FormRow:
        import gradio as gr

        with gr.Row(visible=number <= _ROWS_AT_FIRST, elem_classes="narration") as row:
            start = gr.Textbox(label=f"Start {number} (s)", max_length=12, min_width=80, scale=1)
            end = gr.Textbox(label=f"End {number} (s)", max_length=12, min_width=80, scale=1)
            text = gr.Textbox(label=f"What is said {number}", max_length=MAX_TEXT, min_width=160, scale=3)
        return FormRow(row, start, end, text)

    def _connect(self) -> None:
        import gradio as gr

        error = self._error
        gr.on(
            [self._search.click, self._text.submit],
            safely(error, self._by_text),
            [self._text, self._hits, self._playable],
            [error, self._found],
            show_progress_on=self._found,
        )
        self._clip.change(
            safely(error, self._by_clip, self._clip),
            [self._clip, self._hits, self._playable],
            [error, self._clip, self._clip_player, self._found],
            show_progress_on=self._found,
            preprocess=False,
        )
        new = [self._new, self._new_id, self._new_player]
        self._new.change(
            safely(error, self._take_new, self._new),
            self._new,
            [error, *new],
            show_progress_on=self._new_player,
            preprocess=False,
        )
        self._more.click(
            self._one_more,
            self._shown,
            [self._shown, self._more, *(row.row for row in self._rows)],
            show_progress="hidden",
        )
        self._add.click(
            safely(error, self._add_new),
            [self._new_id, *(field for row in self._rows for field in (row.start, row.end, row.text))],
            [error, self._new_id, self._new_player, self._added, self._stats],
            show_progress_on=self._added,
        )

    async def _by_text(self, text: str, hits: int, playable: bool) -> Outputs:
        if not text.strip():
            raise InputError("There is nothing to search for. Write what is said or shown in the clip.")
        return {self._found: await self._hits_of(hits, playable, text=text.strip())}

    async def _by_clip(self, given: dict[str, Any] | None, hits: int, playable: bool) -> Outputs:
        if given is None:
            return {}
        upload = await take(self._service, given)
        return {
            self._clip: None,
            self._clip_player: upload_player(upload),
            self._found: await self._hits_of(hits, playable, upload_id=upload.id),
        }

    async def _hits_of(self, hits: int, playable: bool, text: str | None = None, upload_id: str | None = None) -> str:
        found = await self._service.search(text=text, upload_id=upload_id, k=MAX_HITS if playable else hits)
        return clip_list([one for one in found if one.playable or not playable][:hits], _NOTHING)

    async def _take_new(self, given: dict[str, Any] | None) -> Outputs:
        if given is None:
            return {}
        upload = await take(self._service, given)
        return {self._new: None, self._new_id: upload.id, self._new_player: upload_player(upload)}

    async def _one_more(self, shown: int) -> Outputs:
        import gradio as gr

        return {
            self._shown: shown + 1,
            self._rows[shown].row: gr.Row(visible=True),
            self._more: gr.Button(visible=shown + 1 < _ROWS),
        }

    async def _add_new(self, upload_id: str | None, *fields: str | None) -> Outputs:
        if upload_id is None:
            raise InputError("There is no how-to video yet. Upload or record one.")
        report = await self._service.add_to_library(upload_id, narrations(by_rows(fields)))
        return {
            self._new_id: None,
            self._new_player: "",
            self._added: note(f"Added: {report.added} new of {len(report.clips)} clips."),
            self._stats: stats_table(self._service.library_stats()),
        }


def by_rows(fields: Sequence[str | None]) -> list[tuple[str | None, ...]]:
    """The table's fields by rows of start, end and text."""
    return list(zip(fields[::3], fields[1::3], fields[2::3], strict=True))


def narrations(rows: Sequence[tuple[str | None, ...]]) -> list[Narration]:
    """The table's rows; empty ones are passed over.

    Raises:
        InputError: a row without a time or a text, times that are no span, or no row at all.
    """
    result = []
    for number, row in enumerate(rows, 1):
        start, end, said = ((field or "").strip() for field in row)  # None where nothing was ever written
        if not (start or end or said):
            continue
        try:
            result.append(Narration(float(start), float(end), said))
        except ValueError as error:  # which an InputError is too
            raise InputError(
                f"Row {number} of the narrations: from {start or 'nothing'} to {end or 'nothing'} “{said}” is said. "
                "Give two times in seconds, such as 2.5, the start before the end, and words."
            ) from error
    if not result:
        raise InputError("There is no narration yet. Give at least one row: start, end, and what is said between them.")
    return result


def stats_table(stats: Mapping[str, Any]) -> str:
    """What a visitor may want to know of the library, as a table."""
    sources = ", ".join(f"{name} ({clips:,} clips)" for name, clips in stats["sources"].items())
    rows = {
        "Clips": f"{stats['clips']:,}",
        "Videos": f"{stats['videos']:,}",
        "Hours": f"{stats['hours']:,.2f}",
        "With a narration": f"{stats['narrated']:.0%}",
        "Collections": sources,
        "Found by": stats["retriever"],
    }
    cells = "".join(
        f'<tr><th scope="row">{name}</th><td>{escape(str(value))}</td></tr>' for name, value in rows.items() if value
    )
    return f'<table class="stats"><tbody>{cells}</tbody></table>'
