"""The original's training command, as it stands: a thin door into the package.

accelerate launch --config_file=./configs/accelerate_config_ddp_8gpu.yaml main.py --pretrained_model_name_or_path BASE
    --datapath_ego DIR --datapath_exo DIR --metapath FILE --train_config_path FILE --xview --max_shot 4 …

`--help` lists every flag and what it means here; `--testonly` evaluates the split that --train_config_path names.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys

from rich.console import Console

from egoinstructor.cli import run
from egoinstructor.training.original_command import translate

logger = logging.getLogger("egoinstructor")


def main() -> int:
    """Train, or evaluate."""
    return run(start, argparse.Namespace(argv=sys.argv[1:]))


def start(arguments: argparse.Namespace) -> None:
    """Translate the flags, then do what they ask; the first process alone speaks."""
    order = translate(arguments.argv)
    os.environ.update(order.environment)
    first = os.environ.get("RANK", "0") == "0"
    logger.setLevel(logging.INFO if first else logging.ERROR)
    for warning in order.warnings:
        logger.warning("%s", warning)

    from egoinstructor.training.arguments import parse
    from egoinstructor.training.run import train

    parsed = parse(None, order.options)
    console = Console(quiet=not first)
    if order.testonly:
        from egoinstructor.cli.testonly import evaluate

        results = evaluate(parsed, predictions=order.predictions, zero_shot_guide=order.zero_shot_guide)
        console.print(json.dumps(results, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"the model is in {train(parsed)}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
