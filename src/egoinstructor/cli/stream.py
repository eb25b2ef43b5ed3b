"""`egoinstructor stream`: caption a camera, an address, or a file that is still being written, while it comes."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from egoinstructor.cli.options import (
    add_model_options,
    add_reading_options,
    check_download,
    open_named_or_published,
    seconds,
)
from egoinstructor.cli.retrieval import add_retrieval_options, check_library_given, library_options

if TYPE_CHECKING:
    from egoinstructor.streaming.captions import LiveCaption, LiveCaptions
    from egoinstructor.streaming.sources import StreamSource


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "stream", help="caption a camera or a growing file, live", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("stream", metavar="SOURCE", help="camera (/dev/video0), rtsp:// or http:// address, or file")
    parser.add_argument("--json", action="store_true", help="print one JSON object a caption, then one with the totals")
    group = parser.add_argument_group("source")
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST", help="a host that an address may name; repeat"
    )
    group.add_argument("--paced", action="store_true", help="play a finished file at its own pace, for a trial")
    group.add_argument(
        "--idle",
        type=seconds,
        default=10.0,
        metavar="S",
        help="seconds after which a file has stopped growing (default: 10)",
    )
    group.add_argument(
        "--reconnects", type=int, default=5, metavar="N", help="attempts to find a lost RTSP stream again (default: 5)"
    )
    group = parser.add_argument_group("windows")
    group.add_argument("--seconds", type=seconds, metavar="S", help="length of a window (default: 5; 2 for nano)")
    group.add_argument("--overlap", type=seconds, default=0.0, metavar="S", help="of neighbouring windows (default: 0)")
    late = group.add_mutually_exclusive_group()
    late.add_argument(
        "--max-latency",
        type=seconds,
        default=5.0,
        metavar="S",
        help="longest wait of a window for its turn (default: 5)",
    )
    late.add_argument("--no-drop", action="store_true", help="caption every window, however late")
    add_reading_options(parser, num_beams=1)
    add_retrieval_options(parser)
    add_model_options(parser, published=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print captions until the stream is over or interrupted, then the totals."""
    from egoinstructor.narration.options import default_seconds
    from egoinstructor.streaming.sources import check_stream, open_stream

    check_library_given(arguments, shots=True)
    check_download(arguments)
    check_stream(arguments.stream, arguments.allow_host)  # before a model is opened, which may take long
    captioner = open_named_or_published(arguments)
    found = library_options(arguments, captioner)
    console = Console()
    captions = None
    try:
        with open_stream(
            arguments.stream,
            allow_hosts=arguments.allow_host,
            paced=arguments.paced,
            idle=arguments.idle,
            reconnects=arguments.reconnects,
        ) as source:
            captions = captioner.stream(
                source,
                seconds=default_seconds(arguments.model) if arguments.seconds is None else arguments.seconds,
                overlap=arguments.overlap,
                rate=source.rate,
                name=source.name,
                max_latency=None if arguments.no_drop else arguments.max_latency,
                shots=arguments.shots,
                num_frames=arguments.num_frames,
                instruction=arguments.instruction,
                likeliest=arguments.likeliest,
                num_beams=arguments.num_beams,
                max_new_tokens=arguments.max_new_tokens,
                **found,
            )
            for live in captions:
                _show(live, console, as_json=arguments.json)
    except KeyboardInterrupt:  # how a stream is ended
        if captions is None:
            raise
    finally:
        if captions is not None:
            captions.close()
            _finish(captions, source, console, as_json=arguments.json)


def _show(live: LiveCaption, console: Console, *, as_json: bool) -> None:
    if as_json:
        _print_json(live.as_dict(), console)
        return
    dropped = "" if not live.dropped_windows else f"; {_count(live.dropped_windows, 'window')} dropped before"
    times = f"{live.start:.1f}–{live.end:.1f} s, {live.latency:.1f} s late{dropped}"
    console.print(f"[bold]{escape(live.text)}[/bold]  [dim]{times}[/dim]", highlight=False, soft_wrap=True)


def _finish(captions: LiveCaptions, source: StreamSource, console: Console, *, as_json: bool) -> None:
    totals = captions.totals
    if as_json:
        more = {"damaged_frames": source.damaged, "reconnected": source.reconnected}
        _print_json({"totals": totals.as_dict() | more}, console)
        return
    said = (
        f"{_count(totals.frames, 'frame')}, {_count(totals.windows, 'window')}: {_count(totals.captions, 'caption')}, "
        f"{_count(totals.dropped_windows, 'window')} dropped ({_count(totals.dropped_frames, 'frame')})"
    )
    if source.damaged:
        said += f"; {_count(source.damaged, 'frame')} damaged"
    if source.reconnected:
        said += f"; connected again {_count(source.reconnected, 'time')}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print_json(value: dict[str, Any], console: Console) -> None:
    console.print(json.dumps(value, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
