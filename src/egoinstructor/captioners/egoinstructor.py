"""The spine: an ego clip in, with its references or a library to find them in; a caption out.

    decode → encode → retrieve → prompt → generate → Caption

One reading of `caption_batch` explains the product. A captioner holds no state of a request: several threads may use one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from egoinstructor.captioners.clip_encoder import ClipEncoder
from egoinstructor.captioners.reference_finder import SHOTS, FoundReferences, ReferenceFinder
from egoinstructor.checkpoints.convert import load_original
from egoinstructor.checkpoints.loading import find_captioner, load
from egoinstructor.errors import InputError
from egoinstructor.library.records import ClipEntry
from egoinstructor.library.references import Retrieval
from egoinstructor.model.calibration import Calibration
from egoinstructor.model.device import place
from egoinstructor.model.likeliest import all_references, likeliest_of, reference_subsets
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import TRAINING, PromptPreset
from egoinstructor.model.quantization import quantize_int8
from egoinstructor.model.requests import Query, Request, make_requests, with_some_references
from egoinstructor.model.scores import WANTED, caption_scores
from egoinstructor.model.streaming import texts_and_result
from egoinstructor.records import Caption, Clip, Dropped, Frames, Reference
from egoinstructor.retriever.interface import Retriever
from egoinstructor.streaming.captions import MAX_LATENCY, LiveCaptions
from egoinstructor.streaming.windows import NOMINAL_RATE, SECONDS, LiveFrames, WindowCutter
from egoinstructor.video.decode import Sampling

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

__all__ = ["SHOTS", "Captioner", "FoundReferences", "Query"]


class Captioner:
    """Captions ego clips with the help of references.

    Args:
        model: on the device that it is to run on.
        processor: its processor.
        cached_clips: how many encoded clips to keep for further calls (0.4 MB each at published size in fp32).
        calibration: what a caption's score says of its being right; None where that was not measured.
    """

    def __init__(
        self,
        model: EgoInstructorForConditionalGeneration,
        processor: EgoInstructorProcessor,
        *,
        cached_clips: int = 256,
        calibration: Calibration | None = None,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.calibration = calibration
        self.encoder = ClipEncoder(self.model, processor, cached_clips=cached_clips)
        self._finder = ReferenceFinder(self.encoder, self.model.dtype)

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
        path = find_captioner(folder)
        calibration = Calibration.from_folder(path)
        model, processor = load(path, dtype=dtype, attn_implementation=attn_implementation, device_map=device_map)
        model = model if device_map else place(model, device)
        return cls(quantize_int8(model) if int8 else model, processor, calibration=calibration)

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
        video: str | Path | bytes | Frames,
        references: Sequence[Reference] = (),
        *,
        start: float | None = None,
        end: float | None = None,
        **options: Any,
    ) -> Caption:
        """Caption one ego clip.

        Args:
            video: file, folder of pieces, encoded bytes, or frames.
            references: most relevant first; or none, and a `library` among the options.
            start: seconds; None for the start of the video.
            end: seconds; None for its end.
            **options: as `caption_batch` takes them.

        Raises:
            InputError: as `caption_batch`.
        """
        clip = Clip(video, start, end)  # type: ignore[arg-type]  # Clip makes a path of a string
        return self.caption_batch([(clip, references)], **options)[0]

    def caption_stream(
        self,
        video: str | Path | bytes | Frames,
        references: Sequence[Reference] = (),
        *,
        start: float | None = None,
        end: float | None = None,
        **options: Any,
    ) -> Iterator[str | Caption]:
        """Caption one ego clip, greedily, and show the text as its tokens come.

        Whoever takes no more of it stops the generation at the next token. Work starts when the first is asked for.

        Args:
            video: as in `caption`.
            references: as in `caption`.
            start: as in `caption`.
            end: as in `caption`.
            **options: as `caption_batch` takes them, but beams.

        Yields:
            The text so far, whenever there is more of it; at last the `Caption`, as `caption(…, num_beams=1)` gives it.

        Raises:
            InputError: beams, or as `caption_batch`.
            VideoError: as `caption_batch`.
        """
        if options.setdefault("num_beams", 1) != 1:
            raise InputError(
                f"num_beams={options['num_beams']}: what beams say is known at the end only. Leave it out, or use caption()."
            )
        if options.get("likeliest"):
            raise InputError("likeliest=True: which caption that is is known at the end only. Use caption().")
        query: Query = (Clip(video, start, end), references)  # type: ignore[arg-type]  # Clip makes a path of a string

        def write(watched: dict[str, Any]) -> Caption:
            return self.caption_batch([query], **{**options, **watched})[0]

        return texts_and_result(write, lambda tokens: self.processor.captions(torch.tensor([tokens]))[0])

    def stream(
        self,
        frames: LiveFrames,
        references: Sequence[Reference] = (),
        *,
        seconds: float = SECONDS,
        overlap: float = 0.0,
        rate: float = NOMINAL_RATE,
        name: str = "stream",
        max_latency: float | None = MAX_LATENCY,
        num_frames: int | None = None,
        preset: PromptPreset = TRAINING,
        **options: Any,
    ) -> LiveCaptions:
        """Caption a stream, window by window, while it comes.

        A thread takes the frames. Where they come faster than captions can be written, windows are left out rather than
        put off, and each caption says how many were.

        Args:
            frames: `(seconds, uint8 RGB (H, W, 3))` one by one, or `Frames` of several; of any source, as it comes.
            references: for every window, as in `caption`; or none, and a `library` among the options.
            seconds: length of a window.
            overlap: seconds that a window shares with the one before.
            rate: frames per second of the stream, where it is known: the windows' frames are then those of a file.
            name: the stream as messages and captions name it.
            max_latency: seconds that a window may wait for its turn. None: drop nothing, and let the stream wait instead.
            num_frames: frames a window; None for the model's own.
            preset: which of the original's ways to ask.
            **options: as `caption_batch` takes them; greedy unless `num_beams` says otherwise.

        Returns:
            An iterator of `LiveCaption`, to be closed when it isn't used up (`with captioner.stream(…) as captions:`).

        Raises:
            InputError: a length, an overlap or a latency that is not allowed.
        """
        count = self.processor.num_frames if num_frames is None else num_frames
        cutter = WindowCutter(seconds, overlap, num_frames=count, policy=preset.sampling, rate=rate, name=name)
        told = {"num_beams": 1, **options, "num_frames": count, "preset": preset}
        return LiveCaptions(
            frames, cutter, lambda window: self.caption(window, references, **told), max_latency=max_latency
        )

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
        likeliest: bool = False,
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
            likeliest: write each caption with all of its references, with each of them alone and with none, and keep the
                likeliest of all (`model.readings`): references are then read as far as they help.
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

        reserve = generation.get("max_new_tokens") or self.model.generation_config.max_new_tokens
        whole = make_requests(
            self.processor,
            queries,
            shots=shots,
            instruction=instruction,
            guide=guide,
            preset=preset,
            reserve=reserve,
        )
        ways = [
            reference_subsets([reference.score for reference in one.references])
            if likeliest
            else all_references(len(one.references))
            for one in whole
        ]
        turns = sorted((turn, row) for row, way in enumerate(ways) for turn in range(len(way)))
        tried = [
            with_some_references(self.processor, whole[row], ways[row][turn].places, preset=preset, reserve=reserve)
            for turn, row in turns
        ]
        latents = None if blind else self._latents(tried, frames, preset.sampling, legacy_video_order)
        written: list[list[tuple[Caption, float]]] = [[] for _ in queries]
        for first in range(0, len(tried), len(queries)):  # no more at once than there are queries
            part = slice(first, first + len(queries))
            captions = self._write(tried[part], None if latents is None else latents[part], generation)
            for (_, row), caption in zip(turns[part], captions, strict=True):
                written[row].append(caption)
        kept = [
            found[likeliest_of(way, [(caption.text, known) for caption, known in found])][0]
            for way, found in zip(ways, written, strict=True)
        ]
        return [
            replace(caption, dropped=(*one.dropped, *others))
            for caption, one, others in zip(kept, whole, passed_over, strict=True)
        ]

    def _write(
        self, asked: Sequence[Request], latents: list[list[Tensor]] | None, generation: dict[str, Any]
    ) -> list[tuple[Caption, float]]:
        """A caption of each query, and the logarithm of its whole text's probability."""
        batch = self.processor([one.prompt for one in asked], latents=latents).to(self.model.device)
        outputs = self.model.generate(**batch, **{**generation, **WANTED})
        texts = self.processor.captions(outputs.sequences)
        scores, lengths = caption_scores(outputs, batch["input_ids"].shape[1], self.processor.end_token_id)
        return [
            (
                Caption(
                    text=text,
                    clip=one.clip,
                    references=one.references,
                    prompt=one.prompt.text,
                    score=score,
                    confidence=None if self.calibration is None else self.calibration(score),
                ),
                score * length,
            )
            for one, text, score, length in zip(asked, texts, scores.tolist(), lengths.tolist(), strict=True)
        ]

    def _latents(
        self, asked: Sequence[Request], num_frames: int, sampling: Sampling, query_first: bool
    ) -> list[list[Tensor]]:
        """For each query the latents `(L, V)` of its clips, in the prompt's order; what references bring is not encoded."""
        given = {r.clip: r.latents for one in asked for r in one.references if r.latents is not None}
        wanted = [one.clip for one in asked] + [r.clip for one in asked for r in one.references]
        missing = [clip for clip in wanted if clip not in given]
        latents = given | self.encode(missing, num_frames=num_frames, sampling=sampling)
        clips = []
        for one in asked:
            order = [r.clip for r in one.references]
            order = [one.clip, *order] if query_first else [*order, one.clip]
            clips.append([latents[clip].to(self.model.device) for clip in order])
        return clips

    def find(
        self,
        clips: Sequence[Clip],
        library: ExoLibrary,
        shots: int | None = None,
        retrieval: Retrieval | None = None,
        *,
        num_frames: int | None = None,
        sampling: Sampling = TRAINING.sampling,
    ) -> list[FoundReferences]:
        """The references of each ego clip out of a library, as `ReferenceFinder.find` gives them."""
        return self._finder.find(clips, library, shots, retrieval, num_frames=num_frames, sampling=sampling)

    def read_entries(
        self,
        library: ExoLibrary,
        entries: Sequence[ClipEntry],
        *,
        num_frames: int | None = None,
        sampling: Sampling = TRAINING.sampling,
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Latents of a library's clips, as `ReferenceFinder.read_entries` gives them."""
        return self._finder.read_entries(library, entries, num_frames=num_frames, sampling=sampling)

    def encode(
        self, clips: Sequence[Clip], *, num_frames: int | None = None, sampling: Sampling = TRAINING.sampling
    ) -> dict[Clip, Tensor]:
        """Latents `(L, V)` of each distinct clip, as `ClipEncoder.encode` gives them."""
        return self.encoder.encode(clips, num_frames=num_frames, sampling=sampling)

    def open_retriever(self, clip: str | Path) -> Retriever:
        """CLIP as this captioner looks through it, as `ClipEncoder.open_retriever` gives it."""
        return self.encoder.open_retriever(clip)

    @property
    def latents_key(self) -> str:
        """What a library keeps this captioner's latents under."""
        return self.encoder.latents_key()
