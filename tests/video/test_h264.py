import av
import pytest

from egoinstructor.video.h264 import is_reference, nal_length_size


def units(*headers):
    return memoryview(b"".join((3).to_bytes(4, "big") + bytes([header, 7, 7]) for header in headers))


@pytest.mark.parametrize(
    ("headers", "reference"),
    [
        ((0x65,), True),  # IDR slice, nal_ref_idc 3
        ((0x41,), True),  # slice, nal_ref_idc 2
        ((0x01,), False),  # slice, nal_ref_idc 0
        ((0x06, 0x01, 0x01), False),  # SEI, two slices that none refers to
        ((0x01, 0x21), True),  # two fields, one of them referred to
        ((0x06, 0x67), True),  # no slice at all: nothing is known
    ],
)
def test_is_reference(headers, reference):
    assert is_reference(units(*headers), 4) is reference


def test_what_is_not_understood_counts_as_a_reference():
    assert is_reference(units(0x01), 0)
    assert is_reference(memoryview(b""), 4)


def test_layout(long_gop, make_video):
    for path, expected in ((long_gop, 4), (make_video("mpeg4.avi", codec="mpeg4", options={}), 0)):
        with av.open(path) as container:
            assert nal_length_size(container.streams.video[0].codec_context) == expected
