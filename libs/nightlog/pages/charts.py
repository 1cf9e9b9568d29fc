"""Charts as inline SVG for pages that load nothing. Colours are classes (c0 … c5, muted): `CHART_STYLE` decides on light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CHART_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --soft: #5f6770; --rule: #dde1e6; --grey: #a9b0b8;
  --c0: #0b66c3; --c1: #c4570a; --c2: #16845c; --c3: #9a3fa5; --c4: #b8860b; --c5: #44546a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa3ac; --rule: #2c3238; --grey: #626b74;
    --c0: #5aa9f5; --c1: #f2935c; --c2: #4cc497; --c3: #d48ade; --c4: #e0b64a; --c5: #a9b8cc; }
}
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); } .c4 { color: var(--c4); }
.c5 { color: var(--c5); } .muted { color: var(--grey); }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; }
.dot { fill: currentColor; stroke: var(--paper); stroke-width: 1.5; stroke-dasharray: none; }
.bar { fill: currentColor; }
.interval { stroke: var(--ink); fill: none; stroke-width: 1.2; }
.grid { stroke: var(--rule); fill: none; }
.ideal { stroke: var(--grey); stroke-dasharray: 3 4; fill: none; }
text { fill: var(--ink); font-size: 12px; }
.tick, .axis { fill: var(--soft); font-size: 11px; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
svg { display: block; max-width: 100%; height: auto; }
"""

Point = tuple[float, float]
SIDE, LEFT, TOP, BOTTOM, RIGHT = 240, 40, 8, 34, 10
ROW, NAMES, BAR, VALUES = 22, 190, 300, 150
LONGEST_NAME = 24  # letters that fit into NAMES
SVG_START = '<svg xmlns="http://www.w3.org/2000/svg"'


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
            title = f"<title>{escape(one.name)}: {across} {mark[0]:.3f}, {up} {mark[1]:.3f}</title>"
            parts.append(f'<circle class="dot {style}" cx="{centre[0]}" cy="{centre[1]}" r="{3.5 if one.dots else 5}">{title}</circle>')
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
        title = f"<title>{escape(row.name)}: {escape(row.text)}</title>"
        parts.append(f'<rect class="bar {colour}" x="{NAMES}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" rx="2">{title}</rect>')
        if row.interval is not None:
            low, high = (NAMES + BAR * min(1.0, end / limit) for end in row.interval)
            parts.append(f'<path class="interval" d="M{low:.1f} {y + ROW / 2}H{high:.1f}M{low:.1f} {y + 7}v8M{high:.1f} {y + 7}v8"/>')
        parts.append(f'<text x="{NAMES + BAR + 8}" y="{y + 15}" class="value">{escape(row.text)}</text>')
    return svg(NAMES + BAR + VALUES, ROW * len(rows), parts, about)


@dataclass(frozen=True)
class Column:
    """A column of a chart over nights: `value` is None where nothing is known; `strong` columns stand out."""

    name: str
    value: float | None
    strong: bool = False


def columns(values: Sequence[Column], about: str, height: int = 90, step: int = 26, labels: bool = True) -> str:
    """Columns from 0 to the greatest value, each named by its title; a dot on the base line where nothing is known.

    With `labels` the greatest value, the first and the last name are written out; without, the picture is small enough for a line of text.
    """
    top = max((column.value for column in values if column.value is not None), default=0)
    left, above, below = (8 * len(f"{top:,g}") + 8, 8, 20) if labels else (0, 1, 1)
    base, width = above + height, left + step * len(values)
    parts = [f'<path class="grid" d="M{left} {base + 0.5}h{step * len(values)}"/>']
    for number, column in enumerate(values):
        x = left + step * number
        title = f"<title>{escape(column.name)}: {'not in the lake' if column.value is None else f'{column.value:,g}'}</title>"
        if column.value is None:
            parts.append(f'<circle class="bar muted" cx="{x + step / 2:g}" cy="{base - 1.5}" r="1.5">{title}</circle>')
            continue
        tall = max(1.0, height * column.value / top) if column.value else 0.0
        colour = "c1" if column.strong else "c0"
        parts.append(f'<rect class="bar {colour}" x="{x + 1}" y="{base - tall:.1f}" width="{step - 2}" height="{tall:.1f}">{title}</rect>')
    if labels and values:
        parts.append(f'<text x="{left - 6}" y="{above + 6}" class="tick end">{top:,g}</text>')
        parts.append(f'<text x="{left - 6}" y="{base + 4}" class="tick end">0</text>')
        parts.append(f'<text x="{left}" y="{base + 16}" class="tick">{escape(values[0].name)}</text>')
        if len(values) > 6:
            parts.append(f'<text x="{width}" y="{base + 16}" class="tick end">{escape(values[-1].name)}</text>')
    return svg(width, base + below, parts, about)


@dataclass(frozen=True)
class Share:
    """A part of a whole in a stacked bar: its name, its colour (None is muted) and its count."""

    name: str
    colour: int | None
    count: int


def stacked(shares: Sequence[Share], about: str, width: int = 160, height: int = 12) -> str:
    """One bar in parts, as wide as their counts; a part that is there is never thinner than two units."""
    total = sum(share.count for share in shares)
    there = [share for share in shares if share.count]
    spare = width - 2.0 * len(there)
    parts, x = [], 0.0
    for share in there:
        wide = 2 + spare * share.count / total
        colour = "muted" if share.colour is None else f"c{share.colour}"
        title = f"<title>{escape(share.name)}: {share.count:,} of {total:,}</title>"
        parts.append(f'<rect class="bar {colour}" x="{x:.1f}" y="0" width="{wide - 1:.1f}" height="{height}">{title}</rect>')
        x += wide
    return svg(width, height, parts, f"{about}: " + "; ".join(f"{share.name} {share.count:,}" for share in there))


HOURS = 24
CELL = 24  # of the heat-map


def heat_map(rows: Sequence[tuple[str, Sequence[int]]], about: str) -> str:
    """Counts by hour: a row per name, a cell per hour of the day, the darker the more; hours without any are empty.

    Its text alternative has the sum and the greatest hour of each row. Args: rows: (name, HOURS counts).
    """
    top = max((n for _, counts in rows for n in counts), default=0)
    base = ROW * len(rows)
    parts = [f'<path class="grid" d="M{NAMES + CELL * hour} 0v{base}"/>' for hour in range(0, HOURS + 1, 6)]
    sums = []
    for number, (name, counts) in enumerate(rows):
        y = ROW * number
        parts.append(f'<text x="{NAMES - 8}" y="{y + 15}" class="name end">{escape(shortened(name))}</text>')
        for hour, n in enumerate(counts):
            if n:
                strength = 0.25 + 0.75 * n / top
                title = f"<title>{escape(name)}, {hour:02}:00 to {hour + 1:02}:00 UTC: {n:,}</title>"
                place = f'x="{NAMES + CELL * hour + 1}" y="{y + 2}" width="{CELL - 2}" height="{ROW - 4}"'
                parts.append(f'<rect class="bar c1" {place} rx="2" fill-opacity="{strength:.2f}">{title}</rect>')
        hour = max(range(len(counts)), key=lambda each: counts[each])
        sums.append(f"{name} {sum(counts):,}, most from {hour:02}:00 on ({counts[hour]:,})")
    for hour in range(0, HOURS + 1, 6):
        parts.append(f'<text x="{NAMES + CELL * hour}" y="{base + 15}" class="tick mid">{hour:02}:00</text>')
    return svg(NAMES + CELL * HOURS + 20, base + 20, parts, f"{about}; {'; '.join(sums)}")


@dataclass(frozen=True)
class Track:
    """A row of a time line: where in [0, 1] its events lie; `strong` rows stand out."""

    name: str
    at: Sequence[float]
    strong: bool = False


def timeline(tracks: Sequence[Track], first: str, last: str, about: str, names: int = NAMES, wide: int = BAR + VALUES) -> str:
    """A dot an event, a row a kind of event, from the `first` time to the `last`; names are cut to what fits.

    Args: names, wide: the width of the names, and that of the line.
    """
    parts = [f'<path class="grid" d="M{names + wide * step / 4:.1f} 0v{ROW * len(tracks)}"/>' for step in range(5)]
    for number, track in enumerate(tracks):
        y = ROW * number + ROW / 2
        name = escape(shortened(track.name, LONGEST_NAME * names // NAMES))
        parts.append(f'<text x="{names - 8}" y="{y + 4:g}" class="name end">{name}</text>')
        colour = "c1" if track.strong else "c0"
        parts += [f'<circle class="dot {colour}" cx="{names + wide * at:.1f}" cy="{y:g}" r="4"/>' for at in track.at]
    base = ROW * len(tracks) + 15
    parts.append(f'<text x="{names}" y="{base}" class="tick">{escape(first)}</text>')
    parts.append(f'<text x="{names + wide}" y="{base}" class="tick end">{escape(last)}</text>')
    return svg(names + wide + 8, base + 5, parts, about)


def shortened(text: str, most: int = LONGEST_NAME) -> str:
    """Return text, cut if it is longer than `most` characters; by default as it fits beside a bar or a row.

    >>> shortened("The session timed out waiting for a lock")
    'The session timed out w…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def standalone(picture: str) -> str:
    """A chart as an SVG file of its own, with its style inside: for where no page brings one.

    >>> standalone(svg(1, 1, [], "nothing"))[:46]
    '<svg xmlns="http://www.w3.org/2000/svg" width='
    """
    style = f"{CHART_STYLE}svg {{ background: var(--paper); font-family: system-ui, sans-serif; }}"
    opening, rest = picture.split(">", 1)
    return f"{opening.replace('<svg', SVG_START)}><style>{style}</style>{rest}"


def svg(width: float, height: float, parts: Sequence[str], about: str) -> str:
    """A picture that scales down with the page; without a style attribute, which a strict content security policy would refuse."""
    size = f'width="{width:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg {size} role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'
