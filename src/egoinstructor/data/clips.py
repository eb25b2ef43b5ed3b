"""Clips by video name and seconds → embeddings, from videos or from frame features on disk; what can't be read is noted.

N clips, D the embedding's width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.records import Clip
from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever
from egoinstructor.retriever.features import FeatureFolder
from egoinstructor.retriever.interface import Retriever, View
from egoinstructor.video.decode import probe
from egoinstructor.video.folder import ProgressCallback, VideoFolder

CLIPS_PER_PASS = 64
"""Clips that are read and embedded between two reports of progress."""

Span = tuple[str, float, float]
"""A video's name, start and end in seconds."""


class ClipSource(Protocol):
    """Where the clips of one view come from."""

    view: View

    def embed(self, spans: Sequence[Span]) -> Tensor:
        """Embeddings `(N, D)`.

        Raises:
            InputError: a clip that can't be read.
        """


class FeatureSource:
    """Frame features in a folder, through a cross-view retriever's head.

    Args:
        folder: as `FeatureFolder`.
        retriever: whose backbone made the features.
        view: from where the clips are seen.

    Raises:
        InputError: no such folder, or a retriever that takes no features.
    """

    def __init__(self, folder: str | os.PathLike[str], retriever: Retriever, view: View) -> None:
        if not isinstance(retriever, CrossViewRetriever):
            raise InputError(
                f"features of {folder} were given to {retriever.identity.name}, which looks at videos itself. Give "
                "videos, or a cross-view retriever."
            )
        self.view: View = view
        self._features = FeatureFolder(folder)
        self._retriever = retriever

    def embed(self, spans: Sequence[Span]) -> Tensor:
        """As `ClipSource.embed`."""
        frames = self._retriever.num_frames
        clips = [self._features.clip(video, start, end, frames, self.view) for video, start, end in spans]
        width = self._retriever.model.config.frame_width(self.view)
        for (video, *_), clip in zip(spans, clips, strict=True):
            if clip.shape[1] != width:
                raise InputError(
                    f"{self._features.path(video)}: features of width {clip.shape[1]}; the retriever takes {width} of "
                    f"{self.view} clips. Give those of the backbone that it was trained on."
                )
        return self._retriever.embed_features(torch.stack(clips), self.view)


class VideoSource:
    """Video files, looked at by any retriever, which gets the clips as a library gives them to it.

    Args:
        folder: as `VideoFolder`.
        retriever: which embeds.
        view: from where the clips are seen.
    """

    def __init__(self, folder: str | os.PathLike[str], retriever: Retriever, view: View) -> None:
        self.view: View = view
        self._videos = VideoFolder(Path(folder))
        self._retriever = retriever

    def embed(self, spans: Sequence[Span]) -> Tensor:
        """As `ClipSource.embed`."""
        return self._retriever.encode_video([self._clip(*span) for span in spans], self.view)

    def _clip(self, video: str, start: float, end: float) -> Clip:
        path = self._videos.path(video)
        if end <= start:  # no clip; of features, such a one gets a second too
            longest = probe(path).duration
            end = min(start + 1, longest) if start < longest else start + 1
        return Clip(path, start, end)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of a list of clips.

    Args:
        embeddings: of those that could be read `(N, D)`.
        kept: their places in the list, rising.
        failures: of each other one its place and the reason.
    """

    embeddings: Tensor
    kept: list[int]
    failures: dict[int, str]


def embed_clips(spans: Sequence[Span], source: ClipSource, progress: ProgressCallback | None = None) -> Embedded:
    """Embed clips; one that can't be read costs no other.

    Args:
        spans: the clips.
        source: where they are.
        progress: called after each portion.
    """
    parts: list[Tensor] = []
    kept: list[int] = []
    failures: dict[int, str] = {}
    for first in range(0, len(spans), CLIPS_PER_PASS):
        places = range(first, min(first + CLIPS_PER_PASS, len(spans)))
        try:
            parts.append(source.embed([spans[place] for place in places]))
            kept += places
        except InputError:  # one of them at least: each by itself
            for place in places:
                try:
                    parts.append(source.embed([spans[place]]))
                    kept.append(place)
                except InputError as error:
                    failures[place] = str(error)
        if progress is not None:
            progress(places[-1] + 1, len(spans), f"{source.view} clips")
    return Embedded(torch.cat(parts) if parts else torch.zeros(0, 0), kept, failures)
