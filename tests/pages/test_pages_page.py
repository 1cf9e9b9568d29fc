"""The night's page: what it says, in which order, what it leaves out, and that hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.handoff.metrics import write_metrics
from nightlog.lake.lake import Lake
from nightlog.lake.query import query
from nightlog.lake.tables import ANOMALIES, FINDINGS, HISTORY, INCIDENTS, NIGHTS, OUTCOMES
from nightlog.pages.model import Gap, Line, anchor, sample_lines, system_outcome
from nightlog.pages.page import write_pages
from nightlog.publishing.findings import finding_id
from nightlog.publishing.incidents import write_incidents
from page_lake import DS, NOON, WEEK, big_lake, note, put_night, small_lake
from tags import Tags

FORBIDDEN = {"img", "iframe", "object", "embed", "link", "base", "audio", "video", "foreignobject", "use", "image", "textarea", "template"}


def read(lake: Lake, name: str = "index") -> str:
    return Path(lake.root, "reports", DS, f"{name}.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a person reads: without tags, blanks in one."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def anchors(page: str) -> list[str]:
    """The places of the findings on a system's page, in order."""
    return re.findall(r'<details class="finding item" id="([^"]+)"', page)


def finding(page: str, pattern: str, system: str = "shop") -> str:
    """The part of a system's page about one finding."""
    return re.split(r'<details class="finding', page.partition(f'id="{anchor(finding_id(system, pattern))}"')[2])[0].partition("<section")[
        0
    ]


def incidents(page: str) -> list[str]:
    """The parts of a night's page about one incident each."""
    return re.split(r'<li class="incident item"', page.partition('<ol class="incidents">')[2].partition("</section>")[0])[1:]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = small_lake(str(tmp_path_factory.mktemp("small") / "lake"))
    written = write_pages(made, DS)
    assert written == (f"{made.root}/reports/{DS}/index.html", {}, None)
    return made


def test_sessions_of_a_pattern_are_one_row_and_what_waits_comes_behind(lake: Lake) -> None:
    page = read(lake, "shop")
    assert anchors(page) == [anchor(finding_id("shop", pattern)) for pattern in ("p-lost", "p-evil", "p-slow", "p-hush")]
    lost = words(finding(page, "p-lost"))
    assert "0.90" in lost and "a disk was lost" in lost and "9 sessions · LLM · new tonight" in lost
    assert re.search(r"Rank 1: new tonight, 9 sessions \(16\.4 %\), .*certainty 0\.90 \.", lost)
    assert "4 sessions more" in lost and "p-lost-4" in lost and "p-lost-5" not in lost
    for command in ("nightlog show p-lost", "nightlog label p-lost normal", "nightlog suppress p-lost"):
        assert f"{command} --system shop --ds {DS}" in lost
    assert "provisional: the LLM has not judged it yet" in words(finding(page, "p-slow"))
    assert "suppressed" in words(finding(page, "p-hush")) and "analyst" in words(finding(page, "p-evil"))
    assert "13 of 55 sessions are anomalous, in 4 findings. 1 finding is new tonight. 1 session is provisional" in words(page)


def test_lines_that_tell_most_stand_out_with_their_times(lake: Lake) -> None:
    lost = finding(read(lake, "shop"), "p-lost")
    lines = re.findall(r'<li( class="marked")?><time>([\d:.]+)</time> (?:<mark>)?<code dir="ltr">(.*?)</code>', lost)
    assert [bool(marked) for marked, _, _ in lines] == [False] * 5 + [True] * 2
    assert all("disk &lt;NUM&gt; lost" in text for marked, _, text in lines if marked)
    times = [time for _, time, _ in lines]
    assert times == sorted(times) and len(set(times)) == 7


def test_a_finding_is_compared_with_the_nearest_normal_pattern(lake: Lake) -> None:
    def change(pattern: str) -> list[str]:
        return [words(row) for row in re.findall(r'<li class="(?:more|less)">(.*?)</li>', finding(read(lake, "shop"), pattern), re.S)]

    (more,) = change("p-lost")
    assert "more: 2× disk <NUM> lost in no normal session" in re.sub(" +", " ", more), "against p-normal, not against p-rare"
    hush = [re.sub(" +", " ", row) for row in change("p-hush")]
    assert any("more: 2× slow answer <NUM>" in row for row in hush)
    assert any("less: none, usually 1× open <FILE>" in row for row in hush)
    assert "first unclear, 0.50" in words(finding(read(lake, "shop"), "p-hush"))


def test_a_finding_has_its_nights_and_the_night_what_is_new_in_it(lake: Lake) -> None:
    page = read(lake, "shop")
    slow, lost = words(finding(page, "p-slow")), words(finding(page, "p-lost"))
    assert f"every night since {WEEK}" in slow and "new tonight" not in slow
    assert "Seen new tonight" in lost
    assert f'sessions of this finding by night; {WEEK}: 1; 2026-03-03: 1; {DS}: 1"' in page
    said = words(page)
    assert "1 finding that no earlier night had. 0 findings of the night before (2026-03-03) do not occur any more." in said
    assert re.search(r"1 template that no earlier night had\..*disk <NUM> lost 9 9", said)
    assert f"anomalous sessions by night; {WEEK}: 1; 2026-03-03: 4; {DS}: 13" in page


def test_the_page_of_the_night_lists_incidents_with_their_findings_and_the_line_that_tells(lake: Lake) -> None:
    page = read(lake)
    found = incidents(page)
    rows = sorted(lake.rows(INCIDENTS, ds=DS), key=lambda row: row["rank"])
    assert [re.match(r' id="([^"]+)"', each)[1] for each in found] == [f"i-{row['incident_id']}" for row in rows]  # type: ignore[index]
    lost = next(each for each in found if "a disk was lost" in each)
    assert f'href="shop.html#{anchor(finding_id("shop", "p-lost"))}"' in lost
    assert re.search(r'<span class="marked"><time>[\d:.]+</time> <mark><code dir="ltr">raw p-lost-0 \d disk &lt;NUM&gt; lost</code>', lost)
    assert "9 sessions" in words(lost) and "new tonight" in words(lost) and "Rank 1:" in words(lost)
    # Both findings about the slow answer have one telling template.
    slow = next(each for each in found if anchor(finding_id("shop", "p-slow")) in each)
    assert anchor(finding_id("shop", "p-hush")) in slow and "2 sessions in 2 findings" in words(slow)
    (joined_by,) = (row["joined_by"] for row in rows if row["n_findings"] == 2)
    assert joined_by and f"Joined by {joined_by}" in words(slow)
    own = words(finding(read(lake, "shop"), "p-slow"))
    assert "Part of an incident of 2 findings" in own
    assert f'href="index.html#i-{rows[[row["n_findings"] for row in rows].index(2)]["incident_id"]}"' in read(lake, "shop")


def test_the_page_of_the_night_shows_the_hours_of_each_system(lake: Lake) -> None:
    page = read(lake)
    counts = {int(hour): int(n) for hour, n in re.findall(r"<title>shop, (\d\d):00 to \d\d:00 UTC: (\d+)</title>", page)}
    hours = [row["hours"] for row in lake.rows(FINDINGS, ["hours"], ds=DS, system="shop")]
    assert counts == {hour: n for hour, n in enumerate(map(sum, zip(*hours, strict=True))) if n}
    assert f"anomalous sessions by hour and system, UTC; shop {sum(counts.values())}, most from" in page


def test_the_page_tells_of_quality_cost_and_run(lake: Lake) -> None:
    said = words(read(lake, "shop"))
    assert "Unparsed 3 0.3 %" in said and "1 row: no header" in said
    assert "Proprietary 40 %" in said and "LLM cost $0.012" in said and "Questions 30" in said and "Tokens 1,000" in said
    assert "publish: 1.5 s" in said and "Model m1" in said


def test_the_page_of_the_night_names_every_system_and_why_it_failed(lake: Lake) -> None:
    page = read(lake)
    said = words(page)
    assert (
        "13 anomalous sessions in 4 findings of 2 systems. 1 session is provisional. void had no input. mail stopped at a quality gate."
        in said
    )
    assert said.index("Held back mail") < said.index("No input void") < said.index("Provisional shop"), "the gravest first"
    assert "No input void : No file matches void.log; nothing was published" in said
    assert "Held back mail : Stopped by a quality gate in stage parse: 20 of 61 lines do not match" in said
    assert f"nightlog approve --ds {DS} --system mail" in said
    links = {attributes["href"] for tag, attributes in Tags(page).seen if tag == "a"}
    links -= {f"#i-{row['incident_id']}" for row in lake.rows(INCIDENTS, ds=DS)}
    assert links == {"#anomalies", "../index.html", "shop.html", "mail.html", "void.html", "index.system.html"} | {
        f"shop.html#{anchor(finding_id('shop', pattern))}" for pattern in ("p-lost", "p-slow", "p-evil", "p-hush")
    }
    assert "Nothing was published: stopped by a quality gate in stage parse" in words(read(lake, "mail"))
    assert "None of 40 sessions is anomalous" in words(read(lake, "index.system"))


@pytest.mark.parametrize("name", ["index", "shop", "mail"])
def test_hostile_text_is_text(lake: Lake, name: str) -> None:
    page = read(lake, name)
    tags = Tags(page)
    assert not tags.open
    assert not {tag for tag, _ in tags.seen} & FORBIDDEN
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", page)
    assert [tag for tag, _ in tags.seen].count("script") == 1
    assert not [
        key for _, attributes in tags.seen for key in attributes if key.startswith("on") or key in ("style", "src", "srcdoc", "action")
    ]
    said = words(page)
    assert "<img src=x onerror=alert(2)> ⟨U+001B⟩ [31m ⟨U+0000⟩ ⟨U+202E⟩ gnp.exe" in re.sub(" +", " ", said)
    assert "{{ 7*7 }} &amp; 'q\" \u05d0\u05d1" in said


@pytest.mark.parametrize("name", ["index", "shop"])
def test_the_page_loads_nothing_and_allows_only_its_own_style_and_script(lake: Lake, name: str) -> None:
    page = read(lake, name)
    tags = Tags(page)
    policy = next(attributes["content"] or "" for _, attributes in tags.seen if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy

    def hashed(tag: str) -> str:
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.S)
        assert content is not None
        return "'sha256-" + base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode() + "'"

    assert f"style-src {hashed('style')}; script-src {hashed('script')};" in policy
    assert not re.search(r"https?:|url\(|@import", page)
    ids = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for _, attributes in tags.seen if "aria-labelledby" in attributes} <= set(ids)
    assert all(attributes.get("aria-label") for tag, attributes in tags.seen if tag == "svg")


@pytest.mark.parametrize("name", ["index", "shop", "mail", "../index"])
def test_pages_have_landmarks_headings_in_order_and_named_tables_and_charts(lake: Lake, name: str) -> None:
    page = read(lake, name)
    seen = Tags(page).seen
    tags = [tag for tag, _ in seen]
    assert [tags.count(tag) for tag in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert tags.count("table") == tags.count("caption")
    assert all(attributes.get("aria-label") for tag, attributes in seen if tag in ("nav", "svg"))
    assert all(
        attributes.get("aria-label") or attributes.get("aria-labelledby") for _, attributes in seen if attributes.get("role") == "region"
    )
    assert not [attributes for _, attributes in seen if (attributes.get("tabindex") or "0") != "0"]
    skip = next(attributes["href"] or "" for tag, attributes in seen if tag == "a" and attributes.get("class") == "skip")
    assert skip.removeprefix("#") in {attributes.get("id") for _, attributes in seen}


def test_lines_stand_in_time_and_the_line_that_was_published_first_tells(tmp_path: Path) -> None:
    made = small_lake(str(tmp_path / "lake"))
    place = {"ds": DS, "system": "shop"}
    rows = [row | {"lines": row["lines"][::-1]} for row in made.rows(ANOMALIES, **place)]
    made.replace(ANOMALIES, rows, **place)
    write_pages(made, DS)
    lost = finding(read(made, "shop"), "p-lost")
    numbers = [int(number) for number in re.findall(r"raw p-lost-0 (\d) ", lost)]
    assert numbers == sorted(numbers) and len(numbers) == 7
    (told,) = re.findall(
        r'<span class="marked">.*?raw p-lost-0 (\d) ', next(each for each in incidents(read(made)) if "a disk was lost" in each)
    )
    assert told == "6"


def test_the_same_lake_gives_the_same_bytes_and_a_second_run_changes_only_what_tells_of_it(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    names = ("index", "shop", "mail", "index.system")
    write_pages(lake, DS)
    first = {name: read(lake, name) for name in names}
    write_pages(lake, DS)
    assert {name: read(lake, name) for name in names} == first

    put_night(lake, "shop", DS, ["p-hush", "p-evil", "p-slow", "p-lost", "p-rare", "p-normal"], run_id="again", run_seconds=9.0)
    again = [row | {"run_id": "again", "seconds": 7.0, "at": row["at"] + timedelta(hours=1)} for row in lake.rows(OUTCOMES, system="shop")]
    lake.append(OUTCOMES, [row | {"counts": dict(row["counts"] or ())} for row in again])
    write_pages(lake, DS)
    second = read(lake, "shop")
    assert second != first["shop"] and "again" in second

    def apart(page: str) -> str:
        page = re.sub(r'<section aria-labelledby="run".*?</section>', "", page, flags=re.S)
        return re.sub(r"<time>.*?</time>|a\.log:\d+", "", page)  # the fixture numbers its lines anew

    assert apart(second) == apart(first["shop"])
    assert apart(read(lake)) == apart(first["index"])


def test_the_page_follows_later_runs(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    write_pages(lake, DS)
    put_night(lake, "void", DS, ["p-normal", "p-lost"])
    note(lake, "void", after=30)
    late = NOON + timedelta(hours=2)
    failed = {
        "run_id": "late",
        "ds": DS,
        "system": "shop",
        "stage": "parse",
        "outcome": "failed",
        "detail": "the file is cut",
        "seconds": 1.0,
    }
    lake.append(OUTCOMES, [failed | {"at": late}])
    write_pages(lake, DS)
    said = words(read(lake))
    assert "22 anomalous sessions in 5 findings" in said and "void had no input" not in said and "shop failed." in said
    shop = words(read(lake, "shop"))
    assert "The last run did not publish (failed in stage parse); this is what an earlier run found." in shop
    assert "the file is cut" in shop and "p-lost-0" in shop


def test_a_system_that_cannot_be_read_costs_the_others_nothing(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    put_night(lake, "void", DS, ["p-normal", "p-lost"])
    for file in Path(lake.path(ANOMALIES), f"ds={DS}", "system=shop").glob("*.parquet"):
        file.unlink()
    written = write_pages(lake, DS)
    assert set(written.failed) == {"shop"}
    assert not Path(lake.root, "reports", DS, "shop.html").exists()
    said = words(read(lake))
    assert "No page could be written for shop." in said and written.failed["shop"][:40] in said
    assert "p-lost-0" in words(read(lake, "void"))


def test_a_calendar_that_cannot_be_written_costs_the_night_nothing(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    Path(lake.root, "reports", "index.html").mkdir(parents=True)
    written = write_pages(lake, DS)
    assert written.failed == {} and written.calendar is not None and "index.html" in written.calendar
    assert "p-lost-0" in words(read(lake, "shop"))


def test_a_night_that_the_lake_does_not_know_is_an_error(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no night 2026-03-09"):
        write_pages(lake, "2026-03-09")
    with pytest.raises(ConfigError, match="holds no night"):
        write_pages(Lake(tmp_path / "nowhere"), DS)


def test_a_lake_behind_a_url_gets_its_pages_too(tmp_path: Path) -> None:
    plain = small_lake(str(tmp_path / "lake"))
    write_pages(plain, DS)
    expected = read(plain, "shop")
    Path(plain.root, "reports", DS, "shop.html").unlink()
    written = write_pages(Lake(f"file://{tmp_path}/lake"), DS)
    assert written.failed == {}
    assert read(plain, "shop") == expected


def test_300_000_anomalous_sessions_make_a_small_page_that_says_where_the_rest_is(tmp_path: Path) -> None:
    lake = big_lake(str(tmp_path / "lake"))
    write_pages(lake, DS)
    page = read(lake, "big")
    assert anchors(page) == [anchor(finding_id("big", f"p{number:015d}")) for number in range(2999, 2799, -1)]
    assert len(page) < 2_000_000 and len(read(lake)) < 500_000
    said = words(page)
    assert "300,000 of 3,000,000 sessions are anomalous, in 3,000 findings" in said and "95 sessions more" in said
    rest = re.search(r"2,800 findings more: nightlog query \"([^\"]+)\"", said)
    assert rest is not None
    hidden = query(lake, rest[1]).to_pydict()["finding_id"]
    assert len(hidden) == 2800 and not {anchor(name) for name in hidden} & set(anchors(page))
    of_pattern = re.search(
        r"All of them, with their lines: nightlog query \"([^\"]+)\"", words(finding(page, "p" + "0" * 11 + "2999", "big"))
    )
    assert of_pattern is not None
    assert query(lake, of_pattern[1]).num_rows == 100
    more = re.search(r"([\d,]+) incidents more: on the systems' pages, or nightlog query \"([^\"]+)\"", words(read(lake)))
    assert more is not None
    assert query(lake, more[2]).num_rows == int(more[1].replace(",", "")) == len(lake.rows(INCIDENTS, ds=DS)) - 20


# The pure parts


def test_long_sessions_are_sampled_around_what_tells() -> None:
    lines = [Line(None, "f", n, "x", 100 <= n < 130) for n in range(400)]
    shown = sample_lines(lines)
    kept = [each for each in shown if isinstance(each, Line)]
    assert len(kept) == 12 and [kept[0].line_no, kept[-1].line_no] == [0, 399]
    assert sum(line.marked for line in kept) >= 8 and {100, 129} <= {line.line_no for line in kept}
    assert len(kept) + sum(each.n_lines for each in shown if isinstance(each, Gap)) == 400
    assert len([each for each in sample_lines([line._replace(marked=False) for line in lines]) if isinstance(each, Line)]) == 12
    assert sample_lines(lines[:3]) == tuple(lines[:3]) and sample_lines([]) == ()


def test_a_stage_done_again_with_nothing_behind_it_has_failed() -> None:
    def rows(*stages: tuple[str, str, int]) -> list[dict[str, object]]:
        return [{"stage": s, "outcome": o, "detail": None, "seconds": 1.0, "at": NOON + timedelta(minutes=m)} for s, o, m in stages]

    names = ("ingest", "parse", "embed", "route", "detect", "label", "publish")
    done = rows(*((name, "done", minute) for minute, name in enumerate(names)))
    assert system_outcome(done)[0].outcome == "done"
    again = system_outcome([*done, *rows(("ingest", "done", 20), ("parse", "done", 21))])[0]
    assert (again.outcome, again.stage) == ("failed", "embed") and "after stage parse" in again.why
    assert system_outcome([*done, *rows(("publish", "gated", 20))])[0].outcome == "gated"
    assert (system_outcome(done[:3])[0].outcome, system_outcome(done[:3])[0].stage) == ("failed", "route")


def test_nights_without_outcomes_show_what_gold_says(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append(NIGHTS, [{"ds": DS, "system": "old", "outcome": "failed", "detail": "the disk was full"}])
    write_pages(lake, DS)
    assert "old failed." in words(read(lake)) and "the disk was full" in words(read(lake, "old"))


def test_the_page_of_the_night_shows_the_first_incidents_and_the_systems_page_all_findings(tmp_path: Path) -> None:
    made = small_lake(str(tmp_path / "lake"))
    write_pages(made, DS, alerts=2)
    found = incidents(read(made))
    rows = sorted(made.rows(INCIDENTS, ds=DS), key=lambda row: row["rank"])
    assert len(found) == 2 < len(rows) and rows[1]["incident_id"] in found[1]
    assert f"2 of {len(rows)} incidents shown; 1 is new tonight. They are ranked by impact" in words(read(made))
    assert len(anchors(read(made, "shop"))) == 4


def test_an_incident_of_many_findings_shows_the_first_and_a_command_for_all(tmp_path: Path) -> None:
    made = small_lake(str(tmp_path / "lake"))
    (row,) = (row for row in made.rows(FINDINGS, ds=DS, system="shop") if row["pattern_id"] == "p-lost")
    many = [row | {"pattern_id": f"p-{n}", "finding_id": finding_id("shop", f"p-{n}"), "rank": n + 1} for n in range(12)]
    made.replace(FINDINGS, many, ds=DS, system="shop")
    write_incidents(made, DS, "r")
    write_pages(made, DS)
    (only,) = incidents(read(made))
    assert len(re.findall(r'href="shop\.html#f-', only)) == 8
    command = re.search(r"4 findings more: nightlog query \"([^\"]+)\"", words(only))
    assert command is not None
    assert query(made, command[1]).num_rows == 12


def test_a_night_of_a_version_without_findings_says_how_to_get_them(tmp_path: Path) -> None:
    made = small_lake(str(tmp_path / "lake"))
    made.replace(FINDINGS, [], ds=DS, system="shop")
    made.replace(INCIDENTS, [], ds=DS)
    write_pages(made, DS)
    own = words(read(made, "shop"))
    assert "13 of 55 sessions are anomalous. " in own and "No findings An earlier version of Nightlog published this night" in own
    assert f"nightlog run --ds {DS} --systems shop --from publish" in own


def test_the_reasons_of_the_history_stand_beside_the_verdict_of_the_llm_and_a_night_without_llm_says_so(tmp_path: Path) -> None:
    made = small_lake(str(tmp_path / "lake"))
    place = {"system": "shop", "ds": DS}
    made.replace(HISTORY, [{**place, "pattern_id": "p-lost", "reasons": ["has `disk <NUM> lost`, which no session has"]}], **place)
    write_pages(made, DS)
    own = (Path(made.root) / "reports" / DS / "shop.html").read_text(encoding="utf-8")
    lost = words(finding(own, "p-lost"))
    assert "a disk was lost" in lost and "Against the nights so far has `disk <NUM> lost`, which no session has" in lost
    assert "Against the nights so far" not in finding(own, "p-slow") and "No LLM judged" not in words(own)

    (night,) = made.rows(NIGHTS, **place)
    without = night | {"n_by_llm": 0, "n_by_model": 55, "versions": night["versions"] | {"llm": None}}
    made.replace(NIGHTS, [without], **place)
    write_pages(made, DS)
    own, all_systems = ((Path(made.root) / "reports" / DS / f"{name}.html").read_text(encoding="utf-8") for name in ("shop", "index"))
    assert "No LLM judged this night: its findings rest on the history and the small model." in words(own)
    assert "No LLM judged shop." in words(all_systems)
    write_metrics(made, tmp_path / "metrics")
    gauges = (tmp_path / "metrics").read_text(encoding="utf-8")
    assert 'nightlog_night_without_llm{system="shop"} 1' in gauges and 'nightlog_night_without_llm{system="mail"} 0' in gauges
