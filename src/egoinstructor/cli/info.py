"""`egoinstructor info`: versions, devices, and a model's summary: what a bug report needs."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console

from egoinstructor.cli.options import quiet_transformers

PACKAGES = (
    "egoinstructor",
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "numpy",
    "av",
    "torchcodec",
)


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "info", help="versions, devices, model summary", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="also describe this model: folder, Hub id, or nano")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Collect and print."""
    facts: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    facts["packages"] = {name: _version(name) for name in PACKAGES}
    facts["devices"] = _devices()
    if arguments.model:
        facts["model"] = _model(arguments.model)
    console = Console()
    if arguments.json:
        console.print(json.dumps(facts), markup=False, highlight=False, soft_wrap=True)
        return
    for name, value in facts.items():
        lines = [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else [str(value)]
        console.print(f"[bold]{name}[/bold]")
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, str]:
    import torch

    devices = {"cpu": f"{torch.get_num_threads()} threads"}
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            devices[f"cuda:{i}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    elif torch.accelerator.is_available():
        devices[str(torch.accelerator.current_accelerator())] = "available"
    return devices


def _model(folder: str) -> dict[str, Any]:
    from egoinstructor.checkpoints.loading import load
    from egoinstructor.model.vision import described

    quiet_transformers()
    model, processor = load(folder)
    config = model.config
    return {
        "parameters": f"{model.num_parameters():,}",
        "dtype": str(model.dtype).removeprefix("torch."),
        "frames": f"up to {config.max_num_frames} of {processor.image_size} px",
        "vision": described(config.vision_config),
        "resampler": f"{config.resampler_depth} layers, {config.num_latents} latents a clip",
        "decoder": f"{config.text_config.num_hidden_layers} layers of {config.text_config.hidden_size}, "
        f"cross-attention every {config.cross_attention_every_n_layers}",
        "vocabulary": f"{len(processor.tokenizer)} tokens, {config.text_config.vocab_size} rows",
    }
