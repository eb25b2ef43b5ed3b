"""The HTTP API: routes over the service. What they take and answer stands in `/openapi.json`."""

# No `from __future__ import annotations`: FastAPI reads the annotations of routes, and what they name is imported below.

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from egoinstructor import __version__
from egoinstructor.errors import EgoInstructorError, require_extra
from egoinstructor.narration.options import NarrationOptions, default_seconds
from egoinstructor.web.errors import BadRequest, NotFound, ServiceError, Unprocessable, as_service_error
from egoinstructor.web.metrics import Metrics
from egoinstructor.web.results import OwnReference
from egoinstructor.web.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.datastructures import UploadFile
    from starlette.requests import Request

    from egoinstructor.web import schemas
    from egoinstructor.web.uploads import Upload

Anything = TypeVar("Anything")

TITLE = "egoinstructor"
PIECE = 2**20
MAX_FIELDS = 32
FIELD_BYTES = 16_384
DOCUMENTED_ERRORS = {
    400: "The request can't be understood.",
    401: "No token, or a wrong one.",
    403: "Not allowed: another site's request, or a library that is read-only.",
    404: "Nothing of that id, or no library.",
    408: "The body came too slowly.",
    413: "More than a limit allows; the message names it.",
    422: "A value, or a video, that can't be used.",
    429: "Too much waits already; try again after `Retry-After` seconds.",
    500: "A fault of the server's.",
    503: "The server is going down.",
    504: "No answer within the time limit.",
}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]
TRACKS = {"srt": "application/x-subrip", "vtt": "text/vtt", "jsonl": "application/x-ndjson"}
VIDEOS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm"}


def build_api(service: Service, metrics: Metrics, root_path: str = "") -> "FastAPI":
    """The app with all routes; who may ask, and how large a request may be, is checked before it (see `guard`).

    Args:
        service: does the work.
        metrics: what `/v1/metrics` tells.
        root_path: prefix of every path before a reverse proxy; "" for none.

    Raises:
        MissingExtraError: FastAPI isn't installed.
    """
    require_extra("fastapi", "web", "The HTTP API")
    require_extra("python_multipart", "web", "The HTTP API")
    from fastapi import FastAPI, HTTPException, Path, Request
    from starlette.responses import FileResponse, Response
    from starlette.routing import Match

    from egoinstructor.web import schemas

    app = FastAPI(
        title=TITLE,
        version=__version__,
        description="Captions of first-person video, written with the help of how-to clips. No field takes a URL: videos "
        "are sent as bytes.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        servers=[{"url": root_path}] if root_path else None,
        responses={
            status: {"model": schemas.ErrorAnswer, "description": text} for status, text in DOCUMENTED_ERRORS.items()
        },
    )
    app.state.service = service
    _answer_errors(app)
    id_of = Path(pattern="^[A-Za-z0-9_-]{1,64}$")

    @app.post(
        "/v1/videos",
        response_model=schemas.VideoAnswer,
        status_code=201,
        openapi_extra=_takes(
            {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {"schema": _form({}, ["file"])},
            }
        ),
    )
    async def send_video(request: Request) -> Any:
        """Send a video: its bytes as the body, or as the field `file` of a form. It is kept for a while."""
        if _is_form(request):
            _, upload = await _form_upload(service, request, schemas.Body)
        else:
            upload = await service.upload(request.stream(), request.query_params.get("name", ""))
        return _video(upload)

    @app.delete("/v1/videos/{id}", status_code=204)
    async def forget_video(id: str = id_of) -> Response:
        """Remove a video that was sent."""
        service.uploads.remove(id)
        return Response(status_code=204)

    @app.post(
        "/v1/caption",
        response_model=schemas.CaptionAnswer,
        openapi_extra=_takes(
            {
                "application/json": {"schema": {"$ref": "#/components/schemas/CaptionBody"}},
                "multipart/form-data": {
                    "schema": _form(schemas.CaptionOptions.model_json_schema()["properties"], ["file"])
                },
            }
        ),
    )
    async def caption(request: Request) -> Any:
        """Caption a segment of a video that was sent before, or of the field `file` of a form, which is then forgotten."""
        if not _is_form(request):
            body = _checked(schemas.CaptionBody.model_validate_json, await request.body())
            own = [OwnReference(one.video, one.narration, one.start, one.end) for one in body.own]
            return await _caption(service, body.video, body, own)
        options, upload = await _form_upload(service, request, schemas.CaptionOptions)
        try:
            return await _caption(service, upload.id, options, [])
        finally:
            with suppress(NotFound):
                service.uploads.remove(upload.id)

    @app.post("/v1/search", response_model=schemas.SearchAnswer)
    async def search(body: schemas.SearchBody) -> Any:
        """Find the library's clips that are nearest to a text, to a segment of a video that was sent, or to both."""
        found = await service.search(
            text=body.text, upload_id=body.video, start=body.start, end=body.end, k=body.k, source=body.source
        )
        return {"clips": [one.as_dict() for one in found]}

    @app.get("/v1/clips/{id}/video", response_class=FileResponse, responses=_content("video/mp4", "video/webm"))
    async def clip_video(id: str = id_of) -> Response:
        """The video of a clip of the library; parts of it by `Range`."""
        path = await service.clip_file(id)
        if path is None:
            raise NotFound("there is no clip of that id with a video that can be played.")
        kind = VIDEOS.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/v1/narrate", response_model=schemas.NarrationAnswer, status_code=202)
    async def narrate(body: schemas.NarrateBody) -> Any:
        """Narrate a whole recording that was sent, in the background; ask for it by its id."""
        seconds = default_seconds(service.model_name or None) if body.seconds is None else body.seconds
        try:
            options = NarrationOptions(
                seconds=seconds,
                overlap=body.overlap,
                start=body.start,
                end=body.end,
                shots=body.shots,
                num_beams=body.num_beams,
                threshold=body.threshold,
                merge=body.merge,
            )
        except EgoInstructorError as error:
            raise as_service_error(error) from error
        return service.start_narration(body.video, options).as_dict()

    @app.get("/v1/narrate/{id}", response_model=schemas.NarrationAnswer)
    async def narration(id: str = id_of) -> Any:
        """How far a narration is."""
        return service.job(id).as_dict()

    @app.delete("/v1/narrate/{id}", response_model=schemas.NarrationAnswer)
    async def cancel_narration(id: str = id_of) -> Any:
        """End a narration, after the batch that it is at; what it has said so far stays."""
        return service.cancel(id).as_dict()

    @app.get("/v1/narrate/{id}/captions.{kind}", response_class=Response, responses=_content(*TRACKS.values()))
    async def captions(id: str = id_of, kind: str = Path(pattern="^(srt|vtt|jsonl)$")) -> Response:
        """The captions of a narration so far: `.srt` and `.vtt` for players, `.jsonl` with all that is known of each."""
        job = service.job(id)
        text = {"srt": job.srt, "vtt": job.vtt, "jsonl": job.jsonl}[kind]()
        return Response(text, media_type=f"{TRACKS[kind]}; charset=utf-8", headers={"Cache-Control": "no-store"})

    @app.get("/v1/health", response_model=schemas.HealthAnswer)
    async def health() -> Any:
        """That the server is up, and what it has."""
        return {
            "status": "ok",
            "version": __version__,
            "model": service.model_name,
            "library": service.library is not None,
            "writable": service.writable is not None,
            "calibrated": service.captioner.calibration is not None,
            "waiting": service.waiting,
        }

    @app.get("/v1/metrics", response_class=Response, responses=_content("text/plain"))
    async def tell_metrics() -> Response:
        """Counts and durations for Prometheus."""
        text, kind = metrics.text()
        return Response(text, headers={"Content-Type": kind})

    @app.api_route("/v1/{rest:path}", methods=METHODS, include_in_schema=False)
    async def nothing(request: Request) -> Response:
        """What is no route: the page, which is mounted behind, shall not answer it."""
        routes = [route for route in app.router.routes if route.matches(request.scope)[0] is Match.PARTIAL]
        if allowed := {method for route in routes for method in getattr(route, "methods", ())}:
            raise HTTPException(405, "Method Not Allowed", {"Allow": ", ".join(sorted(allowed))})
        raise NotFound("there is nothing at this path. See /openapi.json.")

    _document(app)
    return app


async def _caption(service: Service, id: str, options: "schemas.CaptionOptions", own: list[OwnReference]) -> Any:
    result = await service.caption(
        id,
        start=options.start,
        end=options.end,
        shots=options.shots,
        num_beams=options.num_beams,
        references=options.references,
        own=own,
    )
    return result.as_dict()


def _video(upload: "Upload") -> dict[str, Any]:
    info = upload.info
    return {
        "id": upload.id,
        "name": upload.name,
        "bytes": upload.size,
        "duration": info.duration,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "num_frames": info.num_frames,
        "codec": info.codec,
    }


# Bodies


def _is_form(request: "Request") -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


async def _form_upload(service: Service, request: "Request", options: Any) -> tuple[Any, "Upload"]:
    """The fields of a form, checked, and its one file taken in.

    Raises:
        ServiceError: it can't be read, or isn't what the route takes.
    """
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    try:
        async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=FIELD_BYTES) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Unprocessable("the form has no field 'file' with a video. Send one.")
            fields: dict[str, Any] = {}
            for name in form:
                values = form.getlist(name)
                if name != "file":
                    fields[name] = values if name == "references" else values[-1]
            checked = _checked(options.model_validate, fields)
            return checked, await service.upload(_pieces(file), file.filename or "")
    except HTTPException as error:
        raise BadRequest(f"the form can't be read: {error.detail}") from error


async def _pieces(file: "UploadFile") -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE):
        yield piece


def _checked(check: Callable[[Any], Anything], value: Any) -> Anything:
    """A body that a schema accepts.

    Raises:
        Unprocessable: it doesn't, and why.
    """
    from pydantic import ValidationError

    try:
        return check(value)
    except ValidationError as error:
        raise Unprocessable(
            _complaints(error.errors(include_url=False, include_context=False, include_input=False))
        ) from error


def _complaints(errors: Sequence[Any]) -> str:
    """What is wrong with a request, without what it said."""
    parts = []
    for error in errors[:5]:
        place = ".".join(str(part)[:40] for part in error["loc"] if part != "body")
        parts.append(f"{place}: {error['msg']}" if place else str(error["msg"]))
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    return "; ".join(parts)[:1000] + more + ". See /openapi.json."


def _answer_errors(app: "FastAPI") -> None:
    """Every error as `{"error": {"code", "message"}}`."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    def answer(error: ServiceError, status: int | None = None) -> JSONResponse:
        return JSONResponse(error.as_dict(), status or error.status, error.headers)

    async def known(_: Request, error: Exception) -> JSONResponse:
        return answer(as_service_error(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(Unprocessable(_complaints(error.errors())))

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        made = answer(ServiceError(str(error.detail), code=code), error.status_code)
        made.headers.update(error.headers or {})
        return made

    app.add_exception_handler(EgoInstructorError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, known)


# The document


def _takes(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _form(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A form with a video, and these fields."""
    file = {"file": {"type": "string", "format": "binary", "description": "The video."}}
    return {"type": "object", "properties": file | fields, "required": required, "additionalProperties": False}


def _content(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}}


def _document(app: "FastAPI") -> None:
    """Put the bodies that routes parse themselves into the document, and say how a token is given."""
    from egoinstructor.web import schemas

    made = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            parts = schema.setdefault("components", {})
            body = schemas.CaptionBody.model_json_schema(ref_template="#/components/schemas/{model}")
            parts["schemas"] |= body.pop("$defs", {}) | {"CaptionBody": body}
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{}, {"token": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to do this
