"""What can go wrong with a request, each with its HTTP status and a code that programs can rely on."""

from __future__ import annotations

import math
from typing import Any

from egoinstructor.errors import CheckpointError, EgoInstructorError, InputError, MissingExtraError, VideoError
from egoinstructor.web.limits import LimitError


class ServiceError(EgoInstructorError):
    """An error that is the answer to a request.

    Args:
        message: what was given, what is allowed, what to do.
        code: for programs; None for the kind's own.
        retry_after: seconds after which it is worth trying again, where that helps.
    """

    status = 500
    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: `Retry-After` in whole seconds, where waiting helps."""
        return {} if self.retry_after is None else {"Retry-After": str(max(math.ceil(self.retry_after), 1))}


class BadRequest(ServiceError):  # noqa: N818 - the names of these are HTTP's
    """A request that can't be understood."""

    status, code = 400, "bad_request"


class Unauthorized(ServiceError):  # noqa: N818
    """No token, or a wrong one."""

    status, code = 401, "unauthorized"


class Forbidden(ServiceError):  # noqa: N818
    """Something that the operator hasn't allowed."""

    status, code = 403, "forbidden"


class NotFound(ServiceError):  # noqa: N818
    """An id that means nothing here, or no longer."""

    status, code = 404, "not_found"


class TooSlow(ServiceError):  # noqa: N818
    """An upload that takes too long."""

    status, code = 408, "too_slow"


class TooLarge(ServiceError):  # noqa: N818
    """More than a limit allows."""

    status, code = 413, "too_large"


class Unprocessable(ServiceError):  # noqa: N818
    """A value, or a video, that can't be used."""

    status, code = 422, "invalid"


class Busy(ServiceError):  # noqa: N818
    """Too much waits already."""

    status, code = 429, "busy"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float = 5.0) -> None:
        super().__init__(message, code=code, retry_after=retry_after)


class Unavailable(ServiceError):  # noqa: N818
    """The server is going down, or its disk is full."""

    status, code = 503, "unavailable"


class TimedOut(ServiceError):  # noqa: N818
    """A request that took longer than one may."""

    status, code = 504, "timed_out"


def as_service_error(error: BaseException) -> ServiceError:
    """The answer that an error is; one that is a fault of ours tells nothing of the inside."""
    match error:
        case ServiceError():
            return error
        case LimitError():
            return TooLarge(str(error), code=f"limit_{error.limit}")
        case VideoError():
            return Unprocessable(str(error), code="bad_video")
        case CheckpointError() | MissingExtraError():
            return ServiceError("the server is not set up for this. Its log says what is missing.")
        case InputError():
            return Unprocessable(str(error))
        case TimeoutError():
            return TimedOut("the request took too long and was ended. Try again later, or ask for less.")
        case _:
            return ServiceError("something went wrong inside the server. Its log says what.")
