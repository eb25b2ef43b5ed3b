from dataclasses import fields

import pytest

from egoinstructor.errors import CheckpointError, InputError, MissingExtraError, VideoError
from egoinstructor.web import errors
from egoinstructor.web.errors import ServiceError, as_service_error
from egoinstructor.web.limits import LimitError, Limits


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "9"])
def test_a_limit_is_a_number_above_0(value):
    for field in fields(Limits):
        with pytest.raises(InputError, match=field.name):
            Limits(**{field.name: value})


def test_what_is_exactly_at_a_limit_is_taken_and_one_more_is_not():
    limits = Limits(
        pixels=100, duration=5, video_frames=50, frames_per_request=8, frame_bytes=600, additions=4, additions_bytes=70
    )
    limits.check_video(10, 10, 5.0, 50)
    limits.check_frames(2, 10, 10)
    limits.check_additions(4, 70)
    for limit, refused in {
        "pixels": lambda: limits.check_video(101, 1, 5.0, 50),
        "duration": lambda: limits.check_video(10, 10, 5.1, 50),
        "video_frames": lambda: limits.check_video(10, 10, 5.0, 51),
        "frames_per_request": lambda: limits.check_frames(9),
        "frame_bytes": lambda: limits.check_frames(3, 10, 10),
        "additions": lambda: limits.check_additions(5, 70),
        "additions_bytes": lambda: limits.check_additions(4, 71),
        "decode_seconds": limits.decoding_too_slow,
        "decode_memory": limits.decoding_too_large,
    }.items():
        with pytest.raises(LimitError, match=rf"\(limit {limit}\)$") as raised:
            refused()
        assert raised.value.limit == limit
    with pytest.raises(InputError, match="num_frames=0"):
        limits.check_frames(0)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LimitError("pixels", "many"), 413, "limit_pixels"),
        (VideoError("broken"), 422, "bad_video"),
        (InputError("start=3"), 422, "invalid"),
        (TimeoutError(), 504, "timed_out"),
        (errors.Busy("full"), 429, "busy"),
        (errors.NotFound("gone", code="no_such_video"), 404, "no_such_video"),
    ],
)
def test_each_error_has_its_answer(error, status, code):
    answer = as_service_error(error)
    assert (answer.status, answer.as_dict()["error"]["code"]) == (status, code)
    assert answer.as_dict()["error"]["message"]


@pytest.mark.parametrize(
    "error",
    [CheckpointError("/secret/model"), MissingExtraError("/secret"), OSError("/secret/file"), KeyError("secret")],
)
def test_a_fault_of_ours_tells_nothing_of_the_inside(error):
    answer = as_service_error(error)
    assert answer.status == 500
    assert "secret" not in answer.message


def test_retry_after_is_whole_seconds_and_at_least_one():
    assert errors.Busy("full", retry_after=0.2).headers == {"Retry-After": "1"}
    assert errors.Busy("full", retry_after=2.2).headers == {"Retry-After": "3"}
    assert errors.NotFound("gone").headers == {}


def test_each_kind_has_a_status_and_a_code_of_its_own():
    kinds = ServiceError.__subclasses__()
    assert len(kinds) >= 10
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(400 <= kind.status < 600 for kind in kinds)
