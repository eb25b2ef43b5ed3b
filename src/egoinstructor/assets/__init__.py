"""What comes with the package: the nano model, with its retriever, and the clips and library that the demo shows.

    nano/  a captioner's folder, with its model card        nano/retriever/  the retriever that looks through it
    demo/  ego/ exo/ library/ clips.json                    see `docs/demo.md`

This is the one place that knows the name: whoever opens a model asks here first.
"""

from __future__ import annotations

from pathlib import Path

NANO = "nano"
"""What the model that comes with the package is called wherever a model is named."""

FOLDER = Path(__file__).parent


def shipped(name: str | Path, *, retriever: bool = False) -> Path | None:
    """The folder of a model that comes with the package; None for any other name.

    Args:
        name: as a model was named. A model's folder of that name in the working directory is meant before ours; any other
            folder of that name is not.
        retriever: the retriever of that name, rather than the captioner.
    """
    if str(name) != NANO or (Path(NANO) / "config.json").is_file():
        return None
    folder = FOLDER / NANO
    return folder / "retriever" if retriever else folder


def demo_files() -> Path:
    """The folder with the demo's clips and library."""
    return FOLDER / "demo"
