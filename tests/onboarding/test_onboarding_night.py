"""The proposed files: a night parses each style as its trial did."""

from __future__ import annotations

from nightlog.onboarding.propose import propose
from nightlog.onboarding.toml import to_toml
from nightlog.onboarding.trial import try_system
from nightlog.systems.catalog import load_catalog, parse_system
from parsing_help import parsed_lines
from styles import lines_in

DS = "2026-03-04"
# One of each way in which records are split.
STYLES = (
    "log4j",
    "apache_error",
    "zap",
    "ecs",
    "container",
    "pretty_json",
    "logfmt",
    "klog",
    "rfc5424",
    "windows_csv",
    "access_log",
    "journal_export",
)
ODD = [
    "",
    "   ",
    "a line of another kind",
    '{"msg": null, "level": "x"}',
    '{"msg": "cut o',
    "level=info msg=",
    "\tindented, é 漢",
    "[unclosed 12:00:00",
    "MESSAGE",
]


def test_a_night_parses_each_style_as_the_trial_did() -> None:
    for style in STYLES:
        proposal = propose(lines_in(style), style, f"{style}-{{ds}}.log", DS, False)
        system = parse_system(to_toml(proposal.sections), style)
        part = lines_in(style, 6)
        lines = [*part, *ODD, *part]
        expected = [event for event in try_system(lines, system, DS).events if event.matched]
        found = [line for line in parsed_lines(system, lines, DS)[0] if line.matched]
        assert len(expected) >= 40 or style == "journal_export"
        assert [(line.message, line.session_ids) for line in found] == [(event.message, event.ids) for event in expected], style
        assert system.timestamp is not None and all(line.at is not None for line in found[:5]), style


def test_openstack_traces_belong_to_the_record_before_them() -> None:
    openstack = load_catalog()["openstack"]
    lines = [
        "<tail of an older record/>",
        "ERROR nova.compute [req-1] [instance: 11111111-2222-3333-4444-555555555555] it failed: Traceback",
        "  File x, line 3",
        "",
        "</domain>",
        " INFO nova.api [-] next",
    ]
    rows, parsed = parsed_lines(openstack, lines)
    assert [row.matched for row in rows] == [False, True, False, False, False, True]
    assert rows[1].message == "[instance: <UUID>] it failed: Traceback\n  File x, line <NUM>\n</domain>"
    assert rows[1].session_ids == ("11111111-2222-3333-4444-555555555555",)
    assert (parsed.tally["n_unparsed"], parsed.tally["n_continuation"], parsed.tally["n_blank"]) == (1, 2, 1)
