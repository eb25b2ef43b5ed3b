"""The client itself: what it sends, and what it makes of answers, of errors and of a busy server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from egoinstructor.client.records import CaptionResult, FoundClip, Health, Narration, OwnReference, Video, record
from egoinstructor.errors import EgoInstructorError, require_extra

if TYPE_CHECKING:
    import httpx

TIMEOUT = 120.0
RETRIES = 5
LONGEST_WAIT = 60.0


class ClientError(EgoInstructorError):
    """What the server answered in place of a result, or that it could not be reached.

    Args:
        message: the server's.
        status: HTTP's; 0 where there was no answer.
        code: the server's, for programs; "" where there was none.
    """

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code


class Client:
    """Talks to one server. Threads may share it.

    Args:
        url: where the server is, such as `http://127.0.0.1:8000`.
        token: that it asks for; None for none.
        timeout: seconds to wait for an answer.
        retries: how often a request is sent again that the server was too busy for, after the time that it asked for.
        transport: httpx's, to reach a server in another way.

    Raises:
        MissingExtraError: httpx isn't installed.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        require_extra("httpx", "client", "The client")
        import httpx

        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._retries = retries
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Client:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> Health:
        """What the server has.

        Raises:
            ClientError: it can't be reached, or refuses.
        """
        return record(Health, self._send("GET", "/v1/health").json())

    def upload(self, video: str | Path | bytes, name: str | None = None) -> Video:
        """Send a video; the server keeps it for a while.

        Args:
            video: a file, or the encoded video itself.
            name: what to call it; None for the file's name.

        Raises:
            ClientError: the file can't be read, or the server refuses it.
        """
        called = name or ("video" if isinstance(video, bytes) else Path(video).name)
        return record(Video, self._send("POST", "/v1/videos", params={"name": called}, video=video).json())

    def forget(self, video: str) -> None:
        """Remove a video that was sent.

        Raises:
            ClientError: the server has none of that id.
        """
        self._send("DELETE", f"/v1/videos/{video}")

    def caption(
        self,
        video: str,
        *,
        start: float | None = None,
        end: float | None = None,
        shots: int = 4,
        num_beams: int = 3,
        references: Sequence[str] | None = None,
        own: Sequence[OwnReference] = (),
    ) -> CaptionResult:
        """Caption a segment of a video that was sent.

        Args:
            video: its id.
            start: seconds; None for its start.
            end: seconds; None for its end.
            shots: references to look for in the server's library.
            num_beams: beams.
            references: ids of clips of the library to read instead; empty for none.
            own: references of one's own, read first.

        Raises:
            ClientError: the server refuses it.
        """
        body = {
            "video": video,
            "start": start,
            "end": end,
            "shots": shots,
            "num_beams": num_beams,
            "references": None if references is None else list(references),
            "own": [asdict(one) for one in own],
        }
        answer = self._send("POST", "/v1/caption", json=body).json()
        found = tuple(record(FoundClip, one) for one in answer.pop("references"))
        return record(CaptionResult, answer | {"references": found})

    def search(
        self,
        text: str | None = None,
        *,
        video: str | None = None,
        start: float | None = None,
        end: float | None = None,
        k: int = 10,
        source: str | None = None,
    ) -> list[FoundClip]:
        """Find the library's clips that are nearest to a text, to a segment of a video that was sent, or to both.

        Args:
            text: words.
            video: id of the video.
            start: seconds of it.
            end: seconds of it.
            k: at most so many.
            source: only of this collection.

        Raises:
            ClientError: the server refuses it.
        """
        body = {"text": text, "video": video, "start": start, "end": end, "k": k, "source": source}
        return [record(FoundClip, one) for one in self._send("POST", "/v1/search", json=body).json()["clips"]]

    def narrate(self, video: str, *, every: float = 1.0, **options: Any) -> Iterator[Narration]:
        """Narrate a whole recording that was sent: how far it is, again and again, until it is over.

        Nothing is asked of the server before the first step. Whoever stops early leaves it running; see `cancel`.

        Args:
            video: its id.
            every: seconds between two looks.
            **options: `start`, `end`, `seconds`, `overlap`, `shots`, `num_beams`, `threshold`, `merge`, as in the API.

        Raises:
            ClientError: the server refuses it, or the narration failed.
        """
        now = record(Narration, self._send("POST", "/v1/narrate", json={"video": video, **options}).json())
        yield now
        while not now.over:
            time.sleep(every)
            now = self.narration(now.id)
            yield now
        if now.state == "failed":
            raise ClientError(now.error, code="narration_failed")

    def narration(self, id: str) -> Narration:
        """How far a narration is.

        Raises:
            ClientError: the server has none of that id.
        """
        return record(Narration, self._send("GET", f"/v1/narrate/{id}").json())

    def cancel(self, id: str) -> Narration:
        """End a narration; what it has said so far stays.

        Raises:
            ClientError: the server has none of that id.
        """
        return record(Narration, self._send("DELETE", f"/v1/narrate/{id}").json())

    def captions(self, id: str, kind: Literal["srt", "vtt", "jsonl"] = "srt") -> str:
        """The captions of a narration so far.

        Args:
            id: of the narration.
            kind: of file.

        Raises:
            ClientError: the server has no narration of that id.
        """
        return self._send("GET", f"/v1/narrate/{id}/captions.{kind}").text

    def _send(
        self, method: str, path: str, *, video: str | Path | bytes | None = None, **options: Any
    ) -> httpx.Response:
        """One request, sent again while the server is too busy.

        Raises:
            ClientError: any answer of 400 or above, or none.
        """
        import httpx

        for sent in range(self._retries + 1):
            try:
                with _content(video) as content:
                    response = self._http.request(method, path, content=content, **options)
            except httpx.HTTPError as error:
                raise ClientError(
                    f"the server at {self._http.base_url} gave no answer: {error or type(error).__name__}. Check the "
                    "address, and that it runs."
                ) from error
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS or sent == self._retries:
                break
            time.sleep(_wait(response))
        if response.is_success:
            return response
        raise _error(response)


@contextmanager
def _content(video: str | Path | bytes | None) -> Iterator[Any]:
    """A video as httpx sends it: a file is read as it goes."""
    if video is None or isinstance(video, bytes):
        yield video
        return
    with ExitStack() as opened:
        try:
            file = opened.enter_context(Path(video).open("rb"))
        except OSError as error:
            raise ClientError(f"video {video}: {error.strerror}. Check the path.") from error
        yield file


def _wait(response: httpx.Response) -> float:
    """Seconds that a busy server asks for."""
    try:
        return min(max(float(response.headers.get("retry-after", 1)), 0.0), LONGEST_WAIT)
    except ValueError:
        return 1.0


def _error(response: httpx.Response) -> ClientError:
    """What the server says, or what can be told of an answer that is none of its own."""
    try:
        error = response.json()["error"]
        return ClientError(str(error["message"]), response.status_code, str(error["code"]))
    except (ValueError, KeyError, TypeError):
        return ClientError(
            f"{response.url} answered {response.status_code} {response.reason_phrase}. Is it an egoinstructor server?",
            response.status_code,
        )
