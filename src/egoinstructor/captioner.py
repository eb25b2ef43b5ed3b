"""The spine: an ego clip in, with its references or a library to find them in; a caption out.

    decode → encode → retrieve → prompt → generate → Caption

One reading of `caption_batch` explains the product. A captioner holds no state of a request: several threads may use one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from egoinstructor.checkpoints.convert import load_original
from egoinstructor.checkpoints.loading import load
from egoinstructor.clip_encoder import ClipEncoder
from egoinstructor.errors import InputError, VideoError
from egoinstructor.library.places import entry_path
from egoinstructor.library.records import ClipEntry, Hit
from egoinstructor.library.references import Retrieval, find_references, gone
from egoinstructor.model.device import place
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import TRAINING, PromptPreset
from egoinstructor.model.quantization import quantize_int8
from egoinstructor.records import Caption, Clip, Dropped, Reference
from egoinstructor.retriever.interface import Retriever
from egoinstructor.retriever.opening import open_retriever
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.decode import Sampling

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

logger = logging.getLogger(__name__)

Query = tuple[Clip, Sequence[Reference]]
"""An ego clip and its references, most relevant first."""

Found = tuple[tuple[Reference, ...], tuple[Dropped, ...]]
"""References out of a library, most relevant first; and the hits that were passed over."""

SHOTS = 4
"""References looked for in a library unless another number is asked for: what the published model was trained with."""


class Captioner:
    """Captions ego clips with the help of references.

    Args:
        model: on the device that it is to run on.
        processor: its processor.
        cached_clips: how many encoded clips to keep for further calls (0.4 MB each at published size in fp32).
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
        self.encoder = ClipEncoder(self.model, processor, cached_clips=cached_clips)

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
        model = model if device_map else place(model, device)
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
        model = place(model, device)
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
            references: most relevant first; or none, and a `library` among the options.
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
        library: ExoLibrary | None = None,
        retrieval: Retrieval | None = None,
        num_frames: int | None = None,
        instruction: str | Sequence[str] | None = None,
        guide: Sequence[str | None] | None = None,
        blind: bool = False,
        preset: PromptPreset = TRAINING,
        legacy_video_order: bool = False,
        **generation: Any,
    ) -> list[Caption]:
        """Caption several ego clips at once; each distinct clip among queries and references is encoded once.

        Args:
            queries: ego clips, each with its references.
            shots: read only this many references, the most relevant; None for all, 0 for the query alone. With a
                library: look for this many, and read as many as it has; None for 4.
            library: where the references are found, opened with its retriever; the queries then bring none.
            retrieval: how they are looked for; None for the defaults.
            num_frames: frames a clip; None for the model's own.
            instruction: asked of every clip, or one for each query; None for the preset's.
            guide: for each query, another sample's caption to put first as text alone, or None: the form of an answer for
                a query without references.
            blind: show the model no clip at all, of queries and references alike; its prompt stays the same.
            preset: which of the original's ways to ask.
            legacy_video_order: hand the ego clip to the model *first* while the prompt has it last, as the published
                script did; only to reproduce its outputs.
            **generation: for `generate`: `num_beams`, `max_new_tokens`, `do_sample`, …

        Returns:
            One caption a query, in order.

        Raises:
            InputError: fewer references than shots, references beside a library, a prompt that does not fit, more or fewer
                instructions or guides than queries.
            VideoError: a clip that can't be read.
        """
        if not queries:
            return []
        frames = self.processor.num_frames if num_frames is None else num_frames
        passed_over: list[tuple[Dropped, ...]] = [()] * len(queries)
        if library is not None:
            if any(references for _, references in queries):
                raise InputError("both references and a library were given; give one of them.")
            clips = [clip for clip, _ in queries]
            found = self.find(clips, library, shots, retrieval, num_frames=frames, sampling=preset.sampling)
            queries = [(clip, references) for clip, (references, _) in zip(clips, found, strict=True)]
            passed_over = [others for _, others in found]
            shots = None  # a library may have fewer
        chosen = [_choose(clip, references, shots) for clip, references in queries]
        reserve = generation.get("max_new_tokens") or self.model.generation_config.max_new_tokens
        asked = [instruction] * len(queries) if instruction is None or isinstance(instruction, str) else instruction
        guides = [None] * len(queries) if guide is None else guide
        for name, given in (("instruction", asked), ("guide", guides)):
            if len(given) != len(queries):
                raise InputError(
                    f"{len(given)} values of {name} for {len(queries)} queries; give one for each, or none."
                )
        written = [
            self.processor.prompt(
                [r.narration for r in references], instruction=question, guide=form, preset=preset, reserve=reserve
            )
            for references, question, form in zip(chosen, asked, guides, strict=True)
        ]
        read = [tuple(references[i] for i in text.kept) for references, text in zip(chosen, written, strict=True)]

        latents = None if blind else self._latents(queries, read, frames, preset.sampling, legacy_video_order)
        batch = self.processor(written, latents=latents).to(self.model.device)
        sequences = self.model.generate(**batch, **generation)
        return [
            Caption(
                text=text,
                clip=query,
                references=references,
                dropped=(*(_too_long(all_[i]) for i in prompt.dropped), *others),
                prompt=prompt.text,
            )
            for text, (query, _), references, all_, prompt, others in zip(
                self.processor.captions(sequences), queries, read, chosen, written, passed_over, strict=True
            )
        ]

    def _latents(
        self,
        queries: Sequence[Query],
        read: Sequence[Sequence[Reference]],
        num_frames: int,
        sampling: Sampling,
        query_first: bool,
    ) -> list[list[Tensor]]:
        """For each query the latents `(L, V)` of its clips, in the prompt's order; what references bring is not encoded."""
        given = {r.clip: r.latents for references in read for r in references if r.latents is not None}
        wanted = [query for query, _ in queries] + [r.clip for references in read for r in references]
        missing = [clip for clip in wanted if clip not in given]
        latents = given | self.encode(missing, num_frames=num_frames, sampling=sampling)
        clips = []
        for (query, _), references in zip(queries, read, strict=True):
            order = [r.clip for r in references]
            order = [query, *order] if query_first else [*order, query]
            clips.append([latents[clip].to(self.model.device) for clip in order])
        return clips

    @torch.inference_mode()
    def find(
        self,
        clips: Sequence[Clip],
        library: ExoLibrary,
        shots: int | None = None,
        retrieval: Retrieval | None = None,
        *,
        num_frames: int | None = None,
        sampling: Sampling = TRAINING.sampling,
    ) -> list[Found]:
        """The references of each ego clip out of a library, their latents with them; and the hits that were passed over.

        Args:
            clips: egocentric.
            library: opened with its retriever.
            shots: references for each; None for 4. A library may have fewer.
            retrieval: how they are looked for; None for the defaults.
            num_frames: frames a clip; None for the model's own.
            sampling: the policy that chooses them.

        Raises:
            InputError: a library without its retriever, or a negative number of shots.
            VideoError: an ego clip that can't be read.
        """
        shots = SHOTS if shots is None else shots
        if shots < 0:
            raise InputError(f"{shots} shots; ask for 0 (the clip alone) or more.")
        key, roots = self.encoder.latents_key(num_frames, sampling), library.sources()
        retriever = library.need_retriever()
        embedded = retriever.encode_video(clips, view="ego") if shots > 0 else None
        broken: dict[str, str] = {}
        while True:  # until no clip that was chosen turns out to be unreadable
            selections = find_references(
                library, clips, shots, retrieval, latents_key=key, broken=broken, queries=embedded
            )
            entries = [hit.entry for selection in selections for hit in selection.chosen]
            latents, failures = self.read_entries(library, entries, num_frames=num_frames, sampling=sampling)
            if not failures:
                break
            broken |= failures

        def reference(hit: Hit) -> Reference:
            entry = hit.entry
            return Reference(entry_path(entry, roots), entry.text, entry.start, entry.end, hit.score, latents[entry.id])

        def dropped(hit: Hit, reason: str) -> Dropped:
            entry = hit.entry
            return Dropped(Clip(entry_path(entry, roots), entry.start, entry.end), entry.text, reason, hit.score)

        return [
            (
                tuple(reference(hit) for hit in selection.chosen),
                tuple(dropped(hit, why) for hit, why in selection.passed_over),
            )
            for selection in selections
        ]

    def read_entries(
        self,
        library: ExoLibrary,
        entries: Sequence[ClipEntry],
        *,
        num_frames: int | None = None,
        sampling: Sampling = TRAINING.sampling,
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Latents of a library's clips, by id: those that it keeps, and the others encoded now and kept there.

        Fresh ones are rounded as kept ones are, so that a clip's first caption is that of every later time.

        Args:
            library: that has the clips.
            entries: the clips; duplicates are fine.
            num_frames: frames a clip; None for the model's own.
            sampling: the policy that chooses them.

        Returns:
            Id → latents `(L, V)` in the model's number format; and of clips that can't be read, id → the reason.
        """
        key, roots = self.encoder.latents_key(num_frames, sampling), library.sources()
        wanted = {entry.id: entry for entry in entries}
        latents = library.latents(list(wanted), key)
        clips: dict[str, Clip] = {}
        failures: dict[str, str] = {}
        for id, entry in wanted.items():
            if id not in latents:
                path = entry_path(entry, roots)
                if (reason := gone(library, entry, path)) is not None:
                    failures[id] = reason
                else:
                    clips[id] = Clip(path, entry.start, entry.end)
        fresh, broken = self._encode_readable(clips, num_frames, sampling)
        if fresh:
            _keep(library, fresh, key)
        return {id: one.to(self.model.dtype) for id, one in (latents | fresh).items()}, failures | broken

    def _encode_readable(
        self, clips: Mapping[str, Clip], num_frames: int | None, sampling: Sampling
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Latents in bf16 of the clips that can be read, and why the others can't, by id."""
        try:
            encoded = self.encode(list(clips.values()), num_frames=num_frames, sampling=sampling)
            return {id: encoded[clip].to(torch.bfloat16) for id, clip in clips.items()}, {}
        except VideoError as error:
            if len(clips) == 1:
                return {}, dict.fromkeys(clips, str(error))
        fresh: dict[str, Tensor] = {}
        failures: dict[str, str] = {}
        for id, clip in clips.items():
            read, failed = self._encode_readable({id: clip}, num_frames, sampling)
            fresh |= read
            failures |= failed
        return fresh, failures

    def encode(
        self, clips: Sequence[Clip], *, num_frames: int | None = None, sampling: Sampling = TRAINING.sampling
    ) -> dict[Clip, Tensor]:
        """Latents `(L, V)` of each distinct clip, as `ClipEncoder.encode` gives them."""
        return self.encoder.encode(clips, num_frames=num_frames, sampling=sampling)

    def open_retriever(self, clip: str | Path) -> Retriever:
        """CLIP as this captioner looks through it: one vision pass of a clip then serves retrieval and captioning.

        Args:
            clip: folder or Hub id of the CLIP that the captioner was built on, for its text tower and projections.

        Raises:
            CheckpointError: the folder can't be used.
            InputError: another CLIP, or a captioner in int8.
        """
        weight = next(self.model.vision_encoder.parameters())
        retriever = open_retriever(
            clip,
            device=weight.device,
            dtype=weight.dtype,
            num_frames=self.processor.num_frames,
            sampling=TRAINING.sampling,
            preprocessing=Preprocessing.of_captioner(self.processor),
        )
        if not retriever.look_through(self.encoder):
            raise InputError(
                f"the vision tower of {clip} is not this captioner's. Give the CLIP that the captioner was built on, with a "
                "captioner that is not in int8; or open it as a retriever of its own."
            )
        return retriever

    @property
    def latents_key(self) -> str:
        """What a library keeps this captioner's latents under."""
        return self.encoder.latents_key()


def _keep(library: ExoLibrary, latents: Mapping[str, Tensor], key: str) -> None:
    """Keep latents in a library, if it can be written."""
    try:
        library.put_latents(latents, key)
    except InputError as error:
        logger.warning("latents of %d clips could not be kept, and will be computed again: %s", len(latents), error)


def _too_long(reference: Reference) -> Dropped:
    return Dropped(reference.clip, reference.narration, "the prompt would be too long", reference.score)


def _choose(clip: Clip, references: Sequence[Reference], shots: int | None) -> tuple[Reference, ...]:
    """The most relevant `shots` references."""
    if shots is not None and not 0 <= shots <= len(references):
        raise InputError(
            f"{shots} shots for {clip.name}, which has {len(references)} references; "
            "ask for 0 (the clip alone) up to that many, or give more references."
        )
    return tuple(references[:shots])
