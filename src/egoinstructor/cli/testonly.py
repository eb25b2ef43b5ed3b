"""`main.py --testonly`: the original's evaluation, on as many processes as accelerate starts."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.cli.progress import with_progress

if TYPE_CHECKING:
    from egoinstructor.training.arguments import Arguments
    from egoinstructor.video.folder import ProgressCallback


def evaluate(
    arguments: Arguments, *, predictions: Path | None = None, zero_shot_guide: bool = False
) -> dict[str, Any] | None:
    """Caption the split that `train_config` names with the published settings, and score the captions.

    Captions are kept in the run's folder as they are made, apart by what they were made with, so that the same command
    goes on where it was stopped, and tries again what could not be read. The processes meet in that folder, and wait for
    the first at the start alone.

    Args:
        arguments: from `training.arguments.parse`.
        predictions: a file to write the captions to; beside it then lie scores, table rows and report.
        zero_shot_guide: as `Condition`.

    Returns:
        Scores, counts and settings; None from all processes but the first.

    Raises:
        InputError: files that can't be used, or no sample that could be captioned.
    """
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.checkpoints.loading import find_captioner
    from egoinstructor.evaluation.captions.conditions import Condition
    from egoinstructor.evaluation.captions.results import score_run, write_rows
    from egoinstructor.evaluation.captions.run import (
        alone,
        await_all,
        begin,
        describe,
        forget_failures,
        gather,
        work_share,
    )
    from egoinstructor.evaluation.captions.writer import CaptionWriter
    from egoinstructor.evaluation.page import write_page
    from egoinstructor.model.calibration import Calibration
    from egoinstructor.training.run import open_model, read_samples

    model_options, data, options = arguments
    rank, processes = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    samples = read_samples(data)[0]
    model, processor = open_model(model_options)
    if data.max_length is not None:
        processor.max_length = min(processor.max_length, data.max_length)
    calibration = Calibration.from_folder(find_captioner(model_options.model)) if model_options.model else None
    captioner = Captioner(model.to(options.device), processor, calibration=calibration)
    condition = Condition(shots=data.shots, num_frames=data.num_frames, zero_shot_guide=zero_shot_guide)
    batch_size = options.per_device_eval_batch_size
    settings = describe(condition, samples, captioner) | {"batch_size": batch_size}
    name = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=4).hexdigest()
    folder = Path(str(options.output_dir))
    out = folder / f"test-{name}"
    writer = CaptionWriter(condition, samples, captioner)

    def caption(progress: ProgressCallback) -> None:
        with ExitStack() as stack:
            with options.main_process_first(local=False):
                if rank == 0:
                    stack.enter_context(alone(out))
                    forget_failures(out)
                begin(out, settings)
            work_share(out, writer, samples, batch_size, rank=rank, processes=processes, progress=progress)
            if rank == 0:
                await_all(out, samples, batch_size, progress=progress)

    if rank != 0:
        caption(lambda *_: None)
        return None
    with_progress(caption, "captioning")
    report = score_run(samples, gather(out, samples, batch_size), settings, clean=data.clean_narration)
    if predictions is not None:
        report.save(predictions.parent)
        write_rows(report, predictions.parent, folder.resolve().name)
        write_page(report, predictions.parent, folder.resolve().name)
    return report.as_dict()
