"""Addresses of streams: which may be opened, and how a message names them without what is secret."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from egoinstructor.errors import InputError

_SCHEMES = ("rtsp", "http")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


def allowed_address(url: str, allow_hosts: Sequence[str]) -> tuple[str, str]:
    """Check an address.

    Args:
        url: `rtsp://…` or `http://…`.
        allow_hosts: the hosts that are allowed, by name.

    Returns:
        The address as it was read, which leaves no doubt about its host; and as a message names it, without password.

    Raises:
        InputError: another protocol, a host that is not allowed, or no clear address.
    """
    shown = masked(url)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise InputError(
            f"{url.partition('://')[0]}://…: this is no address whose host and port can be told. In a password, write / as "
            "%2F and @ as %40."
        ) from error
    if parts.scheme not in _SCHEMES:
        raise InputError(f"{shown}: {parts.scheme} is not among the protocols that are read: {', '.join(_SCHEMES)}.")
    if not _HOST.fullmatch(host) or not all("!" <= sign <= "~" and sign != "\\" for sign in url):
        raise InputError(
            f"{shown}: this is no address, which has a host, and neither spaces nor backslashes. Check it."
        )
    if host not in {allowed.lower().strip("[]") for allowed in allow_hosts}:
        raise InputError(
            f"{shown}: the host {host} was not allowed. An address is opened only where its host is named: add "
            f"--allow-host {host} if you trust it."
        )
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    place = f"{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{user}{place}{parts.path or '/'}{query}", shown


def masked(name: str) -> str:
    """A source's name without what could be a password: the user's part, and what follows the question mark."""
    if "://" not in name:
        return name
    scheme, _, rest = name.partition("://")
    place, *path = re.split(r"(?=[/?#])", rest, maxsplit=1)
    if path and "@" in path[0]:  # perhaps a password with one of these signs
        return f"{scheme}://…"
    return f"{scheme}://{place.rpartition('@')[2]}{path[0].partition('?')[0] if path else ''}"
