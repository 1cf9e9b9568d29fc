"""The night's page in a real browser: it is quick, it complains of nothing, it asks nobody, and its filter works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from nightlog.pages.model import anchor
from nightlog.pages.page import write_pages
from nightlog.publishing.findings import finding_id
from page_lake import DS, big_lake, small_lake

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: pages are not opened in a browser")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
]

# Opens a page in a frame, does what `steps` says, and writes down what it saw.
DRIVER = """<!doctype html><meta charset="utf-8"><iframe id="page" width="1200" height="900"></iframe><pre id="seen"></pre><script>
const frame = document.getElementById("page"), began = performance.now();
frame.onload = () => {
  const page = frame.contentDocument, tall = page.body.offsetHeight, loaded = performance.now() - began;
  const name = (each) => each.id;
  const shown = () => [...page.querySelectorAll(".item")].filter((each) => each.checkVisibility()).map(name);
  const choose = (name, value) => {
    const field = page.querySelector("form.filter").elements.namedItem(name);
    field.value = value;
    field.dispatchEvent(new frame.contentWindow.Event("input", { bubbles: true }));
    return [shown(), page.querySelector("output").textContent, page.querySelector(".none").hidden];
  };
  document.getElementById("seen").textContent = JSON.stringify({ tall, loaded, result: (STEPS)(page, shown, choose) });
};
frame.src = "PAGE";
</script>"""


def chromium(folder: Path, url: str, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *flags, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def driven(folder: Path, page: str, steps: str) -> dict[str, Any]:
    """What `steps`, a function of (page, shown, choose), saw, and the milliseconds until the page was loaded."""
    driver = folder / "driver.html"
    driver.write_text(DRIVER.replace("STEPS", steps).replace("PAGE", page), encoding="utf-8")
    done = chromium(folder, driver.as_uri())
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.S)
    assert seen is not None, done.stderr
    found: dict[str, Any] = json.loads(unescape(seen[1]))
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> str:
    lake = small_lake(str(tmp_path_factory.mktemp("browser") / "lake"))
    write_pages(lake, DS)
    return Path(lake.root, "reports", DS).as_uri()


PATTERNS = {anchor(finding_id("shop", pattern)): pattern for pattern in ("p-lost", "p-evil", "p-slow", "p-hush")}


def patterns(places: list[str]) -> list[str]:
    """The patterns of findings on the page of `shop`."""
    return [PATTERNS[place] for place in places]


def test_the_filter_shows_what_is_asked_for(pages: str, tmp_path: Path) -> None:
    steps = """(page, shown, choose) => ({
      all: shown(), visible: page.querySelector("form.filter").checkVisibility(),
      text: choose("q", "DISK lost"), nothing: choose("q", "nobody wrote this"),
      line: choose("q", "slow answer"), id: choose("q", "p-evil"),
      by: (choose("q", ""), choose("by", "llm")), both: choose("status", "suppressed"),
      new: (choose("by", ""), choose("status", ""), choose("new", "yes")),
    })"""
    result = driven(tmp_path, f"{pages}/shop.html", steps)["result"]
    assert patterns(result["all"]) == ["p-lost", "p-evil", "p-slow", "p-hush"] and result["visible"]
    assert patterns(result["text"][0]) == ["p-lost"] and result["text"][1:] == ["1 of 4 findings", True]
    assert result["nothing"] == [[], "0 of 4 findings", False]
    assert patterns(result["line"][0]) == ["p-slow", "p-hush"] and patterns(result["id"][0]) == ["p-evil"]
    assert patterns(result["by"][0]) == ["p-lost", "p-hush"]
    assert patterns(result["both"][0]) == ["p-hush"] and patterns(result["new"][0]) == ["p-lost"]


def test_incidents_are_filtered_by_any_of_their_systems(pages: str, tmp_path: Path) -> None:
    steps = """(page, shown, choose) => ({ all: shown(), shop: choose("system", "shop"), mail: choose("system", "mail") })"""
    result = driven(tmp_path, f"{pages}/index.html", steps)["result"]
    assert result["shop"] == [result["all"], f"{len(result['all'])} of {len(result['all'])} incidents", True] and result["all"]
    assert result["mail"][0] == []


def test_an_address_opens_its_finding_and_filters(pages: str, tmp_path: Path) -> None:
    steps = """(page, shown) => [shown(), [...page.querySelectorAll("details[open]")].map((each) => each.id)]"""
    place = anchor(finding_id("shop", "p-evil"))
    assert driven(tmp_path, f"{pages}/shop.html#{place}", steps)["result"] == [list(PATTERNS), [place]]
    hidden = anchor(finding_id("shop", "p-hush"))
    found, opened = driven(tmp_path, f"{pages}/shop.html?by=llm#{hidden}", steps)["result"]
    assert patterns(found) == ["p-lost", "p-hush"] and opened == [hidden]


def test_a_button_copies_a_command_and_is_no_text_of_the_page(pages: str, tmp_path: Path) -> None:
    steps = """(page) => {
      const code = page.querySelector("footer .command"), button = code.nextElementSibling;
      let copied = "";
      page.defaultView.navigator.clipboard.writeText = async (text) => { copied = text; };
      button.click();
      return [button.tagName, button.textContent, button.getAttribute("aria-label"), copied, code.textContent];
    }"""
    tag, text, label, copied, command = driven(tmp_path, f"{pages}/shop.html", steps)["result"]
    assert (tag, text, label, copied) == ("BUTTON", "", f"Copy the command {command}", command) and command.startswith("nightlog ")


@pytest.mark.parametrize("name", ["index", "shop", "mail"])
def test_hostile_text_runs_nothing_and_nobody_is_asked(pages: str, tmp_path: Path, name: str) -> None:
    steps = """(page) => [
      page.images.length, page.scripts.length,
      page.defaultView.performance.getEntriesByType("resource").map((each) => each.name),
    ]"""
    assert driven(tmp_path, f"{pages}/{name}.html", steps)["result"] == [0, 1, []]


def test_a_script_that_got_in_would_not_run(pages: str, tmp_path: Path) -> None:
    whole = Path(pages.removeprefix("file://"), "shop.html").read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(
        whole.replace("</main>", "<script>document.title = 'ran'</script><img src='http://example.com/x.png'></main>"), encoding="utf-8"
    )
    done = chromium(tmp_path, spoilt.as_uri())
    assert "<title>ran</title>" not in done.stdout
    assert done.stderr.count("violates the following Content Security Policy directive") >= 2


def test_the_page_of_300_000_sessions_opens_in_two_seconds_and_filters(tmp_path: Path) -> None:
    lake = big_lake(str(tmp_path / "lake"))
    write_pages(lake, DS)
    folder = Path(lake.root, "reports", DS).as_uri()
    steps = """(page, shown, choose) => {
      const began = performance.now(), found = choose("q", "kind 2999");
      return [found, performance.now() - began];
    }"""
    for name, noun in (("big", "findings"), ("index", "incidents")):
        seen = driven(tmp_path, f"{folder}/{name}.html", steps)
        found, took = seen["result"]
        assert seen["loaded"] < 2000 and took < 500
        assert len(found[0]) == 1 and found[1].endswith(f"{noun} on this page, 3,000 in all")
