"""Transcripts of commands: run in this process, written as text, and compared with the recorded ones.

A transcript contains each command line, its output, its exit code, and then the files that the commands wrote. Values that
differ from run to run (paths, durations, sizes) are replaced by a name in brackets, and long numbers are rounded.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import runpy
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TOLERANCE = 0.01
"""Absolute, of numbers with two or more decimals. The demo's scores move by up to 0.003 between processors with and without
AVX2 and AVX-512, since nano computes in bfloat16."""

TERMINAL = {"COLUMNS": "2000", "FORCE_COLOR": "", "TERM": "dumb"}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
TIMES = "elapsed|speed|latency|eta|train_runtime|train_samples_per_second|train_steps_per_second"
VARYING = {
    rf"""("(?:{TIMES})": )[\d.e+-]+""": r"\1<time>",
    rf"('(?:{TIMES})': )'[\d.e+-]+'": r"\1<time>",
    r'× [\d.]+ real time|[\d.]+ s late|(?<= )\d{19}(?=")': "<time>",
    r"""("(?:loss|grad_norm|train_loss|total_flos)": )[\d.e+-]+""": r"\1<number>",
    r"('(?:loss|grad_norm|train_loss)': )'[\d.e+-]+'": r"\1<number>",
    r'("bytes": )\d+': r"\1<size>",
    r"[\d.]+ [kM]B": "<size>",
    r'("(?:python|platform)": )"[^"]*"': r"\1<version>",
    r'("(?:packages|versions|devices)": )\{[^}]*\}': r"\1<versions>",
    r"spaCy [\d.]+": "spaCy <version>",
}
"""Patterns of values that differ between runs or machines, and their replacements."""

MANY = 8
"""More files of one suffix in one folder than this are counted, not listed."""


@dataclass(frozen=True)
class Case:
    """Commands that run one after another in one folder.

    Args:
        commands: shell commands, one a line.
        show: glob patterns; the content of written files that match one is part of the transcript.
        absent: names of modules to hide, as if they were not installed.
        slow: whether to leave the case out of the fast tests.
        may_differ: number of lines that may change by rounding on another processor.
    """

    commands: str
    show: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    slow: bool = False
    may_differ: int = 0


def transcript(case: Case, folder: Path, names: dict[str, str]) -> str:
    """Run a case and describe it as text.

    Args:
        case: the commands.
        folder: the working directory, which contains the inputs.
        names: absolute paths and their replacements.
    """
    inputs = set(_files(folder))
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ, TERMINAL):
        for module in case.absent:
            patch.setitem(sys.modules, module, None)
        for line in case.commands.strip().splitlines():
            lines += [f"$ {' '.join(line.split())}", *_run(shlex.split(line), patch), ""]
    written = [file for file in _files(folder) if file not in inputs]
    lines += ["# written", *_listed(written)] if written else []
    for file in written:
        if any(fnmatch(file, pattern) for pattern in case.show):
            text = (folder / file).read_text(encoding="utf-8")
            lines += [
                "",
                f"# {file}",
                *([readable(text)] if file.endswith(".json") else map(readable, text.splitlines())),
            ]
    return normal("\n".join(lines), names)


def _run(argv: list[str], patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a command: its output by line, standard error marked with `!`, and its exit code unless it is 0."""
    logging.getLogger("egoinstructor").setLevel(logging.NOTSET)  # which `train` changes
    out, err = io.StringIO(), io.StringIO()
    patch.setattr(sys, "argv", argv[1:])  # of a script
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = _command(argv)()
        except SystemExit as stop:  # how argparse refuses
            code = stop.code
    usage = re.sub(r"^usage: (?:.|\n)*?(?=^\S+.*: error: )", "", err.getvalue(), flags=re.MULTILINE)
    yield from map(readable, out.getvalue().splitlines())
    yield from (f"! {line.rstrip()}" for line in usage.splitlines() if line.strip())
    if code:
        yield f"exit code {code}"


def _command(argv: list[str]) -> Callable[[], Any]:
    """Find the function of `egoinstructor …` or of `python SCRIPT …`, a script at the root of the repository."""
    if argv[0] == "python":
        return runpy.run_path(str(REPOSITORY / argv[1]))["main"]
    from egoinstructor.cli import main

    return lambda: main(argv[1:])


def _files(folder: Path) -> list[str]:
    """The files in a folder, sorted; a table of a library counts as one."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted({re.sub(r"\.lance/.*", ".lance", path.as_posix()) for path in found})


def _listed(files: list[str]) -> list[str]:
    kinds = {file: re.sub(r"[^/]+(?=\.\w+$)", "*", file) for file in files}
    counts = Counter(kinds.values())
    return list(dict.fromkeys(f"{kinds[file]} ({n})" if (n := counts[kinds[file]]) > MANY else file for file in files))


def readable(line: str) -> str:
    """Break a line of JSON up; leave any other line as it is."""
    try:
        return pretty(json.loads(line)) if line.startswith(("{", "[")) else line.rstrip()
    except ValueError:
        return line.rstrip()


def pretty(value: Any, indent: str = "") -> str:
    """JSON whose line breaks follow from its structure alone, whatever the values are."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(item, dict | list) for item in inside):
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {pretty(item, deeper)}" for key, item in value.items()]
    else:
        items = [pretty(item, deeper) for item in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{deeper}" + f",\n{deeper}".join(items) + f"\n{indent}{last}"


def normal(text: str, names: dict[str, str]) -> str:
    """Replace values that differ from run to run, and round long numbers to four digits.

    Args:
        text: a transcript.
        names: absolute paths and their replacements.
    """
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    for varying, name in VARYING.items():
        text = re.sub(varying, name, text)
    text = re.sub(r"(?<![\w.:])-?\d+\.\d{5,}(?:e[-+]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)
    return text.rstrip() + "\n"


def settled(recorded: str, now: str) -> str:
    """The new text, in which each line that differs from the recorded one by rounding only is replaced by it."""
    old, new = recorded.splitlines(), now.splitlines()
    shapes = ([NUMBER.sub("#", line) for line in lines] for lines in (old, new))
    for there, here, length in SequenceMatcher(None, *shapes, autojunk=False).get_matching_blocks():
        for i in range(length):
            if _close(old[there + i], new[here + i]):
                new[here + i] = old[there + i]
    return "".join(f"{line}\n" for line in new)


def _close(line: str, other: str) -> bool:
    pairs = zip(NUMBER.findall(line), NUMBER.findall(other), strict=True)
    return all(a == b or (_decimals(a, b) >= 2 and abs(float(a) - float(b)) <= TOLERANCE) for a, b in pairs)


def _decimals(*numbers: str) -> int:
    return max(len(number.partition(".")[2]) for number in numbers)


def differing(recorded: str, now: str) -> int:
    """Number of lines that were changed, added or removed."""
    matcher = SequenceMatcher(None, recorded.splitlines(), now.splitlines(), autojunk=False)
    return sum(max(b - a, d - c) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal")
