"""A dual encoder of transformers as a retriever: CLIP, SigLIP, SigLIP 2 and X-CLIP, as they were trained, without more.

    clips → vision tower → features (N, F, W) → head → (N, D)          texts → text tower → (N, D)

**N** clips or texts, **F** frames, **W** width of a frame's features, **D** the embedding's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerBase, SiglipModel, XCLIPModel

from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model.cpu import fast_linears
from egoinstructor.model.device import place
from egoinstructor.model.revision import weights_revision
from egoinstructor.records import Clip
from egoinstructor.retriever.embeddings import unit
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.interface import FrameEncoder, FrameSpec, Retriever, RetrieverIdentity, View
from egoinstructor.retriever.loading import described, find_model, load_model, load_text_tokenizer, model_type
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.retriever.texts import TextReader
from egoinstructor.video.decode import Sampling

NUM_FRAMES = 8
"""Frames of a clip unless asked otherwise, where the model looks at each alone."""

CLIPS_PER_CALL = 64
"""Clips whose frames' features are held at once."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What differs between the dual encoders.

    Args:
        model: transformers' class.
        siglip: texts are prepared and read as SigLIP was trained.
        whole_clips: the vision tower looks at all frames of a clip together.
    """

    model: Any
    siglip: bool = False
    whole_clips: bool = False


KINDS: dict[str, _Kind] = {
    "clip": _Kind(CLIPModel),
    "siglip": _Kind(SiglipModel, siglip=True),  # SigLIP 2 at a fixed resolution too: its checkpoints say "siglip"
    "xclip": _Kind(XCLIPModel, whole_clips=True),
}
"""The dual encoders, by `model_type`."""


class DualEncoderRetriever(Retriever):
    """Zero-shot retrieval: a clip is the mean of its frames' embeddings, or for X-CLIP what the model makes of the clip.

    Args:
        model: a `CLIPModel`, `SiglipModel` or `XCLIPModel`, on the device that it is to run on.
        tokenizer: its tokenizer.
        preprocessing: as its vision tower was trained.
        num_frames: F; None for 8, and for X-CLIP for the model's own, which it can't change.
        sampling: the policy that chooses them.
        name: the kind of model and where it came from, for people.

    Raises:
        InputError: a number of frames that the model can't take.
        CheckpointError: preprocessing or a tokenizer that don't fit the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        preprocessing: Preprocessing,
        *,
        num_frames: int | None = None,
        sampling: Sampling = "segment_center",
        name: str = "",
    ) -> None:
        self.model = model.eval()
        config = self.model.config
        self._kind = KINDS[config.model_type]
        if self._kind.whole_clips:
            own = config.vision_config.num_frames
            if num_frames not in (None, own):
                raise InputError(f"num_frames={num_frames}: this model looks at clips of {own} frames and no others.")
            num_frames = own
        tower = TowerFrameEncoder(
            self.model.vision_model,
            preprocessing,
            num_frames=NUM_FRAMES if num_frames is None else num_frames,
            sampling=sampling,
            whole_clips=self._kind.whole_clips,
        )
        self._tower = tower
        self._frames: FrameEncoder = tower
        text = config.text_config
        self.texts = TextReader(tokenizer, text.max_position_embeddings, text.vocab_size, siglip=self._kind.siglip)
        self._dimension = int(text.projection_size if self._kind.siglip else config.projection_dim)
        self._name = name or str(config.model_type)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        num_frames: int | None = None,
        sampling: Sampling = "segment_center",
        preprocessing: Preprocessing | None = None,
    ) -> DualEncoderRetriever:
        """Open a checkpoint as its authors published it.

        Args:
            folder: folder or Hub id.
            device: where to run; None for the first accelerator, else the CPU.
            dtype: number format; None for the files' own.
            num_frames: frames a clip; None for 8, or the model's own where it is a video model.
            sampling: the policy that chooses them.
            preprocessing: None for the checkpoint's own.

        Raises:
            CheckpointError: the folder can't be used.
            InputError: a device or a number of frames that can't be used.
        """
        path = find_model(folder)
        kind = model_type(path)
        if kind not in KINDS:
            raise CheckpointError(f"{folder} holds a {kind!r}; a dual encoder must be one of {', '.join(KINDS)}.")
        model = place(load_model(KINDS[kind].model, path, dtype), device)
        return cls(
            model,
            load_text_tokenizer(path),
            preprocessing or Preprocessing.from_folder(path),
            num_frames=num_frames,
            sampling=sampling,
            name=described(folder, kind),
        )

    @cached_property
    def identity(self) -> RetrieverIdentity:
        """What decides the embeddings; the weights are digested when it is first asked for."""
        spec = self.frame_spec
        return RetrieverIdentity(
            self._name,
            weights_revision(self.model),
            self._dimension,
            spec.preprocessing,
            spec.num_frames,
            spec.sampling,
        )

    @property
    def options(self) -> dict[str, Any]:
        """See `Retriever`."""
        dtype = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        return {**super().options, "dtype": dtype, "preprocessing": self._tower.preprocessing.as_config()}

    # ------------------------------------------------------------------ clips

    @property
    def frame_spec(self) -> FrameSpec:
        """What a frame encoder must be to stand in for the retriever's own."""
        return self._tower.spec

    @property
    def frames(self) -> FrameEncoder:
        """Who turns clips into features `(N, F, W)`: the model's own vision tower, or one who stands in for it."""
        return self._frames

    @property
    def frame_encoders(self) -> tuple[FrameEncoder, ...]:
        """See `Retriever`."""
        return (self._frames,)

    def look_through(self, encoder: FrameEncoder) -> bool:
        """Take frames' features from another owner of the same vision tower. See `Retriever`."""
        if self._kind.whole_clips or encoder.spec != self.frame_spec:
            return False
        self._frames = encoder
        return True

    def encode_video(self, clips: Sequence[Clip], view: View = "exo") -> Tensor:
        """Embed clips `(N, D)`; both views are looked at alike. See `Retriever`."""
        parts = [torch.zeros(0, self._dimension)]
        for start in range(0, len(clips), CLIPS_PER_CALL):
            parts.append(self.embed_frames(self.frames.encode_clips(clips[start : start + CLIPS_PER_CALL])))
        return torch.cat(parts)

    def embed_frames(self, features: Tensor) -> Tensor:
        """The head: what the vision tower pooled of each frame `(N, F, W)` → embeddings `(N, D)`."""
        weight = next(self.model.parameters())
        features = features.to(weight.device, weight.dtype)
        with torch.inference_mode(), fast_linears(weight.device):
            projected = features if self._kind.siglip else self.model.visual_projection(features)  # (N, F, D)
            if self._kind.whole_clips:
                pooled = self.model.mit(projected).pooler_output
            else:
                # Of unit vectors, so that no frame counts for more because its vector is longer: a clip's similarity to
                # texts orders them as the mean of its frames' similarities does.
                pooled = F.normalize(projected.float(), dim=-1).mean(dim=1)
        return unit(pooled)

    # ------------------------------------------------------------------ texts

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts `(N, D)`. See `Retriever`.

        X-CLIP's prompt generator, which rewrites a text's embedding for each video that it is compared with, is left
        out: a library embeds its narrations before there is a query.
        """
        device = next(self.model.parameters()).device
        parts = [torch.zeros(0, self._dimension)]
        with torch.inference_mode(), fast_linears(device):
            for ids, mask in self.texts.batches(texts):
                # SigLIP reads its padding: it was trained without a mask.
                masked = {} if self._kind.siglip else {"attention_mask": mask.to(device)}
                parts.append(unit(self.model.get_text_features(ids.to(device), **masked).pooler_output))
        return torch.cat(parts)
