"""Allow-list of Gradio's addresses and values: those that our page needs, and no others.

Gradio brings more than a page: it fetches addresses that a visitor names, passes requests on to other hosts, runs
FFmpeg on uploads, and records calls. None of that is ours, so none of it answers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError

if TYPE_CHECKING:
    import gradio as gr
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json)/?"
    r"|/(assets|svelte|static/js|static/img)/.*"
    r"|/gradio_api/(startup-events|app_id|login_check|upload|upload_progress|cancel|reset|theme\.css)/?"
    r"|/gradio_api/(queue/join|queue/data|heartbeat/\w+|file=/[^:]*)"
)


class Door:
    """Passes on to Gradio what the page asks for; everything else is not found.

    Args:
        app: Gradio's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        from starlette.responses import Response

        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if not _OPEN.fullmatch(path or "/"):
                await Response(status_code=404)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def local_blocks(**options: Any) -> gr.Blocks:
    """Gradio's blocks, for which a file is one that was uploaded.

    Gradio itself would fetch an address, and where it is mounted rather than launched it would take any file of this
    machine: it checks neither there. An event with a file that was not uploaded ends with an `InputError`.

    Args:
        options: of `gr.Blocks`.
    """
    import gradio as gr
    from gradio.utils import get_upload_folder

    class LocalBlocks(gr.Blocks):
        async def preprocess_data(
            self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
        ) -> Any:
            check_files(inputs, Path(get_upload_folder()).resolve())
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)

    return LocalBlocks(**options)


def check_files(value: Any, folder: Path) -> None:
    """Look at all files within what a visitor sends.

    Args:
        value: as it came, from JSON.
        folder: where Gradio puts uploads: each in a folder of its own.

    Raises:
        InputError: a file that is elsewhere, or an address.
    """
    if isinstance(value, dict):
        path = value.get("path")
        if path is not None and (not isinstance(path, str) or Path(path).resolve().parent.parent != folder):
            raise InputError("This is no upload. Choose the file itself; nothing is fetched or read from elsewhere.")
        for one in value.values():
            check_files(one, folder)
    elif isinstance(value, list | tuple):
        for one in value:
            check_files(one, folder)
