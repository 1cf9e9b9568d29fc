"""The tables and the plot of the bench, from its records: one per program, size, round and stage.

A *part* of a Nightlog process is one night: the first, `again` or `next`; the stages of the latter two carry that name as a prefix.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from corpus import LINES

Record = dict[str, Any]
PARTS = ("", "again", "next")
APART = ("start", "model", "end")
# Label, colour, and if the line of a plot is a limit that mines no templates.
LOOKS = {
    "nightlog-parse": ("Nightlog, file to Delta", "#0b5fa5", False),
    "nightlog-night": ("Nightlog, first night", "#4da3e0", False),
    "drain3": ("Drain3", "#b3401a", False),
    "drain3-cores": ("Drain3, a process per core", "#e58a4c", False),
    "loglead-tip": ("LogLead, Tipping", "#2e7d32", False),
    "loglead-auto": ("LogLead, AutoLoader", "#86b86a", False),
    "brain": ("Brain", "#7b3fa0", False),
    "duckdb": ("DuckDB, header only", "#777777", True),
    "polars": ("Polars, header only", "#a0a0a0", True),
    "zstd": ("read once, zstd -1", "#555555", True),
    "copy": ("read once, write once", "#222222", True),
}


class Target(NamedTuple):
    """A ratio that is to be reached: a program's field divided by another's, at a size of so many copies."""

    name: str
    copies: int
    field: str
    program: str
    of: str
    target: float
    aim: float | None


TARGETS = (
    Target("file to Delta ÷ LogLead with Tipping, whole processes", 50, "process_s", "nightlog-parse", "loglead-tip", 0.60, 0.45),
    Target("first night ÷ Drain3 in one process, whole processes", 50, "process_s", "nightlog-night", "drain3", 0.50, 0.40),
    Target("first night ÷ LogLead with Tipping, whole processes", 5, "process_s", "nightlog-night", "loglead-tip", 2.5, 1.5),
    Target("the same night again ÷ the first", 50, "wall_s", "nightlog-night, again", "nightlog-night", 0.60, None),
    Target("the next day's night ÷ the first", 50, "wall_s", "nightlog-night, next", "nightlog-night", 0.60, None),
    Target("JSON ÷ plain text, CPU", 15, "cpu_s", "nightlog-json", "nightlog-parse", 1.3, 1.1),
    Target("a UUID in each line ÷ none, CPU", 15, "cpu_s", "nightlog-uuid", "nightlog-parse", 1.5, 1.2),
)
PEAK_GB = (4.5, 3.0)


def run_rows(records: Iterable[Record]) -> list[Record]:
    """Return a row per round and part of each program: its seconds without and with the start and end of the process, bytes and peak.

    A peer's start belongs to its work: its two times are the same. The process of a second night is not given: it shares that of the first.
    """
    runs: dict[tuple[str, int, int], list[Record]] = {}
    for each in records:
        runs.setdefault((each["program"], each["lines"], each["round"]), []).append(each)
    return [row for run in runs.values() for row in rows_of_run(run)]


def rows_of_run(run: list[Record]) -> Iterable[Record]:
    """Yield the rows of one process, see `run_rows`."""
    total = next(each for each in run if each["stage"] == "total")
    same = {name: total[name] for name in ("program", "lines", "round")}
    if not total["program"].startswith("nightlog") or "stopped" in total:
        fields = {name: total[name] for name in ("wall_s", "cpu_s", "bytes_written", "peak_rss_bytes")}
        yield same | fields | {"process_s": total["wall_s"], "stopped": total.get("stopped", "")}
        return
    for part in PARTS:
        stages = [each for each in run if part_of(each["stage"]) == part and each["stage"] not in (*APART, "total")]
        if not stages:
            continue
        around = [each for each in run if each["stage"] in APART] if not part else []
        row = {name: sum(each[name] for each in stages) for name in ("wall_s", "cpu_s", "bytes_written")}
        row["process_s"] = row["wall_s"] + sum(each["wall_s"] for each in around) if not part else None
        row["peak_rss_bytes"] = max(each["peak_rss_bytes"] for each in stages + around)
        yield same | row | {"program": ", ".join(filter(None, (total["program"], part))), "stopped": ""}


def part_of(stage: str) -> str:
    """Return the part to which a stage belongs."""
    return next((part for part in PARTS[1:] if stage.startswith(f"{part}-")), "")


def median_rows(rows: Iterable[Record]) -> list[Record]:
    """Return a row per program and size: the medians of its rounds, and the largest peak."""
    groups: dict[tuple[int, str], list[Record]] = {}
    for row in rows:
        groups.setdefault((row["lines"], row["program"]), []).append(row)
    found = []
    for (lines, program), mine in groups.items():
        row = {"program": program, "lines": lines, "rounds": len(mine), "stopped": mine[0]["stopped"]}
        for name in ("wall_s", "cpu_s", "process_s", "bytes_written"):
            row[name] = None if mine[0][name] is None else statistics.median(each[name] for each in mine)
        row["peak_rss_bytes"] = max(each["peak_rss_bytes"] for each in mine)
        found.append(row)
    return sorted(found, key=lambda row: row["lines"])


def table(records: list[Record]) -> str:
    """Return Markdown: the programs, Nightlog's stages, small systems, and the ratios that are to be reached."""
    rows = run_rows(records)
    text = "| lines | program | rounds | wall s | CPU s | process, wall s | peak memory GB | written MB |\n"
    text += "|---|---|---|---|---|---|---|---|\n"
    for row in median_rows(rows):
        process = "" if row["process_s"] is None else f"{row['process_s']:.1f}"
        wall = f"stopped at {row['stopped']}" if row["stopped"] else f"{row['wall_s']:.1f}"
        text += f"| {row['lines']:,} | {row['program']} | {row['rounds']} | {wall} | {row['cpu_s']:.1f} | {process} "
        text += f"| {row['peak_rss_bytes'] / 1e9:.2f} | {row['bytes_written'] / 1e6:.0f} |\n"
    return f"{text}\n{stage_table(records)}{many_text(rows)}\n{target_table(rows)}"


def stage_table(records: list[Record]) -> str:
    """Return Markdown: the medians of each stage of Nightlog's."""
    text = "| lines | program | stage | wall s | CPU s | peak memory GB |\n|---|---|---|---|---|---|\n"
    stages: dict[tuple[int, str, str], list[Record]] = {}
    for each in records:
        if each["program"].startswith("nightlog") and each["stage"] != "total":
            stages.setdefault((each["lines"], each["program"], each["stage"]), []).append(each)
    for (lines, program, stage), found in stages.items():
        wall, cpu = (statistics.median(each[field] for each in found) for field in ("wall_s", "cpu_s"))
        peak = max(each["peak_rss_bytes"] for each in found) / 1e9
        text += f"| {lines:,} | {program} | {stage} | {wall:.1f} | {cpu:.1f} | {peak:.2f} |\n"
    return text


def many_text(rows: list[Record]) -> str:
    """Return a line per run of many small systems."""
    many = [(row["lines"] // 5000, row["wall_s"]) for row in rows if row["program"] == "nightlog-many"]
    return "".join(f"\n{n} systems of 5,000 lines: {wall / n:.2f} s per system (without start and end)\n" for n, wall in many)


def target_table(rows: list[Record]) -> str:
    """Return Markdown: each ratio of medians over the rounds that both programs have, the ratio of each round, target, aim and outcome."""
    text = "| ratio | lines | of the medians | in each round | target | aim | |\n|---|---|---|---|---|---|---|\n"
    for each in TARGETS:
        lines = each.copies * LINES
        ours, theirs = (
            {row["round"]: row[each.field] for row in rows if (row["program"], row["lines"]) == (name, lines) and not row["stopped"]}
            for name in (each.program, each.of)
        )
        if rounds := sorted(ours.keys() & theirs.keys()):
            ratio = statistics.median(ours[n] for n in rounds) / statistics.median(theirs[n] for n in rounds)
            alone = ", ".join(f"{ours[n] / theirs[n]:.2f}" for n in rounds)
            aim = "" if each.aim is None else f"{each.aim:.2f}"
            text += f"| {each.name} | {lines:,} | {ratio:.2f} | {alone} | ≤ {each.target:.2f} | {aim} "
            text += f"| {outcome(ratio, each.target)} |\n"
    if own := [row for row in rows if row["program"].startswith("nightlog")]:
        largest = max(own, key=lambda row: row["peak_rss_bytes"])
        peak = largest["peak_rss_bytes"] / 1e9
        text += f"| peak memory, GB, of {largest['program']} | {largest['lines']:,} | {peak:.2f} | | ≤ {PEAK_GB[0]} | {PEAK_GB[1]} "
        text += f"| {outcome(peak, PEAK_GB[0])} |\n"
    return text


def outcome(value: float, target: float) -> str:
    """Return if a value meets its target."""
    return "met" if value <= target else "**missed**"


def plot(records: list[Record], path: Path) -> None:
    """Draw wall seconds of whole processes, and peak memory, over lines; labels stand at the ends of the lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in median_rows(run_rows(records)) if row["program"] in LOOKS and not row["stopped"]]
    if not rows:
        return
    figure, axes = plt.subplots(1, 2, figsize=(13, 6))
    panels = (("process_s", 1, "seconds, whole process"), ("peak_rss_bytes", 1e9, "peak memory, GB"))
    for axis, (field, unit, label) in zip(axes, panels, strict=True):
        axis.set(xlabel="million lines", ylabel=label, xscale="log", yscale="log")
        ends = []
        for program, (text, colour, limit) in LOOKS.items():
            if field == "peak_rss_bytes" and program in ("zstd", "copy"):
                continue
            mine = [(row["lines"] / 1e6, row[field] / unit) for row in rows if row["program"] == program]
            if mine:
                axis.plot(*zip(*mine, strict=True), marker="o", markersize=4, color=colour, linestyle="--" if limit else "-")
                ends.append((*mine[-1], text, colour))
        most = max(row["lines"] for row in rows) / 1e6
        axis.set_xlim(min(row["lines"] for row in rows) / 1e6 * 0.8, most * 1.2)
        ticks = sorted({row["lines"] / 1e6 for row in rows})
        axis.set_xticks(ticks, [f"{tick:.1f}" if tick >= 1 else f"{tick:.2f}" for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.grid(visible=True, alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        label_ends(axis, ends)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def label_ends(axis: Any, ends: list[tuple[float, float, str, str]], least: float = 0.045) -> None:
    """Write each line's label at the right of the axes, as near its end as the others leave room.

    Args:
        ends: (x, y, text, colour) of each line's last point.
        least: distance of two labels, as a share of the axes' height.
    """
    to_axes = axis.transData + axis.transAxes.inverted()
    heights = [float(to_axes.transform((x, y))[1]) for x, y, _, _ in ends]
    order = sorted(range(len(ends)), key=heights.__getitem__)
    places = dict(zip(order, spread([heights[number] for number in order], least), strict=True))
    for number, (x, y, text, colour) in enumerate(ends):
        place = places[number]
        axis.annotate(
            text,
            xy=(x, y),
            xytext=(1.04, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6},
        )


def spread(heights: list[float], least: float) -> list[float]:
    """Move ascending heights as little as needed, so that neighbours are at least so far apart.

    >>> [round(each, 2) for each in spread([0.1, 0.5, 0.5], 0.1)]
    [0.1, 0.45, 0.55]
    """
    blocks: list[tuple[float, int]] = []  # middle, labels
    for height in heights:
        middle, count = height, 1
        while blocks and middle - blocks[-1][0] < least * (count + blocks[-1][1]) / 2:
            before, n = blocks.pop()
            middle, count = (before * n + middle * count) / (n + count), n + count
        blocks.append((middle, count))
    return [middle + (number - (count - 1) / 2) * least for middle, count in blocks for number in range(count)]
