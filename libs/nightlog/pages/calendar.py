"""The calendar of nights, `reports/index.html`, and the links of each page to the nights before and after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from nightlog.lake.lake import Lake
from nightlog.lake.query import connect
from nightlog.lake.storage import file_system, read_file, write_file
from nightlog.lake.tables import FINDINGS, INCIDENTS, NIGHTS
from nightlog.outcomes import SUCCESSES, OutcomeKind, is_published
from nightlog.pages.model import day, system_outcome
from nightlog.pages.render import page_name, render
from nightlog.pages.words import OUTCOMES, listed, n_of

LATEST = 14  # nights that the calendar lists with their sums
CALENDAR_NIGHTS = 400  # the calendar goes back so many days
START, END = "<!--nights-->", "<!--/nights-->"
SIGNS = {"no_input": "–", "gated": "H", "failed": "F", "transient": "F"}

Pages = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Cell:
    """One night of one system in the calendar. `page`: its page below `reports`, empty if there is none."""

    ds: str
    system: str
    outcome: str
    n_anomalies: int = 0
    n_findings: int = 0
    n_unjudged: int = 0
    published: bool = False
    page: str = ""

    @property
    def sign(self) -> str:
        """The cell's text: the findings of a published night, else a sign of its outcome.

        A night that was published by a version without findings has the sign + if it has anomalous sessions.
        """
        if self.outcome not in SUCCESSES:
            return SIGNS.get(self.outcome, "F")
        count = "+" if self.n_anomalies and not self.n_findings else f"{self.n_findings:,}"
        return count + "?" * bool(self.n_unjudged)

    @property
    def tone(self) -> str:
        """The class of the cell's style: bad | found | none."""
        if self.outcome not in SUCCESSES:
            return "none" if self.outcome == OutcomeKind.NO_INPUT else "bad"
        return "found" if self.n_anomalies else "none"


@dataclass(frozen=True)
class NightLine:
    """One night of all systems: sums of those that are published, and the outcomes in words."""

    ds: str
    page: str
    n_incidents: int
    n_findings: int
    n_anomalies: int
    n_unjudged: int
    outcomes: str


@dataclass(frozen=True)
class Month:
    """One month: its nights, latest first, and per system one cell a night; None if the lake has no such night."""

    name: str
    nights: tuple[str, ...]
    systems: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def written_pages(root: str) -> dict[str, frozenset[str]]:
    """Return the pages that a lake has: night → file names."""
    from pyarrow.fs import FileSelector, FileType

    files, path = file_system(root)
    selector = FileSelector(f"{path}/reports", recursive=True, allow_not_found=True)
    found: dict[str, set[str]] = {}
    for info in files.get_file_info(selector):
        *_, folder, name = info.path.split("/")
        if info.type == FileType.File and name.endswith(".html") and not name.startswith(".") and folder != "reports":
            found.setdefault(folder, set()).add(name)
    return {ds: frozenset(names) for ds, names in found.items()}


def neighbours(pages: Pages, ds: str, name: str) -> tuple[str | None, str | None]:
    """Return the nearest nights before and after `ds` that have a page of this name.

    >>> pages = {ds: frozenset({"shop.html"}) for ds in ("2026-03-01", "2026-03-03", "2026-03-04")}
    >>> neighbours(pages, "2026-03-03", "shop.html"), neighbours(pages, "2026-03-04", "mail.html")
    (('2026-03-01', '2026-03-04'), (None, None))
    """
    nights = [night for night, names in pages.items() if name in names]
    return max((night for night in nights if night < ds), default=None), min((night for night in nights if night > ds), default=None)


def night_links(pages: Pages, ds: str, name: str) -> str:
    """Return the links of a page to the night before, to the calendar and to the night after, between two marks.

    They are the one part of a page that changes when another night is written; see `refresh_links`. Days and names of systems hold no
    character that HTML would read.
    """
    before, after = neighbours(pages, ds, name)
    links = [f'<a rel="prev" href="../{before}/{name}">← {before}</a>'] if before else []
    links.append('<a rel="up" href="../index.html">All nights</a>')
    links += [f'<a rel="next" href="../{after}/{name}">{after} →</a>'] if after else []
    return f'{START}<nav class="nights" aria-label="Other nights">{" ".join(links)}</nav>{END}'


def refresh_links(root: str, pages: Pages, ds: str, names: Iterable[str]) -> None:
    """Let the pages of the nights beside `ds` link to it. A page is written again only if its links differ."""
    for name in names:
        for night in neighbours(pages, ds, name):
            if night is None:
                continue
            place = f"{root}/reports/{night}/{name}"
            head, start, rest = read_file(place).decode().partition(START)
            _, end, tail = rest.partition(END)
            links = night_links(pages, night, name)
            if start and end and f"{start}{rest[: len(rest) - len(tail)]}" != links:
                write_file(place, f"{head}{links}{tail}".encode())


def read_cells(lake: Lake, pages: Pages) -> list[Cell]:
    """Return each night of each system that the lake knows, of the last CALENDAR_NIGHTS days."""
    columns = ["ds", "system", "outcome", "n_anomalies", "n_unjudged"]
    rows = {(row["ds"], row["system"]): row for row in lake.rows(NIGHTS, columns)}
    last = connect(lake, with_absent=True).sql(
        'select ds, system, stage, arg_max(outcome, "at") as outcome, max("at") as "at" from ops.outcomes group by all order by ds, system'
    )
    ended = {
        place: system_outcome({"detail": None, "seconds": 0, **row} for row in stages)[0].outcome
        for place, stages in groupby(last.to_arrow_table().to_pylist(), key=lambda row: (row["ds"], row["system"]))
    }
    since = day(max((ds for ds, _ in rows.keys() | ended.keys()), default="2000-01-01"), 1 - CALENDAR_NIGHTS)
    n_findings = Counter[tuple[str, str]]()
    for part in lake.parts(FINDINGS):
        of_part = dict(part.partition)
        n_findings[of_part["ds"], of_part["system"]] += part.n_rows
    places = [(ds, system) for ds, system in rows.keys() | ended.keys() if ds >= since]
    cells = [cell_of(ds, system, rows.get((ds, system), {}), ended.get((ds, system)), n_findings[ds, system]) for ds, system in places]
    return sorted((with_page(cell, pages) for cell in cells), key=lambda cell: (cell.ds, cell.system))


def cell_of(ds: str, system: str, row: Mapping[str, Any], ended: str | None, n_findings: int) -> Cell:
    """Return a cell from a row of gold.nights, empty if there is none, and the outcome of the system's last run."""
    counts = [row.get(name) or 0 for name in ("n_anomalies", "n_unjudged")]
    outcome = ended or row.get("outcome") or "failed"
    return Cell(ds, system, outcome, counts[0], n_findings, counts[1], is_published(row.get("outcome")))


def with_page(cell: Cell, pages: Pages) -> Cell:
    """Return the cell with its page: that of the system, else that of the night, if they are there."""
    names = pages.get(cell.ds, frozenset())
    name = next((name for name in (page_name(cell.system), "index.html") if name in names), None)
    return cell if name is None else replace(cell, page=f"{cell.ds}/{name}")


def night_line(ds: str, cells: Sequence[Cell], n_incidents: int, pages: Pages) -> NightLine:
    """Return the sums of a night's cells."""
    published = [cell for cell in cells if cell.published]
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(OUTCOMES.get(cell.outcome, cell.outcome), []).append(cell.system)
    done = len(groups.pop(OUTCOMES["done"], ()))
    words = [f"{done:,} done"] if done else []
    words += [f"{listed(names) if len(names) <= 3 else n_of(len(names), 'system')} {outcome}" for outcome, names in sorted(groups.items())]
    return NightLine(
        ds,
        f"{ds}/index.html" if "index.html" in pages.get(ds, ()) else "",
        n_incidents,
        sum(cell.n_findings for cell in published),
        sum(cell.n_anomalies for cell in published),
        sum(cell.n_unjudged for cell in published),
        "; ".join(words),
    )


def months(cells: Sequence[Cell]) -> list[Month]:
    """Return the months of some cells, the latest first. A day between the first and the last night is shown even if it has no cell."""
    if not cells:
        return []
    by_place = {(cell.ds, cell.system): cell for cell in cells}
    first, night = min(cell.ds for cell in cells), max(cell.ds for cell in cells)
    nights = []
    while night >= first:
        nights.append(night)
        night = day(night, -1)
    found = []
    for name, days in groupby(nights, key=lambda ds: ds[:7]):
        of_month = tuple(days)
        systems = sorted({cell.system for cell in cells if cell.ds[:7] == name})
        rows = tuple((system, tuple(by_place.get((ds, system)) for ds in of_month)) for system in systems)
        found.append(Month(name, of_month, rows))
    return found


def write_calendar(lake: Lake, pages: Pages) -> str:
    """Write `<lake>/reports/index.html`: the latest nights, then each night of each system by month. Returns its path."""
    cells = read_cells(lake, pages)
    by_night = {ds: list(of_night) for ds, of_night in groupby(cells, key=lambda cell: cell.ds)}
    latest = sorted(by_night, reverse=True)[:LATEST]
    path = f"{lake.root}/reports/index.html"
    n_incidents = Counter(row["ds"] for row in lake.rows(INCIDENTS, ["ds"]))
    lines = [night_line(ds, by_night[ds], n_incidents[ds], pages) for ds in latest]
    has_old = any(cell.sign.startswith("+") for cell in cells)
    write_file(path, render("calendar.html", latest[0], lines=lines, months=months(cells), has_old=has_old).encode())
    return path
