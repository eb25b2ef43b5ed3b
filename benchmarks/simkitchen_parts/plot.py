"""CIDEr over the number of references: a panel for each bucket, and the models without retrieval as levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import require_extra
from egoinstructor.files import atomic_file
from simkitchen_parts.evaluation import NONE, RETRIEVED
from simkitchen_parts.models import MODELS, RETRIEVAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC = "CIDEr"
SHOTS = {0: NONE, 1: "retrieved 1", 2: "retrieved 2", 4: RETRIEVED}
PANELS = ("seen", "novel words", "long tail")
FILE = Path("images", "simkitchen_shots.svg")
"""Beside the page."""
LOOKS = {"ego": ("#8a5a00", ":"), "ego+exo": ("#b0306a", "--"), "ego+exo+library": ("#2f7d32", "-.")}
STYLE: dict[Any, Any] = {"svg.hashsalt": "simkitchen", "svg.fonttype": "path", "font.size": 10}


def add_plot(page: Path, results: Mapping[str, Any]) -> str:
    """Write the plot beside a page.

    Args:
        page: Markdown that is to show it.
        results: of `evaluate`.

    Returns:
        What shows it; nothing if the results have no CIDEr of the retrieval model at these shots.

    Raises:
        MissingExtraError: without matplotlib.
        InputError: the file can't be written.
    """
    scores = {(row["model"], row["condition"]): row["buckets"] for row in results["conditions"]}
    curve = {shots: scores.get((RETRIEVAL, name), {}) for shots, name in SHOTS.items()}
    panels = [bucket for bucket in PANELS if all(METRIC in some.get(bucket, {}) for some in curve.values())]
    if not panels:
        return ""
    figure = draw(scores, curve, panels)
    from matplotlib import rc_context

    with rc_context(STYLE), atomic_file(page.parent / FILE) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})
    return (
        f"![CIDEr with 0, 1, 2 and 4 retrieved references, and of models without retrieval]({FILE.as_posix()})\n\n"
        "CIDEr (×100) over the number of retrieved references; bars and bands: standard deviation over seeds.\n\n"
    )


def draw(scores: Mapping[tuple[str, str], Any], curve: Mapping[int, Any], panels: Sequence[str]) -> Figure:
    """A panel for each bucket, all on one scale.

    Args:
        scores: by model and condition, each bucket's.
        curve: those of the retrieval model, by its references.
        panels: the buckets.

    Raises:
        MissingExtraError: without matplotlib.
    """
    require_extra("matplotlib", "train", "The plot")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        # White is legible on a dark page too.
        figure = Figure(figsize=(9, 3.8), layout="constrained", facecolor="white")
        for axes, bucket in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            for model in MODELS[1:]:
                if level := scores.get((model, NONE), {}).get(bucket, {}).get(METRIC):
                    colour, line = LOOKS[model]
                    mean, sd = 100 * level["mean"], 100 * level["sd"]
                    axes.axhline(mean, color=colour, linestyle=line, label=f"no retrieval, trained on {model}")
                    axes.axhspan(mean - sd, mean + sd, color=colour, alpha=0.12, linewidth=0)
            cells = [some[bucket][METRIC] for some in curve.values()]
            axes.errorbar(
                list(curve),
                [100 * cell["mean"] for cell in cells],
                [100 * cell["sd"] for cell in cells],
                color="#1f5fb4",
                marker="o",
                capsize=4,
                label="with retrieval",
            )
            axes.set(title=f"{bucket}, {curve[0][bucket]['queries']} queries", xlabel="references", xticks=list(curve))
            axes.grid(alpha=0.25)
        first = figure.axes[0]
        first.set_ylim(bottom=0)  # last: it also fixes the top, of all panels
        first.set_ylabel("CIDEr × 100")
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure
