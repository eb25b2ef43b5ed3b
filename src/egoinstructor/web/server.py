"""The server: page and API behind the guard, on one socket, until it is told to stop; then what is at work is finished."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError, require_extra
from egoinstructor.web.metrics import Metrics
from egoinstructor.web.middleware import RequestMiddleware, SignedIn
from egoinstructor.web.service import Service

if TYPE_CHECKING:
    from uvicorn import Server

logger = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 8000
TOKEN_LENGTH = 16
CONNECTIONS = 1024
IDLE_SECONDS = 15
"""After which a connection is closed on which no request is at work."""
TELLTALE = "egoinstructor.retriever.texts"
"""The logger that quotes texts that are too long: a server's are its users'."""

LONGER = 5
"""Seconds beyond a request's time limit that the server waits for answers when it is told to stop."""


def build_app(
    service: Service,
    *,
    hosts: Sequence[str] = (),
    token: str | None = None,
    page: bool = True,
    root_path: str = "",
) -> RequestMiddleware:
    """Page and API, guarded.

    Args:
        service: does the work.
        hosts: names by which the server may be called, beside addresses and `localhost`.
        token: asked of everybody; None for nobody.
        page: whether there is a page; without, Gradio isn't imported.
        root_path: prefix of every path before a reverse proxy, as `check_root_path` gives it; "" for none.

    Raises:
        MissingExtraError: the extra `web` isn't installed.
    """
    from egoinstructor.web.api import build_api

    metrics = Metrics(service)
    app = build_api(service, metrics, root_path)
    signed_in: SignedIn | None = None
    if page:
        require_extra("gradio", "web", "The page")
        from egoinstructor.web.page import mount_page

        if token is not None:
            from egoinstructor.web.login import is_signed_in, login_page

            app.include_router(login_page(token, root_path))
            secret = token

            def signed_in(cookies: dict[str, str]) -> bool:
                return is_signed_in(cookies, secret)

        mount_page(app, service, root_path)
    return RequestMiddleware(
        app, service.limits, metrics, hosts=hosts, token=token, signed_in=signed_in, root_path=root_path
    )


def check_open(host: str, token: str | None, insecure: bool) -> None:
    """Refuse to serve others than this machine without a token, unless that is meant.

    Raises:
        InputError: it would.
    """
    if token is None and not insecure and not _is_loopback(host):
        raise InputError(
            f"--host {host} lets other machines in, and no token is asked of them. Give --token-file FILE; or, where "
            "something before this server checks who asks, --insecure."
        )


def check_root_path(path: str) -> str:
    """The prefix of every path before a reverse proxy, without a slash at its end; "" for none.

    Raises:
        InputError: no such prefix.
    """
    prefix = path.rstrip("/")
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+", prefix):
        raise InputError(
            f"--root-path {path!r}: give the path under which the reverse proxy shows the server, such as /demo: a slash, "
            "then letters, digits, '_', '-', '.' or '~'."
        )
    return prefix


def read_token(file: Path) -> str:
    """A token out of a file: its first line.

    Raises:
        InputError: it can't be read, or is too short to keep anybody out.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"token file {file} can't be read: {error}.") from error
    token = lines[0].strip() if lines else ""
    if len(token) < TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"token file {file}: its first line must be a token of {TOKEN_LENGTH} or more ASCII letters, digits and signs. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 for any that is free.

    Raises:
        InputError: the address isn't this machine's, or is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InputError(f"can't listen on {host}, port {port}: {error}. Name another --host or --port.") from error


def url_of(listening: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    app: RequestMiddleware, service: Service, listening: socket.socket, ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGINT or SIGTERM; then take no more, finish what is at work, and remove all files.

    Args:
        app: as `build_app` made it.
        service: its service, which is closed at the end.
        listening: as `bind` made it.
        ready: called when requests are answered.
    """
    try:
        with _signals_end_here(), _silent(logging.getLogger(TELLTALE)):
            make_server(app, service, ready).run(sockets=[listening])
    finally:
        service.close()
        listening.close()


def make_server(app: RequestMiddleware, service: Service, ready: Callable[[], None] = lambda: None) -> Server:
    """Uvicorn's server, for those who run it themselves; it closes the service when it stops."""
    require_extra("uvicorn", "web", "The server")
    from uvicorn import Config, Server
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class ImpatientProtocol(H11Protocol):
        """Closes connections on which nobody asks anything: Uvicorn waits for ever for the rest of a request's head."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._look_later(idle=False)

        def _look_later(self, idle: bool) -> None:
            self._looking = self.loop.call_later(IDLE_SECONDS / 2, self._look, idle)

        def _look(self, idle: bool) -> None:
            now = self.cycle is None or self.cycle.response_complete
            if idle and now:
                self.transport.close()
            else:
                self._look_later(now)

        def connection_lost(self, exc: Exception | None) -> None:
            self._looking.cancel()
            super().connection_lost(exc)

    class GracefulServer(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.end_streams()
            await super().shutdown(sockets)
            await asyncio.to_thread(service.close)

    logging.getLogger("uvicorn.access").disabled = True  # its lines quote paths and queries; the guard's don't
    config = Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(service.limits.request_seconds) + LONGER,
    )
    return GracefulServer(config)


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """Uvicorn stops at these signals and raises them again when it has; by then nothing is left for them to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _silent(talker: logging.Logger) -> Iterator[None]:
    before, talker.disabled = talker.disabled, True
    try:
        yield
    finally:
        talker.disabled = before


def _ignore(number: int, _: object) -> None:
    logger.debug("signal %d was dealt with", number)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
