"""What every retriever is: clips and texts in, unit vectors in one space out, and an identity that libraries remember.

Shapes: **N** clips or texts, **B** batch, **F** frames, **W** width of a frame's features, **D** the embedding's width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.records import Clip
from egoinstructor.video.decode import Sampling

View = Literal["ego", "exo"]
"""From where a clip is seen: by whom acts, or by somebody else. A retriever may have an encoder for each."""


@dataclass(frozen=True, slots=True)
class RetrieverIdentity:
    """What decides a retriever's embeddings. Two with the same identity give the same ones.

    Args:
        name: the kind of model and where it came from, for people.
        revision: a digest of the weights.
        dimension: the embedding's width D.
        preprocessing: how a frame becomes pixel values.
        num_frames: frames of a clip.
        sampling: the policy that chooses them.
    """

    name: str
    revision: str
    dimension: int
    preprocessing: str
    num_frames: int
    sampling: Sampling

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def check_same(self, other: RetrieverIdentity, where: str) -> None:
        """Refuse another retriever than the one whose embeddings are kept; the name alone may differ.

        Raises:
            InputError: naming `where` the embeddings are and each part that differs.
        """
        mine, theirs = self.as_dict(), other.as_dict()
        differs = [f"{key} {mine[key]!r}, not {theirs[key]!r}" for key in mine if mine[key] != theirs[key]]
        if any(mine[key] != theirs[key] for key in mine if key != "name"):
            raise InputError(
                f"{where} was made with another retriever: {'; '.join(differs)}. Open it with the retriever that made it, "
                "or make a new library."
            )


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """What decides a frame encoder's features. Another encoder with the same spec gives the same ones.

    Args:
        revision: a digest of the tower's weights.
        preprocessing: how a frame becomes pixel values.
        num_frames: frames of a clip.
        sampling: the policy that chooses them.
    """

    revision: str
    preprocessing: str
    num_frames: int
    sampling: Sampling


class FrameEncoder(Protocol):
    """Frames → features, one vector a frame: the frozen backbone below a retriever's own head.

    It is looked through by clips rather than by pixels so that another owner of the same backbone (the captioner) can
    stand in and use one pass for both.
    """

    threads: int
    """Clips decoded at a time while the backbone encodes; whoever has more cores to give may raise it."""

    @property
    def spec(self) -> FrameSpec:
        """What decides the features."""

    def encode_clips(self, clips: Sequence[Clip]) -> Tensor:
        """Features `(N, F, W)` of clips.

        Raises:
            VideoError: a clip that can't be read.
        """


class Retriever(ABC):
    """Clips and texts → embeddings whose dot product is their similarity, between −1 and 1."""

    @property
    @abstractmethod
    def identity(self) -> RetrieverIdentity:
        """What decides the embeddings."""

    @property
    def options(self) -> dict[str, Any]:
        """What `open_retriever` must be told, beside where it lies, to open this one again; for JSON."""
        return {"num_frames": self.identity.num_frames, "sampling": self.identity.sampling}

    @abstractmethod
    def encode_video(self, clips: Sequence[Clip], view: View = "exo") -> Tensor:
        """Embed clips, decoding the next ones meanwhile.

        Args:
            clips: any number of them.
            view: from where they are seen.

        Returns:
            `(N, D)`, fp32 on the CPU, each row of length 1; a clip's row does not depend on the others.

        Raises:
            VideoError: a clip that can't be read.
        """

    def look_through(self, encoder: FrameEncoder) -> bool:
        """Take frames' features from another owner of the same backbone, whose pass then serves both.

        Returns:
            Whether it is the same backbone, looking at the same frames; if not, nothing changes.
        """
        return False

    @property
    def frame_encoders(self) -> tuple[FrameEncoder, ...]:
        """Who decodes its clips; none where it does so itself."""
        return ()

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: narrations or search queries.

        Returns:
            `(N, D)`, fp32 on the CPU, each row of length 1.

        Raises:
            InputError: an empty text.
        """
