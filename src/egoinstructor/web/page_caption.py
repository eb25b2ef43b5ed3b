"""The page's first tab: one egocentric clip, the references that are found for it, and its captions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError
from egoinstructor.web.page_parts import (
    Example,
    Outputs,
    confidence,
    example_buttons,
    found_card,
    html,
    note,
    own_card,
    safely,
    take,
    told,
    upload_player,
    video_input,
)
from egoinstructor.web.results import CaptionResult, OwnReference

if TYPE_CHECKING:
    import gradio as gr

    from egoinstructor.web.results import FoundClip
    from egoinstructor.web.service import Service
    from egoinstructor.web.uploads import Upload

MAX_SHOTS = 8
MAX_OWN = 4
_MAX_BEAMS = 5
_WITH, _WITHOUT = "With references", "Without references"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the captioner may read, by ids only: it is kept for each visitor.

    Args:
        own: upload and narration of each reference that the visitor added.
        found: ids of the library's clips.
        asked: what these were found for; None before a search.
    """

    own: tuple[tuple[str, str], ...] = ()
    found: tuple[str, ...] = ()
    asked: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a reference is shown, with its switch."""

    column: gr.Column
    body: gr.HTML
    switch: gr.Checkbox


class CaptionTab:
    """Draws itself when it is made, within a `gr.Tab`.

    Args:
        service: does the work.
        examples: clips that a visitor may take instead of an own one.
    """

    def __init__(self, service: Service, examples: Sequence[Example]) -> None:
        import gradio as gr

        self._service = service
        self._upload_id = gr.State(None)
        self._offer = gr.State(Offer())
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=2, min_width=300):
                self._draw_input(examples)
            with gr.Column(scale=3, min_width=300):
                self._draw_results()
        self._connect(examples)

    def _draw_input(self, examples: Sequence[Example]) -> None:
        import gradio as gr

        self._video = video_input("Egocentric clip: upload or record it", "ego-upload")
        self._examples = example_buttons(examples)
        self._player = html("", "ego-player")
        with gr.Group():
            self._start = gr.Slider(0, 1, 0, step=0.01, label="Segment starts at (seconds)", interactive=False)
            self._end = gr.Slider(0, 1, 1, step=0.01, label="Segment ends at (seconds)", interactive=False)
        with gr.Group():
            self._shots = gr.Slider(1, MAX_SHOTS, 4, step=1, label="References to find")
            self._beams = gr.Slider(1, _MAX_BEAMS, 1, step=1, label="Beams (with 1, words appear as they are written)")
            self._both = gr.Checkbox(True, label="Caption without references too")
        with gr.Row(elem_classes="actions"):
            self._find = gr.Button("Find references", interactive=False)
            self._run = gr.Button("Caption", variant="primary", interactive=False)

    def _draw_results(self) -> None:
        import gradio as gr

        self._error = html("", "caption-error", "alerts")
        html("<h2>Captions</h2>")
        with gr.Row(elem_id="captions"):
            self._with = html(panel(_WITH), "caption-with", "live")
            self._without = html(panel(_WITHOUT), "caption-without", "live")
        html("<h2>References</h2>")
        self._hint = html(note(self._advice(Offer())), "references-hint", "live")
        with gr.Row(elem_classes="cards", elem_id="references"):
            self._slots = [self._slot() for _ in range(MAX_OWN + MAX_SHOTS)]
        with gr.Accordion("Add a reference of your own", open=False):
            self._own_video = video_input("How-to clip", "own-upload")
            self._own_player = html()
            self._own_id = gr.State(None)
            self._own_text = gr.Textbox(label="What is said in it", max_length=400, elem_id="own-narration")
            self._add = gr.Button("Add this reference")

    @staticmethod
    def _slot() -> Slot:
        import gradio as gr

        with gr.Column(visible=False, min_width=150, elem_classes="card") as column:
            return Slot(column, html(), gr.Checkbox(True, interactive=True))

    def _connect(self, examples: Sequence[Example]) -> None:
        import gradio as gr

        error, segment = self._error, [self._upload_id, self._start, self._end]
        cards = [part for slot in self._slots for part in (slot.column, slot.body, slot.switch)]
        references = [self._offer, self._hint, *cards]
        input_parts = [self._video, self._upload_id, self._player, self._start, self._end, self._find, self._run]
        opened = [error, *input_parts, self._with, self._without, *references]
        quiet: dict[str, Any] = {"show_progress": "hidden"}

        self._video.change(
            safely(error, self._take, self._video),
            [self._video, self._offer],
            opened,
            show_progress_on=self._player,
            preprocess=False,
        )
        for button, example in zip(self._examples, examples, strict=True):
            button.click(safely(error, self._taker(example)), [self._offer], opened, show_progress_on=self._player)
        gr.on(
            [self._start.input, self._end.input, self._shots.input],
            safely(error, self._changed),
            [*segment, self._offer],
            [error, self._player, *references],
            trigger_mode="always_last",
            **quiet,
        )
        self._find.click(
            safely(error, self._search),
            [*segment, self._shots, self._offer],
            [error, *references],
            show_progress_on=self._hint,
        )
        self._run.click(
            self._caption,
            [*segment, self._shots, self._beams, self._both, self._offer, *(slot.switch for slot in self._slots)],
            [error, self._with, self._without, *references],
            **quiet,
        )
        own = [self._own_video, self._own_id, self._own_player]
        self._own_video.change(
            safely(error, self._take_own, self._own_video),
            self._own_video,
            [error, *own],
            show_progress_on=self._own_player,
            preprocess=False,
        )
        self._add.click(
            safely(error, self._add_own),
            [self._own_id, self._own_text, self._offer],
            [error, *own, self._own_text, *references],
            **quiet,
        )

    # What a visitor does, and what changes on the page

    async def _take(self, given: dict[str, Any] | None, offer: Offer) -> Outputs:
        return {} if given is None else await self._opened(await take(self._service, given), offer)

    def _taker(self, example: Example) -> Any:
        async def take_example(offer: Offer) -> Outputs:
            return await self._opened(await example.upload(self._service), offer)

        return take_example

    async def _opened(self, upload: Upload, offer: Offer) -> Outputs:
        import gradio as gr

        end = round(upload.info.duration, 2)
        return {
            self._video: None,  # its file has gone to the service
            self._upload_id: upload.id,
            self._player: upload_player(upload),
            self._start: gr.Slider(minimum=0, maximum=end, value=0, interactive=True),
            self._end: gr.Slider(minimum=0, maximum=end, value=end, interactive=True),
            self._find: gr.Button(interactive=self._service.library is not None),
            self._run: gr.Button(interactive=True),
            self._with: panel(_WITH),
            self._without: panel(_WITHOUT),
            **self._show_found(replace(offer, found=(), asked=None), ()),
        }

    async def _changed(self, upload_id: str | None, start: float, end: float, offer: Offer) -> Outputs:
        if upload_id is None:
            return {}
        shown: Outputs = {self._player: upload_player(self._service.uploads.get(upload_id), start, end)}
        return shown if offer.asked is None else shown | self._show_found(replace(offer, found=(), asked=None), ())

    async def _search(self, upload_id: str, start: float, end: float, shots: int, offer: Offer) -> Outputs:
        first, last = self._span(upload_id, start, end)
        found = await self._service.references(upload_id, start=first, end=last, shots=shots)
        asked = (upload_id, start, end, shots)
        return self._show_found(replace(offer, found=tuple(one.id for one in found), asked=asked), found)

    async def _take_own(self, given: dict[str, Any] | None) -> Outputs:
        if given is None:
            return {}
        upload = await take(self._service, given)
        return {self._own_video: None, self._own_id: upload.id, self._own_player: upload_player(upload)}

    async def _add_own(self, upload_id: str | None, narration: str, offer: Offer) -> Outputs:
        said = narration.strip()
        if upload_id is None or not said:
            raise InputError("A reference of your own needs a how-to clip and what is said in it. Give both.")
        if len(offer.own) == MAX_OWN:
            raise InputError(f"There are {MAX_OWN} references of your own already. Reload the page to begin anew.")
        slot, offer = self._slots[len(offer.own)], replace(offer, own=(*offer.own, (upload_id, said)))
        return {
            self._own_id: None,
            self._own_player: "",
            self._own_text: "",
            self._offer: offer,
            self._hint: note(self._advice(offer)),
            **shown(slot, own_card(upload_id, said), f"Read your own reference {len(offer.own)}"),
        }

    async def _caption(
        self,
        upload_id: str,
        start: float,
        end: float,
        shots: int,
        beams: int,
        both: bool,
        offer: Offer,
        *switches: bool,
    ) -> AsyncIterator[Outputs]:
        try:
            first, last = self._span(upload_id, start, end)
            on = list(switches)
            yield {self._error: "", self._with: panel(_WITH, ""), self._without: panel(_WITHOUT)}
            if self._service.library is not None and offer.asked != (upload_id, start, end, shots):
                changes = await self._search(upload_id, start, end, shots, offer)
                offer = changes[self._offer]
                on[MAX_OWN:] = [True] * MAX_SHOTS
                yield changes
            own = [OwnReference(*one) for one, is_on in zip(offer.own, on[:MAX_OWN], strict=False) if is_on]
            found = [one for one, is_on in zip(offer.found, on[MAX_OWN:], strict=False) if is_on]
            async for part in self._written(upload_id, first, last, beams, found, own):
                yield {self._with: panel(_WITH, part)}
            if both:
                async for part in self._written(upload_id, first, last, beams, (), ()):
                    yield {self._without: panel(_WITHOUT, part)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the visitor gets one sentence and no traceback
            yield {self._error: told(error), self._with: panel(_WITH), self._without: panel(_WITHOUT)}

    async def _written(
        self,
        upload_id: str,
        start: float | None,
        end: float | None,
        beams: int,
        found: Sequence[str],
        own: Sequence[OwnReference],
    ) -> AsyncIterator[str | CaptionResult]:
        shots = len(found) + len(own)
        asked: dict[str, Any] = {"start": start, "end": end, "references": found, "own": own, "shots": max(1, shots)}
        if beams > 1:  # the text is known at the end only
            yield ""
            yield await self._service.caption(upload_id, num_beams=beams, **asked)
            return
        async for part in self._service.caption_stream(upload_id, **asked):
            yield part

    def _span(self, upload_id: str | None, start: float, end: float) -> tuple[float | None, float | None]:
        """The segment; None for an end of it that is the video's own."""
        if upload_id is None:
            raise InputError("There is no egocentric clip yet. Upload or record one.")
        if start >= end:
            raise InputError(f"The segment starts at {start:g} s and ends at {end:g} s; it must start before it ends.")
        duration = self._service.uploads.get(upload_id).info.duration
        return start or None, (end if end < round(duration, 2) else None)

    def _show_found(self, offer: Offer, found: Sequence[FoundClip]) -> Outputs:
        import gradio as gr

        changes: Outputs = {self._offer: offer, self._hint: note(self._advice(offer))}
        for number, slot in enumerate(self._slots[MAX_OWN:]):
            if number < len(found):
                card = found_card(found[number], number + 1)
                changes |= shown(slot, card, f"Read reference {number + 1}")
            else:
                changes |= {slot.column: gr.Column(visible=False)}
        return changes

    def _advice(self, offer: Offer) -> str:
        if offer.own or offer.found:
            return "Switch off what the model should not read, then press Caption again."
        if self._service.library is None:
            return "No library is open on this server: add references of your own, or caption without."
        if offer.asked is not None:
            return "The library has nothing that is near enough."
        return "The clips of the library that look like yours are shown here, with what is said in them."


def shown(slot: Slot, card: str, label: str) -> Outputs:
    """A slot with a reference in it, switched on."""
    import gradio as gr

    return {slot.column: gr.Column(visible=True), slot.body: card, slot.switch: gr.Checkbox(True, label=label)}


def panel(title: str, part: str | CaptionResult | None = None) -> str:
    """A caption as it is shown.

    Args:
        title: how it was made.
        part: the text so far, or the result; None before there is any.
    """
    if part is None:
        body = '<p class="caption faint">–</p>'
    elif isinstance(part, str):
        body = f'<p class="caption writing">{escape(part)}</p>'
    else:
        read = len(part.references)
        said = "no reference" if read == 0 else "1 reference" if read == 1 else f"{read} references"
        body = (
            f'<p class="caption">{escape(part.caption) or "(it says nothing)"}</p>'
            f'<p class="confidence">{confidence(part.confidence)}; read {said}; {part.seconds:.1f} s</p>'
        )
    return f'<section class="panel"><h3>{escape(title)}</h3>{body}</section>'
