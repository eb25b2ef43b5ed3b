"""What the shipped model says of the shipped clips: recorded once, checked by a test ever after."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from egoinstructor import assets
from egoinstructor.demo.captions import counts
from egoinstructor.demo.folder import DemoFolder
from egoinstructor.demo.shipped import shipped_captions
from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file


def captions_and_counts() -> dict[str, Any]:
    """Each shipped ego clip captioned with four references and with none, and how many captions are exactly right.

    Raises:
        InputError: there is no shipped model.
    """
    folder = assets.FOLDER / assets.NANO
    if not (folder / "config.json").exists():
        raise InputError(f"no model is shipped in {folder}; make it with recipes/nano.py.")
    with tempfile.TemporaryDirectory() as scratch:
        found = list(shipped_captions(DemoFolder(Path(scratch) / "demo")))
    clips = [
        {
            "video": answer.query.name,
            "bucket": answer.query.bucket,
            "truth": answer.query.truth,
            "with references": answer.found.text,
            "without": answer.alone.text,
        }
        for answer in found
    ]
    everything = counts(found)[-1]
    return {"clips": clips, "exact": {"with references": everything.found, "without": everything.alone}}


def write_golden(file: Path) -> dict[str, Any]:
    """Record them."""
    found = captions_and_counts()
    with atomic_file(file) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return found
