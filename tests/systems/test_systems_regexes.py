"""A system file cannot hold a pattern that never ends, and what it holds is data."""

from __future__ import annotations

import re
import time
from itertools import cycle

import pytest
from nightlog.errors import ConfigError
from nightlog.systems.catalog import load_catalog, parse_system
from nightlog.systems.regexes import find_exploding_text
from nightlog.systems.spec import DEFAULT_MASKS

SYSTEM = """
name = "shop"
role = "target"
[input]
path = "shop-{{ds}}.log"
[header]
pattern = '{header}'
[session]
kind = "id"
pattern = '{session}'
[[masks]]
name = "X"
pattern = '{mask}'
"""
CATASTROPHIC = [
    r"(a+)+$",
    r"(\w+\s?)*:",
    r"(.*)*x",
    r"\[\w+\] (\w+ ?)+$",
    r"(a|a|a)*b",
    r"([a-z]+)* end",
    r"([0-9]+[a-z]?)+\]",
    r"(?:(?:\d+)*\.)+x",
    r"x{1,50}(\s*,\s*)*;",
    r"(([a-z])+.)+[A-Z]([a-z])+$",
    r"user=(a|ab|b)+;",
    r"(\S+\s*)+\(pid",
]
SOUND = [
    r"(?P<date>\S+) (?P<time>\S+) (?P<level>\w+) \[(?P<request>\w+)\] (?P<message>.*)",
    r"(?:[^\s/]+/)+[^\s/]*",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"(\w+, )*\w+$",
    r"blk_-?\d+",
    r".*?(?:error|warn(?:ing)?).*",
    r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    r"^(?:<(?P<pri>\d+)>)?(?P<stamp>\w{3} [ \d]\d [\d:]{8}) ",
]


@pytest.mark.parametrize(("key", "pattern"), zip(cycle(["header", "session", "mask"]), CATASTROPHIC, strict=False))
def test_a_pattern_that_explodes_is_refused_before_it_meets_a_log(pattern: str, key: str) -> None:
    kept = {"header": "(?P<message>.*)", "session": r"id=(\w+)", "mask": r"x\d+"}
    bad = f"(?P<message>{pattern})" if key == "header" else pattern
    started = time.process_time()
    with pytest.raises(ConfigError, match="never ends on a line such as"):
        parse_system(SYSTEM.format(**kept | {key: bad}), "shop.toml")
    assert time.process_time() - started < 5


@pytest.mark.parametrize("pattern", SOUND)
def test_a_sound_pattern_is_let_through_at_once(pattern: str) -> None:
    started = time.process_time()
    assert find_exploding_text(pattern) is None
    assert time.process_time() - started < 0.5


def test_no_shipped_pattern_explodes() -> None:
    systems = load_catalog().values()
    patterns = [mask.pattern for system in systems for mask in system.masks + DEFAULT_MASKS]
    patterns += [system.header.pattern for system in systems] + [s.session.pattern for s in systems if s.session.pattern]
    assert len(patterns) > 20
    assert [pattern for pattern in set(patterns) if find_exploding_text(pattern) is not None] == []


@pytest.mark.parametrize(
    "line",
    ["!!python/object/apply:os.system [id]", "__import__(os).system(id)", "{% raw %}${jndi:ldap://x}", "$(id)", "{0.__class__}"],
)
def test_text_in_a_system_file_is_never_run(line: str) -> None:
    text = SYSTEM.format(header="(?P<message>.*)", session=re.escape(line), mask="x") + f"[llm]\npolicy = '{line}'\n"
    assert parse_system(text, "shop.toml").llm.policy == line
