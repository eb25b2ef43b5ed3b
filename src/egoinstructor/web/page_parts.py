"""What the page's tabs share: taking in an upload, and clips, confidence and errors as HTML."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from egoinstructor.errors import InputError
from egoinstructor.web.errors import as_service_error
from egoinstructor.web.gradio_guard import check_files

if TYPE_CHECKING:
    import gradio as gr

    from egoinstructor.web.results import FoundClip
    from egoinstructor.web.service import Service
    from egoinstructor.web.uploads import Upload

logger = logging.getLogger(__name__)

_CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}, "facingMode": {"ideal": "environment"}}}
_PIECE = 1 << 20  # bytes read at once of a file that is handed on
_WORDS = ((0.9, "very sure"), (0.7, "fairly sure"), (0.45, "unsure"), (0.0, "a guess"))


def video_input(label: str, elem_id: str) -> gr.Video:
    """Where a video is uploaded or recorded, without sound.

    Its events are bound with `preprocess=False` and get what `take` takes: Gradio would run FFmpeg on the file, outside of
    our sandbox.
    """
    import gradio as gr

    return gr.Video(
        label=label,
        elem_id=elem_id,
        elem_classes="video-input",
        sources=["upload", "webcam"],
        include_audio=False,
        webcam_options=gr.WebcamOptions(mirror=False, constraints=_CAMERA),
        buttons=[],
        interactive=True,
    )


async def take(service: Service, given: Mapping[str, Any]) -> Upload:
    """Hand an upload of Gradio's over to the service, and delete Gradio's copy.

    Args:
        service: gets it.
        given: what the browser says of it.

    Raises:
        InputError: it is none of Gradio's uploads, or is there no longer.
        ServiceError: the service refuses it.
    """
    from gradio.utils import get_upload_folder

    file = Path(str(given.get("path"))).resolve()
    check_files({"path": str(file)}, Path(get_upload_folder()).resolve())  # what isn't Gradio's is not ours to remove
    try:
        return await service.upload(_pieces(file), str(given.get("orig_name") or file.name))
    except FileNotFoundError as error:
        raise InputError("The upload is no longer there. Choose the file again.") from error
    finally:
        await anyio.to_thread.run_sync(_forget, file)


@dataclass(frozen=True, slots=True)
class Example:
    """A clip that a visitor may take instead of an own one, with its picture."""

    name: str
    video: Path
    picture: Path

    async def upload(self, service: Service) -> Upload:
        """As if the visitor had uploaded it."""
        return await service.upload(_pieces(self.video), self.video.name)


def example_buttons(examples: Sequence[Example]) -> list[gr.Button]:
    """A button with its picture for each; nothing where there are none."""
    import gradio as gr

    if not examples:
        return []
    html('<p class="note">… or take one of these:</p>')
    with gr.Row(elem_classes="examples"):
        return [gr.Button(one.name, icon=one.picture, size="sm", min_width=60) for one in examples]


def html(value: str = "", elem_id: str | None = None, kind: str | None = None) -> gr.HTML:
    """A piece of the page in our own style.

    Args:
        value: HTML.
        elem_id: its id.
        kind: "live" if changes of it are to be read out, "alerts" if at once.
    """
    import gradio as gr

    return gr.HTML(value, elem_id=elem_id, elem_classes=kind, apply_default_css=False, js_on_load=None)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(_PIECE):
            yield piece


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def told(error: Exception) -> str:
    """An error as the page tells it; one that is no fault of the visitor goes to the log."""
    answer = as_service_error(error)
    if answer.status == 500:
        logger.error("a handler of the page failed", exc_info=error)
    return alert(answer.message)


def alert(message: str) -> str:
    """An error box; nothing for an empty message."""
    return f'<p class="error"><strong>That did not work.</strong> {escape(message)}</p>' if message else ""


def note(message: str) -> str:
    """A remark."""
    return f'<p class="note">{escape(message)}</p>' if message else ""


def confidence(probability: float | None) -> str:
    """In words and per cent.

    Args:
        probability: that the caption is right; None for a model without calibration.
    """
    if probability is None:
        return "confidence unknown: this model is not calibrated"
    words = next(words for least, words in _WORDS if probability >= least)
    return f"{words} ({probability:.0%})"


def format_time(seconds: float) -> str:
    """Minutes and seconds, as players show them."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"


def upload_player(
    upload: Upload, start: float | None = None, end: float | None = None, captions: str | None = None
) -> str:
    """A visitor's own video.

    Args:
        upload: the video.
        start: of the span that is played, seconds.
        end: of the span.
        captions: address of its captions as WebVTT.
    """
    info = upload.info
    facts = f"{escape(upload.name)}, {info.duration:.1f} s, {info.width}×{info.height}"
    player = _video(f"page/videos/{upload.id}{_fragment(start, end)}", f"Your video {upload.name}", captions)
    return f'<figure class="player">{player}<figcaption>{facts}</figcaption></figure>'


def found_card(found: FoundClip, number: int) -> str:
    """A clip of the library: its video, what is said in it, how near it is."""
    score = "" if found.score is None else f"score {found.score:.2f}, "
    said = found.narration or "(nothing is said)"
    span = "" if found.end is None else f", {format_time(found.start or 0)}–{format_time(found.end)}"
    player = (
        _video(f"v1/clips/{found.id}/video{_fragment(found.start, found.end)}", f"How-to clip {number}: {said}")
        if found.playable
        else '<div class="gone">Its video is not on this server.</div>'
    )
    return (
        f'<figure class="clip">{player}<figcaption><q>{escape(said)}</q>'
        f'<span class="score">{score}{escape(found.video)}{span}</span></figcaption></figure>'
    )


def own_card(upload_id: str, narration: str) -> str:
    """A reference of the visitor's own."""
    return (
        f'<figure class="clip">{_video(f"page/videos/{upload_id}", f"Your reference: {narration}")}'
        f'<figcaption><q>{escape(narration)}</q><span class="score">your own</span></figcaption></figure>'
    )


def clip_list(found: Sequence[FoundClip], nothing: str) -> str:
    """Clips that a search found, as a list."""
    if not found:
        return note(nothing)
    return '<ol class="cards">' + "".join(f"<li>{found_card(one, i)}</li>" for i, one in enumerate(found, 1)) + "</ol>"


def _video(source: str, label: str, captions: str | None = None) -> str:
    track = "" if captions is None else f'<track default kind="captions" label="Captions" src="{escape(captions)}">'
    return (
        f'<video controls muted loop playsinline preload="metadata" src="{escape(source)}" '
        f'aria-label="{escape(label)}">{track}</video>'
    )


def _fragment(start: float | None, end: float | None) -> str:
    """The part of a media address that makes a player play a span only."""
    return "" if start is None and end is None else f"#t={start or 0:.2f}" + ("" if end is None else f",{end:.2f}")


Outputs = dict[Any, Any]
"""What an event changes on the page: component → its new value."""


def safely(
    error: gr.HTML, handler: Callable[..., Awaitable[Outputs]], given: gr.Video | None = None
) -> Callable[..., Awaitable[Outputs]]:
    """A handler whose exceptions are told in the page's error box, which is empty where all went well.

    Args:
        error: the box.
        handler: what to do; where it changes nothing, the box stays as it is.
        given: the upload that the handler takes, which is emptied whatever comes of it.
    """
    import gradio as gr

    @functools.wraps(handler)
    async def run(*values: Any) -> Outputs:
        try:
            changes = await handler(*values)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the visitor gets one sentence and no traceback
            return {error: told(raised)} | ({} if given is None else {given: None})
        return {error: "" if changes else gr.skip(), **changes}

    return run
