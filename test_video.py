"""The original's inference command, as it stands: a thin door into the package.

python test_video.py --testdata FILE --pretrained_name_or_path BASE --pretrained_checkpoint FILE --max_shot 4

It asks as the published script did (its instruction, no bos, `linspace` frames), but with the ego clip last in the video
tensor as in the prompt; `--legacy_video_order` puts it first, as the script did.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from egoinstructor.cli import run
from egoinstructor.cli.caption import show
from egoinstructor.cli.options import DTYPES, quiet_transformers, torch_dtype
from egoinstructor.data.inference_file import read_inference_file


def main() -> int:
    """Parse the original's flags and caption every sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--testdata", required=True, help="inference JSON")
    parser.add_argument("--pretrained_name_or_path", required=True, help="the OTTER base, folder or Hub id")
    parser.add_argument("--pretrained_checkpoint", required=True, help="EgoInstructor's weights, file or Hub id:file")
    parser.add_argument("--max_shot", type=int, default=4, help="references to read, at most")
    parser.add_argument("--max_num_frames", type=int, default=32, help="frames a clip")
    parser.add_argument("--tokenizer", help="tokenizer folder or Hub id (default: the published one)")
    parser.add_argument("--device", help="cpu, cuda, …; the first accelerator if not given")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="the script ran in float32")
    parser.add_argument("--legacy_video_order", action="store_true", help="ego clip first in the video tensor")
    parser.add_argument("--json", action="store_true", help="print one JSON object a caption")
    return run(caption, parser.parse_args())


def caption(arguments: argparse.Namespace) -> None:
    """Caption the samples one by one, as the script did."""
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.model.prompt import SCRIPT

    quiet_transformers()
    queries = read_inference_file(arguments.testdata)
    captioner = Captioner.from_original(
        arguments.pretrained_name_or_path,
        arguments.pretrained_checkpoint,
        tokenizer=arguments.tokenizer,
        device=arguments.device,
        dtype=torch_dtype(arguments.dtype),
    )
    for query in queries:
        [result] = captioner.caption_batch(
            [query],
            shots=min(arguments.max_shot, len(query[1])),
            num_frames=arguments.max_num_frames,
            preset=SCRIPT,
            legacy_video_order=arguments.legacy_video_order,
        )
        show(result, Console(), as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
