"""The names of the tensors: the original's on the left, ours on the right. `{}` stands for a layer's number.

One table read in both directions. A name that is not in it is an error, never something to skip.
"""

from __future__ import annotations

import re

_RESAMPLER = "perceiver.layers.{}."
_BLOCK = "lang_encoder.transformer.blocks.{}.decoder_layer."
_GATED = "lang_encoder.transformer.blocks.{}.gated_cross_attn_layer."

TABLE: tuple[tuple[str, str], ...] = (
    ("perceiver.latents", "resampler.latents"),
    ("perceiver.frame_embs", "resampler.frame_embeddings"),
    ("perceiver.norm.*", "resampler.norm.*"),
    (_RESAMPLER + "norm_media.*", "resampler.layers.{}.media_norm.*"),
    (_RESAMPLER + "norm_latents.*", "resampler.layers.{}.latent_norm.*"),
    (_RESAMPLER + "to_q.weight", "resampler.layers.{}.to_q.weight"),
    (_RESAMPLER + "to_kv.weight", "resampler.layers.{}.to_kv.weight"),
    (_RESAMPLER + "to_out.weight", "resampler.layers.{}.to_out.weight"),
    (_RESAMPLER + "feed_forward.0.*", "resampler.layers.{}.feed_forward.norm.*"),
    (_RESAMPLER + "feed_forward.1.weight", "resampler.layers.{}.feed_forward.up.weight"),
    (_RESAMPLER + "feed_forward.3.weight", "resampler.layers.{}.feed_forward.down.weight"),
    ("lang_encoder.transformer.wte.weight", "decoder.embed_tokens.weight"),
    ("lang_encoder.transformer.ln_f.weight", "decoder.norm.weight"),
    (_BLOCK + "ln_1.weight", "decoder.layers.{}.attention_norm.weight"),
    (_BLOCK + "attn.Wqkv.weight", "decoder.layers.{}.attention.qkv.weight"),
    (_BLOCK + "attn.q_ln.weight", "decoder.layers.{}.attention.query_norm.weight"),
    (_BLOCK + "attn.k_ln.weight", "decoder.layers.{}.attention.key_norm.weight"),
    (_BLOCK + "attn.out_proj.weight", "decoder.layers.{}.attention.output.weight"),
    (_BLOCK + "ln_2.weight", "decoder.layers.{}.mlp_norm.weight"),
    (_BLOCK + "mlp.mlp_up.weight", "decoder.layers.{}.mlp.up.weight"),
    (_BLOCK + "mlp.mlp_down.weight", "decoder.layers.{}.mlp.down.weight"),
    (_GATED + "attn.norm.*", "decoder.layers.{}.cross_attention.norm.*"),
    (_GATED + "attn.to_q.weight", "decoder.layers.{}.cross_attention.to_q.weight"),
    (_GATED + "attn.to_kv.weight", "decoder.layers.{}.cross_attention.to_kv.weight"),
    (_GATED + "attn.to_out.weight", "decoder.layers.{}.cross_attention.to_out.weight"),
    (_GATED + "attn_gate", "decoder.layers.{}.cross_attention.attention_gate"),
    (_GATED + "ff_gate", "decoder.layers.{}.cross_attention.feed_forward_gate"),
    (_GATED + "feed_forward.0.*", "decoder.layers.{}.cross_attention.feed_forward.norm.*"),
    (_GATED + "feed_forward.1.weight", "decoder.layers.{}.cross_attention.feed_forward.up.weight"),
    (_GATED + "feed_forward.3.weight", "decoder.layers.{}.cross_attention.feed_forward.down.weight"),
    # CLIP's own names, which transformers 5 keeps without the level `vision_model`.
    ("vision_encoder.vision_model.**", "vision_encoder.**"),
)
"""`*` is one last component (weight or bias), `**` any rest."""

NOT_WEIGHTS = frozenset({"vision_encoder.vision_model.embeddings.position_ids"})
"""A buffer of 0, 1, 2, … that older files carry."""


def _pattern(name: str) -> re.Pattern[str]:
    regex = re.escape(name).replace(r"\{\}", r"(\d+)").replace(r"\*\*", r"(.+)").replace(r"\*", r"(weight|bias)")
    return re.compile(regex)


def _template(name: str) -> str:
    return name.replace("**", "{}").replace("*", "{}")


_TO_OURS = tuple((_pattern(theirs), _template(ours)) for theirs, ours in TABLE)
_TO_THEIRS = tuple((_pattern(ours), _template(theirs)) for theirs, ours in TABLE)


def _translate(name: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            return template.format(*match.groups())
    return None


def to_ours(name: str) -> str | None:
    """The original's tensor name → ours, or None if the original has no such tensor."""
    return _translate(name, _TO_OURS)


def to_theirs(name: str) -> str | None:
    """Our tensor name → the original's, or None if we have no such tensor."""
    return _translate(name, _TO_THEIRS)
