"""The page: three tabs over the service, served by Gradio from this machine alone."""

# No `from __future__ import annotations`: FastAPI reads the annotations of routes, and what they name is imported below.

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from egoinstructor import assets
from egoinstructor.web.errors import ServiceError
from egoinstructor.web.gradio_guard import Door, local_blocks
from egoinstructor.web.page_caption import CaptionTab
from egoinstructor.web.page_library import LibraryTab
from egoinstructor.web.page_narrate import NarrateTab
from egoinstructor.web.page_parts import Example, html

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from egoinstructor.web.service import Service

TITLE = "egoinstructor"
_AT_ONCE = 64  # events that Gradio hands to the service at once, which has a queue of its own
_WAITING = 256
_FORGET_EVERY, _FORGET_AFTER = 300, 900  # seconds: uploads that were never handed on
_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".ogv": "video/ogg",
    ".3gp": "video/3gpp",
    ".ts": "video/mp2t",
    ".mts": "video/mp2t",
    ".m2ts": "video/mp2t",
    ".mpg": "video/mpeg",
    ".vob": "video/mpeg",
    ".flv": "video/x-flv",
    ".wmv": "video/x-ms-wmv",
}
_EXAMPLES = 6


def mount_page(app: "FastAPI", service: "Service", root_path: str = "") -> None:
    """Serve the page at `/`; every route that is there before stays reachable, none after.

    Args:
        app: the API's app. Who may ask anything of it is its own business: the page has no door of its own.
        service: does the work.
        root_path: prefix of every path before a reverse proxy; "" for none.
    """
    import gradio as gr
    from starlette.responses import FileResponse, PlainTextResponse, Response
    from starlette.routing import Mount

    # Gradio's folder for what is uploaded: only for this process, and removed with the service's own.
    folder = service.uploads.folder / "page"
    folder.mkdir(exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    @app.get("/page/videos/{upload_id}", include_in_schema=False)
    def own_video(upload_id: str) -> Response:
        """A visitor's own upload, for its player; whoever doesn't know its random id can't have it."""
        try:
            upload = service.uploads.get(upload_id)
        except ServiceError as error:
            return PlainTextResponse(error.message, status_code=error.status)
        kind = _TYPES.get(Path(upload.name).suffix.lower(), "video/mp4")
        return FileResponse(upload.path, media_type=kind, headers={"Cache-Control": "private, no-store"})

    gr.mount_gradio_app(
        app,
        build_page(service, _examples(service, folder)),
        path="/",
        root_path=root_path or None,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=service.limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css=_file("page.css"),
        head=f"<script>\n{_file('page.js')}\n</script>",
    )
    for route in app.router.routes:
        if isinstance(route, Mount) and route.path == "":
            route.app = Door(route.app)


def build_page(service: "Service", examples: Sequence[Example] = ()) -> "gr.Blocks":
    """The page's parts and what they do.

    Args:
        service: does the work.
        examples: clips that a visitor may take instead of an own one.
    """
    import gradio as gr

    with local_blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(_FORGET_EVERY, _FORGET_AFTER)
    ) as page:
        html(
            "<h1>egoinstructor</h1><p>Captions of first-person video, written with the help of how-to clips that show "
            "the same.</p>",
            "title",
        )
        with gr.Tabs():
            with gr.Tab("Caption"):
                CaptionTab(service, examples)
            if service.library is not None:
                with gr.Tab("Library"):
                    LibraryTab(service)
            with gr.Tab("Narrate"):
                NarrateTab(service)
    for event in page.fns.values():
        event.api_visibility = "private"  # programs have the API
    page.queue(default_concurrency_limit=_AT_ONCE, max_size=_WAITING, api_open=False)
    return page


def _examples(service: "Service", folder: Path) -> list[Example]:
    """The demo's egocentric clips, for the model that was made for them."""
    if assets.shipped(service.model_name) is None:
        return []
    clips = json.loads((assets.demo_files() / "clips.json").read_text(encoding="utf-8"))
    chosen = clips[:: max(1, len(clips) // _EXAMPLES)][:_EXAMPLES]
    result = []
    for number, clip in enumerate(chosen, 1):
        video = assets.demo_files() / clip["video"]
        picture = folder / f"example-{number}.jpg"
        picture.write_bytes(service.sandbox.thumbnail(video, 1.0, 96))
        result.append(Example(f"Clip {number}", video, picture))
    return result


def _theme() -> "gr.themes.Base":
    """Fonts of the visitor's own system: nothing is fetched. Colours that can be read in light and dark."""
    import gradio as gr

    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    return gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.gray,
        font=fonts,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
    )


def _file(name: str) -> str:
    return files("egoinstructor.web").joinpath(name).read_text(encoding="utf-8")
