"""The API's bodies, as FastAPI checks and documents them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from egoinstructor.web.jobs import State
from egoinstructor.web.results import MAX_BEAMS, MAX_HITS, MAX_OWN, MAX_SHOTS, MAX_TEXT

Id = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$", description="As the server gave it.")]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Start = Annotated[
    float | None, Field(ge=0, le=1e6, allow_inf_nan=False, description="Seconds; the start of the video if not given.")
]
End = Annotated[
    float | None, Field(gt=0, le=1e6, allow_inf_nan=False, description="Seconds; the end of the video if not given.")
]


class Body(BaseModel):
    """What a client sends: nothing that isn't known is passed over."""

    model_config = ConfigDict(extra="forbid")


class OwnReferenceBody(Body):
    """A how-to clip of one's own."""

    video: Id
    narration: Text
    start: Start = None
    end: End = None


class CaptionOptions(Body):
    """How a clip is captioned."""

    start: Start = None
    end: End = None
    shots: Annotated[int, Field(ge=0, le=MAX_SHOTS, description="References to look for in the library.")] = 4
    num_beams: Annotated[int, Field(ge=1, le=MAX_BEAMS, description="Beams; 1 is greedy.")] = 3
    references: Annotated[
        list[Id] | None,
        Field(
            max_length=MAX_SHOTS,
            description="Ids of clips of the library to read instead, most relevant first; an empty list for none.",
        ),
    ] = None


class CaptionBody(CaptionOptions):
    """A clip that is to be captioned."""

    video: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$", description="Id of an uploaded video.")]
    own: Annotated[
        list[OwnReferenceBody], Field(max_length=MAX_OWN, description="References of one's own, read first.")
    ] = []


class NarrateBody(Body):
    """A recording that is to be narrated."""

    video: Id
    start: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 0.0
    end: End = None
    seconds: Annotated[
        float | None, Field(ge=0.5, le=600, description="Length of a window; the model's own if not given.")
    ] = None
    overlap: Annotated[float, Field(ge=0, le=540, description="Seconds that neighbouring windows share.")] = 0.0
    shots: Annotated[int, Field(ge=0, le=MAX_SHOTS)] = 4
    num_beams: Annotated[int, Field(ge=1, le=MAX_BEAMS)] = 3
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="Say nothing where the confidence is below; a calibrated model only."),
    ] = None
    merge: Annotated[bool, Field(description="Make one caption of neighbours that say the same.")] = True


class SearchBody(Body):
    """What is looked for in the library: a text, a segment of an uploaded video, or both."""

    text: Text | None = None
    video: Id | None = None
    start: Start = None
    end: End = None
    k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 10
    source: Annotated[str | None, Field(max_length=200, description="Only of this collection.")] = None


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: Annotated[str, Field(description="For programs.")]
    message: Annotated[str, Field(description="For people: what was given, what is allowed, what to do.")]


class ErrorAnswer(BaseModel):
    """Every answer of 400 and above."""

    error: ErrorDetail


class VideoAnswer(BaseModel):
    """An uploaded video."""

    id: str
    name: str
    bytes: int
    duration: float
    width: int
    height: int
    fps: float
    num_frames: int
    codec: str


class FoundAnswer(BaseModel):
    """A how-to clip."""

    id: str
    narration: str
    score: float | None
    start: float | None
    end: float | None
    source: str
    video: str
    playable: Annotated[bool, Field(description="Whether `GET /v1/clips/{id}/video` has it.")]


class CaptionAnswer(BaseModel):
    """A caption and what the model read."""

    caption: str
    score: Annotated[float | None, Field(description="Mean natural-log probability of its tokens.")]
    confidence: Annotated[float | None, Field(description="Probability that it is right; of a calibrated model.")]
    references: list[FoundAnswer]
    seconds: float


class SearchAnswer(BaseModel):
    """What a search found, the best first."""

    clips: list[FoundAnswer]


class NarrationAnswer(BaseModel):
    """How far a narration is."""

    id: str
    state: State
    progress: Annotated[float, Field(description="From 0 to 1.")]
    eta: Annotated[float | None, Field(description="Seconds that are left, where that can be told.")]
    speed: Annotated[float | None, Field(description="Seconds of the recording narrated in a second.")]
    captions: Annotated[int, Field(description="How many there are so far.")]
    error: str


class HealthAnswer(BaseModel):
    """That the server is up, and what it has."""

    status: Literal["ok"]
    version: str
    model: str
    library: bool
    writable: bool
    calibrated: bool
    waiting: int
