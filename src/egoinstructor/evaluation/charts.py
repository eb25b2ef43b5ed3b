"""Charts as inline SVG, in the page's own colours: a histogram, and points of two quantities. Numbers in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 440, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 44
BINS = 20


def histogram(values: Sequence[float], name: str, bins: int = BINS) -> str:
    """How often which value is met.

    Args:
        values: one or more.
        name: of the quantity.
        bins: bars.
    """
    low, high = _range(values)
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    most = max(counts)
    each = (WIDTH - LEFT - RIGHT) / bins
    bars = []
    for number, count in enumerate(counts):
        tall = (HEIGHT - TOP - BOTTOM) * count / most
        first, last = (low + (high - low) * place / bins for place in (number, number + 1))
        bars.append(
            f'<rect class="bar" x="{LEFT + number * each + 1:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" '
            f'width="{each - 2:.1f}" height="{tall:.1f}"><title>{first:.2f} to {last:.2f}: {count}</title></rect>'
        )
    mean = sum(values) / len(values)
    place = LEFT + (mean - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    bars.append(f'<line class="mean" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    said = f"Histogram of {name} of {len(values)} samples, from {low:.2f} to {high:.2f}, mean {mean:.3f}"
    return _chart(said, "".join(bars), (low, high, name), (0, most, "samples"))


def points(xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str) -> str:
    """A point for each pair.

    Args:
        xs: one or more.
        ys: as many.
        x_name: of the quantity to the right.
        y_name: of the quantity upwards.
    """
    (left, right), (low, high) = _range(xs), _range(ys)
    dots = []
    for x, y in zip(xs, ys, strict=True):
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        dots.append(f'<circle class="dot" cx="{across:.1f}" cy="{up:.1f}" r="3"/>')
    said = f"{y_name} against {x_name}, {len(dots)} samples"
    return _chart(said, "".join(dots), (left, right, x_name), (low, high, y_name))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least, or 0, to the greatest, never empty."""
    low, high = min(0.0, *values), max(values)
    return low, high if high > low else low + 1


def _chart(said: str, marks: str, x: tuple[float, float, str], y: tuple[float, float, str]) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    axes = f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    ticks = "".join(
        f'<text x="{LEFT + share * (right - LEFT):.0f}" y="{bottom + 16}" text-anchor="{anchor}">'
        f"{_short(x[0] + share * (x[1] - x[0]))}</text>"
        f'<text x="{LEFT - 6}" y="{bottom - share * (bottom - TOP) + 4:.0f}" text-anchor="end">'
        f"{_short(y[0] + share * (y[1] - y[0]))}</text>"
        for share, anchor in ((0, "middle"), (0.5, "middle"), (1, "end"))
    )
    middle = (LEFT + right) // 2
    names = (
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x[2])}</text>'
        f'<text x="12" y="{(TOP + bottom) // 2}" text-anchor="middle" transform="rotate(-90 12 {(TOP + bottom) // 2})">'
        f"{escape(y[2])}</text>"
    )
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{axes}{ticks}{marks}{names}</svg>"
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"
