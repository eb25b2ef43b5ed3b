"""The spine: an ego clip and its references in, a caption out.

    decode → encode → prompt → generate → Caption

One reading of `caption_batch` explains the product. A captioner holds no state of a request: several threads may use one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from egoinstructor.checkpoints.convert import load_original
from egoinstructor.checkpoints.loading import load
from egoinstructor.errors import InputError
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import TRAINING, PromptPreset
from egoinstructor.model.quantization import quantize_int8
from egoinstructor.records import Caption, Clip, Reference
from egoinstructor.video.ahead import ahead
from egoinstructor.video.decode import Sampling, load_video
from egoinstructor.video.identity import content_identity

Query = tuple[Clip, Sequence[Reference]]
"""An ego clip and its references, most relevant first."""


class Captioner:
    """Captions ego clips with the help of references.

    Args:
        model: on the device that it is to run on.
        processor: its processor.
        cached_clips: how many clips' latents to keep for further calls (256 kB each at published size in fp32).
    """

    def __init__(
        self,
        model: EgoInstructorForConditionalGeneration,
        processor: EgoInstructorProcessor,
        *,
        cached_clips: int = 256,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self._latents = _LatentsCache(cached_clips)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        attn_implementation: str = "sdpa",
        device_map: str | dict[str, Any] | None = None,
        int8: bool = False,
    ) -> Captioner:
        """Open a converted model folder, or one on the Hub.

        Args:
            folder: folder or Hub id.
            device: where to run; None for the first accelerator, else the CPU.
            dtype: number format; None for the files' own.
            attn_implementation: "sdpa" or "eager".
            device_map: spread a large model over devices instead ("auto").
            int8: int8 linear layers in the vision encoder and the decoder; on a CPU.

        Raises:
            CheckpointError: the folder can't be used.
            InputError: a device that can't be used, or that has no int8.
        """
        model, processor = load(folder, dtype=dtype, attn_implementation=attn_implementation, device_map=device_map)
        model = model if device_map else _to_device(model, device)
        return cls(quantize_int8(model) if int8 else model, processor)

    @classmethod
    def from_original(
        cls,
        base: str | Path,
        captioner: str | Path | None,
        *,
        tokenizer: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        attn_implementation: str = "sdpa",
        int8: bool = False,
    ) -> Captioner:
        """Open the published pair as it is, without converting it first.

        Args:
            base: folder or Hub id of the OTTER base.
            captioner: EgoInstructor's file, or Hub id with `:file`.
            tokenizer: folder or Hub id; the published one if None.
            device: as in `from_pretrained`.
            dtype: as in `from_pretrained`.
            attn_implementation: as in `from_pretrained`.
            int8: as in `from_pretrained`.

        Raises:
            CheckpointError: the files can't be used.
            InputError: as in `from_pretrained`.
        """
        model, processor = load_original(
            base, captioner, tokenizer=tokenizer, dtype=dtype, attn_implementation=attn_implementation
        )
        model = _to_device(model, device)
        return cls(quantize_int8(model) if int8 else model, processor)

    def caption(
        self,
        video: str | Path | bytes,
        references: Sequence[Reference] = (),
        *,
        start: float | None = None,
        end: float | None = None,
        **options: Any,
    ) -> Caption:
        """Caption one ego clip.

        Args:
            video: file, folder of pieces, or encoded bytes.
            references: most relevant first.
            start: seconds; None for the start of the video.
            end: seconds; None for its end.
            **options: as `caption_batch` takes them.

        Raises:
            InputError: as `caption_batch`.
        """
        clip = Clip(video, start, end)  # type: ignore[arg-type]  # Clip makes a path of a string
        return self.caption_batch([(clip, references)], **options)[0]

    @torch.inference_mode()
    def caption_batch(
        self,
        queries: Sequence[Query],
        *,
        shots: int | None = None,
        num_frames: int | None = None,
        instruction: str | None = None,
        preset: PromptPreset = TRAINING,
        legacy_video_order: bool = False,
        **generation: Any,
    ) -> list[Caption]:
        """Caption several ego clips at once; each distinct clip among queries and references is encoded once.

        Args:
            queries: ego clips, each with its references.
            shots: read only this many references, the most relevant; None for all, 0 for the query alone.
            num_frames: frames a clip; None for the model's own.
            instruction: asked of every clip; None for the preset's.
            preset: which of the original's ways to ask.
            legacy_video_order: hand the ego clip to the model *first* while the prompt has it last, as the published
                script did; only to reproduce its outputs.
            **generation: for `generate`: `num_beams`, `max_new_tokens`, `do_sample`, …

        Returns:
            One caption a query, in order.

        Raises:
            InputError: fewer references than shots, a prompt that does not fit.
            VideoError: a clip that can't be read.
        """
        if not queries:
            return []
        chosen = [_choose(clip, references, shots) for clip, references in queries]
        frames = self.processor.num_frames if num_frames is None else num_frames
        reserve = generation.get("max_new_tokens") or self.model.generation_config.max_new_tokens
        written = [
            self.processor.prompt(
                [r.narration for r in references], instruction=instruction, preset=preset, reserve=reserve
            )
            for references in chosen
        ]
        read = [tuple(references[i] for i in text.kept) for references, text in zip(chosen, written, strict=True)]

        given = {r.clip: r.latents for references in read for r in references if r.latents is not None}
        wanted = [query for query, _ in queries] + [r.clip for references in read for r in references]
        missing = [clip for clip in wanted if clip not in given]
        latents = given | self.encode(missing, num_frames=frames, sampling=preset.sampling)

        clips = []
        for (query, _), references in zip(queries, read, strict=True):
            order = [r.clip for r in references]
            order = [query, *order] if legacy_video_order else [*order, query]
            clips.append([latents[clip].to(self.model.device) for clip in order])
        batch = self.processor(written, latents=clips).to(self.model.device)
        sequences = self.model.generate(**batch, **generation)
        return [
            Caption(
                text=text,
                clip=query,
                references=references,
                dropped=tuple((all_[i], "the prompt would be too long") for i in prompt.dropped),
                prompt=prompt.text,
            )
            for text, (query, _), references, all_, prompt in zip(
                self.processor.captions(sequences), queries, read, chosen, written, strict=True
            )
        ]

    @torch.inference_mode()
    def encode(
        self, clips: Sequence[Clip], *, num_frames: int | None = None, sampling: Sampling = TRAINING.sampling
    ) -> dict[Clip, Tensor]:
        """Decode and encode each distinct clip once, the next ones being decoded meanwhile.

        Args:
            clips: duplicates are fine.
            num_frames: frames a clip; None for the model's own.
            sampling: the policy that chooses them.

        Returns:
            Clip → latents `(L, V)`, on the model's device.

        Raises:
            VideoError: a clip that can't be read.
        """
        frames = self.processor.num_frames if num_frames is None else num_frames
        keys = {
            clip: (content_identity(clip.video), clip.start, clip.end, frames, sampling)
            for clip in dict.fromkeys(clips)
        }
        found = {clip: self._latents.get(key) for clip, key in keys.items()}

        def pixels(clip: Clip) -> Tensor:
            return self.processor.pixels(
                load_video(clip.video, start=clip.start, end=clip.end, num_frames=frames, sampling=sampling)
            )

        missing = [clip for clip, latents in found.items() if latents is None]
        for clip, clip_pixels in zip(missing, ahead(pixels, missing), strict=True):  # (F, 3, H, W)
            latents = self.model.encode_videos(clip_pixels[None, None].to(self.model.device))[0, 0]  # (L, V)
            found[clip] = latents
            self._latents.put(keys[clip], latents)
        return {clip: latents for clip, latents in found.items() if latents is not None}


class _LatentsCache:
    """The latents of the clips used last; safe under threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[Any, ...]) -> Tensor | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[Any, ...], latents: Tensor) -> None:
        with self._lock:
            self._kept[key] = latents
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def _choose(clip: Clip, references: Sequence[Reference], shots: int | None) -> tuple[Reference, ...]:
    """The most relevant `shots` references."""
    if shots is not None and not 0 <= shots <= len(references):
        raise InputError(
            f"{shots} shots for {clip.name}, which has {len(references)} references; "
            "ask for 0 (the clip alone) up to that many, or give more references."
        )
    return tuple(references[:shots])


def _to_device(
    model: EgoInstructorForConditionalGeneration, device: str | torch.device | None
) -> EgoInstructorForConditionalGeneration:
    """Move to a device; None for the first accelerator, else the CPU."""
    if device is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} can't be used here: {error}. Try 'cpu'.") from error
