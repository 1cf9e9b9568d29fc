"""The templates of the pages: their environment, its filters, and the style and the one script that each page holds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nightlog.lake.delta import sql_string
from nightlog.pages import words
from nightlog.pages.charts import CHART_STYLE, Column, Share, Track, columns, heat_map, stacked, timeline
from nightlog.pages.links import lines_link
from nightlog.pages.model import Finding, Incident, SystemNight, day, incident_anchor, sum_columns
from nightlog.pages.open_points import judged_by

SHOWN_FINDINGS = 8  # of an incident, on the page of the night
PLACES = 100  # of the dots in a time line
Trend = Sequence[tuple[str, int | None]]


def page_name(system: str) -> str:
    """The file of a system's page; a system may be called `index`."""
    return "index.system.html" if system == "index" else f"{system}.html"


def sql(text: str) -> str:
    """A query as a command."""
    return f'nightlog query "{text}"'


def finding_query(finding: Finding, ds: str) -> str:
    """The command that shows all sessions of a finding."""
    return sql(
        f"select session_id, lines from v_anomalies where ds = {sql_string(ds)} and system = {sql_string(finding.system)} "
        f"and pattern_id = {sql_string(finding.pattern_id)}"
    )


def finding_options(finding: Finding, ds: str, label: str = "") -> str:
    """Return the arguments that name a finding. Its pattern's id and its system are plain words, which a session's id need not be."""
    return " ".join(part for part in (finding.pattern_id, label, f"--system {finding.system} --ds {ds}") if part)


def small_trend(trend: Trend, about: str) -> Markup:
    """Columns by night in a line of text; nothing where there is only tonight."""
    if sum(n is not None for _, n in trend) < 2:
        return Markup("")
    counts = "; ".join(f"{ds}: {n:,}" for ds, n in trend if n is not None)
    last = len(trend) - 1
    return Markup(
        columns([Column(ds, n, number == last) for number, (ds, n) in enumerate(trend)], f"{about}; {counts}", 18, 8, labels=False)
    )


def finding_trend(finding: Finding, ds: str) -> Markup:
    """The sessions of a finding on the last nights that the lake has."""
    counts = finding.row["trend"] or ()
    days = [day(ds, n) for n in range(1 - len(counts), 1)]
    return small_trend(list(zip(days, counts, strict=True)), "sessions of this finding by night")


def time_line(incident: Incident) -> Markup:
    """The minutes of an incident's findings, from the ten minutes of the first to those of the last; nothing if there is only one."""
    shown = incident.findings[:SHOWN_FINDINGS]
    minutes = {minute for finding in shown for minute in finding.row["minutes"] or ()}
    if len(minutes) < 2:
        return Markup("")
    first, last = min(minutes) // 10 * 10, max(minutes) // 10 * 10 + 10

    def places(finding: Finding) -> list[float]:
        return sorted({round(PLACES * (minute + 0.5 - first) / (last - first)) / PLACES for minute in finding.row["minutes"] or ()})

    several = len(shown) > 1  # then each has its number in the list
    tracks = [Track(str(number) if several else "", places(finding), strong=True) for number, finding in enumerate(shown, 1)]
    about = f"minutes of the night in which the telling lines were logged, between {clock_of(first)} and {clock_of(last)} UTC"
    return Markup(timeline(tracks, clock_of(first), clock_of(last), about, 30 if several else 8, 600))


def clock_of(minute: int) -> str:
    """Return a minute of the day as a time.

    >>> clock_of(65), clock_of(1440)
    ('01:05', '24:00')
    """
    return f"{minute // 60:02}:{minute % 60:02}"


def hours_map(nights: Sequence[SystemNight]) -> Markup:
    """The anomalous sessions by hour and system; nothing where no hour is known."""
    rows = [(night.system, night.hours) for night in nights if any(night.hours)]
    return Markup(heat_map(rows, "anomalous sessions by hour and system, UTC")) if rows else Markup("")


def judge_bar(shares: Sequence[Share]) -> Markup:
    """A bar of the sessions by judge; nothing where that is not known."""
    return Markup(stacked(shares, "sessions by judge")) if shares else Markup("")


def small_judge_bar(night: SystemNight) -> Markup:
    """The same of one system, for a row of a table."""
    return judge_bar(judged_by([night]))


def number(value: float | None) -> str:
    """A count, or a dash where it is not known."""
    return "–" if value is None else f"{value:,.0f}"


def of(part: int | None, whole: int | None) -> str:
    """A part as a share of the whole, where that tells something."""
    return words.share(part / whole) if part and whole else ""


def render(template: str, ds: str, **values: Any) -> str:
    """A page by its template. All text is escaped; log text goes through `visible` as well."""
    return pages().get_template(template).render(ds=ds, long_day=words.long_day(ds), clock=partial(words.clock, ds=ds), **values)


@cache
def pages() -> Environment:
    """The templates, with style and script inline, each allowed by its hash."""
    environment = Environment(
        loader=PackageLoader("nightlog.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": words.visible,
        "long_day": words.long_day,
        "long_month": words.long_month,
        "n_of": words.n_of,
        "share": words.share,
        "money": words.money,
        "number": number,
        "of": of,
        "page_name": page_name,
        "small_trend": small_trend,
        "finding_trend": finding_trend,
        "time_line": time_line,
        "hours_map": hours_map,
        "incident_anchor": incident_anchor,
        "finding_query": finding_query,
        "finding_options": finding_options,
        "judge_bar": judge_bar,
        "small_judge_bar": small_judge_bar,
        "troubled": words.troubled,
        "spent": lambda costs, column: sum_columns(costs, [column])[column],
    }
    folder = Path(__file__).with_name("templates")
    css = CHART_STYLE + (folder / "page.css").read_text(encoding="utf-8")
    js = (folder / "page.js").read_text(encoding="utf-8")
    environment.globals |= {"by": words.BY, "outcomes": words.OUTCOMES, "lines_link": lines_link}
    environment.globals |= {"shown_findings": SHOWN_FINDINGS}
    environment.globals |= {"css": Markup(css), "css_hash": source_hash(css), "js": Markup(js), "js_hash": source_hash(js)}
    return environment


def source_hash(text: str) -> str:
    """A text's hash as a content security policy names it.

    >>> source_hash("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
