"""Signing in to the page with the server's token: a form, and a cookie that only who knows the token can have."""

# No `from __future__ import annotations`: FastAPI reads the annotations of routes, and what they name is imported below.

import hashlib
import hmac
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from fastapi import APIRouter

COOKIE = "egoinstructor"
PATH = "/login"
_LONGEST = 4096  # bytes of a form


def is_signed_in(cookies: Mapping[str, str], token: str) -> bool:
    """Whether a request carries the cookie of this token."""
    return hmac.compare_digest(cookies.get(COOKIE, "").encode(), _proof(token).encode())


def login_page(token: str, root_path: str = "") -> "APIRouter":
    """GET and POST `/login`.

    Args:
        token: the server's.
        root_path: prefix of every path before a reverse proxy; "" for none.
    """
    from fastapi import APIRouter, Request
    from starlette.responses import HTMLResponse, RedirectResponse, Response

    router = APIRouter()
    refused_at = f"{root_path}{PATH}?refused=true"

    @router.get(PATH, include_in_schema=False)
    def form(refused: bool = False) -> Response:
        return HTMLResponse(_form("This is not the server's token." if refused else ""))

    @router.post(PATH, include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LONGEST:
                return RedirectResponse(refused_at, status_code=303)
        told = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if not hmac.compare_digest(told.encode(), token.encode()):
            return RedirectResponse(refused_at, status_code=303)
        answer = RedirectResponse(f"{root_path}/", status_code=303)
        answer.set_cookie(
            COOKIE,
            _proof(token),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path=f"{root_path}/",
        )
        return answer

    return router


def _proof(token: str) -> str:
    """What the cookie holds: it shows that the token was known, and can't be turned back into it."""
    return hmac.new(token.encode(), b"egoinstructor page", hashlib.sha256).hexdigest()


def _form(error: str) -> str:
    told = f'<p class="error" role="alert">{error}</p>' if error else ""
    return files("egoinstructor.web").joinpath("login.html").read_text(encoding="utf-8").replace("<!-- error -->", told)
