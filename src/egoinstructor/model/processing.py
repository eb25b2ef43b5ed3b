"""Clips and words → tensors; generated tokens → captions. The door at which clips and `<image>` tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BatchFeature, GenerationConfig, PreTrainedTokenizerBase, ProcessorMixin

from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model import prompt as prompts
from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.prompt import TRAINING, Prompt, PromptPreset
from egoinstructor.model.tokenizer import ANSWER, END_OF_CHUNK, IMAGE, PAD
from egoinstructor.records import Frames
from egoinstructor.video.transforms import PUBLISHED, Triple, to_pixel_values

PADDING_ROWS = 256
"""Embedding rows that a model may have beyond its tokenizer: MosaicML pads to a multiple of 128 and leaves room."""


class EgoInstructorProcessor(ProcessorMixin):
    """Tokenizer, frame preprocessing and prompt in one.

    Args:
        tokenizer: with the special tokens of `egoinstructor.model.tokenizer`.
        image_size: pixels a side.
        num_frames: frames that a clip is sampled to, unless asked otherwise.
        max_length: tokens of a prompt and its answer together.
        image_mean: of each channel, of values from 0 to 1.
        image_std: of each channel.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 224,
        num_frames: int = 32,
        max_length: int = 2048,
        image_mean: Triple = PUBLISHED.mean,
        image_std: Triple = PUBLISHED.std,
    ) -> None:
        super().__init__(tokenizer)
        self.image_size = image_size
        self.num_frames = num_frames
        self.max_length = max_length
        self.image_mean = image_mean
        self.image_std = image_std

    @property
    def answer_token_id(self) -> int:
        """The id of `<answer>`."""
        return self._id(ANSWER)

    @property
    def end_token_id(self) -> int:
        """The id of `<|endofchunk|>`, which ends a caption."""
        return self._id(END_OF_CHUNK)

    # ------------------------------------------------------------------ in

    def pixels(self, frames: Frames) -> Tensor:
        """Frames of one clip → normalised pixels `(F, 3, size, size)`."""
        return to_pixel_values(frames, size=self.image_size, mean=self.image_mean, std=self.image_std)

    def prompt(
        self,
        narrations: Sequence[str],
        *,
        instruction: str | None = None,
        caption: str | None = None,
        guide: str | None = None,
        preset: PromptPreset = TRAINING,
        reserve: int = 0,
    ) -> Prompt:
        """Write the prompt for one query.

        Args:
            narrations: of the references, most relevant first.
            instruction: asked of every clip; the preset's if None.
            caption: the query's answer, in training: eos is then put after it.
            guide: an answer of another sample that shows the form; no clip belongs to it.
            preset: which of the original's ways to ask.
            reserve: tokens to leave for the answer.

        Raises:
            InputError: a query that does not fit, or special tokens in a text.
        """
        eos = str(self.tokenizer.eos_token)
        return prompts.build(
            self._encode,
            narrations,
            instruction=instruction or preset.instruction,
            bos=str(self.tokenizer.bos_token) if preset.bos else "",
            caption=caption,
            guide=guide,
            eos=eos if caption is not None else "",
            max_length=self.max_length - reserve,
        )

    def query_of(self, prompt: Prompt) -> Prompt:
        """A training prompt with the query's answer, and what follows, left out."""
        end = len(prompt.input_ids) - prompt.input_ids[::-1].index(self.answer_token_id)
        text = prompt.text[: prompt.text.rindex(ANSWER) + len(ANSWER)]
        return Prompt(text, prompt.input_ids[:end], prompt.kept, prompt.dropped)

    def __call__(
        self,
        written: Sequence[Prompt],
        *,
        pixels: Sequence[Sequence[Tensor]] | None = None,
        latents: Sequence[Sequence[Tensor]] | None = None,
        labels: bool = False,
    ) -> BatchFeature:
        """Batch prompts with their clips: left-padded to generate, right-padded with labels to train.

        Args:
            written: one prompt a sample.
            pixels: for each sample, for each clip in the prompt's order, `(F, 3, H, W)`; or
            latents: for each sample, for each clip, `(L, V)`.
            labels: also say what is learned.

        Returns:
            `input_ids`, `attention_mask`, and `pixel_values` `(B, C, F, 3, H, W)` or `video_latents` `(B, C, L, V)`. A
            sample with fewer clips than another is filled up with zeros, which no token looks at.

        Raises:
            InputError: a sample whose clips and `<image>` tokens differ in number.
        """
        batch = self._pad([p.input_ids for p in written], left=not labels)
        for name, clips in (("pixel_values", pixels), ("video_latents", latents)):
            if clips is not None:
                batch[name] = self._stack(clips, written)
        if labels:
            batch["labels"] = prompts.answer_labels(
                batch["input_ids"],
                batch["attention_mask"],
                image_token_id=self._id(IMAGE),
                answer_token_id=self.answer_token_id,
                end_of_chunk_token_id=self.end_token_id,
            )
        return BatchFeature(batch)

    def _pad(self, rows: Sequence[Sequence[int]], left: bool) -> dict[str, Tensor]:
        """Rows of ids → `input_ids` and `attention_mask` `(B, T)`."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._id(PAD))
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            span = slice(longest - len(row), None) if left else slice(len(row))
            ids[i, span] = torch.tensor(row)
            mask[i, span] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def _stack(self, clips: Sequence[Sequence[Tensor]], written: Sequence[Prompt]) -> Tensor:
        """Clips of each sample → `(B, C, …)`, after counting them."""
        if len(clips) != len(written):
            raise InputError(f"{len(written)} prompts with clips for {len(clips)} samples; give clips for each prompt.")
        for i, (sample, text) in enumerate(zip(clips, written, strict=True)):
            places = text.input_ids.count(self._id(IMAGE))
            if places != len(sample):
                raise InputError(
                    f"sample {i} has {places} {IMAGE} in its prompt and {len(sample)} clips; each clip needs its own "
                    f"{IMAGE}, in the same order."
                )
        most = max(map(len, clips))
        filled = [[*sample, *[torch.zeros_like(sample[0])] * (most - len(sample))] for sample in clips]
        return torch.stack([torch.stack(sample) for sample in filled])

    # ------------------------------------------------------------------ out

    def captions(self, sequences: Tensor) -> list[str]:
        """Generated ids with their prompt in front `(B, T)` → captions."""
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return [prompts.parse_answer(text) for text in texts]

    # ------------------------------------------------------------------ with a model

    def generation_config(self) -> GenerationConfig:
        """The published generation settings. `<image>` is never generated: a caption holds no clip."""
        end = self.end_token_id
        return GenerationConfig(
            num_beams=3,
            max_new_tokens=64,
            no_repeat_ngram_size=3,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
            bad_words_ids=[self._encode(word) for word in prompts.BAD_WORDS],
            suppress_tokens=[self._id(IMAGE)],
        )

    def fit(self, config: EgoInstructorConfig) -> None:
        """Write this tokenizer's special ids into a model's configuration.

        Raises:
            CheckpointError: a tokenizer of another size than the model's vocabulary.
        """
        rows, tokens = config.text_config.vocab_size, len(self.tokenizer)
        if not tokens <= rows <= tokens + PADDING_ROWS:
            raise CheckpointError(
                f"the tokenizer has {tokens} tokens and the model's vocabulary {rows}; the model must have at least as "
                f"many, and at most {PADDING_ROWS} more. Give the tokenizer that the model was trained with."
            )
        config.image_token_id = self._id(IMAGE)
        config.answer_token_id = self._id(ANSWER)
        config.end_of_chunk_token_id = self.end_token_id
        config.pad_token_id = self._id(PAD)
        config.bos_token_id = self.tokenizer.bos_token_id

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))
