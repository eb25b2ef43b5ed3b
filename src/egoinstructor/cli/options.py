"""Options that several commands share, and what they build."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from egoinstructor.errors import InputError

if TYPE_CHECKING:
    import torch

    from egoinstructor.captioner import Captioner

DTYPES = ("auto", "float32", "bfloat16", "float16")


def positive(text: str) -> int:
    """An integer of 1 or more, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How to name a model: a converted folder, or the published pair."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="DIR", help="converted model folder, or Hub id")
    group.add_argument("--base", metavar="DIR", help="instead: the OTTER base, folder or Hub id")
    group.add_argument("--captioner", metavar="FILE", help="with --base: EgoInstructor's weights, file or Hub id:file")
    group.add_argument("--tokenizer", metavar="DIR", help="with --base: tokenizer folder or Hub id")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps; the first accelerator if not given")
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="number format (auto: the checkpoint's)")
    group.add_argument("--int8", action="store_true", help="int8 linear layers, on a CPU: faster, captions may differ")


def torch_dtype(name: str) -> torch.dtype | None:
    """The number format by its name; None for "auto"."""
    import torch

    return None if name == "auto" else getattr(torch, name)


def quiet_transformers() -> None:
    """No bars of transformers' own, and no warnings that are ours to give."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def open_captioner(arguments: argparse.Namespace) -> Captioner:
    """Open the model that the options name.

    Raises:
        InputError: no model named, or two.
    """
    from egoinstructor.captioner import Captioner

    quiet_transformers()
    dtype = torch_dtype(arguments.dtype)
    if arguments.model and (arguments.base or arguments.captioner):
        raise InputError("--model and --base/--captioner were both given; name one model.")
    if arguments.model:
        return Captioner.from_pretrained(arguments.model, device=arguments.device, dtype=dtype, int8=arguments.int8)
    if not arguments.base:
        raise InputError(
            "no model was named. Give --model DIR (made by 'egoinstructor convert'), or --base DIR --captioner FILE "
            "with the published weights."
        )
    return Captioner.from_original(
        arguments.base,
        arguments.captioner,
        tokenizer=arguments.tokenizer,
        device=arguments.device,
        dtype=dtype,
        int8=arguments.int8,
    )
