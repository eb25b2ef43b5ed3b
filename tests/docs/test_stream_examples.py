"""docs/stream.md keeps its word: its example prints what it says, whatever words the model that is shipped finds."""

from __future__ import annotations

import re

import page_examples
import pytest


@pytest.mark.slow
def test_example_prints_what_the_page_says(tmp_path):
    (example,) = page_examples.examples(page_examples.STREAM.read_text(encoding="utf-8"))
    printed = page_examples.run(example, tmp_path, page_examples.ADDRESS, {})
    window = r"^([\d.]+ [\d.]+) .+ (\d+)$"
    assert re.sub(window, r"\1 \2", printed, flags=re.M) == re.sub(window, r"\1 \2", example.output, flags=re.M)
    assert len(re.findall(window, printed, re.M)) == 2
