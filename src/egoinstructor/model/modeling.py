"""The video-conditioned language model.

    pixels (B, C, F, 3, H, W) → vision encoder → patches (B, C, F, P, V) → resampler → latents (B, C, L, V)
    text (B, T) + latents → decoder with gated cross-attention → logits (B, T, vocabulary)

B samples, C clips in a prompt (references, then the query), F frames, P patches, V vision width, L latents, T text tokens,
D text width. It knows nothing of files, prompts' wording or tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from egoinstructor.errors import InputError
from egoinstructor.model.cache import CaptionCache
from egoinstructor.model.configuration import IGNORE, EgoInstructorConfig
from egoinstructor.model.cpu import fast_linears
from egoinstructor.model.cross_attention import ClipView, GatedCrossAttention
from egoinstructor.model.decoder import MosaicDecoder
from egoinstructor.model.media_mask import clip_index, clip_mask
from egoinstructor.model.resampler import PerceiverResampler
from egoinstructor.model.vision import build_vision_encoder, frame_features, is_frozen, vision_width

FRAMES_PER_PASS = 64
"""Frames that go through the vision encoder at once when no gradient is needed: bounds memory, not speed."""


@dataclass
class CaptionOutput(ModelOutput):
    """What `forward` returns.

    Args:
        loss: mean over the labelled tokens, where labels were given.
        logits: `(B, T, vocabulary)`, or the last `logits_to_keep` of them; None where they are skipped.
        past_key_values: the cache, where one is used.
        video_latents: `(B, C, L, V)`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: CaptionCache | None = None
    video_latents: Tensor | None = None


class EgoInstructorForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """EgoInstructor's captioner (CVPR 2024, §4; reference: OTTER's `OtterForConditionalGeneration`)."""

    config_class = EgoInstructorConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # `forward` divides by `num_items_in_batch`, so that accumulation splits change nothing
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = [
        "CLIPEncoderLayer",
        "CLIPVisionEmbeddings",
        "ResNetEmbeddings",
        "ResNetStage",
        "ResamplerLayer",
        "DecoderLayer",
    ]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "decoder.embed_tokens.weight"}

    def __init__(self, config: EgoInstructorConfig) -> None:
        super().__init__(config)
        self.vision_encoder = build_vision_encoder(config.vision_config, config._attn_implementation)
        self.resampler = PerceiverResampler(config)
        self.decoder = MosaicDecoder(config)
        self.frames_per_pass: int | None = FRAMES_PER_PASS
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """New weights: OTTER's for the resampler, zero for the gates, normal for the decoder."""
        std = self.config.text_config.initializer_range
        if isinstance(module, PerceiverResampler):
            init.normal_(module.latents)
            init.normal_(module.frame_embeddings)
        elif isinstance(module, GatedCrossAttention):
            init.zeros_(module.attention_gate)
            init.zeros_(module.feed_forward_gate)
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings, tied to the head."""
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings."""
        self.decoder.embed_tokens = value

    def train(self, mode: bool = True) -> EgoInstructorForConditionalGeneration:
        """As of any module, but a frozen vision encoder stays in evaluation mode: statistics of batches never change it."""
        super().train(mode)
        if is_frozen(self.vision_encoder):
            self.vision_encoder.eval()
        return self

    # ------------------------------------------------------------------ clips

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Patch tokens `(B, C, F, P, V)`: the first half of `read_frames`."""
        return self.read_frames(pixel_values)[0]

    def read_frames(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """One pass of the vision encoder: what the captioner reads, and what a retriever turns into an embedding.

        Frames are encoded `frames_per_pass` at a time unless the encoder is being trained; None for all at once.

        Args:
            pixel_values: `(B, C, F, 3, H, W)`, normalised.

        Returns:
            Patch tokens `(B, C, F, P, V)`, and a vector a frame `(B, C, F, V)`, as `vision.frame_features` gives them.

        Raises:
            InputError: another shape, or more frames than the resampler has embeddings for.
        """
        if pixel_values.ndim != 6 or pixel_values.shape[3] != self.config.vision_config.num_channels:
            raise InputError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; it must be (samples, clips, frames, 3, height, width)."
            )
        num_frames = pixel_values.shape[2]
        if not 1 <= num_frames <= self.config.max_num_frames:
            raise InputError(
                f"{num_frames} frames a clip; this model takes 1 to {self.config.max_num_frames}. Sample fewer frames."
            )
        images = pixel_values.flatten(0, 2).to(self.vision_encoder.dtype)  # (B·C·F, 3, H, W)
        trained = torch.is_grad_enabled() and not is_frozen(self.vision_encoder)
        with torch.set_grad_enabled(trained):
            whole = trained or self.frames_per_pass is None or len(images) == 0
            chunks = [images] if whole else images.split(self.frames_per_pass)
            passes = [frame_features(self.vision_encoder, chunk) for chunk in chunks]
            patches = torch.cat([some for some, _ in passes])  # (B·C·F, P, V)
            pooled = torch.cat([some for _, some in passes])  # (B·C·F, V)
        return patches.unflatten(0, pixel_values.shape[:3]), pooled.unflatten(0, pixel_values.shape[:3])

    def encode_videos(self, pixel_values: Tensor) -> Tensor:
        """Pixels `(B, C, F, 3, H, W)` → latents `(B, C, L, V)`. A clip's latents depend on that clip alone."""
        with fast_linears(self.device):
            return self.resample(self.encode_frames(pixel_values))

    def resample(self, patches: Tensor) -> Tensor:
        """Patch tokens `(B, C, F, P, V)` → latents `(B, C, L, V)`."""
        return self.resampler(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

    # ------------------------------------------------------------------ text

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        video_latents: Tensor | None = None,
        patches: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: CaptionCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        num_items_in_batch: Tensor | int | None = None,
        skip_logits: bool = False,
    ) -> CaptionOutput:
        """Read clips and text.

        Args:
            input_ids: `(B, T)`, or `(B·R, T)` where R consecutive rows (beams) share the clips of one sample.
            attention_mask: 1 at tokens, 0 at padding, for the cached tokens too; None where nothing is padded.
            pixel_values: `(B, C, F, 3, H, W)`: video j belongs to the j-th `<image>` of its sample; or
            video_latents: `(B, C, L, V)`, what `encode_videos` made of them; or
            patches: `(B, C, F, P, V)`, what `encode_frames` made of them. With none, the text is read alone.
            labels: `(B, T)`, −100 where nothing is to be predicted.
            past_key_values: a `CaptionCache` that holds the tokens before these.
            use_cache: make one.
            logits_to_keep: only this many logits from the end; 0 for all.
            num_items_in_batch: divide the summed loss by this rather than by the labelled tokens seen here.
            skip_logits: return no logits. With labels, only the labelled tokens then go through the head.

        Returns:
            `CaptionOutput`.

        Raises:
            InputError: the clips in two forms, or rows that can't be shared out among the samples.
        """
        latents = self._latents(input_ids, pixel_values, video_latents, patches)
        cache = past_key_values
        if cache is None and use_cache:
            cache = CaptionCache()
        if cache is not None and not isinstance(cache, CaptionCache):
            raise InputError(
                f"past_key_values is a {type(cache).__name__}; this model keeps its clips in a CaptionCache."
            )
        index = clip_index(
            input_ids, self.config.image_token_id, None if cache is None else cache.clip_index
        )  # (B·R, T)
        if cache is not None:
            cache.clip_index = index[:, -1]
        num_clips, num_latents = latents.shape[1:3]
        has_clip = ((index >= 0) & (index < num_clips)).unsqueeze(-1).to(latents.dtype)  # (B·R, T, 1)
        view = ClipView(latents, clip_mask(index, num_clips, num_latents), has_clip)

        hidden = self.decoder(input_ids, view, attention_mask, cache)  # (B·R, T, D)
        # Of each token, the one after it: (B·R, T)
        targets = None if labels is None else F.pad(labels[:, 1:], (0, 1), value=IGNORE)
        if skip_logits and targets is not None:
            learned = targets != IGNORE  # (B·R, T)
            hidden, targets = hidden[learned][None], targets[learned][None]  # (1, n, D), (1, n)
        logits = self.lm_head(hidden[:, -logits_to_keep:])  # (B·R, T, vocabulary)
        loss = None
        if targets is not None:
            loss = self.loss_function(
                logits,
                None,
                self.config.text_config.vocab_size,
                num_items_in_batch=num_items_in_batch,
                shift_labels=targets,
            )
        kept = None if skip_logits else logits
        return CaptionOutput(loss=loss, logits=kept, past_key_values=cache, video_latents=latents)

    def _latents(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None,
        video_latents: Tensor | None,
        patches: Tensor | None = None,
    ) -> Tensor:
        """The clips' latents `(B, C, L, V)` from whichever form they came in; no clips give C = 0."""
        forms = {"pixel_values": pixel_values, "video_latents": video_latents, "patches": patches}
        given = [name for name, form in forms.items() if form is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} were both given; give the clips once.")
        if pixel_values is not None:
            latents = self.encode_videos(pixel_values)
        elif patches is not None:
            latents = self.resample(patches)
        elif video_latents is not None:
            latents = video_latents.to(self.resampler.latents.dtype)
        else:
            shape = (len(input_ids), 0, self.config.num_latents, vision_width(self.config.vision_config))
            latents = self.resampler.latents.new_empty(shape)
        if latents.ndim != 4 or len(latents) == 0 or len(input_ids) % len(latents):
            raise InputError(
                f"{len(input_ids)} rows of text with clips of shape {tuple(latents.shape)}; latents must be "
                "(samples, clips, latents, width), with the same number of rows of text for every sample."
            )
        return latents

    # ------------------------------------------------------------------ generation

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        *,
        pixel_values: Tensor | None = None,
        video_latents: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate`, with each clip encoded once whatever the beams.

        Args:
            input_ids: `(B, T)`, left-padded.
            pixel_values: as in `forward`.
            video_latents: as in `forward`.
            **kwargs: as `GenerationMixin.generate` takes them.

        Returns:
            Token ids with the prompt in front, or what `return_dict_in_generate` asks for.
        """
        input_ids = kwargs.pop("inputs", input_ids)
        latents = self._latents(input_ids, pixel_values, video_latents)
        with fast_linears(self.device):
            return super().generate(input_ids, video_latents=latents, **kwargs)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """Generation keeps its own kind of cache (transformers' default knows nothing of clips)."""
        if generation_config.use_cache and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = CaptionCache()

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Repeat the text for the beams, not the clips: `forward` lets the beams of a sample share them."""
        latents = model_kwargs.pop("video_latents")
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return input_ids, {**model_kwargs, "video_latents": latents}

    def _prefill(self, input_ids: Tensor, generation_config: Any, model_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        """Read the prompt once a sample: its beams start out the same, so the rest are copies."""
        beams = len(input_ids) // len(model_kwargs["video_latents"])
        once = dict(model_kwargs)
        if once.get("attention_mask") is not None:
            once["attention_mask"] = once["attention_mask"][::beams]
        outputs = super()._prefill(input_ids[::beams], generation_config, once, **kwargs)
        if beams > 1:
            outputs.logits = outputs.logits.repeat_interleave(beams, dim=0)
            if outputs.past_key_values is not None:
                outputs.past_key_values.batch_repeat_interleave(beams)
        return outputs

    # ------------------------------------------------------------------ training

    def freeze_pretrained(self) -> TrainableReport:
        """Train what the published recipe trains: resampler, gated cross-attention and (tied) embeddings.

        Returns:
            A report that prints as a table.
        """
        trainable = set(self.trainable_names())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trainable)
        self.vision_encoder.eval()  # as `train` leaves a frozen one
        return TrainableReport.of(self)

    def trainable_names(self) -> tuple[str, ...]:
        """The tensors that the published recipe trains, and that its captioner file holds."""
        return tuple(
            name
            for name, _ in self.named_parameters()
            if name.startswith(("resampler.", "decoder.embed_tokens.")) or ".cross_attention." in name
        )


@dataclass(frozen=True)
class TrainableReport:
    """How many parameters of each part are trained, and which tensors.

    Args:
        parts: part → (trained, all), in parameters.
        names: the tensors that are trained.
    """

    parts: Mapping[str, tuple[int, int]]
    names: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module) -> TrainableReport:
        """Count by `requires_grad`; a tied tensor counts once."""
        parts: dict[str, tuple[int, int]] = {}
        for name, parameter in model.named_parameters():
            part = "decoder.cross_attention" if ".cross_attention." in name else name.split(".")[0]
            trained, total = parts.get(part, (0, 0))
            count = math.prod(parameter.shape)
            parts[part] = (trained + count * parameter.requires_grad, total + count)
        names = tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        return cls(parts, names)

    def __str__(self) -> str:
        """A table."""
        rows = [*self.parts.items(), ("all", tuple(map(sum, zip(*self.parts.values(), strict=True))))]
        return "\n".join(f"{part:<24} {trained:>14,} of {total:>14,} trained" for part, (trained, total) in rows)
