"""The paper's retriever checkpoint → a `CrossViewModel`: one table of names, strict both ways."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from egoinstructor.checkpoints.reading import check_finite, read_state_dict
from egoinstructor.checkpoints.sources import TOKENIZER_FILES, find_file, find_folder
from egoinstructor.errors import CheckpointError
from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.loading import load_text_tokenizer

TOKENIZER = "openai/clip-vit-large-patch14"
"""Whose tokenizer the published text tower was trained with."""

_BLOCK: tuple[tuple[str, str], ...] = (
    ("attn.in_proj_", "qkv."),
    ("attn.out_proj.", "output."),
    ("ln_1.", "attention_norm."),
    ("ln_2.", "mlp_norm."),
    ("mlp.c_fc.", "up."),
    ("mlp.c_proj.", "down."),
)
"""Part of a block: the original's on the left, ours on the right; each has a weight and a bias."""

TABLE: tuple[tuple[str, str], ...] = (
    *((f"visual.resblocks.{{}}.{theirs}*", f"video.layers.{{}}.{ours}*") for theirs, ours in _BLOCK),
    *((f"transformer.resblocks.{{}}.{theirs}*", f"text.layers.{{}}.{ours}*") for theirs, ours in _BLOCK),
    ("visual_ln_final.*", "video.norm.*"),
    ("aggregation_projection", "video.projection.weight"),
    ("token_embedding.weight", "text.embed_tokens.weight"),
    ("positional_embedding", "text.positions"),
    ("ln_final.*", "text.norm.*"),
    ("text_projection", "text.projection.weight"),
    ("logit_scale", "logit_scale"),
)
"""`{}` is a layer's number, `*` weight or bias."""

_TRANSPOSED = ("video.projection.weight", "text.projection.weight")
"""The original multiplies by these from the right, as parameters `(width, D)`; ours are linear layers."""

_SIZED = {"text.embed_tokens.weight": 2, "text.positions": 2, "video.norm.weight": 1, "video.projection.weight": 2}
"""The tensors whose shapes give the sizes, with their numbers of dimensions."""


def load_published(file: str | Path, *, num_heads: int = 8, text_num_heads: int = 8) -> CrossViewModel:
    """Read the published retriever. Its sizes are those of its tensors; only the numbers of heads don't show in them.

    Args:
        file: `retrieval_checkpoint_best.pt`, or Hub id with `:file`.
        num_heads: of the video layers.
        text_num_heads: of the text layers. The original runs CLIP's text weights, which were trained with 12 heads, with
            8, and the rest was trained on what that gives.

    Raises:
        CheckpointError: naming tensors that are unknown, missing or misshapen; or a file that can't be read.
    """
    path = find_file(file, "retriever checkpoint")
    state = read_state_dict(path)
    for name, tensor in state.items():
        check_finite(name, tensor, str(path))
    ours = {name: _to_ours(name) for name in state}
    if unknown := sorted(name for name, mine in ours.items() if mine is None):
        raise CheckpointError(f"{path} has tensors that no part of the model takes: {', '.join(unknown[:5])}.")
    tensors = {str(ours[name]): tensor.float() for name, tensor in state.items()}
    tensors |= {
        name: tensors[name].T.contiguous() for name in _TRANSPOSED if name in tensors and tensors[name].ndim == 2
    }

    config = _config(tensors, num_heads, text_num_heads, path)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in CrossViewModel(config).state_dict().items()}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{path} lacks tensors: {', '.join(missing[:5])} (our names). Download it again.")
    if surplus := sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(
            f"{path} has layers with others missing before them: {', '.join(surplus[:5])} (our names)."
        )
    wrong = [
        f"{name} is {tuple(t.shape)}, must be {expected[name]}"
        for name, t in tensors.items()
        if t.shape != expected[name]
    ]
    if wrong:
        raise CheckpointError(f"{path} has tensors of shapes that don't belong together: {', '.join(wrong[:5])}.")
    model = CrossViewModel(config)
    model.load_state_dict(tensors)
    return model.eval()


def convert_published(
    file: str | Path,
    out: str | Path,
    *,
    tokenizer: str | Path = TOKENIZER,
    ego_backbone: str | Path | None = None,
    exo_backbone: str | Path | None = None,
) -> CrossViewModel:
    """Write the folder that `open_retriever` opens.

    The published features come from backbones that are not part of the checkpoint; without them the retriever embeds
    texts, and features that were computed elsewhere.

    Args:
        file: as in `load_published`.
        out: the folder to make; it must not exist, or be empty.
        tokenizer: folder or Hub id of CLIP's tokenizer.
        ego_backbone: folder or Hub id to name in the folder, if there is one.
        exo_backbone: as `ego_backbone`.

    Raises:
        CheckpointError: as `load_published`; a tokenizer or backbone that does not fit; a folder that is in use.
    """
    model = load_published(file)
    words = load_text_tokenizer(find_folder(tokenizer, TOKENIZER_FILES, "tokenizer"))
    named = {"ego": ego_backbone, "exo": exo_backbone}
    opened = {
        where: TowerFrameEncoder.from_pretrained(where, num_frames=model.config.num_frames, device="cpu")
        for where in named.values()
        if where is not None
    }
    encoders: dict[str, Any] = {view: None if where is None else opened[where] for view, where in named.items()}
    CrossViewRetriever(model, words, **encoders).save_pretrained(out)
    return model


def _to_ours(name: str) -> str | None:
    """The original's tensor name → ours, or None if the table has no such name."""
    for theirs, ours in TABLE:
        pattern = re.escape(theirs).replace(r"\{\}", r"(\d+)").replace(r"\*", r"(weight|bias)")
        if match := re.fullmatch(pattern, name):
            return ours.replace("*", "{}").format(*match.groups())
    return None


def _config(tensors: dict[str, Tensor], num_heads: int, text_num_heads: int, path: Path) -> CrossViewConfig:
    """The sizes, read off the tensors."""
    if missing := [name for name in _SIZED if name not in tensors]:
        raise CheckpointError(f"{path} lacks tensors: {', '.join(missing)} (our names). Download it again.")
    if wrong := [f"{name} is {tuple(tensors[name].shape)}" for name in _SIZED if tensors[name].ndim != _SIZED[name]]:
        raise CheckpointError(
            f"{path} has tensors with too few or too many dimensions: {', '.join(wrong)} (our names)."
        )
    vocabulary, text_width = tensors["text.embed_tokens.weight"].shape
    width = len(tensors["video.norm.weight"])

    def layers(tower: str) -> int:
        return len({name.split(".")[2] for name in tensors if name.startswith(f"{tower}.layers.")})

    try:
        return CrossViewConfig(
            ego_frame_width=width,
            exo_frame_width=width,
            hidden_size=width,
            num_layers=layers("video"),
            num_heads=num_heads,
            projection_dim=len(tensors["video.projection.weight"]),
            text_vocab_size=vocabulary,
            text_context=len(tensors["text.positions"]),
            text_hidden_size=text_width,
            text_num_layers=layers("text"),
            text_num_heads=text_num_heads,
            bos_token_id=vocabulary - 2,  # CLIP's last two
            eos_token_id=vocabulary - 1,
        )
    except StrictDataclassError as error:
        raise CheckpointError(f"{path} does not fit {num_heads} and {text_num_heads} heads: {error}") from error
