"""Charts as inline SVG. Colours are classes (c0 … c5, muted), so that the page's style sheet decides on light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
SIDE, LEFT, TOP, BOTTOM, RIGHT = 240, 40, 8, 34, 10
ROW, NAMES, BAR, VALUES = 22, 190, 300, 150


@dataclass(frozen=True)
class Series:
    """A line in a square plot: points in [0, 1]², the `mark` stands out."""

    name: str
    colour: int
    points: Sequence[Point]
    dashed: bool = False
    dots: bool = False
    mark: Point | None = None


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: `value` drawn over `limit`, `text` beside it, and an interval where there is one. No colour is muted."""

    name: str
    colour: int | None
    value: float
    text: str
    interval: tuple[float, float] | None = None


def square(series: Sequence[Series], across: str, up: str, diagonal: bool = False) -> str:
    """A plot of [0, 1]² with gridlines in quarters."""

    def place(point: Point) -> str:
        return f"{LEFT + SIDE * point[0]:.1f},{TOP + SIDE * (1 - point[1]):.1f}"

    parts = []
    for step in range(5):
        share = step / 4
        x, y = LEFT + SIDE * share, TOP + SIDE * (1 - share)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{SIDE}M{x:.1f} {TOP}v{SIDE}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="tick end">{share:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + SIDE + 15}" class="tick mid">{share:g}</text>')
    if diagonal:
        parts.append(f'<path class="ideal" d="M{place((0, 0))}L{place((1, 1))}"/>')
    for one in series:
        style = f"c{one.colour}" + (" dashed" if one.dashed else "")
        about = f"<title>{escape(one.name)}</title>"
        if len(one.points) > 1:
            parts.append(f'<polyline class="line {style}" points="{" ".join(map(place, one.points))}">{about}</polyline>')
        marks = [*(one.points if one.dots else ()), *([one.mark] if one.mark else ())]
        for mark in marks:
            centre = place(mark).split(",")
            told = f"<title>{escape(one.name)}: {across} {mark[0]:.3f}, {up} {mark[1]:.3f}</title>"
            parts.append(f'<circle class="dot {style}" cx="{centre[0]}" cy="{centre[1]}" r="{3.5 if one.dots else 5}">{told}</circle>')
    parts.append(f'<text x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 30}" class="axis mid">{escape(across)}</text>')
    parts.append(f'<text transform="translate(10 {TOP + SIDE / 2}) rotate(-90)" class="axis mid">{escape(up)}</text>')
    return svg(LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM, parts, f"{up} by {across}")


def bars(rows: Sequence[Bar], limit: float, about: str) -> str:
    """Horizontal bars from 0 to `limit`."""
    parts = [f'<path class="grid" d="M{NAMES + BAR * step / 4:.1f} 0v{ROW * len(rows)}"/>' for step in range(5)]
    for number, row in enumerate(rows):
        y = ROW * number
        colour = "muted" if row.colour is None else f"c{row.colour}"
        width = BAR * min(1.0, row.value / limit) if limit else 0
        parts.append(f'<text x="{NAMES - 8}" y="{y + 15}" class="name end">{escape(row.name)}</text>')
        told = f"<title>{escape(row.name)}: {escape(row.text)}</title>"
        parts.append(f'<rect class="bar {colour}" x="{NAMES}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" rx="2">{told}</rect>')
        if row.interval is not None:
            low, high = (NAMES + BAR * min(1.0, end / limit) for end in row.interval)
            parts.append(f'<path class="interval" d="M{low:.1f} {y + ROW / 2}H{high:.1f}M{low:.1f} {y + 7}v8M{high:.1f} {y + 7}v8"/>')
        parts.append(f'<text x="{NAMES + BAR + 8}" y="{y + 15}" class="value">{escape(row.text)}</text>')
    return svg(NAMES + BAR + VALUES, ROW * len(rows), parts, about)


def svg(width: float, height: float, parts: Sequence[str], about: str) -> str:
    """A picture that scales down with the page."""
    return f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'
