"""A camera's RTSP server, as small as it can be: one H.264 stream over the connection itself, whoever asks."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
import threading
from fractions import Fraction

import av
import numpy as np

RATE = 10


def access_units(count: int) -> list[list[bytes]]:
    """The NAL units of each encoded frame."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 32, 32, "yuv420p"
    encoder.time_base, encoder.options = Fraction(1, RATE), {"tune": "zerolatency", "threads": "1", "g": "5"}
    packets = []
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * (i % 30), np.uint8), format="rgb24")
        frame.pts = i
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [re.split(b"\x00\x00\x00?\x01", bytes(packet))[1:] for packet in packets]


class RtspServer(threading.Thread):
    """Gives each connection the same frames, then hangs up. Use it in a `with` block."""

    def __init__(self, count: int) -> None:
        super().__init__(daemon=True)
        self._units = access_units(count)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/cam"

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        asked = connection.makefile("rb")
        while (line := asked.readline().decode()) != "":
            headers = {}
            while (header := asked.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            method = line.split()[0]
            self.asked.append(line.strip())
            body, more = "", ""
            if method == "OPTIONS":
                more = "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                sets = ",".join(base64.b64encode(u).decode() for u in self._units[0] if u[0] & 31 in (7, 8))
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                    f"a=rtpmap:96 H264/90000\r\na=framerate:{RATE}\r\n"
                    f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\na=control:track\r\n"
                )
                more = "Content-Type: application/sdp\r\n"
            elif method == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(answer.encode())
            if method == "PLAY":
                self._play(connection)
                return

    def _play(self, connection: socket.socket) -> None:
        number = 0
        for i, units in enumerate(self._units):
            for unit in units:
                last = unit is units[-1]
                header = struct.pack(">BBHII", 0x80, 96 | last << 7, number, i * 90000 // RATE, 7)
                packet = header + unit
                connection.sendall(b"$\x00" + struct.pack(">H", len(packet)) + packet)
                number += 1
