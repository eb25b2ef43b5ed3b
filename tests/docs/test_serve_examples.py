"""docs/serve.md keeps its word: the examples print what it says, its tables are the server's."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from types import SimpleNamespace

import page_examples
import pytest

from egoinstructor.web.limits import Limits

PAGE = page_examples.SERVE.read_text(encoding="utf-8")
UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30, "s": 1, "": 1}


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its head."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_limit_is_listed_with_its_value():
    listed = {}
    for name, value, _ in rows("Limits"):
        number, unit = re.fullmatch(r"([\d,× ]*\d) ?(\w*)", value).groups()
        listed[name.strip("`")] = math.prod(int(part.replace(",", "")) for part in number.split("×")) * UNITS[unit]
    assert listed == dataclasses.asdict(Limits())


def test_every_route_is_listed():
    pytest.importorskip("fastapi", reason="the API needs the extra web")
    from egoinstructor.web.api import build_api

    paths = build_api(SimpleNamespace(), SimpleNamespace()).openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {cell.strip("`") for cell, _ in rows("The API")} == served


def test_every_metric_is_listed():
    pytest.importorskip("prometheus_client", reason="metrics need the extra web")
    from egoinstructor.web.metrics import Metrics

    counts = SimpleNamespace(stats=lambda: {"answered": 1, "videos": 1, "bytes": 1})
    service = SimpleNamespace(
        batch_sizes=[], present=0, waiting=0, sandbox=counts, uploads=counts, job_counts=lambda: {"done": 1}
    )
    metrics = Metrics(service)
    metrics.answered("/v1/caption", 200, 0.5, 100)
    told = re.findall(r"^# TYPE (\w+) (?!gauge$.*_created)\w+", metrics.text()[0].decode(), re.MULTILINE)
    listed = {name for cell, _ in rows("Metrics") for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {name for name in told if not name.endswith("_created")}


def test_an_example_of_another_form_is_noticed():
    written = {"caption": "a", "score": -0.1, "references": [{"narration": "b"}], "error": {"code": "c"}}
    assert page_examples.same(written, written | {"caption": "other", "score": -1})
    assert not page_examples.same(written, {**written, "more": 1})
    assert not page_examples.same(written, {**written, "score": None})
    assert not page_examples.same(written, {**written, "references": []})
    assert not page_examples.same(written, {**written, "references": [{"narration": 1}]})
    assert not page_examples.same(written, {**written, "error": {"code": "d"}})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's examples use curl, which is not installed")
def test_examples_print_what_the_page_says(tmp_path):
    pytest.importorskip("fastapi", reason="the server needs the extra web")
    pytest.importorskip("lancedb", reason="the demo's library needs the extra library")
    ids = {}
    (tmp_path / "server").mkdir()
    page_examples.make_videos(tmp_path)
    found = page_examples.examples(PAGE)
    assert len(found) >= 8
    with page_examples.server(tmp_path / "server") as url:
        for example in found:
            printed = page_examples.run(example, tmp_path, url, ids)
            if example.kind == "json":
                assert page_examples.same(json.loads(example.output), json.loads(printed)), (example.code, printed)
            else:
                lines, written = printed.strip().splitlines(), example.output.strip().splitlines()
                assert len(lines) == len(written), (example.code, printed)
