"""`report.html` and the rows: what they say, that nothing in them acts, and that they ask no network."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from egoinstructor.evaluation import page
from egoinstructor.evaluation.captions.report import CaptionReport
from egoinstructor.evaluation.captions.results import write_rows
from egoinstructor.evaluation.charts import histogram, points
from egoinstructor.evaluation.metrics.base import Metric
from egoinstructor.evaluation.metrics.captions import CaptionScores
from egoinstructor.evaluation.page import write_page
from egoinstructor.evaluation.statistics import bootstrap

EVIL = "<script>alert(1)</script><img src=http://evil.example/x onerror='go()'>\"$name ${name}"
ADDRESSES = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background", "style"}


class Page(HTMLParser):
    """Elements, addresses and texts of a page; every element that was opened is closed."""

    VOID = frozenset(["meta", "img"])

    def __init__(self, text):
        super().__init__()
        self.names, self.addresses, self.texts, self.handlers, self._open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in ADDRESSES]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def reported(text, count=14):
    """A run whose every text is this one."""
    ids = [f"{text} {i}" for i in range(count)]
    values = [i / 10 for i in range(count)]
    scores = CaptionScores(
        "nlgeval",
        False,
        tuple(ids),
        {"CIDEr": Metric.mean("CIDEr", page_array(values))},
        {"SPICE": text},
        count,
        (text,),
    )
    report = CaptionReport({text: text}, dict.fromkeys(ids, text), {i: [text] for i in ids}, dict.fromkeys(ids, text))
    report.scores = [scores]
    report.intervals = {("nlgeval", "CIDEr"): bootstrap(values)}
    reference = {"video": text, "start": None, "end": None, "narration": text, "score": 0.5}
    report.details = {i: {"start": 0.0, "end": None, "references": [reference], "dropped": []} for i in ids}
    report.notes = {
        "counts": {"samples in the split": count + 1, "samples that could not be read": 1},
        "failures": {text: text},
    }
    return report


def page_array(values):
    import numpy as np

    return np.array(values, dtype=np.float64)


def test_nothing_that_a_user_writes_acts_in_the_page(tmp_path):
    write_page(reported(EVIL), tmp_path, EVIL)
    found = Page((tmp_path / "report.html").read_text())
    assert not {"script", "iframe", "link", "object", "embed", "base", "form"} & set(found.names)
    assert found.handlers == []
    assert found.addresses == []  # none of these videos is there, so there are no pictures
    assert sum(EVIL in text for text in found.texts) > 20
    assert "could not be read" in " ".join(found.texts)
    plain = Page(write_and_read(reported("plain"), tmp_path))
    assert found.names == plain.names  # a text makes no element


def write_and_read(report, folder):
    write_page(report, folder, "plain")
    return (folder / "report.html").read_text()


def test_the_page_asks_no_network(short_videos, tmp_path):
    report = reported("a leek")
    report.videos = dict.fromkeys(report.references, str(short_videos["ego"]))
    text = write_and_read(report, tmp_path)
    found = Page(text)
    assert len(found.addresses) == 4 * 2 * page.SHOWN
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.addresses)
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text))


def test_best_and_worst_captions(tmp_path):
    for count, best, worst in ((1, 1, 0), (3, 2, 1), (14, 6, 6)):
        text = write_and_read(reported("x", count), tmp_path) if count > 1 else None
        if text is None:
            report = reported("x", 2)
            report.scores = [
                CaptionScores("nlgeval", False, ("x 0",), {"CIDEr": Metric.mean("CIDEr", page_array([1]))})
            ]
            text = write_and_read(report, tmp_path)
        first, _, last = text.partition("<h2>Worst captions</h2>")
        assert (first.count("<article>"), last.count("<article>")) == (best, worst)
    assert re.findall(r"<dd>(\d\.\d{4})</dd>", text) == [
        f"{i / 10:.4f}" for i in (13, 12, 11, 10, 9, 8, 0, 1, 2, 3, 4, 5)
    ]


def test_a_run_without_scores_has_a_page(tmp_path):
    report = reported("x")
    report.scores, report.details = [], {}
    assert "No score of single captions" in write_and_read(report, tmp_path)


def test_charts_show_the_numbers():
    text = histogram([0, 0, 1, 1, 1], "s", bins=2)
    assert re.findall(r"<title>(0\.\d+ to [\d.]+: \d)", text) == ["0.00 to 0.50: 2", "0.50 to 1.00: 3"]
    assert "mean 0.600" in text
    dots = re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', points([0, 1], [0, 2], "x", "y<"))
    assert [float(x) for x, _ in dots] == [52.0, 428.0]
    assert float(dots[0][1]) > float(dots[1][1])  # upwards
    assert "y&lt;" in points([1], [1], "x", "y<")
    assert "NaN" not in histogram([3.0], "one")


def test_rows_are_tables_whatever_the_run_is_called(tmp_path):
    write_rows(reported("x"), tmp_path, r"a|b_50%\{~}")
    markdown = (tmp_path / "row.md").read_text().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown[:3]}) == 1
    assert "scores are of 14 of 15 samples" in markdown[-1]
    latex = (tmp_path / "row.tex").read_text()
    assert r"a|b\_50\%\textbackslash{}\{\textasciitilde{}\}" in latex
    assert len({line.count(" & ") for line in latex.splitlines()[1:]}) == 1
