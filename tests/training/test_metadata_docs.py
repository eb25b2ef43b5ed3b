"""The examples of docs/data.md are metadata that we read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from egoinstructor.data.metadata import read_metadata
from egoinstructor.video.folder import VIDEO_SUFFIXES

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


@pytest.fixture
def examples(tmp_path):
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    paths = [tmp_path / name for name in ("instructions.json", "config.json", "mine.jsonl")]
    for path, block in zip(paths, blocks, strict=True):
        path.write_text(block)
    return paths


def test_the_pair_is_read(examples):
    [sample] = read_metadata(*examples[:2]).samples("ego", "exo", clean=True)
    assert sample.caption == "carries a pot from the cooker"
    assert [reference.narration for reference in sample.references] == ["lift the pot off the stove"]


def test_the_jsonl_is_read(examples):
    first, second = read_metadata(examples[2]).samples()
    assert (first.start, first.caption, first.references[0].end) == (12.0, "rinses the rice", 36.0)
    assert second.references == ()


def test_the_file_types_are_those_we_read():
    assert all(f"`{suffix}`" in PAGE or f"vid{suffix}`" in PAGE for suffix in VIDEO_SUFFIXES)
