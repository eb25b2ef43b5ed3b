"""Pictures in containers made for broadcast, which have no index.

They leave time stamps out, repeat them, and run backwards where files were joined. After a seek FFmpeg guesses missing
stamps otherwise than when it reads from the start. So pictures are recognised by their sizes in stored order, and get the
stamps that they had in a pass over the whole file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice

from av.packet import Packet
from av.video.stream import VideoStream

STREAMED = ("mpegts", "mpeg", "asf")
"""FFmpeg's names of these containers: MPEG-TS, MPEG-PS and Windows Media."""

_FEWEST, _MOST = 8, 1024
"""Pictures in a row by which a place in a file is recognised."""

_NEAR = 3
"""Pictures from the one that is marked as torn to a gap in the decoding times: parsers look ahead."""


class StoredPictures:
    """The pictures of a file in stored order.

    Args:
        tick: seconds per tick.
    """

    def __init__(self, tick: Fraction) -> None:
        self.spoiled = set[int]()
        """Display times of pictures from one that was lost or torn on the way up to the next whole keyframe."""
        self._sizes, self._pts, self._times = array("q"), array("q"), array("q")
        self._rising, self._last_dts = True, -(2**63)
        self._shift = self._delay = self._step = self._stride = 0
        self._torn, self._spoiling, self._whole_from = 0, False, -(2**63)
        self._tolerance = round(1 / (2 * tick))

    def add(self, packet: Packet[VideoStream]) -> None:
        """Take the next picture of a pass from the start."""
        pts, dts = packet.pts, packet.dts
        if not self._times and pts is not None and dts is not None:
            self._delay = pts - dts
        # Decoding time by the steps so far, corrected where the stamp differs by more than the tolerance.
        time = self._times[-1] + self._step if self._times else (dts or 0)
        if dts is not None:
            self._look_for_loss(packet, dts)
            late = dts + self._shift - time
            if late > self._tolerance:
                time += late
            elif late < -self._tolerance:  # another file was joined on
                self._shift -= late
            self._rising &= dts > self._last_dts
            self._stride = dts - self._last_dts if 0 < dts - self._last_dts <= self._tolerance else self._stride
            self._last_dts = dts
        self._rising &= pts is not None
        self._pts.append(pts or 0)
        self._sizes.append(packet.size)
        self._times.append(time)
        self._step = packet.duration or self._stride

    @property
    def reliable(self) -> bool:
        """True if each picture has a display time of its own, and decoding times rise."""
        return self._rising and len(set(self._pts)) == len(self._pts)

    def _look_for_loss(self, packet: Packet[VideoStream], dts: int) -> None:
        """Detect pictures lost before this one, or a lost part of it. No decoder reports that reliably.

        FFmpeg marks the picture in whose data it noticed the loss; what is missing may be the beginning of the next one.
        """
        broken = packet.is_corrupt or self._torn == _NEAR
        self._torn = _NEAR if packet.is_corrupt else max(self._torn - 1, 0)
        self._spoiling |= broken or (bool(self._torn) and 2 * (dts - self._last_dts) > 3 * self._stride > 0)
        if packet.is_keyframe and self._spoiling and not broken:
            self._spoiling, self._whole_from = False, packet.pts or 0
        if packet.pts is not None and (self._spoiling or packet.pts < self._whole_from):
            self.spoiled.add(packet.pts)

    def made_up_times(self) -> array[int]:
        """Display times in ticks, by the decoding times alone, as if each picture were delayed like the first."""
        return array("q", (time + self._delay for time in self._times))

    def restamp(self, packets: Iterable[Packet[VideoStream]], *, entered: bool = True) -> Iterator[Packet[VideoStream]]:
        """Give packets the display times of the pass from the start; none come where that isn't certain.

        Args:
            packets: from some place in the file on.
            entered: after a seek. The first packet may then be the end of one, and is left out.
        """
        packets = (packet for packet in packets if packet.size)
        head: list[Packet[VideoStream]] = []
        place = 0
        if entered:
            next(packets, None)
            found = None
            while found is None:
                more = list(islice(packets, len(head) or _FEWEST))
                ended = len(more) < (len(head) or _FEWEST)
                head += more
                found = self._find([packet.size for packet in head], last=ended)
                if found is None and (ended or len(head) >= _MOST):
                    return
            place = found
        for packet, pts in zip(chain(head, packets), self._pts[place:], strict=False):
            packet.pts = pts
            yield packet

    def _find(self, sizes: Sequence[int], *, last: bool) -> int | None:
        """Find pictures of those sizes in a row: the place of the first; None for no place or several.

        Args:
            sizes: bytes of each.
            last: they are the last of the file.
        """
        wanted, width = array("q", sizes), self._sizes.itemsize
        if last:
            place = len(self._sizes) - len(sizes)
            return place if self._sizes[place:] == wanted else None
        stored, part = self._sizes.tobytes(), wanted.tobytes()
        places = list[int]()
        at = stored.find(part)
        while at >= 0 and len(places) < 2:
            if at % width == 0:
                places.append(at // width)
            at = stored.find(part, at + 1)
        return places[0] if len(places) == 1 else None
