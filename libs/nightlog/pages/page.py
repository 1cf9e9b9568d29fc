"""The night's page: one HTML file a system and one for the night, each complete in itself, rebuilt from the lake at any time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from nightlog.errors import NotThere, first_line
from nightlog.lake.delta import sql_string
from nightlog.lake.lake import Lake
from nightlog.lake.storage import write_file
from nightlog.outcomes import SUCCESSES
from nightlog.pages import words
from nightlog.pages.calendar import Pages, night_links, refresh_links, write_calendar, written_pages
from nightlog.pages.charts import Bar, Column, Series, bars, columns, square
from nightlog.pages.model import Incident, SystemNight, merged_trend
from nightlog.pages.open_points import judged_by, point_groups
from nightlog.pages.read import read_incidents, read_night
from nightlog.pages.render import Trend, page_name, render, sql
from nightlog.settings import ALERTS_PER_NIGHT

log = logging.getLogger(__name__)

SHOWN_EVIDENCE = 30
SIGNALS_OF_ALL = 30  # signals on the page of the night


class Written(NamedTuple):
    """The path of the night's page, and what went wrong: system → why its page could not be written; why the calendar or the links of
    the other nights' pages could not, None if they were."""

    page: str
    failed: dict[str, str]
    calendar: str | None = None


def write_pages(lake: Lake, ds: str, alerts: int = ALERTS_PER_NIGHT, lines_url: Mapping[str, str] | None = None) -> Written:
    """Write the pages of a night, `<lake>/reports/DS/`, and the calendar of nights, from what the lake holds now.

    The same lake gives the same bytes. The pages of the nights beside it get their links to this night.

    Args: alerts, incidents that the page of the night shows; the systems' pages show more. lines_url, see the setting.

    A system whose page cannot be made is named with its reason on the page of the night, and the others' are written. The calendar comes
    last: if it cannot be written, the night's pages are there all the same.
    Raises NotThere if the lake does not know the night.
    """
    failed: dict[str, str] = {}

    def note(system: str, error: Exception) -> None:
        log.error("%s %s: no page", system, ds, exc_info=error)
        failed[system] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]

    found = read_night(lake, ds, note)
    if not found and not failed:
        raise NotThere(f"{lake.root} holds no night {ds}: run it first, or see `nightlog query 'select ds, system from v_nights'`")
    pages = with_night(written_pages(lake.root), ds, [page_name(night.system) for night in found])
    nights = []
    for night in found:
        try:
            page = system_page(night, night_links(pages, ds, page_name(night.system)), lines_url or {})
            write_file(f"{lake.root}/reports/{ds}/{page_name(night.system)}", page.encode())
            nights.append(night)
        except Exception as error:
            note(night.system, error)
    index = f"{lake.root}/reports/{ds}/index.html"
    page = night_page(ds, nights, failed, read_incidents(lake, ds, nights, alerts), night_links(pages, ds, "index.html"))
    write_file(index, page.encode())
    try:
        refresh_links(lake.root, pages, ds, [*(page_name(night.system) for night in nights), "index.html"])
        write_calendar(lake, pages)
    except Exception as error:
        log.exception("%s: no calendar", ds)
        return Written(index, failed, first_line(error))
    return Written(index, failed)


def with_night(pages: Pages, ds: str, names: Iterable[str]) -> Pages:
    """Return the pages with those of a night that is about to be written."""
    return {**pages, ds: pages.get(ds, frozenset()) | {*names, "index.html"}}


def system_page(night: SystemNight, links: str, lines_url: Mapping[str, str]) -> str:
    """Return the page of one system's night. Args: links to other nights, see `night_links`; lines_url, see the setting."""
    equal = f"ds = {sql_string(night.ds)} and system = {sql_string(night.system)}"
    has_trend = sum(n is not None for _, n in night.trend) > 1
    signals_first = any(row["first"] for row in night.signals)
    sections = [("anomalies", "Anomalies")] + [("signals", "Unlike the nights before")] * bool(night.signals)
    sections = sections[::-1] if signals_first else sections
    if night.published:
        sections += [("new", "What is new"), ("templates", "New templates")] + [("trend", "By night")] * has_trend
        sections += [("quality", "Data quality"), ("knowledge", "Router and LLM")]
    seconds = [Bar(stage, 0 if outcome in SUCCESSES else None, took, words.seconds(took)) for stage, outcome, took in night.stages]
    return render(
        "system.html",
        night.ds,
        night=night,
        night_links=Markup(links),
        lines_url=lines_url,
        open_points=point_groups([night]),
        judged_by=judged_by([night]),
        signals_first=signals_first,
        head_line=words.head_line(night),
        complete=words.is_complete([night]),
        sections=[*sections, ("run", "The run")],
        has_trend=has_trend,
        trend=trend_chart(night.trend, words.trend_words([night])),
        curve=tau_chart(night.night),
        times=Markup(bars(seconds, max(bar.value for bar in seconds) or 1.0, "seconds by stage")) if seconds else "",
        shown_evidence=SHOWN_EVIDENCE,
        more_findings=sql(
            f"select finding_id, pattern_id, n_sessions, score, reason from v_findings where {equal} "
            f"order by rank offset {len(night.findings)}"
        ),
        more_templates=sql(f"select * from v_templates where system = {sql_string(night.system)} and first_ds = {sql_string(night.ds)}"),
        set_aside=sql(f"select * from ops.quarantine where {equal}"),
    )


def night_page(
    ds: str, nights: Sequence[SystemNight], failed: Mapping[str, str], of_night: tuple[Sequence[Incident], int, int], links: str
) -> str:
    """Return the page of the night: what is open, the first incidents of all systems, the outcome of each system.

    Args: of_night, see `read_incidents`; links to other nights, see `night_links`.
    """
    incidents, n_incidents, n_new_incidents = of_night
    merged = merged_trend(nights)
    signals = [row for night in nights for row in night.signals if not row["first"]]
    return render(
        "night.html",
        ds,
        nights=nights,
        night_links=Markup(links),
        open_points=point_groups(nights),
        judged_by=judged_by(nights),
        unread=sorted(failed.items()),
        head_line=words.night_head_line(nights, sorted(failed)),
        complete=words.is_complete(nights) and not failed,
        incidents=incidents,
        incident_rows=[{**each.row, "decided_by": each.first.row["decided_by"] if each.first else ""} for each in incidents],
        n_incidents=n_incidents,
        n_new_incidents=n_new_incidents,
        has_past=any(night.night_before for night in nights),
        first_signals=[row for night in nights for row in night.signals if row["first"]][:SIGNALS_OF_ALL],
        signals=signals[:SIGNALS_OF_ALL],
        n_signals=len(signals),
        has_trend=sum(n is not None for _, n in merged) > 1,
        trend=trend_chart(merged, words.trend_words(nights)),
        more_incidents=sql(f"select * from v_incidents where ds = {sql_string(ds)} order by rank offset {len(incidents)}"),
        sql=sql(f"select * from v_findings where ds = {sql_string(ds)}"),
    )


def trend_chart(trend: Trend, about: str) -> Markup:
    """Columns by night; tonight's stands out."""
    last = len(trend) - 1
    return Markup(columns([Column(ds, n, number == last) for number, (ds, n) in enumerate(trend)], about))


def tau_chart(night: Mapping[str, Any]) -> Markup:
    """The proprietary share by threshold of the router."""
    points = [(each["tau"], each["proprietary_share"]) for each in night.get("tau_curve") or ()]
    if not points:
        return Markup("")
    mark = (night["tau"], night["proprietary_share"]) if 0 <= (night["tau"] or -1) <= 1 else None
    return Markup(square([Series("proprietary share", 0, points, mark=mark)], "τ", "share of sessions"))
