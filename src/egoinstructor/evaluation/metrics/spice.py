"""SPICE, where the files that pycocoevalcap does not bring are installed: Stanford CoreNLP 3.6.0, from its makers' site."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from egoinstructor.errors import MissingExtraError
from egoinstructor.evaluation.metrics.base import Metric
from egoinstructor.evaluation.metrics.java import JavaError, packaged, run_java

_JAR = "spice/spice-1.0.jar"
_NEEDED = ("spice/lib/stanford-corenlp-3.6.0.jar", "spice/lib/stanford-corenlp-3.6.0-models.jar")


def spice(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Metric:
    """SPICE's F1 of each caption and its mean.

    Args:
        captions: N texts, treated.
        references: one or more for each.

    Raises:
        MissingExtraError: without pycocoevalcap, Java, or SPICE's own files.
        JavaError: SPICE failed.
    """
    jar = packaged(_JAR, "SPICE")
    if absent := [name for name in _NEEDED if not packaged(name, "SPICE").is_file()]:
        raise MissingExtraError(
            f"SPICE needs {Path(absent[0]).name}, which no package brings. Run, where the net is open: "
            "python -m pycocoevalcap.spice.get_stanford_models"
        )
    samples = [
        {"image_id": i, "test": caption, "refs": list(truths)}
        for i, (caption, truths) in enumerate(zip(captions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.json", Path(folder) / "out.json"
        given.write_text(json.dumps(samples), encoding="utf-8")
        run_java(["-Xmx8G", "-jar", str(jar), str(given), "-out", str(out), "-silent"], "", "SPICE")
        try:
            scores = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(out.read_text("utf-8"))}
            return Metric.mean("SPICE", np.array([float(scores[i]) for i in range(len(samples))]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JavaError(f"SPICE's results can't be read: {error!r}.") from error
