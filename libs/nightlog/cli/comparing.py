"""The command that compares with a good run: two nights of the lake, or two files or folders without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from nightlog.cli.app import (
    Format,
    FormatOption,
    LakeOption,
    NightOption,
    SystemOption,
    app,
    checked_day,
    open_tables,
    out,
    print_heading,
    print_rows,
    safe,
    settings_from,
    warn,
)
from nightlog.errors import UsageError

LINE_COLUMNS = ("file", "line_no", "score")
NIGHT = re.compile(r"\d{4}-\d\d-\d\d")
LONGEST = 300  # characters of a line on the terminal


@app.command(rich_help_panel="Investigate")
def compare(
    context: typer.Context,
    places: Annotated[
        list[str] | None, typer.Argument(help="A log file or folder; or two files, folders or nights, the good one first.")
    ] = None,
    baseline: Annotated[str, typer.Option("--baseline", help="The good run: a file, a folder, or a night (YYYY-MM-DD).")] = "",
    ds: NightOption = "",
    system: SystemOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows of each kind and passages in the table; json and csv have all.")] = 5,
    n_context: Annotated[int, typer.Option("--context", min=0, help="Lines around each passage.")] = 2,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare with a good run: show what a file, a folder or a night has that the good one lacks, line by line, the most novel first.

    Numbers, ids, paths, times and addresses do not count. A line is new if the good run lacks its message; it ranks by new words, new pairs
    of words, severe wording, and new lines around it. Of two nights, the changes in anomalies, templates and patterns come first, by
    sessions: a template or pattern is more or fewer if its share has at least doubled or halved, and by more than chance.

    Example: nightlog compare /var/log/shop/shop-2026-03-05.log --baseline /var/log/shop/shop-2026-03-04.log

    Example: nightlog compare --ds 2026-03-05 --baseline 2026-03-04 --system shop
    """
    if context.resilient_parsing:
        return
    good, run = chosen(places or [], baseline, ds)
    if run and not is_night(run):
        compare_files(Path(run), Path(good), limit, n_context, form)
    else:
        compare_nights(checked_day(context, good), checked_day(context, run), system, limit, n_context, lake, form)


def is_night(place: str) -> bool:
    """Return True for the day of a night, unless a file or folder has this name."""
    return NIGHT.fullmatch(place) is not None and not Path(place).exists()


def chosen(places: list[str], baseline: str, ds: str) -> tuple[str, str]:
    """Return the good run and the other one, which is empty for the last published night. Raises UsageError."""
    if len(places) > 2 - bool(baseline) or (places and ds) or (not baseline and len(places) != 2):
        raise UsageError(
            "give a file or folder, or a night by --ds, and its --baseline; or two files, folders or nights, the good one first"
        )
    good, run = (baseline, (places or [ds])[0]) if baseline else places
    if is_night(good) != (not run or is_night(run)):
        raise UsageError(f"{good} and {run or 'the last night'}: compare two nights, or two files or folders")
    return good, run


def compare_files(run: Path, good: Path, limit: int, n_context: int, form: Format) -> None:
    """Compare two files or folders, without a lake."""
    from functools import partial

    from nightlog.comparison.blocks import file_blocks
    from nightlog.comparison.compare import Comparison

    found = Comparison(partial(file_blocks, run), partial(file_blocks, good))
    if form != Format.TABLE:
        print_rows(line_rows(found, ""), columns(), form)
    else:
        print_passages(found, str(run), str(good), limit, n_context)


def compare_nights(before: str, after: str, system: str, limit: int, n_context: int, lake: Path | None, form: Format) -> None:
    """Compare two nights of the lake, by sessions and by lines."""
    from functools import partial

    from nightlog.cli.night_state import joint_state, night_state
    from nightlog.comparison.blocks import night_blocks
    from nightlog.comparison.compare import Comparison
    from nightlog.comparison.sessions import compare_nights as compare_sessions
    from nightlog.lake.tables import LINES_TABLE
    from nightlog.systems.catalog import load_catalog
    from nightlog.systems.spec import DEFAULT_MASKS

    settings, tables = settings_from(lake=lake), open_tables(lake)
    states = [night_state(tables, settings.systems, ds, system) for ds in (before, after)]
    state, after = joint_state(*states), after or states[1].ds
    state.warn()
    for name in sorted(set(states[0].published) ^ set(states[1].published)):
        warn(f"{name}: no published night {after if name in states[0].published else before}")
    rows = [row | dict.fromkeys(LINE_COLUMNS) for row in compare_sessions(tables, before, after, state.published)]
    if form == Format.TABLE and state.published:
        print_changes(rows, after, limit)
    catalog = load_catalog(settings.systems)
    for name in state.published:
        if missing := [ds for ds in (before, after) if not tables.parts(LINES_TABLE, system=name, ds=ds)]:
            warn(f"{name}: the lines of {' and '.join(missing)} are not in the lake any more, so only sessions are compared")
            continue
        night, good = (partial(night_blocks, tables, name, ds) for ds in (after, before))
        found = Comparison(night, good, catalog[name].all_masks if name in catalog else DEFAULT_MASKS)
        if form == Format.TABLE:
            print_passages(found, f"{name} {after}", before, limit, n_context)
        else:
            rows += line_rows(found, name)
    if form != Format.TABLE:
        print_rows(rows, columns(), form)
    raise typer.Exit(state.exit_code)


def columns() -> list[str]:
    """Return the columns of the rows of all comparisons."""
    from nightlog.comparison.sessions import COLUMNS

    return [*COLUMNS, *LINE_COLUMNS]


def line_rows(found: Any, system: str) -> list[dict[str, Any]]:
    """Return the new lines of a comparison as rows. Args: system: empty without a lake."""
    about = {"system": system or None, "kind": "line", "change": "new", "id": None, "before": 0}
    return [about | {"after": row["n_same"], "what": row["text"]} | {name: row[name] for name in LINE_COLUMNS} for row in found.rows()]


def print_changes(rows: list[dict[str, Any]], after: str, limit: int) -> None:
    """Print the changes in anomalies, templates and patterns, by sessions."""
    from nightlog.comparison.sessions import CHANGES, COLUMNS, KINDS
    from nightlog.sanitize import shortened

    if not rows:
        out.print(f"nothing is new, gone, more or fewer on {after}, by sessions")
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        shown = [row for change in CHANGES for row in [each for each in own if each["change"] == change][:limit]]
        if shown:
            print_heading({"anomaly": "Anomalies", "template": "Templates", "pattern": "Patterns"}[kind])
            names = [name for name in COLUMNS if name != "kind"]
            print_rows([row | {"what": shortened(row["what"], 160)} for row in shown], names, Format.TABLE)
        if len(own) > len(shown):
            out.print(f"{len(own) - len(shown):,} more: --limit or --format json")


def print_passages(found: Any, run: str, good: str, limit: int, n_context: int) -> None:
    """Print the most novel passages of a comparison."""
    from nightlog.pages.words import n_of
    from nightlog.sanitize import shortened

    shown, n = found.passages(limit, n_context)
    n_new, n_lines = int(found.found.is_new.sum()), len(found.run.codes)
    print_heading(f"{run} against {good}: {n_new:,} of {n_of(n_lines, 'line')} are new, in {n_of(n, 'passage')}")
    if not found.n_good:
        warn(f"{good}: has no lines, so all lines are new")
    for number, each in enumerate(shown, 1):
        passage = each.passage
        top = next(line for line in each.lines if line is not None)
        alike = f", {n_of(passage.n_alike - 1, 'more passage')} like it" if passage.n_alike > 1 else ""
        out.print()
        out.print(
            safe(f"{number}. {top.file}: {n_of(passage.n_new, 'new line')}, score {passage_score(each):.2f}{alike}"),
            style="bold",
            soft_wrap=True,
        )
        for line in each.lines:
            if line is None:
                out.print("          …", style="dim")
            else:
                text = f"{'▶' if line.is_new else ' '} {line.line_no:>7}  {shortened(line.text, LONGEST)}"
                out.print(safe(text), style=None if line.is_new else "dim", soft_wrap=True)
    if n > len(shown):
        out.print(f"\n{n_of(n - len(shown), 'more passage')}: --limit or --format json")


def passage_score(shown: Any) -> float:
    """Return the greatest score of a passage's lines."""
    return float(max(line.score for line in shown.lines if line is not None))
