"""The paper's retriever, whole: a frozen backbone for each view, the cross-view model on top, and a tokenizer.

    clips → backbone of their view → features (N, F, W) → CrossViewModel → (N, D)          texts → CrossViewModel → (N, D)

**N** clips or texts, **F** frames, **W** width of a frame's features, **D** the embedding's width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from egoinstructor.checkpoints.reading import read_json
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.fields import as_object, check, only
from egoinstructor.model.cpu import fast_linears
from egoinstructor.model.device import place
from egoinstructor.model.revision import weights_revision
from egoinstructor.records import Clip, EncodedVideo, Frames
from egoinstructor.retriever.cross_view import CrossViewModel
from egoinstructor.retriever.embeddings import unit
from egoinstructor.retriever.features import seen
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.interface import FrameEncoder, Retriever, RetrieverIdentity, View
from egoinstructor.retriever.loading import described, find_model, load_model, load_text_tokenizer, model_type
from egoinstructor.retriever.texts import TextReader
from egoinstructor.video.decode import Sampling, probe
from egoinstructor.video.identity import content_identity
from egoinstructor.video.in_memory import InMemoryVideo

SETTINGS = "retriever.json"
"""Beside the model's `config.json`: how frames are chosen, and which backbones they go through."""

CLIPS_PER_PASS = 256
"""Clips whose features go through the model at once: bounds memory, not speed."""

VIEWS: tuple[View, ...] = get_args(View)


class CrossViewRetriever(Retriever):
    """Embeds ego clips, exo clips and texts in the space that the cross-view model learned.

    Args:
        model: on the device that it is to run on.
        tokenizer: that its text tower was trained with.
        ego: backbone of ego clips; None where features come from elsewhere, for `embed_features`.
        exo: backbone of exo clips; may be the same object.
        num_frames: frames of a clip where there is no backbone to say so; None for the model's own.
        sampling: how they are chosen where there is no backbone to say so.
        name: where it came from, for people.

    Raises:
        CheckpointError: a backbone or a tokenizer that does not fit the model.
        InputError: backbones that look at different frames.
    """

    def __init__(
        self,
        model: CrossViewModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        ego: TowerFrameEncoder | None = None,
        exo: TowerFrameEncoder | None = None,
        num_frames: int | None = None,
        sampling: Sampling = "segment_center",
        name: str = "cross-view",
    ) -> None:
        config = model.config
        if tokenizer.eos_token_id != config.eos_token_id:
            raise CheckpointError(
                f"the tokenizer ends texts with token {tokenizer.eos_token_id}, the model with {config.eos_token_id}. "
                "Give the tokenizer that it was trained with."
            )
        self.backbones: dict[View, TowerFrameEncoder | None] = {"ego": ego, "exo": exo}
        self._frames: dict[View, FrameEncoder | None] = {**self.backbones}
        for view, encoder in self.backbones.items():
            if encoder is not None and encoder.width != config.frame_width(view):
                raise CheckpointError(
                    f"the {view} backbone gives features of width {encoder.width}; the model takes "
                    f"{config.frame_width(view)}. Give the backbone that it was trained with."
                )
        frames = {(encoder.num_frames, encoder.sampling) for encoder in (ego, exo) if encoder is not None}
        if len(frames) > 1:
            raise InputError(f"the backbones look at different frames, {sorted(frames)}; open both alike.")
        self.num_frames: int = config.num_frames if num_frames is None else num_frames
        self.sampling: Sampling = sampling
        if frames:
            self.num_frames, self.sampling = frames.pop()
        if self.num_frames < 1:
            raise InputError(f"num_frames={self.num_frames}: at least 1 frame must be looked at.")
        self.model = model.eval()
        self.texts = TextReader(tokenizer, config.text_context, config.text_vocab_size)
        self._name = name
        self._given: dict[str, str] = {}  # backbones in place of the folder's

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
        num_frames: int | None = None,
        sampling: Sampling | None = None,
        ego_backbone: str | Path | None = None,
        exo_backbone: str | Path | None = None,
    ) -> CrossViewRetriever:
        """Open what `save_pretrained` or `convert_published` wrote.

        Args:
            folder: folder or Hub id.
            device: where to run; None for the first accelerator, else the CPU.
            dtype: number format of the model and its backbones, or of each of "model", "ego" and "exo"; None, or a part
                that is not named, for the files' own.
            num_frames: frames a clip; None for what the folder says. Any number works.
            sampling: the policy that chooses them; None for what the folder says.
            ego_backbone: folder or Hub id; None for what the folder says, which may be none.
            exo_backbone: as `ego_backbone`.

        Raises:
            CheckpointError: a folder that can't be used.
            InputError: a device that can't be used, or a `retriever.json` that says something else.
        """
        path = find_model(folder)
        kind = model_type(path)
        if kind != CrossViewModel.config_class.model_type:
            raise CheckpointError(
                f"{folder} holds a {kind!r}; a cross-view retriever is a {CrossViewModel.config_class.model_type!r}."
            )
        settings = _Settings.read(path)
        formats = {part: dtype.get(part) if isinstance(dtype, Mapping) else dtype for part in ("model", *VIEWS)}
        model = place(load_model(CrossViewModel, path, formats["model"]), device)
        num_frames = settings.num_frames if num_frames is None else num_frames
        sampling = sampling or settings.sampling
        given: dict[View, str | Path | None] = {"ego": ego_backbone, "exo": exo_backbone}
        opened: dict[tuple[str, torch.dtype | None], TowerFrameEncoder] = {}
        backbones: dict[View, TowerFrameEncoder | None] = {}
        for view in VIEWS:
            where = given[view] or settings.backbone(view, path)
            if where is None:
                backbones[view] = None
                continue
            key = (str(where), formats[view])
            if key not in opened:
                opened[key] = TowerFrameEncoder.from_pretrained(
                    where, num_frames=num_frames, sampling=sampling, device=model.device, dtype=formats[view]
                )
            backbones[view] = opened[key]
        name = described(folder, "cross-view")
        retriever = cls(
            model, load_text_tokenizer(path), **backbones, num_frames=num_frames, sampling=sampling, name=name
        )
        retriever._given = {
            f"{view}_backbone": _lasting(str(where)) for view, where in given.items() if where is not None
        }
        return retriever

    def save_pretrained(self, out: str | Path, *, backbones: bool = False) -> None:
        """Write one folder, which appears under its name when it is whole.

        Args:
            out: the folder to make; it must not exist, or be empty.
            backbones: write the backbones into it too; without, it names the folder or Hub id that each came from.

        Raises:
            CheckpointError: the folder is in use or can't be written, or a backbone came from nowhere.
        """
        with whole_folder(out) as folder:
            named: dict[str, str | None] = {}
            for view, encoder in self.backbones.items():
                if encoder is None:
                    named[view] = None
                elif not backbones:
                    named[view] = _where(encoder, view)
                elif view == "exo" and encoder is self.backbones["ego"]:
                    named[view] = named["ego"]
                else:
                    named[view] = f"{view}_backbone"
                    encoder.save_pretrained(folder / f"{view}_backbone")
            self.model.save_pretrained(folder)
            self.texts.tokenizer.save_pretrained(folder)
            settings = {"num_frames": self.num_frames, "sampling": self.sampling, "backbones": named}
            (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")

    @cached_property
    def identity(self) -> RetrieverIdentity:
        """What decides the embeddings; the weights are digested when it is first asked for."""
        parts = {view: "none" if encoder is None else encoder.revision for view, encoder in self.backbones.items()}
        ways = {
            view: "features from elsewhere" if encoder is None else str(encoder.preprocessing)
            for view, encoder in self.backbones.items()
        }
        said = f"{weights_revision(self.model)} {parts['ego']} {parts['exo']}"
        return RetrieverIdentity(
            name=self._name,
            revision=hashlib.blake2b(said.encode(), digest_size=16).hexdigest(),
            dimension=self.model.config.projection_dim,
            preprocessing=ways["ego"] if ways["ego"] == ways["exo"] else f"ego {ways['ego']}; exo {ways['exo']}",
            num_frames=self.num_frames,
            sampling=self.sampling,
        )

    @property
    def options(self) -> dict[str, Any]:
        """See `Retriever`. One number format, or where they differ that of each part; backbones that were given."""
        dtypes = {"model": self.model.dtype}
        dtypes |= {view: next(own.tower.parameters()).dtype for view, own in self.backbones.items() if own is not None}
        formats = {part: str(dtype).removeprefix("torch.") for part, dtype in dtypes.items()}
        one = len(set(formats.values())) == 1
        return {**super().options, "dtype": formats["model"] if one else formats, **self._given}

    def look_through(self, encoder: FrameEncoder) -> bool:
        """Take frames' features from another owner of a view's backbone. See `Retriever`."""
        shared = [view for view, own in self.backbones.items() if own is not None and own.spec == encoder.spec]
        self._frames |= dict.fromkeys(shared, encoder)
        return bool(shared)

    @property
    def frame_encoders(self) -> tuple[FrameEncoder, ...]:
        """See `Retriever`."""
        return tuple(encoder for encoder in self._frames.values() if encoder is not None)

    def encode_video(self, clips: Sequence[Clip], view: View = "exo") -> Tensor:
        """Embed clips `(N, D)`; of short ones more is looked at, as in training (`features.seen`). See `Retriever`.

        Raises:
            InputError: an unknown view, or one without a backbone.
            VideoError: a clip that can't be read.
        """
        encoder = self._frames[_known(view)]
        if encoder is None:
            raise InputError(
                f"this retriever has no {view} backbone to see clips with. Open it with {view}_backbone=, or embed "
                "features that were computed elsewhere (embed_features)."
            )
        parts = [torch.zeros(0, self.model.config.projection_dim)]
        for start in range(0, len(clips), CLIPS_PER_PASS):
            some = [seen_clip(clip, view) for clip in clips[start : start + CLIPS_PER_PASS]]
            parts.append(self.embed_features(encoder.encode_clips(some), view))
        return torch.cat(parts)

    def embed_features(self, features: Tensor, view: View = "exo") -> Tensor:
        """Embed clips of which a backbone's features are at hand.

        Args:
            features: `(N, F, W)`, any number of frames.
            view: from where the clips are seen.

        Returns:
            `(N, D)`, as `encode_video`.

        Raises:
            InputError: another shape, or an unknown view.
        """
        _known(view)
        parts = [torch.zeros(0, self.model.config.projection_dim)]
        with torch.inference_mode(), fast_linears(self.model.device):
            parts += [
                unit(self.model.embed_video(some.to(self.model.device), view))
                for some in features.split(CLIPS_PER_PASS)
            ]
        return torch.cat(parts)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts `(N, D)`. See `Retriever`."""
        device = self.model.device
        parts = [torch.zeros(0, self.model.config.projection_dim)]
        with torch.inference_mode(), fast_linears(device):
            for ids, mask in self.texts.batches(texts):
                parts.append(unit(self.model.embed_text(ids.to(device), mask.to(device))))
        return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What stands in `retriever.json`."""

    num_frames: int
    sampling: Sampling
    backbones: dict[str, str | None]

    @classmethod
    def read(cls, folder: Path) -> _Settings:
        file = folder / SETTINGS
        settings = only(read_json(file), ("num_frames", "sampling", "backbones"), str(file))
        frames, sampling, backbones = (settings.get(key) for key in ("num_frames", "sampling", "backbones"))
        check(isinstance(frames, int), frames, f"{file}.num_frames", "a whole number")
        check(sampling in get_args(Sampling), sampling, f"{file}.sampling", " or ".join(get_args(Sampling)))
        named = as_object(backbones, f"{file}.backbones")
        for view, where in named.items():
            check(
                where is None or isinstance(where, str), where, f"{file}.backbones.{view}", "a folder, Hub id or null"
            )
        return cls(int(frames or 0), cast(Sampling, sampling), only(named, VIEWS, f"{file}.backbones"))

    def backbone(self, view: View, folder: Path) -> str | Path | None:
        """Where a view's backbone is: inside the folder, or another folder or Hub id; None if there is none."""
        named = self.backbones.get(view)
        if named is None:
            return None
        return folder / named if (folder / named).is_dir() else named


def _where(encoder: TowerFrameEncoder, view: View) -> str:
    """What `retriever.json` calls a backbone that is not saved with it."""
    if not encoder.source:
        raise CheckpointError(
            f"the {view} backbone came from no folder or Hub id; save the retriever with backbones=True."
        )
    return _lasting(encoder.source)


def _lasting(where: str) -> str:
    """The same place whatever the working folder is."""
    return str(Path(where).resolve()) if Path(where).is_dir() else where


def seen_clip(clip: Clip, view: View) -> Clip:
    """What is looked at of a clip, within its video. One without an end is none that was cut short."""
    if clip.end is None:
        return clip
    given = (clip.start or 0.0, clip.end)
    start, end = seen(*given, view)
    if (start, end) == given:
        return clip
    video = clip.video
    first = 0.0
    if isinstance(video, Frames):
        first, longest = InMemoryVideo(video).span
    else:
        longest = probe(video).duration if isinstance(video, bytes) else _duration(video, content_identity(video))
    # A wrong time stays one, and is an error when the clip is read.
    if given[0] >= longest:
        return clip
    return Clip(video, max(start, min(given[0], first)), min(end, max(longest, clip.end)))


@lru_cache(maxsize=65536)
def _duration(video: EncodedVideo, content: tuple[str | int, ...]) -> float:
    """Seconds of a file, for as long as its content is the same."""
    return probe(video).duration


def _known(view: View) -> View:
    if view not in VIEWS:
        raise InputError(f"view={view!r}: choose from {', '.join(VIEWS)}.")
    return view
