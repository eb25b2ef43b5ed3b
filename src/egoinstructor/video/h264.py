"""H.264: which pictures can be left out, those that no other refers to; and how to write the same bytes each time."""

from __future__ import annotations

from av.video.codeccontext import VideoCodecContext

REPEATABLE = {"x264-params": "cpu-independent=1"}
"""Options of libx264 without which the same frames give other bytes now and then: its AVX-512 code is not repeatable."""

_SLICE_TYPES = (1, 2, 5)  # NAL units that carry picture data: non-IDR slice, data partition A, IDR slice


def nal_length_size(codec: VideoCodecContext) -> int:
    """Bytes of each NAL unit's length field (ISO 14496-15, avcC), or 0 for another codec or another layout."""
    head = codec.extradata or b""
    return (head[4] & 3) + 1 if codec.name == "h264" and len(head) > 4 and head[0] == 1 else 0


def is_reference(packet: memoryview, length_size: int) -> bool:
    """Whether other pictures may refer to this one.

    The standard (ITU-T H.264, 7.4.1) says so in `nal_ref_idc`, two bits at the head of each NAL unit: a picture whose
    slices all have 0 there is used by no other and may be dropped before it is decoded.

    Args:
        packet: one picture, its NAL units each led by their length.
        length_size: of `nal_length_size`, 1 to 4; with 0 every picture counts as a reference.
    """
    if not length_size:
        return True
    found_slice, position = False, 0
    while position + length_size < len(packet):
        header = packet[position + length_size]
        if header & 31 in _SLICE_TYPES:
            if header >> 5 & 3:
                return True
            found_slice = True
        position += length_size + int.from_bytes(packet[position : position + length_size], "big")
    return not found_slice
