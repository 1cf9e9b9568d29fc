"""The calendar of nights, and the links of a page to the nights beside it."""

from __future__ import annotations

import re
from datetime import date, timedelta
from html import unescape
from pathlib import Path

from nightlog.lake.lake import Lake
from nightlog.lake.tables import FINDINGS, INCIDENTS, NIGHTS
from nightlog.pages.calendar import read_cells, write_calendar, written_pages
from nightlog.pages.page import write_pages
from page_lake import BEFORE, DS, WEEK, note, put_night, small_lake
from tags import Tags


def text_of(page: str) -> str:
    """The page without tags, style and script, blanks in one."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def links(lake: Lake, ds: str, name: str = "shop.html") -> dict[str, str]:
    """The links of a page to other nights: prev, up, next → address."""
    page = Path(lake.root, "reports", ds, name).read_text(encoding="utf-8")
    return dict(re.findall(r'<a rel="(prev|up|next)" href="([^"]+)"', page))


def three_nights(tmp_path: Path) -> Lake:
    lake = small_lake(str(tmp_path / "lake"))
    note(lake, "shop", ds=WEEK)
    note(lake, "shop", ds=BEFORE)
    return lake


def test_the_calendar_has_each_night_with_its_outcome_and_links_to_the_pages_that_are_there(tmp_path: Path) -> None:
    lake = three_nights(tmp_path)
    write_pages(lake, DS)
    page = Path(lake.root, "reports", "index.html").read_text(encoding="utf-8")
    assert not Tags(page).open
    nights = re.findall(r'<tr><th scope="row">(.*?)</th>\s*((?:<td class="n">\d+</td>){4})<td>(.*?)</td>', page)
    assert [re.sub("<[^>]+>", "", name) for name, *_ in nights] == [
        "Wednesday 4 March 2026",
        "Tuesday 3 March 2026",
        "Wednesday 25 February 2026",
    ]
    n_incidents = [len(lake.rows(INCIDENTS, ds=ds)) for ds in (DS, BEFORE, WEEK)]
    counts = [[int(n) for n in re.findall(r"\d+", numbers.replace('class="n"', ""))] for _, numbers, _ in nights]
    assert counts == [[n_incidents[0], 4, 13, 0], [n_incidents[1], 3, 4, 0], [n_incidents[2], 1, 1, 0]]
    assert nights[0][2] == "2 done; void no input; mail stopped by a quality gate"
    hrefs = set(re.findall(r'href="([^"#]+)"', page))
    assert hrefs == {f"{DS}/{name}.html" for name in ("index", "shop", "mail", "void", "index.system")}
    shown = text_of(page)
    assert "March 2026 System 4 3 2 1 index 0 mail H shop 4 3 void –" in shown
    assert "February 2026 System 28 27 26 25 shop 1" in shown, "nights that are missing have their column"


def test_a_run_that_failed_shows_though_an_earlier_one_was_published(tmp_path: Path) -> None:
    lake = three_nights(tmp_path)
    note(lake, "shop", until="parse", outcome="failed", after=60)
    cell = next(cell for cell in read_cells(lake, {}) if (cell.ds, cell.system) == (DS, "shop"))
    assert (cell.outcome, cell.sign, cell.published, cell.page) == ("failed", "F", True, "")


def test_nights_link_to_each_other_in_whatever_order_they_are_written(tmp_path: Path) -> None:
    lake = three_nights(tmp_path)
    write_pages(lake, WEEK)
    assert links(lake, WEEK) == {"up": "../index.html"}
    write_pages(lake, DS)
    first = Path(lake.root, "reports", WEEK, "shop.html").read_bytes()
    assert links(lake, WEEK) == {"up": "../index.html", "next": f"../{DS}/shop.html"}
    write_pages(lake, BEFORE)
    assert links(lake, WEEK)["next"] == f"../{BEFORE}/shop.html"
    assert links(lake, BEFORE) == {"prev": f"../{WEEK}/shop.html", "up": "../index.html", "next": f"../{DS}/shop.html"}
    assert links(lake, DS) == {"prev": f"../{BEFORE}/shop.html", "up": "../index.html"}
    assert links(lake, DS, "index.html")["prev"] == f"../{BEFORE}/index.html"
    assert links(lake, DS, "mail.html") == {"up": "../index.html"}, "mail has no other night"

    whole = Path(lake.root, "reports", WEEK, "shop.html").read_bytes()
    assert whole.replace(BEFORE.encode(), DS.encode()) == first.replace(BEFORE.encode(), DS.encode()), "nothing but the links was changed"
    write_pages(lake, WEEK)
    assert Path(lake.root, "reports", WEEK, "shop.html").read_bytes() == whole


def test_a_page_whose_links_are_right_is_not_written_again(tmp_path: Path) -> None:
    lake = three_nights(tmp_path)
    write_pages(lake, BEFORE)
    write_pages(lake, DS)
    before = Path(lake.root, "reports", BEFORE, "shop.html")
    written = before.stat().st_mtime_ns, before.stat().st_ino
    write_pages(lake, DS)
    assert (before.stat().st_mtime_ns, before.stat().st_ino) == written


def test_a_page_of_an_earlier_version_without_links_stays_as_it_is(tmp_path: Path) -> None:
    lake = three_nights(tmp_path)
    old = Path(lake.root, "reports", BEFORE, "shop.html")
    old.parent.mkdir(parents=True)
    old.write_text("<html>an old page</html>", encoding="utf-8")
    write_pages(lake, DS)
    assert old.read_text(encoding="utf-8") == "<html>an old page</html>"
    assert links(lake, DS)["prev"] == f"../{BEFORE}/shop.html"


def test_400_nights_of_50_systems_make_a_calendar_of_bounded_size(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    days = [(date(2026, 3, 4) - timedelta(days=n)).isoformat() for n in range(450)]
    row = {"outcome": "done", "n_anomalies": 0, "n_unjudged": 0}
    lake.append(NIGHTS, [row | {"ds": ds, "system": f"system-{number:02}"} for ds in days for number in range(50)])
    pages = {ds: frozenset({"index.html"}) for ds in days}
    page = Path(write_calendar(lake, pages)).read_text(encoding="utf-8")
    assert days[399] in page and days[400] not in page
    assert len(page) < 1_500_000


def test_a_night_of_a_version_without_findings_has_a_sign_of_its_own(tmp_path: Path) -> None:
    lake = three_nights(tmp_path)
    lake.replace(FINDINGS, [], ds=BEFORE, system="shop")
    signs = {cell.ds: cell.sign for cell in read_cells(lake, {}) if cell.system == "shop"}
    assert signs == {DS: "4", BEFORE: "+", WEEK: "1"}
    page = text_of(Path(write_calendar(lake, {})).read_text(encoding="utf-8"))
    assert "shop 4 + void" in page and "+ anomalous sessions of a night that an earlier version published" in page


def test_files_that_are_being_written_are_no_pages(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / DS
    folder.mkdir(parents=True)
    for name in ("shop.html", ".shop.html.7.part", "notes.txt"):
        (folder / name).touch()
    (tmp_path / "reports" / "index.html").touch()
    assert written_pages(str(tmp_path)) == {DS: frozenset({"shop.html"})}
    assert written_pages(str(tmp_path / "nowhere")) == {}


def test_a_night_that_no_system_published_is_in_the_calendar(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    put_night(lake, "shop", BEFORE, ["p-normal"])
    note(lake, "shop", ds=BEFORE)
    note(lake, "shop", ds=DS, until="ingest", outcome="transient", detail="the store did not answer")
    write_pages(lake, DS)
    page = text_of(Path(lake.root, "reports", "index.html").read_text(encoding="utf-8"))
    assert "Wednesday 4 March 2026 0 0 0 0 shop failed, and may go through when tried again" in page
