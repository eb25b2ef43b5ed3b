"""How often is a caption right that scores so much? SimKitchen's validation split, and the model's `calibration.json`.

    python benchmarks/calibration.py --data DIR --model nano --write src/egoinstructor/assets/nano

`--data` is the folder of the rendered validation split. Each ego clip is captioned with references that are retrieved from
the split's how-to clips, its own event's left out; a caption is right if its verb and its noun are. A logistic of the score
is fitted to that (`egoinstructor.model.calibration`) and judged on captions that were held out, in five folds. The plot goes
to `--plot`. What the same logistic says of beams, and of captions without references, is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "recipes"))

import torch  # noqa: E402

from egoinstructor.assets import shipped  # noqa: E402
from egoinstructor.captioners.egoinstructor import SHOTS, Captioner, Query  # noqa: E402
from egoinstructor.errors import EgoInstructorError, InputError, require_extra  # noqa: E402
from egoinstructor.files import atomic_file  # noqa: E402
from egoinstructor.library.library import ExoLibrary  # noqa: E402
from egoinstructor.library.records import Filter  # noqa: E402
from egoinstructor.library.references import Retrieval  # noqa: E402
from egoinstructor.library.sources.opening import open_source  # noqa: E402
from egoinstructor.model.calibration import (  # noqa: E402
    FOLDS,
    Calibration,
    cross_fitted,
    expected_calibration_error,
    reliability,
)
from egoinstructor.records import Caption  # noqa: E402
from egoinstructor.retriever.opening import open_retriever  # noqa: E402
from egoinstructor.video.identity import content_digest  # noqa: E402
from nano_steps.clips import KitchenClip, of_camera, read_clips  # noqa: E402 - the recipe's parts must be on the path
from nano_steps.embedding import file_of  # noqa: E402
from simkitchen_parts.words import verb_and_noun  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 32
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PLOT = ROOT / "docs" / "images" / "calibration.svg"
STYLE: dict[Any, Any] = {"svg.hashsalt": "calibration", "svg.fonttype": "path", "font.size": 10}


@dataclass(frozen=True, slots=True)
class Judged:
    """Captions' scores, and whether each is right."""

    scores: list[float]
    right: list[bool]

    @classmethod
    def of(cls, captions: Sequence[Caption], clips: Sequence[KitchenClip]) -> Judged:
        """By verb and noun, both."""
        right = [verb_and_noun(one.text) == (clip.verb, clip.noun) for one, clip in zip(captions, clips, strict=True)]
        return cls([one.score or 0.0 for one in captions], right)

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the rendered validation split")
    parser.add_argument("--model", default="nano", help="folder of a model with its retriever inside (default: nano)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write calibration.json into this model's folder")
    parser.add_argument("--plot", type=Path, default=PLOT, metavar="FILE")
    parser.add_argument("--events", type=int, metavar="N", help="of the first N events only (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        if options.write is not None and not (options.write / "config.json").is_file():
            raise InputError(
                f"--write {options.write}: no model's folder. Give the folder that --model is opened from."
            )
        found = measure(options.data, options.model, options.events)
        results = summary(*found)
        draw(found[0], options.plot)
        if options.write is not None:
            fitted(found[0]).save(options.write)
    except EgoInstructorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(results) if options.json else table(results))
    return 0


def measure(data: Path, model: str, events: int | None = None) -> tuple[Judged, Judged, Judged]:
    """Captions of every ego clip with references: greedy as the model's own settings are, and with three beams; and without.

    Raises:
        InputError: too few clips, or some that can't be read.
        CheckpointError: a model that can't be opened, or without its retriever.
    """
    clips = read_clips(data, events)
    ego = of_camera(clips, "ego")
    captioner = Captioner.from_pretrained(model, device="cpu")
    retriever = open_retriever(shipped(model, retriever=True) or Path(model) / "retriever", device="cpu")
    retriever.look_through(captioner.encoder)
    with tempfile.TemporaryDirectory() as scratch:
        library = ExoLibrary.create(Path(scratch) / "library", retriever)
        library.ingest(open_source(data / "library.csv", name="simkitchen"), latents=captioner)
        with_references: list[Query] = []
        for clip in ego:
            own = content_digest(data / "exo" / f"{clip.event}.mp4")
            retrieval = Retrieval(where=Filter(exclude_digests=(own,)))
            query = file_of(clip, data)
            ((references, _),) = captioner.find([query], library, SHOTS, retrieval)
            with_references.append((query, references))

    def judged(queries: Sequence[Query], **generation: Any) -> Judged:
        parts = [queries[first : first + BATCH] for first in range(0, len(queries), BATCH)]
        return Judged.of([one for part in parts for one in captioner.caption_batch(part, **generation)], ego)

    alone: list[Query] = [(query, ()) for query, _ in with_references]
    return judged(with_references), judged(with_references, num_beams=3), judged(alone)


def fitted(judged: Judged) -> Calibration:
    """The logistic that is kept with the model."""
    measured_on = f"SimKitchen validation, ego clips with {SHOTS} retrieved references; right: verb and noun"
    return Calibration.fit(judged.scores, judged.right, measured_on=measured_on)


def summary(judged: Judged, beams: Judged, alone: Judged) -> dict[str, Any]:
    """Everything that is printed."""
    calibration = fitted(judged)
    held_out = cross_fitted(judged.scores, judged.right)
    others = {
        name: {
            "accuracy": round(one.accuracy, 4),
            "mean confidence": round(sum(map(calibration, one.scores)) / len(one.scores), 4),
            "expected calibration error": round(
                expected_calibration_error([calibration(score) for score in one.scores], one.right), 4
            ),
        }
        for name, one in (("three beams", beams), ("no references", alone))
    }
    return {
        "captions": len(judged.right),
        "accuracy": round(judged.accuracy, 4),
        "slope": round(calibration.slope, 3),
        "intercept": round(calibration.intercept, 3),
        "expected calibration error": round(calibration.expected_calibration_error, 4),
        "right above wrong": round(right_above_wrong(judged), 4),
        "reliability": [
            {"confidence": round(mean, 4), "right": round(share, 4), "captions": count}
            for mean, share, count in reliability(held_out, judged.right)
        ],
        "thresholds": [
            {"threshold": at, "said": round(said, 4), "right": None if share is None else round(share, 4)}
            for at in THRESHOLDS
            for said, share in [at_threshold(held_out, judged.right, at)]
        ],
        "same logistic": others,
    }


def at_threshold(probabilities: Sequence[float], right: Sequence[bool], threshold: float) -> tuple[float, float | None]:
    """The share of captions that are said at a threshold, and the share of those that is right; None of none."""
    said = [is_right for p, is_right in zip(probabilities, right, strict=True) if p >= threshold]
    return len(said) / len(right), sum(said) / len(said) if said else None


def right_above_wrong(judged: Judged) -> float:
    """How often a right caption scores above a wrong one (the area under the ROC curve); 0.5 is chance."""
    scores, right = torch.tensor(judged.scores), torch.tensor(judged.right)
    above = (scores[right][:, None] - scores[~right][None]).sign()
    return float((above.mean() + 1) / 2) if above.numel() else float("nan")


def table(results: dict[str, Any]) -> str:
    lines = [
        f"{results['captions']} captions, {results['accuracy']:.1%} right; confidence = 1 / (1 + exp(-({results['slope']} · "
        f"score + {results['intercept']})))",
        f"expected calibration error {results['expected calibration error']:.3f} ({FOLDS} folds), a right caption scores "
        f"above a wrong one in {results['right above wrong']:.1%} of pairs",
        "",
        "confidence  right  captions",
        *(f"{row['confidence']:10.2f} {row['right']:6.2f} {row['captions']:9}" for row in results["reliability"]),
        "",
        "threshold   said  right",
        *(
            f"{row['threshold']:9.2f} {row['said']:6.1%} "
            + ("     –" if row["right"] is None else f"{row['right']:6.1%}")
            for row in results["thresholds"]
        ),
        "",
        *(
            f"{name}: {one['accuracy']:.1%} right, mean confidence {one['mean confidence']:.1%}, "
            f"expected calibration error {one['expected calibration error']:.3f}"
            for name, one in results["same logistic"].items()
        ),
    ]
    return "\n".join(lines)


def draw(judged: Judged, file: Path) -> None:
    """The plot: how often captions of a confidence are right, and what a threshold costs and gives.

    Raises:
        MissingExtraError: without matplotlib.
        InputError: the file can't be written.
    """
    require_extra("matplotlib", "train", "The plot")
    from matplotlib import rc_context

    with rc_context(STYLE), atomic_file(file) as partial:
        figure(judged).savefig(partial, format="svg", metadata={"Date": None})


def figure(judged: Judged) -> Figure:
    from matplotlib.figure import Figure

    probabilities = cross_fitted(judged.scores, judged.right)
    # White is legible on a dark page too.
    drawn = Figure(figsize=(9, 4), layout="constrained", facecolor="white")
    left, right = drawn.subplots(1, 2)
    means, shares, counts = zip(*reliability(probabilities, judged.right), strict=True)
    errors = [(share * (1 - share) / count) ** 0.5 for share, count in zip(shares, counts, strict=True)]
    left.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as sure as it should be")
    left.errorbar(means, shares, errors, color="#1f5fb4", marker="o", capsize=4, label="captions, in ten equal parts")
    left.set(title="Right by confidence", xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02))
    left.legend(frameon=False, loc="upper left")
    steps = [i / 100 for i in range(100)]
    said = [at_threshold(probabilities, judged.right, at) for at in steps]
    points = [(coverage, share) for coverage, share in said if share is not None and coverage >= 0.02]
    right.plot(*zip(*points, strict=True), color="#b0306a")
    for at in THRESHOLDS:
        coverage, share = at_threshold(probabilities, judged.right, at)
        if share is not None and coverage >= 0.02:
            right.plot(coverage, share, "o", color="#b0306a")
            right.annotate(f"{at:g}", (coverage, share), textcoords="offset points", xytext=(4, 5))
    right.set(
        title="What a threshold leaves",
        xlabel="share of clips captioned",
        ylabel="share right",
        xlim=(0, 1.05),
        ylim=(0, 1.02),
    )
    for axes in (left, right):
        axes.grid(alpha=0.25)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
