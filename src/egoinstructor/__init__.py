"""egoinstructor: retrieval-augmented captioning of egocentric video.

The public face. Names are imported when they are first used, so that `import egoinstructor` is fast and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.records import Caption, Clip, Frames, Reference
    from egoinstructor.retriever.interface import Retriever
    from egoinstructor.retriever.opening import open_retriever
    from egoinstructor.video.decode import load_video

_HOMES = {
    "Caption": "egoinstructor.records",
    "Captioner": "egoinstructor.captioners.egoinstructor",
    "Clip": "egoinstructor.records",
    "ExoLibrary": "egoinstructor.library.library",
    "Frames": "egoinstructor.records",
    "Reference": "egoinstructor.records",
    "Retriever": "egoinstructor.retriever.interface",
    "load_video": "egoinstructor.video.decode",
    "open_retriever": "egoinstructor.retriever.opening",
}

__version__ = version("egoinstructor")
__all__ = [
    "Caption",
    "Captioner",
    "Clip",
    "ExoLibrary",
    "Frames",
    "Reference",
    "Retriever",
    "__version__",
    "load_video",
    "open_retriever",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'egoinstructor' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
