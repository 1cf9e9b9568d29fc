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
from nightlog.pages.charts import CHART_STYLE, Column, Share, columns, stacked
from nightlog.pages.links import lines_link
from nightlog.pages.model import Finding, SystemNight, day, sum_columns
from nightlog.pages.open_points import judged_by
from nightlog.pages.read import TREND_NIGHTS

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
    environment.globals |= {"css": Markup(css), "css_hash": source_hash(css), "js": Markup(js), "js_hash": source_hash(js)}
    return environment


def source_hash(text: str) -> str:
    """A text's hash as a content security policy names it.

    >>> source_hash("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
