"""The page's third tab: a whole recording is narrated in the background, and its captions are shown as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError
from egoinstructor.narration.options import NarrationOptions, default_seconds
from egoinstructor.web.errors import NotFound
from egoinstructor.web.page_parts import (
    Outputs,
    confidence,
    format_time,
    html,
    note,
    safely,
    take,
    upload_player,
    video_input,
)

if TYPE_CHECKING:
    from egoinstructor.narration.captions import Segment
    from egoinstructor.web.jobs import Job
    from egoinstructor.web.service import Service

_EVERY = 0.5  # seconds between two looks at the jobs
_SHOWN = 500  # captions on the page; the files have them all
_FORMATS = ("srt", "vtt", "jsonl")
_STATES = {
    "queued": "waiting for its turn",
    "running": "being narrated",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


class NarrateTab:
    """Draws itself when it is made, within a `gr.Tab`.

    Args:
        service: does the work.
    """

    def __init__(self, service: Service) -> None:
        import gradio as gr

        self._service = service
        self._calibrated = service.captioner.calibration is not None
        self._ids = gr.State(())  # of the visitor's jobs
        self._drawn = gr.State(None)  # what the list of captions shows: it is sent again only when that has changed
        self._timer = gr.Timer(_EVERY, active=False)
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=2, min_width=300):
                self._draw_input()
            with gr.Column(scale=3, min_width=300):
                self._draw_results()
        self._connect()

    def _draw_input(self) -> None:
        import gradio as gr

        self._video = video_input("Recording: upload or record it", "narrate-upload")
        self._upload_id = gr.State(None)
        self._player = html("", "narrate-player")
        with gr.Group():
            self._seconds = gr.Slider(
                0.5, 20, default_seconds(self._service.model_name), step=0.5, label="Seconds that a caption covers"
            )
            self._overlap = gr.Slider(0, 5, 0, step=0.25, label="Overlap of the windows (seconds)")
            self._shots = gr.Slider(0, 8, 4, step=1, label="References for each caption")
            self._beams = gr.Slider(1, 5, 1, step=1, label="Beams")
            self._least = gr.Slider(
                0, 0.95, 0, step=0.05, label="Say nothing below this confidence", visible=self._calibrated
            )
            self._merge = gr.Checkbox(True, label="Join neighbours that say the same")
        self._start = gr.Button("Narrate", variant="primary", interactive=False)

    def _draw_results(self) -> None:
        import gradio as gr

        self._error = html("", "narrate-error", "alerts")
        html("<h2>Recordings</h2>")
        self._jobs = gr.Radio([], label="Show", visible=False, elem_id="narrate-jobs")
        self._state = html(note("Nothing is being narrated."), "narrate-state", "live")
        self._progress = html("", "narrate-progress")
        self._cancel = gr.Button("Cancel", visible=False, elem_id="narrate-cancel")
        self._files = html("", "narrate-files")
        self._watch = html("", "narrate-watch")
        self._captions = html("", "narrate-captions")

    def _connect(self) -> None:
        error = self._error
        taken = [self._video, self._upload_id, self._player, self._start]
        view = [
            self._jobs,
            self._state,
            self._progress,
            self._cancel,
            self._files,
            self._watch,
            self._captions,
            self._drawn,
            self._timer,
        ]
        looked = [self._ids, self._jobs, self._drawn]
        self._video.change(
            safely(error, self._take, self._video),
            self._video,
            [error, *taken],
            show_progress_on=self._player,
            preprocess=False,
        )
        self._start.click(
            safely(error, self._begin),
            [
                self._upload_id,
                self._seconds,
                self._overlap,
                self._shots,
                self._beams,
                self._least,
                self._merge,
                self._ids,
            ],
            [error, self._ids, self._upload_id, self._player, self._start, *view],
            show_progress="hidden",
        )
        look = safely(error, self._look)
        self._timer.tick(look, looked, [error, *view], show_progress="hidden")
        self._jobs.input(look, looked, [error, *view], show_progress="hidden", trigger_mode="always_last")
        self._cancel.click(safely(error, self._stop), looked, [error, *view], show_progress="hidden")

    async def _take(self, given: dict[str, Any] | None) -> Outputs:
        import gradio as gr

        if given is None:
            return {}
        upload = await take(self._service, given)
        return {
            self._video: None,
            self._upload_id: upload.id,
            self._player: upload_player(upload),
            self._start: gr.Button(interactive=True),
        }

    async def _begin(
        self,
        upload_id: str | None,
        seconds: float,
        overlap: float,
        shots: int,
        beams: int,
        least: float,
        merge: bool,
        ids: tuple[str, ...],
    ) -> Outputs:
        import gradio as gr

        if upload_id is None:
            raise InputError("There is no recording yet. Upload or record one.")
        options = NarrationOptions(
            seconds=seconds, overlap=overlap, shots=shots, num_beams=beams, threshold=least or None, merge=merge
        )
        job = self._service.start_narration(upload_id, options)
        ids = (*ids, job.id)
        again: Outputs = {self._upload_id: None, self._player: "", self._start: gr.Button(interactive=False)}
        return {self._ids: ids, **again, **self._view(ids, job.id, None)}

    async def _look(self, ids: tuple[str, ...], selected: str | None, drawn: tuple[Any, ...] | None) -> Outputs:
        # What the box tells is of something else.
        import gradio as gr

        return {self._error: gr.skip(), **self._view(ids, selected, drawn)}

    async def _stop(self, ids: tuple[str, ...], selected: str | None, drawn: tuple[Any, ...] | None) -> Outputs:
        if selected is not None:
            self._service.cancel(selected)
        return self._view(ids, selected, drawn)

    def _view(self, ids: tuple[str, ...], selected: str | None, drawn: tuple[Any, ...] | None) -> Outputs:
        """The page as the jobs are now, with one of them in full."""
        import gradio as gr

        jobs = {job.id: job for job in self._known(ids)}
        if not jobs:
            return {self._timer: gr.Timer(active=False)}
        job = jobs.get(selected or "") or list(jobs.values())[-1]
        names = tuple(
            (f"{number}. {one.upload.name}: {_STATES[one.state]}", one.id)
            for number, one in enumerate(jobs.values(), 1)
        )
        now = (job.id, job.over, job.state, len(job.segments), names)
        over = all(one.over for one in jobs.values())
        changes: Outputs = {
            self._cancel: gr.Button(visible=not job.over, interactive=not job.stopped),
            # A look that began before the visitor chose another may be drawn after that choice: the next one mends it.
            self._timer: gr.Timer(active=not over or now != drawn),
            self._progress: "" if job.over else progress_bar(job),
        }
        if now != drawn:
            changes |= {
                self._drawn: now,
                self._state: state_line(job),
                self._files: file_links(job),
                self._captions: caption_list(job),
            }
        if drawn is None or names != drawn[-1]:
            # Which one is shown is the visitor's to say, but for one that has just been begun.
            shown = gr.Radio(list(names), visible=True)
            changes |= {self._jobs: gr.Radio(list(names), value=job.id, visible=True) if drawn is None else shown}
        if drawn is None or now[:2] != drawn[:2]:  # a player that is drawn anew begins anew
            track = f"v1/narrate/{job.id}/captions.vtt" if job.over else None
            changes |= {self._watch: upload_player(job.upload, captions=track)}
        return changes

    def _known(self, ids: tuple[str, ...]) -> Iterator[Job]:
        for id in ids:
            with suppress(NotFound):  # the service forgets the oldest
                yield self._service.job(id)


def progress_bar(job: Job) -> str:
    """How far it is, and how long it will take."""
    left = "" if job.eta is None else f", about {format_time(job.eta)} left"
    return (
        f'<label class="bar">Progress <progress max="1" value="{job.progress:.3f}"></progress> '
        f"{job.progress:.0%}{escape(left)}</label>"
    )


def state_line(job: Job) -> str:
    """What became of it, and why."""
    count = len(job.segments)
    said = f"This recording is {_STATES[job.state]}: {count} caption{'' if count == 1 else 's'}."
    return note(said) if not job.error else f'<p class="error">{escape(said)} {escape(job.error)}</p>'


def file_links(job: Job) -> str:
    """Where its captions can be downloaded."""
    if not job.segments:
        return ""
    links = " ".join(
        f'<a class="file" href="v1/narrate/{escape(job.id)}/captions.{kind}" download="captions.{kind}">.{kind}</a>'
        for kind in _FORMATS
    )
    return f'<p class="files">Download {links}</p>'


def caption_list(job: Job) -> str:
    """What was said so far: the newest of many."""
    segments = job.segments[-_SHOWN:]
    if not segments:
        return ""
    rows = "".join(
        f'<li><span class="time">{format_time(one.start)}–{format_time(one.end)}</span> '
        f"{escape(one.caption)}{_sure(one)}</li>"
        for one in segments
    )
    skipped = len(job.segments) - len(segments)
    before = note(f"{skipped} earlier captions are in the files.") if skipped else ""
    return f'{before}<ol class="captions">{rows}</ol>'


def _sure(segment: Segment) -> str:
    if segment.confidence is None:
        return ""
    return f' <span class="confidence">{confidence(segment.confidence)}</span>'
