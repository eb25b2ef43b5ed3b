"""`egoinstructor prepare features`: a folder of videos → their frame features, a row a second, to train a retriever on."""

from __future__ import annotations

import argparse
from typing import Any

from egoinstructor.cli.options import DTYPES, quiet_transformers, torch_dtype
from egoinstructor.cli.progress import with_progress


def add(steps: Any) -> argparse.ArgumentParser:
    """Declare the step; what it reports is printed by whoever prints those of the others."""
    step: argparse.ArgumentParser = steps.add_parser(
        "features", help="a folder of videos → frame features, a row a second, to train a retriever on"
    )
    step.add_argument("source", metavar="SRC")
    step.add_argument("out", metavar="OUT")
    step.add_argument("--backbone", required=True, metavar="DIR", help="CLIP or SigLIP checkpoint, folder or Hub id")
    step.add_argument("--device", help="cpu, cuda, cuda:1, mps; the first accelerator if not given")
    step.add_argument("--dtype", choices=DTYPES, default="auto", help="number format (auto: the checkpoint's)")
    step.add_argument("--json", action="store_true", help="print the report as JSON")
    return step


def encode(arguments: argparse.Namespace) -> Any:
    """Encode, under a bar.

    Returns:
        The report.
    """
    from egoinstructor.data.features import encode_folder
    from egoinstructor.retriever.frames import TowerFrameEncoder

    quiet_transformers()
    encoder = TowerFrameEncoder.from_pretrained(
        arguments.backbone, num_frames=1, device=arguments.device, dtype=torch_dtype(arguments.dtype)
    )
    return with_progress(lambda p: encode_folder(arguments.source, arguments.out, encoder, progress=p), "encoding")
