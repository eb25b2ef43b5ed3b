"""SimKitchen without MuJoCo: a split's words and files are real, its clips are coloured noise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in ("benchmarks", "recipes"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """Folder with the splits `train` and `test` of a few events."""
    import numpy as np

    from simkitchen.encoding import write_clip
    from simkitchen.events import generate
    from simkitchen.metadata import write_metadata

    data = tmp_path_factory.mktemp("simkitchen")
    for seed, (split, count) in enumerate((("train", 12), ("test", 20))):
        events = list(generate(split, count))
        random = np.random.default_rng(seed)
        for event in events:
            for view in event.views:
                path = data / split / view.camera / f"{event.id}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = random.integers(0, 255, (2, 4, 4, 3), dtype=np.uint8)
                write_clip(path, picture.repeat(8, 1).repeat(8, 2))
        write_metadata(data / split, events)
    return data
