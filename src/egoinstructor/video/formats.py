"""Container formats: those that may be opened, and the name of whatever else a file is, by its first bytes.

FFmpeg's own detection is not used for files that can't be read: of a playlist it opens what that names.
"""

from __future__ import annotations

import codecs
import re

READABLE = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf"
"""FFmpeg's names of the formats that are read. All hold the pictures themselves: none makes FFmpeg open another file or an
address, as playlists (hls, dash, concat) and numbered pictures do."""

HEAD = 1024
"""Bytes at the start of a file that its format is recognised by."""

_NAMES = "mp4, mov, 3gp, mkv, webm, avi, MPEG-TS, MPEG-PS, flv, ogg or wmv"
_REMUX = "Convert it: ffmpeg -i INPUT -c copy OUTPUT.mp4."
_ENCODE = "Convert it: ffmpeg -i INPUT OUTPUT.mp4."
_DOWNLOAD = "Download what it names: ffmpeg -i ADDRESS -c copy OUTPUT.mp4."
_OTHER = "Give a video."
_PAGE = "A page was saved in place of the file; fetch the file itself."

# What a file begins with, what it is then, and what to do. The first that fits counts.
_UNREADABLE = (
    (rb"\s*#EXTM3U", "an HLS playlist, a text that names other files", _DOWNLOAD),
    (rb".{0,500}<MPD\b", "a DASH manifest, a text that names other files", _DOWNLOAD),
    (rb"\s*ffconcat version", "a list of files", "Join them: ffmpeg -f concat -i INPUT -c copy OUTPUT.mp4."),
    (rb"version https://git-lfs", "a Git LFS pointer in place of the file", "Fetch the file: git lfs pull."),
    (rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(?i:!doctype html|html|head|body|script)\b", "a web page (HTML)", _PAGE),
    (rb"(\xef\xbb\xbf)?\s*<(\?xml|svg)\b", "an XML text", _OTHER),
    (rb"PK\x03\x04|7z\xbc\xaf\x27\x1c|Rar!\x1a|\x1f\x8b|BZh|\xfd7zXZ\0|\x28\xb5\x2f\xfd", "an archive", "Unpack it."),
    (rb".{257}ustar", "an archive", "Unpack it."),
    (rb"GIF8[79]a", "a GIF", _ENCODE),
    (rb"\xff\xd8\xff", "a JPEG picture", _OTHER),
    (rb"\x89PNG\r\n", "a PNG picture", _OTHER),
    (rb"RIFF....WEBP|....ftyp(avif|avis|heic|heix|mif1)|BM....\0\0\0\0|II\*\0|MM\0\*", "a picture", _OTHER),
    (rb"RIFF....WAVE|ID3|\xff[\xf1-\xf3\xf9-\xfb]|fLaC|FORM....AIF|#!AMR|MThd", "sound without pictures", _OTHER),
    (rb"%PDF", "a PDF document", _OTHER),
    (rb"\x06\x0e\x2b\x34", "MXF", _REMUX),
    (rb"DKIF", "IVF", _REMUX),
    (rb"\xb7\xd8\x00\x20\x37\x49\xda\x11", "WTV", _REMUX),
    (rb"\x1f\x07\x00[\x3f\xbf]", "DV", _ENCODE),
    (rb"\.RMF", "RealMedia", _ENCODE),
    (rb"YUV4MPEG2 ", "YUV4MPEG2", _ENCODE),
    (rb"\0\0\0?\x01\xb3", "an MPEG video stream without a container", _ENCODE),
    (rb"\0\0\0?\x01[\x09\x27\x47\x67\x40\x46]", "an H.264 or HEVC stream without a container", _ENCODE),
)

_READ = (
    (rb"....(ftyp|moov|mdat|free|skip|wide)", "mp4 or mov"),
    (rb"\x1a\x45\xdf\xa3", "mkv or webm"),
    (rb"RIFF....AVI ", "avi"),
    (rb"(\x47.{187}){3}|(.{4}\x47.{187}){3}", "MPEG-TS"),
    (rb"\0\0\x01\xba", "MPEG-PS"),
    (rb"FLV\x01", "flv"),
    (rb"OggS", "ogg"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wmv"),
)


def explain(head: bytes, reason: str) -> str:
    """The end of the sentence "it can't be read as a video": what the file is, and what to do.

    Args:
        head: the first `HEAD` bytes of the file.
        reason: FFmpeg's.
    """
    for pattern, what, remedy in _UNREADABLE:
        if re.match(pattern, head, re.DOTALL):
            return f": it is {what}. {remedy}"
    for pattern, what in _READ:
        if re.match(pattern, head, re.DOTALL):
            return (
                f" ({reason}): it begins as {what}, and is damaged, cut off or unfinished. Check that it plays, or fetch it "
                "again."
            )
    if _is_text(head):
        return f": it is a text file. {_OTHER}"
    return f" ({reason}): it is damaged, or not {_NAMES}. Check that it plays, and fetch it again. If it does: {_REMUX}"


def _is_text(head: bytes) -> bool:
    """Check that all is printable UTF-8; its last character may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)
