"""The reference pages are what the code says, and every link in the docs leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nightlog.reference.pages import PAGES, commands_page, examples, registered, settings_page, system_page
from nightlog.settings import Settings
from nightlog.systems.catalog import parse_system

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES_WITH_LINKS = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:docs|notebooks|libs|tests|dags|jobs)/[\w./-]+)`")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_reference_page_is_up_to_date(name: str) -> None:
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m nightlog.reference docs/reference"


def test_every_command_is_there_with_an_example_of_itself() -> None:
    page, commands = commands_page(), registered()
    assert {"run", "anomalies", "query", "try"} <= set(commands)
    for name, command in commands.items():
        assert f"## nightlog {name}\n" in page
        shown = examples(command.help)
        assert shown and all(line.split()[1] == name for line in shown), name


def test_every_setting_is_there_with_what_it_means_and_no_secret() -> None:
    page = settings_page()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `{field.validation_alias or 'NIGHTLOG_' + name.upper()}` |" in page
    assert "| `NIGHTLOG_WEBHOOK_URL` | text, secret |" in page


def test_defaults_on_the_system_page_are_the_models_own() -> None:
    page = system_page()
    found = {
        match[1]: match[2]
        for match in re.finditer(r"\| `(\w+)` \| [^|]+ \| `([^`|]+)` \|", page.split("## `[session]`")[1].split("## ")[0])
    }
    written = "\n".join(f"{key} = {value}" for key, value in found.items())
    bare = 'name = "a"\nrole = "target"\n[input]\npath = "{ds}"\n[session]\nkind = "field"\n'
    assert len(found) == 4 and parse_system(bare + written, "page") == parse_system(bare, "bare")


@pytest.mark.parametrize("page", PAGES_WITH_LINKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for target in LINK.findall(prose):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(place), f"{target}: no such heading"
    missing = [name for name in NAMED.findall(prose) if not (ROOT / name).exists()]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    linked = {(DOCS / target).resolve() for target in LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))}
    assert {page.resolve() for page in DOCS.rglob("*.md")} - linked == {(DOCS / "README.md").resolve()}
