"""Queries captioned by the model that comes with the package, with its library or another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from egoinstructor import assets
from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.demo import captions
from egoinstructor.demo.captions import Answer
from egoinstructor.demo.folder import DemoFolder
from egoinstructor.demo.queries import DemoClip, shipped_queries
from egoinstructor.library.library import ExoLibrary
from egoinstructor.retriever.opening import open_retriever


def shipped_captions(
    folder: DemoFolder,
    queries: Sequence[DemoClip] | None = None,
    open_library: Callable[[Captioner], ExoLibrary] | None = None,
) -> Iterator[Answer]:
    """Caption each query with references and without, on the CPU.

    Everything is opened before the folder is emptied. A folder called `nano` in the working directory changes nothing.

    Args:
        folder: the demo's; the shipped library is copied there, since the package may lie where nothing can be written.
        queries: what to caption; None for the clips that come with the package.
        open_library: opens another library, with its retriever, for the captioner; None for the one that comes with it.

    Raises:
        InputError: the shipped files are not there, or the folder can't be written.
        CheckpointError: the shipped model can't be opened.
        VideoError: a clip that can't be read.
    """
    queries = shipped_queries() if queries is None else queries
    nano = assets.FOLDER / assets.NANO
    captioner = Captioner.from_pretrained(nano, device="cpu")
    if open_library is not None:
        library = open_library(captioner)
        folder.empty()
    else:
        source = ExoLibrary.open(assets.demo_files() / "library")
        retriever = open_retriever(nano / "retriever", device="cpu", **source.retriever_options)
        retriever.look_through(captioner.encoder)
        ExoLibrary.open(source.uri, retriever)  # which refuses another retriever
        folder.empty()
        library = ExoLibrary.open(folder.copy_library(), retriever)
        for name in library.sources():
            library.add_source(name, assets.demo_files())
    yield from captions.answers(captioner, library, queries)
