"""Links to the log viewer of the site, and the settings that they come from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from nightlog.errors import SettingsError
from nightlog.pages.links import lines_link
from nightlog.pages.page import write_pages
from nightlog.settings import read_settings
from page_lake import DS, HOSTILE, small_lake
from tags import Tags

FIRST, LAST = datetime(2026, 3, 4, 12, 0, 1, 250_000), datetime(2026, 3, 4, 12, 5)
KIBANA = "https://kibana.example.org/app/discover#/?_g=(time:(from:'{from}',to:'{to}'))&_a=(query:(language:kuery,query:'\"{session}\"'))"
LOKI = (
    'https://grafana.example.org/explore?left={"queries":[{"expr":"{app=\\"{system}\\"} |= `{session}`"}],'
    '"range":{"from":"{from_ms}","to":"{to_ms}"}}'
)
SPLUNK = "https://splunk.example.org/en-US/app/search/search?q=search%20%22{session}%22&earliest={from_s}&latest={to_s}"


def test_each_field_is_filled_in_and_percent_encoded() -> None:
    session = 'a b"&=#/%\u05d0'
    found = parse_qs(urlsplit(lines_link({"*": SPLUNK}, DS, "shop", session, FIRST, LAST)).query)
    assert found == {"q": [f'search "{session}"'], "earliest": ["1772625600"], "latest": ["1772625901"]}
    assert "from:'2026-03-04T12%3A00%3A00.250Z',to:'2026-03-04T12%3A05%3A01.000Z'" in lines_link(
        {"*": KIBANA}, DS, "shop", "s", FIRST, LAST
    )
    loki = lines_link({"*": LOKI}, DS, "shop", "s1", FIRST, LAST)
    assert '{app=\\"shop\\"} |= `s1`' in loki and '"from":"1772625600250"' in loki


def test_times_of_any_zone_are_written_in_utc_and_a_session_without_times_has_its_night() -> None:
    east = timezone(timedelta(hours=2))
    templates = {"*": "https://logs.example.org/{from}/{to}"}
    away = [at.replace(tzinfo=UTC).astimezone(east) for at in (FIRST, LAST)]
    assert lines_link(templates, DS, "shop", "s", *away) == lines_link(templates, DS, "shop", "s", FIRST, LAST)
    night = "https://logs.example.org/2026-03-04T00%3A00%3A00.000Z/2026-03-05T00%3A00%3A00.000Z"
    assert lines_link(templates, DS, "shop", "s", None, None) == night


def test_a_system_has_its_own_address_or_that_of_all_or_none() -> None:
    templates = {"mail": "https://mail.example.org/{session}", "*": "https://all.example.org/{system}/{session}"}
    assert lines_link(templates, DS, "mail", "s", FIRST, LAST) == "https://mail.example.org/s"
    assert lines_link(templates, DS, "shop", "s", FIRST, LAST) == "https://all.example.org/shop/s"
    assert lines_link({"mail": templates["mail"]}, DS, "shop", "s", FIRST, LAST) == ""


def test_the_setting_is_one_address_or_one_for_each_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NIGHTLOG_CONFIG", "/dev/null")
    monkeypatch.setenv("NIGHTLOG_LINES_URL", KIBANA)
    assert read_settings().lines_url == {"*": KIBANA}
    monkeypatch.setenv("NIGHTLOG_LINES_URL", '{"shop": "https://a.example.org/{ds}", "*": "http://b.example.org"}')
    assert read_settings().lines_url == {"shop": "https://a.example.org/{ds}", "*": "http://b.example.org"}
    monkeypatch.delenv("NIGHTLOG_LINES_URL")
    assert read_settings().lines_url == {}
    file = tmp_path / "nightlog.toml"
    file.write_text('[lines_url]\nshop = "https://a.example.org/{session}"\n', encoding="utf-8")
    monkeypatch.setenv("NIGHTLOG_CONFIG", str(file))
    assert read_settings().lines_url == {"shop": "https://a.example.org/{session}"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("javascript:alert(1)", "does not begin with https"),
        ("https://{session}/x", "does not begin with https"),
        ("https://logs.example.org{session}.example.com", "does not begin with https"),
        ("https://logs.example.org/{sesion}", "unknown field `{sesion}`"),
        ("{not json", "not a JSON object"),
    ],
)
def test_an_address_that_is_no_template_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    monkeypatch.setenv("NIGHTLOG_LINES_URL", value)
    with pytest.raises(SettingsError) as error:
        read_settings()
    assert message in str(error.value)


def test_the_page_links_each_session_to_its_lines_and_hostile_ids_stay_inside(tmp_path: Path) -> None:
    lake = small_lake(str(tmp_path / "lake"))
    write_pages(lake, DS, lines_url={"shop": SPLUNK})
    tags = Tags(Path(lake.root, "reports", DS, "shop.html").read_text(encoding="utf-8"))
    hrefs = [attributes["href"] or "" for tag, attributes in tags.seen if tag == "a" and attributes.get("rel") == "noreferrer noopener"]
    queries = [parse_qs(urlsplit(href).query)["q"][0] for href in hrefs]
    assert {f'search "p-lost-{n}"' for n in range(5)} <= set(queries)
    assert f'search "p-evil-0{HOSTILE}"' in queries
    assert all(urlsplit(href).hostname == "splunk.example.org" for href in hrefs)
