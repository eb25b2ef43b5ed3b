"""Options that several commands share, and what they build."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError
from egoinstructor.fields import parse_seconds

if TYPE_CHECKING:
    import torch

    from egoinstructor.captioners.egoinstructor import Captioner

logger = logging.getLogger(__name__)

DTYPES = ("auto", "float32", "bfloat16", "float16")


def positive(text: str) -> int:
    """An integer of 1 or more, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def seconds(text: str) -> float:
    """A time in seconds, or as a clock shows it, for argparse."""
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_model_options(parser: argparse.ArgumentParser, *, published: bool = False) -> None:
    """How to name a model: a converted folder, or the published pair.

    Args:
        parser: of a command.
        published: the published weights are taken where none is named: for `open_named_or_published`.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="DIR", help="converted model folder, Hub id, or nano (simulated kitchens only)"
    )
    group.add_argument("--base", metavar="DIR", help="instead: the OTTER base, folder or Hub id")
    group.add_argument("--captioner", metavar="FILE", help="with --base: EgoInstructor's weights, file or Hub id:file")
    group.add_argument("--tokenizer", metavar="DIR", help="with --base: tokenizer folder or Hub id")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps; the first accelerator if not given")
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="number format (auto: the checkpoint's)")
    group.add_argument("--int8", action="store_true", help="int8 linear layers, on a CPU: faster, captions may differ")
    if published:
        group.add_argument(
            "--download",
            action="store_true",
            help="with no model named: fetch the published weights (14 GB) if they aren't here",
        )


def add_reading_options(
    parser: argparse.ArgumentParser,
    *,
    each: str = "window",
    shots: str = "references of each window (default: 4; 0: none)",
    num_beams: int = 3,
    batch_size: int | None = None,
) -> None:
    """How to read clips and write their captions.

    Args:
        parser: of a command.
        each: what gets a caption, as the help calls it.
        shots: what the help says of them.
        num_beams: the default.
        batch_size: the default; None where captions are written one by one.
    """
    group = parser.add_argument_group("reading and writing")
    group.add_argument("--shots", type=int, metavar="N", help=shots)
    group.add_argument("--num-frames", type=positive, metavar="F", help=f"frames a {each} (default: the model's)")
    group.add_argument(
        "--num-beams", type=positive, default=num_beams, metavar="N", help="beams (default: %(default)s)"
    )
    group.add_argument("--max-new-tokens", type=positive, default=64, metavar="N", help="longest caption (default: 64)")
    group.add_argument("--instruction", help=f"what the model is asked of every {each}")
    if batch_size is not None:
        told = f"{each}s at a time (default: {batch_size})"
        group.add_argument("--batch-size", type=positive, default=batch_size, metavar="B", help=told)
    add_likeliest(group)


def add_likeliest(group: argparse._ArgumentGroup) -> None:
    """Whether a caption reads as many references as help."""
    group.add_argument(
        "--likeliest",
        action="store_true",
        help="write each caption with all references, with each alone and with none, and keep the likeliest of all",
    )


def torch_dtype(name: str) -> torch.dtype | None:
    """The number format by its name; None for "auto"."""
    import torch

    return None if name == "auto" else getattr(torch, name)


def quiet_transformers() -> None:
    """No bars of transformers' own, and no warnings that are ours to give."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def check_download(arguments: argparse.Namespace) -> None:
    """Refuse a download beside a model that is named.

    Raises:
        InputError: both were given.
    """
    if arguments.download and (named := _named(arguments)):
        raise InputError(f"--download fetches the published weights, and {named[0]} names a model; leave one out.")


def open_named_or_published(arguments: argparse.Namespace) -> Captioner:
    """Open the model that the options name, or the published weights where they name none.

    Raises:
        InputError: as `check_download`, `open_captioner` and `open_published`.
    """
    check_download(arguments)
    return open_captioner(arguments) if _named(arguments) else open_published(arguments)


def _named(arguments: argparse.Namespace) -> list[str]:
    return [f"--{name}" for name in ("model", "base", "captioner") if getattr(arguments, name)]


def open_published(arguments: argparse.Namespace) -> Captioner:
    """The published weights where no model is named: a converted folder, or the pair in the Hub's cache, or downloaded.

    Only `--download` asks the network, for the tokenizer too.

    Raises:
        InputError: they are nowhere, and are not to be downloaded; or a tokenizer for what has its own.
    """
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.checkpoints.sources import CONVERTED, PUBLISHED_BASE, PUBLISHED_CAPTIONER, published_in_cache
    from egoinstructor.model.cpu import bound_kernels

    bound_kernels()
    quiet_transformers()
    options: dict[str, Any] = {
        "device": arguments.device,
        "dtype": torch_dtype(arguments.dtype),
        "int8": arguments.int8,
    }
    if (CONVERTED / "config.json").is_file():
        _refuse_tokenizer(arguments, str(CONVERTED))
        logger.info("no model was named: taking %s", CONVERTED)
        return Captioner.from_pretrained(CONVERTED, **options)
    tokenizer: str | Path | None = arguments.tokenizer
    pair: tuple[str | Path, str | Path] = (PUBLISHED_BASE, PUBLISHED_CAPTIONER)
    if cached := published_in_cache(tokenizer):
        *_, tokenizer = cached
        pair = cached[:2]
    elif not arguments.download:
        raise InputError(
            f"no model was named, and the published weights (with {tokenizer or 'their tokenizer'}) are neither in "
            f"{CONVERTED} nor in the Hub's cache. Either fetch them: add --download (14 GB, once), or run 'egoinstructor "
            f"convert --base {PUBLISHED_BASE} --captioner {PUBLISHED_CAPTIONER} --out {CONVERTED}', here or on a machine "
            "with a network. Or give --model nano: the small model that comes with egoinstructor, for simulated kitchens "
            "only."
        )
    logger.info("no model was named: taking the published pair, %s and %s", *pair)
    return Captioner.from_original(*pair, tokenizer=tokenizer, **options)


def open_captioner(arguments: argparse.Namespace) -> Captioner:
    """Open the model that the options name.

    Raises:
        InputError: no model named, or two; or a tokenizer for what has its own.
    """
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.model.cpu import bound_kernels

    bound_kernels()
    quiet_transformers()
    dtype = torch_dtype(arguments.dtype)
    if arguments.model and (arguments.base or arguments.captioner):
        raise InputError("--model and --base/--captioner were both given; name one model.")
    if arguments.model:
        _refuse_tokenizer(arguments, arguments.model)
        return Captioner.from_pretrained(arguments.model, device=arguments.device, dtype=dtype, int8=arguments.int8)
    if arguments.captioner and not arguments.base:
        raise InputError(
            f"--captioner {arguments.captioner} is laid over the OTTER base, and none was named; add --base DIR."
        )
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


def _refuse_tokenizer(arguments: argparse.Namespace, model: str) -> None:
    """Refuse a tokenizer for a folder that has its own."""
    if arguments.tokenizer:
        raise InputError(
            f"--tokenizer {arguments.tokenizer} goes with --base, and {model} has a tokenizer of its own; leave it out."
        )
