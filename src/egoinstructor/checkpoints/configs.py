"""The original's `config.json` ↔ our configuration, with everything that we could not honour refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import CLIPVisionConfig

from egoinstructor.errors import CheckpointError
from egoinstructor.model.configuration import EgoInstructorConfig

_FIXED_TEXT: dict[str, Any] = {
    "architectures": ["MosaicGPT"],
    "alibi": True,
    "attn_clip_qkv": None,
    "attn_qk_ln": True,
    "attn_uses_sequence_id": False,
    "embedding_fraction": 1.0,
    "logit_scale": None,
    "no_bias": True,
    "prefix_lm": False,
    "softmax_scale": None,
}
"""What the decoder that we implement has; a checkpoint that says otherwise is another architecture."""

_TEXT_NAMES = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "mlp_ratio": "mlp_ratio",
    "max_seq_len": "max_position_embeddings",
    "alibi_bias_max": "alibi_bias_max",
}
_VISION_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "projection_dim",
)


def config_from_original(original: Mapping[str, Any], max_num_frames: int) -> EgoInstructorConfig:
    """Our configuration from the original's.

    Args:
        original: the base checkpoint's `config.json`.
        max_num_frames: the rows of `perceiver.frame_embs`; the original takes them from its command line.

    Raises:
        CheckpointError: another architecture, or a part that is missing; the message names the value.
    """
    if original.get("model_type") != "otter":
        raise CheckpointError(
            f"config.json has model_type {original.get('model_type')!r}; the base checkpoint must be 'otter' "
            "(luodian/OTTER-MPT1B-RPJama-Init)."
        )
    parts = {name: original.get(name) for name in ("text_config", "vision_config")}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            raise CheckpointError(f"config.json has {name} {part!r}; it must be an object.")
    text, vision = parts["text_config"], parts["vision_config"]
    assert text is not None
    assert vision is not None
    for key, expected in _FIXED_TEXT.items():
        if text.get(key, expected) != expected:
            raise CheckpointError(
                f"config.json has text_config.{key} {text[key]!r}; only {expected!r} is implemented: "
                "this is another architecture than EgoInstructor's."
            )
    missing = [f"text_config.{key}" for key in _TEXT_NAMES if key not in text]
    missing += [f"vision_config.{key}" for key in _VISION_NAMES[:6] if key not in vision]
    if missing:
        raise CheckpointError(f"config.json lacks {', '.join(missing)}; it must say every size of the model.")
    return EgoInstructorConfig(
        text_config={ours: text[theirs] for theirs, ours in _TEXT_NAMES.items()},
        vision_config={key: vision[key] for key in _VISION_NAMES if key in vision},
        cross_attention_every_n_layers=original.get("cross_attn_every_n_layers", 1),
        max_num_frames=max_num_frames,
    )


def config_to_original(config: EgoInstructorConfig) -> dict[str, Any]:
    """The original's `config.json` for one of our models.

    Raises:
        CheckpointError: a frame encoder that the original doesn't have.
    """
    if config.vision_config.model_type != CLIPVisionConfig.model_type:
        raise CheckpointError(
            f"the model's frame encoder is a {config.vision_config.model_type!r}; the original has CLIP alone. Keep this "
            "model in our own layout (save_pretrained)."
        )
    text = {theirs: getattr(config.text_config, ours) for theirs, ours in _TEXT_NAMES.items()}
    vision = {key: getattr(config.vision_config, key) for key in _VISION_NAMES}
    return {
        "model_type": "otter",
        "architectures": ["OtterForConditionalGeneration"],
        "cross_attn_every_n_layers": config.cross_attention_every_n_layers,
        "text_config": {
            **_FIXED_TEXT,
            **text,
            "model_type": "mosaic_gpt",
            "hidden_size": config.text_config.hidden_size,
            "attn_impl": "torch",
            "attn_pdrop": 0,
            "emb_pdrop": 0,
            "resid_pdrop": 0,
            "init_device": "cpu",
            "param_init_fn": "kaiming_normal_",
            "use_cache": False,
        },
        "vision_config": {**vision, "model_type": "clip_vision_model"},
    }
