"""The recipe's modules lie beside its script, outside the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
sys.path.insert(0, str(RECIPES))


@pytest.fixture(scope="session")
def split(tmp_path_factory):
    """The events of a small training split, without its videos."""
    from simkitchen.events import generate

    folder = tmp_path_factory.mktemp("simkitchen") / "train"
    folder.mkdir()
    lines = (json.dumps(event.as_dict()) + "\n" for event in generate("train", 400))
    (folder / "events.jsonl").write_text("".join(lines))
    return folder
