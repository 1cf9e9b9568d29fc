"""The night's page: one HTML file a system and one for the night, each complete in itself, rebuilt from the lake at any time."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nightlog.errors import NotThere
from nightlog.lake.delta import sql_string
from nightlog.lake.lake import Lake
from nightlog.lake.storage import write_file
from nightlog.outcomes import SUCCESSES
from nightlog.pages import words
from nightlog.pages.charts import CHART_STYLE, Bar, Column, Series, bars, columns, square
from nightlog.pages.model import RANKED_BY, Finding, SystemNight, day, merged_trend, rank, sum_columns
from nightlog.pages.read import TREND_NIGHTS, read_night
from nightlog.settings import ALERTS_PER_NIGHT

log = logging.getLogger(__name__)

SHOWN_EVIDENCE = 30
SIGNALS_OF_ALL = 30  # signals on the page of the night
Trend = Sequence[tuple[str, int | None]]


class Written(NamedTuple):
    """The path of the night's page, and what went wrong: system → why its page could not be written."""

    page: str
    failed: dict[str, str]


def write_pages(lake: Lake, ds: str, alerts: int = ALERTS_PER_NIGHT) -> Written:
    """Write the pages of a night, `<lake>/reports/DS/`, from what the lake holds now. The same lake gives the same bytes.

    Args: alerts, findings that the page of the night shows; the systems' pages show the others, too.

    A system whose page cannot be made is named with its reason on the page of the night, and the others' are written.
    Raises NotThere if the lake does not know the night.
    """
    failed: dict[str, str] = {}

    def note(system: str, error: Exception) -> None:
        log.error("%s %s: no page", system, ds, exc_info=error)
        failed[system] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]

    nights = []
    for night in read_night(lake, ds, note):
        try:
            write_file(f"{lake.root}/reports/{ds}/{page_name(night.system)}", system_page(night).encode())
            nights.append(night)
        except Exception as error:
            note(night.system, error)
    if not nights and not failed:
        raise NotThere(f"{lake.root} holds no night {ds}: run it first, or see `nightlog query 'select ds, system from v_nights'`")
    index = f"{lake.root}/reports/{ds}/index.html"
    write_file(index, night_page(ds, nights, failed, alerts).encode())
    return Written(index, failed)


def page_name(system: str) -> str:
    """The file of a system's page; a system may be called `index`."""
    return "index.system.html" if system == "index" else f"{system}.html"


def system_page(night: SystemNight) -> str:
    """The page of one system's night."""
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
            "select pattern_id, count(*), max(score), min(reason) from v_anomalies "
            f"where {equal} group by all order by max(score) * sqrt(count(*)) desc offset {len(night.findings)}"
        ),
        more_templates=sql(f"select * from v_templates where system = {sql_string(night.system)} and first_ds = {sql_string(night.ds)}"),
        set_aside=sql(f"select * from ops.quarantine where {equal}"),
    )


def night_page(ds: str, nights: Sequence[SystemNight], failed: Mapping[str, str], alerts: int) -> str:
    """Return the page of the night: the outcome of each system, and the first findings of all, at most `alerts`."""
    findings = sorted((finding for night in nights for finding in night.findings), key=ranked)
    merged = merged_trend(nights)
    signals = [row for night in nights for row in night.signals if not row["first"]]
    return render(
        "night.html",
        ds,
        nights=nights,
        unread=sorted(failed.items()),
        head_line=words.night_head_line(nights, sorted(failed)),
        complete=words.is_complete(nights) and not failed,
        day_before=day(ds, -1),
        week_before=day(ds, -7),
        findings=findings[:alerts],
        ranked_by=RANKED_BY,
        n_findings=sum(night.n_findings for night in nights),
        first_signals=[row for night in nights for row in night.signals if row["first"]][:SIGNALS_OF_ALL],
        signals=signals[:SIGNALS_OF_ALL],
        n_signals=len(signals),
        has_trend=sum(n is not None for _, n in merged) > 1,
        trend=trend_chart(merged, words.trend_words(nights)),
        more_findings=sql(
            "select system, pattern_id, count(*), max(score), min(reason) from v_anomalies "
            f"where ds = {sql_string(ds)} group by all order by max(score) * sqrt(count(*)) desc"
        ),
        sql=sql(f"select * from v_anomalies where ds = {sql_string(ds)}"),
    )


def ranked(finding: Finding) -> tuple[Any, ...]:
    """Return the key of a finding of any system."""
    return *rank(finding.status, finding.score, finding.n_sessions), finding.system, finding.pattern_id


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


def trend_chart(trend: Trend, about: str) -> Markup:
    """Columns by night; tonight's stands out."""
    last = len(trend) - 1
    return Markup(columns([Column(ds, n, number == last) for number, (ds, n) in enumerate(trend)], about))


def small_trend(trend: Trend, about: str) -> Markup:
    """The same in a line of text; nothing where there is only tonight."""
    if sum(n is not None for _, n in trend) < 2:
        return Markup("")
    counts = "; ".join(f"{ds}: {n:,}" for ds, n in trend if n is not None)
    last = len(trend) - 1
    return Markup(
        columns([Column(ds, n, number == last) for number, (ds, n) in enumerate(trend)], f"{about}; {counts}", 18, 8, labels=False)
    )


def finding_trend(finding: Finding, ds: str, trend: Trend) -> Markup:
    """Sessions of a finding on the last nights that the lake has."""
    known = {at for at, n in trend if n is not None} | set(finding.nights)
    days = [day(ds, n) for n in range(1 - TREND_NIGHTS, 1)]
    return small_trend([(at, finding.nights.get(at, 0) if at in known else None) for at in days], "sessions of this finding by night")


def tau_chart(night: Mapping[str, Any]) -> Markup:
    """The proprietary share by threshold of the router."""
    points = [(each["tau"], each["proprietary_share"]) for each in night.get("tau_curve") or ()]
    if not points:
        return Markup("")
    mark = (night["tau"], night["proprietary_share"]) if 0 <= (night["tau"] or -1) <= 1 else None
    return Markup(square([Series("proprietary share", 0, points, mark=mark)], "τ", "share of sessions"))


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
        "n_of": words.n_of,
        "share": words.share,
        "money": words.money,
        "number": number,
        "of": of,
        "page_name": page_name,
        "small_trend": small_trend,
        "finding_trend": finding_trend,
        "finding_query": finding_query,
        "finding_options": finding_options,
        "troubled": words.troubled,
        "spent": lambda costs, column: sum_columns(costs, [column])[column],
    }
    folder = Path(__file__).with_name("templates")
    css = CHART_STYLE + (folder / "page.css").read_text(encoding="utf-8")
    js = (folder / "page.js").read_text(encoding="utf-8")
    environment.globals |= {"by": words.BY, "outcomes": words.OUTCOMES}
    environment.globals |= {"css": Markup(css), "css_hash": source_hash(css), "js": Markup(js), "js_hash": source_hash(js)}
    return environment


def source_hash(text: str) -> str:
    """A text's hash as a content security policy names it.

    >>> source_hash("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
