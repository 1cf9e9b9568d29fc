"""Commands about verdicts: a session's whole story, a past verdict derived again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from nightlog.cli.app import (
    Format,
    FormatOption,
    ItsSystem,
    LakeOption,
    LastNight,
    app,
    err,
    open_tables,
    out,
    print_heading,
    print_rows,
    safe,
    settings_from,
)
from nightlog.errors import NotThere, UsageError
from nightlog.sanitize import as_json, escaped

MOST_EVENTS = 1000


@app.command(rich_help_panel="Investigate")
def show(
    session: Annotated[str, typer.Argument(help="The session, or a pattern's id: then its first session.")],
    system: ItsSystem = "",
    ds: LastNight = "",
    n_lines: Annotated[int, typer.Option("--lines", min=3, help="Events that are shown; json has up to 1,000.")] = 40,
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show a session's whole story: what happened, who decided and why, what is normal beside it, raw lines, feedback, other nights.

    Example: nightlog show s20 --system shop

    Example: nightlog show s20 --format json
    """
    from nightlog.cli.night_state import night_state
    from nightlog.lake.lookup import find_target
    from nightlog.lake.tables import PATTERNS
    from nightlog.pages.story import read_story
    from nightlog.run.context import utc_now
    from nightlog.systems.catalog import load_catalog

    if form == Format.CSV:
        raise UsageError("a story is printed as table or json")
    settings, tables = settings_from(lake=lake), open_tables(lake)
    place = find_target(tables, session, system, ds)
    if place.session_id is None:
        rows = tables.rows(PATTERNS, ["example_session_id"], system=place.system, ds=place.ds, pattern_id=place.pattern_id)
        place = place._replace(session_id=rows[0]["example_session_id"])
    spec = load_catalog(settings.systems).get(place.system)
    start = spec.record.start if spec is not None and spec.record is not None else None
    story = read_story(tables, place, MOST_EVENTS if form == Format.JSON else n_lines, f"{utc_now():%Y-%m-%d}", start)
    state = night_state(tables, settings.systems, place.ds, place.system)
    state.warn()
    if form == Format.JSON:
        print(escaped(json.dumps(story, default=as_json, ensure_ascii=False, indent=1)))
    else:
        show_story(story)
    raise typer.Exit(state.exit_code)


def show_story(story: dict[str, Any]) -> None:
    """Print a story on a terminal."""
    from nightlog.pages.words import BY, n_of

    about, verdict = story["session"], story["verdict"]
    score = "" if verdict["score"] is None else f", score {verdict['score']:.2f}"
    judges = {name: f"the {BY[name]}" for name in ("llm", "student", "small_model", "history")}
    by = {**judges, "feedback": "an analyst"}.get(verdict["decided_by"], "nobody")
    judged = {"anomalous": f"anomalous, {verdict['status']}", "normal": "normal", None: "not judged"}[verdict["label"]]
    write(f"{about['system']} · session {about['session_id']} · night {about['ds']}: {judged}", "bold")
    write(f"decided by {by}{score}: {verdict['reason'] or 'no reason is known'}")
    write(f"{n_of(about['n_events'], 'event')}, {moment(about['started_at'])} to {moment(about['ended_at'])} UTC")
    write(f"pattern {about['pattern_id']}, {n_of(about['sessions_alike'] or 1, 'session')} of it that night")
    print_heading("Events")
    for each in story["events"]:
        if "left_out" in each:
            write(f"  … {each['left_out']:,} more: --lines, or --format json", "dim")
            continue
        text = each["text"] if each["text"] is not None else f"(the line is no longer kept; its template: {each['template']})"
        place = f"{each['file'].rpartition('/')[2]}:{each['line_no']}"
        write(f"{'▶' if each['marked'] else ' '} {place}  {text}", "bold" if each["marked"] else None)
        for line in each["continuation"]:
            write(f"    {line}", "bold" if each["marked"] else "dim")
    print_heading("Against what is normal")
    show_difference(story["telling"])
    show_judges(story)
    print_heading("Feedback")
    for each in story["feedback"]:
        ending = "" if each["holds"] else f" (no longer: {each['why']})"
        note = f": {each['note']}" if each["note"] else ""
        write(f"  {each['by']} on {moment(each['at'])} about the {each['about']}: {each['label']}{note}{ending}")
    if not story["feedback"]:
        write("  none; `nightlog label` and `nightlog suppress` give some")
    print_heading("Nights with this pattern")
    for each in story["nights"][:14]:
        flagged = f"{each['anomalous']:,} anomalous ({each['decided_by']}, {each['status']})" if each["anomalous"] else "none anomalous"
        write(f"  {each['ds']} {each['weekday']}  {n_of(each['sessions'], 'session')}, {flagged}")
    if len(story["nights"]) > 14:
        write(f"  {len(story['nights']) - 14:,} nights more: --format json", "dim")
    print_heading("Versions")
    write(f"  run {verdict['run_id']}; " + ", ".join(f"{name} {value}" for name, value in (verdict["versions"] or {}).items() if value))


def show_judges(story: dict[str, Any]) -> None:
    """Print the results of the router, the small model and the LLM."""
    verdict, router, small = (story[name] for name in ("verdict", "router", "small_model"))
    print_heading("Router and small model")
    bound = (
        f"general from {number(router['tau'])} on"
        if router["tau"] is not None and router["tau"] <= 1
        else "nothing is general here: the sources are too unlike each other"
    )
    route = f"{router['route']}: its least familiar template is {number(router['similarity'])} like a source's; {bound}"
    if router["similarity"] is None:
        route = f"{router['route']}: no trained model serves, so the history and the LLM judge"
    write(f"  {route}" if router["route"] else "  the router has no row of it")
    if small["probability"] is not None:
        least = verdict["held_to"]
        held = "; it cannot flag such patterns" if not verdict["can_flag"] else f"; calibrated, it is held to {least:.2f}" if least else ""
        write(f"  the model {small['model']} gives {small['probability']:.2f}{held}")
    for each in story["templates"][:8]:
        write(f"  weight {number(each['weight'])}  {each['count']}× {each['template']}")
        if each["nearest_source_template"]:
            write(f"    {number(each['similarity'])} like {each['nearest_source_template']}", "dim")
    if len(story["templates"]) > 8:
        write(f"  {len(story['templates']) - 8:,} templates more: --format json", "dim")
    history = story["history"]
    if history["probability"] is not None:
        print_heading("The history")
        student = f"; the student gives {history['student']:.2f}" if history["student"] is not None else ""
        flags = {True: "anomalous by the history alone", False: "not anomalous by the history alone", None: "the history is learning"}
        write(f"  {history['probability']:.2f}, {flags[history['flagged']]}{student}")
        for reason in history["reasons"] or ():
            write(f"  {reason}")
    print_heading("The LLM")
    for each in story["llm"]:
        group = f', group "{each["group"]}"' if each["group"] else ""
        before = f"; first {each['first_label']} ({each['first_confidence']:.2f})" if each["round"] == 2 else ""
        old = "" if each["in_force"] else " (not in force that night)"
        write(f"  {each['label']} ({each['confidence']:.2f}), round {each['round']}{group}{before}{old}: {each['reason']}")
        served = f", answered by {each['served_by']}" if each["served_by"] else ""
        write(f"    {each['llm']}, prompt {each['prompt']}, {moment(each['asked_at'])}{served}", "dim")
    if not story["llm"]:
        write("  was not asked about this pattern")


def show_difference(telling: Sequence[dict[str, Any]]) -> None:
    """Print the difference to the nearest normal pattern, the most telling template first."""
    for each in telling:
        sign, count = ("+", each["count"]) if each["change"] == "more" else ("-", each["usual"])
        usual = f" (usually {each['usual']:,}×)" if each["usual"] and each["count"] else ""
        write(f"  {sign} {count:,}× {each['template']}{usual}")
    if not telling:
        write("  it differs from no normal pattern of the night")


def write(text: str, style: str | None = None) -> None:
    """Print a line of text from logs, models or people."""
    out.print(safe(text), style=style, soft_wrap=True)


def number(value: float | None) -> str:
    """Return a number in few digits, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def moment(at: Any) -> str:
    """Return a time without its fractions."""
    return "no time" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


@app.command(rich_help_panel="Investigate")
def replay(
    session: Annotated[str | None, typer.Argument(help="The session; without it all sessions of the night, with --system.")] = None,
    ds: LastNight = "",
    system: Annotated[str, typer.Option("--system", help="The system; needed if several have such a session, or without one.")] = "",
    lake: LakeOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Derive a past verdict again from the model, prompt, templates and feedback of that night, and compare the two.

    Nothing is asked and nothing is written. Earlier versions of tables are kept for NIGHTLOG_REPLAY_DAYS; a table whose version is gone is
    read as it is now and named. Exit code: 0 the same, 1 different, 30 cannot be derived.

    Example: nightlog replay s20 --system shop

    Example: nightlog replay --ds 2026-03-04 --system shop --format json
    """
    from dataclasses import asdict

    from nightlog.cli.night_state import night_state
    from nightlog.lake.lookup import find_session
    from nightlog.outcomes import EXIT_DIFFERENT, EXIT_DONE, EXIT_PERMANENT
    from nightlog.systems.catalog import choose, load_catalog

    if session is None and not system:
        raise UsageError("give a session, or a system by --system")
    settings, tables = settings_from(lake=lake), open_tables(lake)
    if session is not None:
        place = find_session(tables, session, system, ds)
        system, ds = place.system, place.ds
    chosen = choose(load_catalog(settings.systems), [system])[0]
    if not ds and not (ds := night_state(tables, settings.systems, "", system).ds):
        raise NotThere(f"{system}: no night was run yet in {tables.root}")
    with err.status(f"deriving {system} {ds} again"):
        from nightlog.pages.words import n_of
        from nightlog.publishing.replay import replay as derive

        found = derive(tables, chosen, ds, session, settings.device)
    if form != Format.TABLE:
        row = {"session_id": session, **asdict(found)}
        print_rows([row], list(row), form)
    else:
        style = {"same": "green", "different": "red", "cannot": "yellow"}[found.result]
        words = {"same": "the same", "different": "different", "cannot": "cannot be derived"}[found.result]
        write(f"{system} {ds}{f' session {session}' if session else ''}: {words}: {found.why}", style)
        for each in found.rows:
            if session is None and each["why"]:
                write(f"  pattern {each['pattern_id']}, {n_of(each['sessions'], 'session')}: {each['result']}: {each['why']}")
        if found.as_now:
            write(f"read as they are now, because no version of that night is kept: {', '.join(found.as_now)}", "dim")
    raise typer.Exit({"same": EXIT_DONE, "different": EXIT_DIFFERENT, "cannot": EXIT_PERMANENT}[found.result])
