"""The paper's cross-view retriever: frame features of a frozen backbone and a text, each → a unit vector in one space.

    features (B, F, W) → [Linear, where a view's width is another] + positions → video layers → mean → projection (B, D)
    text (B, T) → embeddings + positions → causal layers → the end-of-text token's vector → projection (B, D)

Both towers are made of CLIP's blocks. It knows nothing of files, frames or tokenizers.

B clips or texts, F frames, W width of a frame's features, T text tokens, D the embedding's width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from egoinstructor.errors import InputError
from egoinstructor.model.layers import attend, merge_heads, split_heads
from egoinstructor.retriever.interface import View


@strict
class CrossViewConfig(PreTrainedConfig):
    """The shape of a `CrossViewModel`. The defaults are the published sizes.

    Args:
        ego_frame_width: W of the features of ego clips.
        exo_frame_width: W of the features of exo clips.
        hidden_size: width of the video tower; a view whose features have another gets a Linear in front.
        num_layers: video layers.
        num_heads: H of each.
        num_frames: frames of a clip that it was trained with; the positions are sinusoidal, so any number works.
        projection_dim: D.
        text_vocab_size: rows of the token embedding.
        text_context: the longest text in tokens.
        text_hidden_size: width of the text tower.
        text_num_layers: text layers.
        text_num_heads: H of each. (The published checkpoint runs 8 over weights that CLIP trained with 12.)
        hidden_act: activation of every MLP, by transformers' name.
        layer_norm_eps: of every LayerNorm.
        temperature: where the learned temperature starts.
        eos_token_id: end of a text, whose vector stands for it.
    """

    model_type = "egoinstructor_cross_view"

    ego_frame_width: int = 768
    exo_frame_width: int = 768
    hidden_size: int = 768
    num_layers: int = 4
    num_heads: int = 8
    num_frames: int = 4
    projection_dim: int = 768
    text_vocab_size: int = 49408
    text_context: int = 300
    text_hidden_size: int = 768
    text_num_layers: int = 12
    text_num_heads: int = 12
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    temperature: float = 0.07
    eos_token_id: int | list[int] | None = 49407

    def validate_architecture(self) -> None:
        """Widths must divide into heads; a text must have an end."""
        for name in ("", "text_"):
            width, heads = getattr(self, f"{name}hidden_size"), getattr(self, f"{name}num_heads")
            if width % heads:
                raise ValueError(f"{name}hidden_size {width} is not a multiple of {heads} heads.")
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size {self.hidden_size} is odd; sines and cosines share it evenly.")
        if not isinstance(self.eos_token_id, int):
            raise ValueError(f"eos_token_id {self.eos_token_id} is not one id; it must be the end-of-text token's.")

    def frame_width(self, view: View) -> int:
        """W of one view's features."""
        return self.ego_frame_width if view == "ego" else self.exo_frame_width


@dataclass
class CrossViewOutput(ModelOutput):
    """What `forward` returns.

    Args:
        video_embeds: `(B, D)`, unit-norm.
        text_embeds: `(B, D)`, unit-norm.
        scale: `()`, the inverse temperature.
        noun_vectors: `(V, D)`, one of each noun's id, where they are learned along.
    """

    video_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    scale: Tensor | None = None
    noun_vectors: Tensor | None = None


class CrossViewLayer(GradientCheckpointingLayer):
    """One of CLIP's blocks: `x + attention(LN(x))`, then `x + MLP(LN(x))`, with biases."""

    def __init__(self, width: int, num_heads: int, config: CrossViewConfig) -> None:
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.activation = cast(Callable[[Tensor], Tensor], ACT2FN[config.hidden_act])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, N, width)` → the same; the mask `(N, N)` is True where a row may look."""
        query, key, value = (
            split_heads(part, self.num_heads) for part in self.qkv(self.attention_norm(x)).chunk(3, -1)
        )
        x = x + self.output(merge_heads(attend(query, key, value, mask, self.config._attn_implementation)))
        return x + self.down(self.activation(self.up(self.mlp_norm(x))))


class VideoTower(nn.Module):
    """Frame features of either view → one vector a clip."""

    def __init__(self, config: CrossViewConfig) -> None:
        super().__init__()
        width = config.hidden_size
        widths = {"ego": config.ego_frame_width, "exo": config.exo_frame_width}
        self.inputs = nn.ModuleDict({view: nn.Linear(w, width) for view, w in widths.items() if w != width})
        self.layers = nn.ModuleList([CrossViewLayer(width, config.num_heads, config) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Linear(width, config.projection_dim, bias=False)

    def widen(self, features: Tensor, view: View) -> Tensor:
        """`(B, F, W)` of one view → `(B, F, hidden_size)`."""
        return self.inputs[view](features) if view in self.inputs else features

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """`(B, F, hidden_size)` → `(B, D)`; `places` `(B, F)` number the frames; None counts them from 0."""
        places = torch.arange(x.shape[1], device=x.device) if places is None else places
        x = x + sinusoidal_positions(places, x.shape[2], like=x)
        for layer in self.layers:
            x = layer(x)
        return self.projection(self.norm(x).mean(dim=1))


class TextTower(nn.Module):
    """CLIP's text tower with a longer context."""

    def __init__(self, config: CrossViewConfig) -> None:
        super().__init__()
        width = config.text_hidden_size
        assert isinstance(config.eos_token_id, int)  # or the configuration would have refused it
        self.end_of_text = config.eos_token_id
        self.embed_tokens = nn.Embedding(config.text_vocab_size, width)
        self.positions = nn.Parameter(torch.empty(config.text_context, width))
        self.layers = nn.ModuleList(
            [CrossViewLayer(width, config.text_num_heads, config) for _ in range(config.text_num_layers)]
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Linear(width, config.projection_dim, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """`(B, T)` → `(B, D)`."""
        tokens = input_ids.shape[1]
        x = self.embed_tokens(input_ids) + self.positions[:tokens]  # (B, T, width)
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).tril()
        for layer in self.layers:
            x = layer(x, causal)
        ends = input_ids.eq(self.end_of_text).int().argmax(dim=1)  # the first: CLIP's tokenizer pads with it too
        return self.projection(self.norm(x[torch.arange(len(x), device=x.device), ends]))


class CrossViewModel(PreTrainedModel):
    """EgoInstructor's retriever (CVPR 2024, §3): both views of a clip and its text in one space."""

    config_class = CrossViewConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # its loss is a mean over a batch: the trainer divides by the accumulation steps
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["CrossViewLayer"]

    def __init__(self, config: CrossViewConfig) -> None:
        super().__init__(config)
        self.video = VideoTower(config)
        self.text = TextTower(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """New weights: CLIP's, whose widths of distributions go by width and depth."""
        if isinstance(module, CrossViewModel):
            init.constant_(module.logit_scale, math.log(1 / module.config.temperature))
        elif isinstance(module, TextTower):
            init.normal_(module.positions, std=0.01)
            init.normal_(module.embed_tokens.weight, std=0.02)
        elif isinstance(module, CrossViewLayer):
            width = module.output.in_features
            depth = len((self.text if any(module is layer for layer in self.text.layers) else self.video).layers)
            init.normal_(module.qkv.weight, std=width**-0.5)
            init.normal_(module.output.weight, std=(2 * depth * width) ** -0.5)
            init.normal_(module.up.weight, std=(2 * width) ** -0.5)
            init.normal_(module.down.weight, std=(2 * depth * width) ** -0.5)
            for linear in (module.qkv, module.output, module.up, module.down):
                init.zeros_(linear.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings."""
        return self.text.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings."""
        self.text.embed_tokens = value

    @property
    def scale(self) -> Tensor:
        """The inverse temperature `()`."""
        return self.logit_scale.exp()

    def embed_video(self, features: Tensor, view: View) -> Tensor:
        """Embed clips of one view.

        Args:
            features: `(B, F, W)`, W being that of the view.
            view: from where they are seen.

        Returns:
            `(B, D)`, each row of length 1.

        Raises:
            InputError: another shape.
        """
        return F.normalize(self.video(self._widen(features, view)), dim=-1)

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embed texts.

        Args:
            input_ids: `(B, T)`, each with its end-of-text token, padded behind it.
            attention_mask: what the tokenizer gives with them. A token reads only what stands before it, so padding
                behind a text needs no mask; padding in front of one is refused.

        Returns:
            `(B, D)`, each row of length 1.

        Raises:
            InputError: a text that is too long, has no end, or is padded in front.
        """
        shape = tuple(input_ids.shape)
        if input_ids.ndim != 2 or not 1 <= shape[1] <= self.config.text_context:
            raise InputError(
                f"input_ids has shape {shape}; it must be (texts, tokens), of 1 to {self.config.text_context} tokens. "
                "Cut the texts."
            )
        if attention_mask is not None and not bool(attention_mask[:, 0].all()):
            raise InputError("a text is padded in front; set the tokenizer's padding_side to 'right'.")
        if not bool(input_ids.eq(self.text.end_of_text).any(dim=1).all()):
            raise InputError(
                f"a text has no end-of-text token (id {self.config.eos_token_id}); its vector stands for the text. "
                "Use the tokenizer that belongs to the model, and let it add its special tokens."
            )
        return F.normalize(self.text(input_ids), dim=-1)

    def forward(
        self,
        input_ids: Tensor,
        ego_features: Tensor,
        exo_features: Tensor,
        is_ego: Tensor,
        attention_mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> CrossViewOutput:
        """Embed a batch of clips of both views with their texts, for training.

        Args:
            input_ids: `(B, T)`.
            ego_features: of the ego clips among them, in order, `(B_ego, F, W)`; B_ego may be 0.
            exo_features: of the others `(B − B_ego, F, W)`.
            is_ego: `(B,)`, True where a clip is an ego clip.
            attention_mask: as of `embed_text`.
            places: which frames of its clip a row has `(B, F)`, where they are some of them; None for all.

        Raises:
            InputError: as `embed_text`, or features of another shape.
        """
        ego, exo = self._widen(ego_features, "ego"), self._widen(exo_features, "exo")
        both = torch.cat((ego, exo))  # (B, F, hidden_size)
        order = torch.cat((is_ego.nonzero(), (~is_ego).nonzero())).flatten().argsort()  # back to the rows' order
        video = F.normalize(self.video(both[order], places), dim=-1)
        return CrossViewOutput(video, self.embed_text(input_ids, attention_mask), self.scale)

    def _widen(self, features: Tensor, view: View) -> Tensor:
        width = self.config.frame_width(view)
        if features.ndim != 3 or features.shape[1] < 1 or features.shape[2] != width:
            raise InputError(
                f"{view} features have shape {tuple(features.shape)}; they must be (clips, frames, {width})."
            )
        return self.video.widen(features.to(self.dtype), view)


def sinusoidal_positions(places: Tensor, width: int, like: Tensor) -> Tensor:
    """Position p at channel 2i is sin(p / 10000^(2i / width)), at 2i + 1 the cosine: `(…, F)` → `(…, F, width)`."""
    steps = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angles = places[..., None].float() * torch.exp(steps * (-math.log(10000.0) / width))  # (…, F, width / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(like.dtype)


# So that transformers knows what a saved folder is: without, opening its tokenizer warns of an unknown model.
AutoConfig.register(CrossViewConfig.model_type, CrossViewConfig, exist_ok=True)
