"""What stands before the app: whom it talks to, how large and slow a body may be, headers, a count and a line of log.

    request → Host, Origin, token → body counted as it comes → app → security headers → answer

A pure ASGI middleware: nothing is read of a request before it is let in.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from time import monotonic
from typing import Any

from egoinstructor.web.errors import (
    BadRequest,
    Busy,
    Forbidden,
    ServiceError,
    TooLarge,
    TooSlow,
    Unauthorized,
)
from egoinstructor.web.limits import Limits
from egoinstructor.web.metrics import Metrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
SignedIn = Callable[[dict[str, str]], bool]

FORM_BYTES = 100_000
"""What a form may have beside its video."""

REST_BYTES, REST_SECONDS = 8_000_000, 2.0
"""What is still read of a request that was refused."""

UPLOADS = ("/v1/videos", "/v1/caption", "/gradio_api/upload")
"""Paths whose bodies may hold a video."""

ENDLESS = "/gradio_api/heartbeat/"
"""What an open page holds on to, to be seen to be there."""

WORK = ("/v1/caption", "/v1/search")
"""Paths whose work is given up when nobody waits for it any more."""

LOGIN = "/login"

HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:/@]+)(:\d+)?")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
}
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Gradio's page has its scripts in the document, and compiles some; all of them are served from here."""


class RequestMiddleware:
    """Lets requests to an app, or answers them itself.

    Args:
        app: what is guarded.
        limits: of bodies.
        metrics: told of each request.
        hosts: names by which the server may be called, beside addresses and `localhost`: a site that makes its own name
            point here is turned away.
        token: asked of everybody; None for nobody.
        signed_in: whether cookies show that the page's visitor knows the token; None where there is no page.
        root_path: prefix of every path before a reverse proxy, such as "/demo"; "" for none. It is taken off requests, from
            which the proxy has not taken it.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        *,
        hosts: Sequence[str] = (),
        token: str | None = None,
        signed_in: SignedIn | None = None,
        root_path: str = "",
    ) -> None:
        self.app, self.limits, self.metrics, self.root_path = app, limits, metrics, root_path
        self._hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
        self._token, self._signed_in = token, signed_in
        self._uploads = 0
        self._streams: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            if self.root_path and f"{scope['path']}/".startswith(f"{self.root_path}/"):
                scope = {**scope, "path": scope["path"].removeprefix(self.root_path) or "/"}
            exchange = _Exchange(self, scope, receive, send)
            if scope["path"].startswith(ENDLESS):
                await self._until_the_end(exchange)
            else:
                await exchange.run()
        else:  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})

    def end_streams(self) -> None:
        """End the answers that would never end by themselves, as the server goes down."""
        for stream in self._streams:
            stream.cancel()

    async def _until_the_end(self, exchange: _Exchange) -> None:
        """An answer that lasts until the client goes, or the server."""
        stream = asyncio.create_task(exchange.run())
        self._streams.add(stream)
        try:
            await asyncio.wait((stream,))
        finally:
            self._streams.discard(stream)
            stream.cancel()
        if stream.cancelled():
            await exchange.finish()
        else:
            stream.result()

    def check(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse who may not ask.

        Raises:
            ServiceError: why.
        """
        host = headers.get("host", "")
        if not self._known(host):
            raise BadRequest("this server isn't known by that name. Its operator can allow it.", code="bad_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Forbidden("a page of another site sent this request. Use the server's own page.", code="cross_origin")
        if self._token is None or self._is_login(scope):
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return
        if self._signed_in is not None and self._signed_in(_cookies(headers.get("cookie", ""))):
            return
        raise Unauthorized("this server asks for a token. Send it as 'Authorization: Bearer TOKEN'.")

    def limit(self, scope: Scope, headers: dict[str, str]) -> tuple[int, float, bool]:
        """Bytes and seconds that a body may have, and whether it is an upload."""
        kind = headers.get("content-type", "").lower()
        if scope["path"] in UPLOADS and not kind.startswith("application/json"):
            return self.limits.upload_bytes + FORM_BYTES, self.limits.upload_seconds, True
        return self.limits.body_bytes, self.limits.upload_stall_seconds, False

    @property
    def has_page(self) -> bool:
        """Whether visitors can sign in on a page."""
        return self._signed_in is not None

    def enter_upload(self) -> None:
        """Count a body that comes.

        Raises:
            Busy: there are too many.
        """
        if self._uploads >= self.limits.uploads_at_once:
            raise Busy(
                f"{self._uploads} uploads are on their way, which is the limit. Try again a little later.",
                retry_after=1,
            )
        self._uploads += 1

    def leave_upload(self) -> None:
        """It has come, or will not."""
        self._uploads -= 1

    def _known(self, host: str) -> bool:
        """Whether a Host header is one of ours. An address can't be made to point here by somebody else."""
        match = HOST.fullmatch(host.lower())
        name = match["name"].rstrip(".") if match else ""
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _is_login(self, scope: Scope) -> bool:
        return self.has_page and scope["path"] == LOGIN


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: RequestMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])
        }
        self._id = secrets.token_hex(6)
        self._began = monotonic()
        self._received = 0
        self._whole = False  # the body has come
        self._came = asyncio.Event()
        self._refused: ServiceError | None = None
        self._status = 0
        self._over = False
        self._upload = False

    async def run(self) -> None:
        """Let it in, or refuse it; count it and log it when it is over."""
        try:
            try:
                self._guard.check(self._scope, self._headers)
                self._most, self._seconds, upload = self._guard.limit(self._scope, self._headers)
                self._check_length()
                if upload:
                    self._guard.enter_upload()
                    self._upload = True
                if self._scope["path"] in WORK:
                    await self._while_waited_for(self._guard.app(self._scope, self._take, self._give))
                else:
                    await self._guard.app(self._scope, self._take, self._give)
                if self._refused is not None:
                    raise self._refused
            except ServiceError as error:
                if not self._status:
                    await self._answer(error)
        finally:
            self._leave()
            self._tell()

    async def finish(self) -> None:
        """End an answer where it is, if it hasn't ended."""
        if self._status and not self._over:
            await self._send({"type": "http.response.body", "body": b""})

    async def _while_waited_for(self, work: Awaitable[None]) -> None:
        """Do the work, until it is done or the client has gone."""
        working = asyncio.ensure_future(work)
        watching = asyncio.create_task(self._wait_for_the_end())
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.wait((working, watching))

    async def _wait_for_the_end(self) -> None:
        """Wait until the body has come, then until the client goes."""
        await self._came.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _check_length(self) -> None:
        """Refuse a body that says of itself that it is too large."""
        told = self._headers.get("content-length", "0")
        if not told.isdecimal():
            raise BadRequest("the Content-Length is no number.")
        if int(told) > self._most:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        name = "upload_bytes" if self._most > self._guard.limits.body_bytes else "body_bytes"
        return TooLarge(
            f"the request's body has more than {self._most} bytes (limit {name}). Send less.", code=f"limit_{name}"
        )

    async def _take(self) -> Message:
        """The next piece of the body, counted, if it comes in time."""
        if self._whole:
            return await self._receive()  # which tells when the client has gone
        limits = self._guard.limits
        left = self._began + self._seconds - monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(min(left, limits.upload_stall_seconds), 0))
        except TimeoutError:
            name = "upload_seconds" if self._seconds == limits.upload_seconds and left <= 0 else "upload_stall_seconds"
            self._refused = TooSlow(
                f"the request's body came too slowly (limit {name}). Try again over a better connection.",
                code=f"limit_{name}",
            )
            raise self._refused from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._most:
                self._refused = self._too_large()
                raise self._refused
            if not message.get("more_body", False):
                self._whole = True
                self._leave()
        else:
            self._whole = True
        if self._whole:
            self._came.set()
        return message

    async def _give(self, message: Message) -> None:
        """The app's answer, with our headers; of a refused body it is ours instead."""
        if self._refused is not None and not self._status:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._more_headers(message)]}
        self._over = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def _more_headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        given = {name.lower() for name, _ in message.get("headers", [])}
        policy = API_POLICY if self._scope["path"].startswith("/v1/") or not self._page() else PAGE_POLICY
        more = HEADERS | {"content-security-policy": policy, "x-request-id": self._id}
        if self._scope["path"].startswith("/v1/"):
            more["cache-control"] = "no-store"
        pairs = [(name.encode(), value.encode()) for name, value in more.items()]
        return [(name, value) for name, value in pairs if name not in given]

    def _page(self) -> bool:
        return self._status < 400 or "text/html" in self._headers.get("accept", "")

    async def _answer(self, error: ServiceError) -> None:
        """An error of ours, before the app has answered."""
        self._status = error.status
        headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        body = json.dumps(error.as_dict(), ensure_ascii=False).encode()
        visitor = self._scope["method"] == "GET" and "text/html" in self._headers.get("accept", "")
        if isinstance(error, Unauthorized) and self._guard.has_page and visitor:
            self._status, body = 303, b""
            headers.append((b"location", f"{self._guard.root_path}{LOGIN}".encode()))
        elif isinstance(error, Unauthorized):
            headers.append((b"www-authenticate", b"Bearer"))
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if not self._whole:
            headers.append((b"connection", b"close"))
        start: Message = {"type": "http.response.start", "status": self._status, "headers": headers}
        await self._send({**start, "headers": [*headers, *self._more_headers(start)]})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        await self._read_the_rest()
        await self._send({"type": "http.response.body", "body": b""})

    async def _read_the_rest(self) -> None:
        """Throw away what is still coming, for a moment: closing on it would break off the answer on its way, too."""
        thrown = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                while not self._whole and thrown < REST_BYTES:
                    message = await self._receive()
                    thrown += len(message.get("body", b""))
                    self._whole = message["type"] != "http.request" or not message.get("more_body", False)

    def _leave(self) -> None:
        if self._upload:
            self._upload = False
            self._guard.leave_upload()

    def _tell(self) -> None:
        """Count it, and log what says nothing of its content: no path but the route's, no name, no query."""
        seconds = monotonic() - self._began
        route = self._route()
        status = self._status or 499  # the client has gone
        self._guard.metrics.answered(route, status, seconds, self._received)
        logger.info(
            "%s %s %s %d, %d bytes in, %.0f ms",
            self._id,
            self._scope["method"],
            route,
            status,
            self._received,
            seconds * 1000,
        )

    def _route(self) -> str:
        path = getattr(self._scope.get("route"), "path", "")
        if isinstance(path, str) and path.startswith("/v1/"):
            return path
        return "other" if self._scope["path"].startswith("/v1/") else "page"
