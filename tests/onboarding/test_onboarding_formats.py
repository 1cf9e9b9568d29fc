"""What is proposed for lines in many styles. The orders behind them are known, so it is known which records belong together."""

from __future__ import annotations

import json
import random
from collections import defaultdict

import pytest
from nightlog.onboarding.propose import Proposal, propose
from nightlog.onboarding.toml import to_toml
from nightlog.onboarding.trial import try_system
from nightlog.systems.catalog import parse_system
from styles import STYLES, lines_in, steps

DS = "2026-03-04"
# What an access log's request says beyond its status is values.
TEMPLATES = {"access_log": 2, "postgres": 7}


def proposed(style: str) -> Proposal:
    return propose(lines_in(style), "shop", "shop-{ds}.log", DS, False)


def sessions_of(found: Proposal) -> set[frozenset[object]]:
    """The times of each session's records: in most styles no two records share one."""
    matched = found.trial.matched
    return {frozenset((matched[place].at, matched[place].message) for place in s.events) for s in found.trial.sessions.values()}


@pytest.mark.parametrize("style", STYLES)
def test_each_style_is_matched_timed_and_grouped_by_order(style: str) -> None:
    found = proposed(style)
    trial = found.trial
    head = style == "windows_csv"  # its first line is the names of its columns
    assert trial.matched_share == 1 or (head and sum(not event.matched for event in trial.events) == 1)
    assert trial.timed_share == 1
    assert len(trial.by_template) == TEMPLATES.get(style, 6)
    by_order: defaultdict[str, int] = defaultdict(int)
    for step in steps():
        by_order[step.order] += 1 + (step.failed and style == "postgres")
    assert sorted(len(session.events) for session in trial.sessions.values()) == sorted(by_order.values())
    assert trial.in_session_share == 1
    assert len(trial.patterns) <= 4
    at = {event.at for event in trial.matched if event.at}
    true = {step.at for step in steps()}
    assert abs((min(at) - min(true)).total_seconds()) < 1 and abs((max(at) - max(true)).total_seconds()) < 1


@pytest.mark.parametrize("style", STYLES)
def test_the_proposed_text_is_the_proposed_system(style: str) -> None:
    found = proposed(style)
    assert parse_system(to_toml(found.sections), "shop.toml") == found.trial.system


@pytest.mark.parametrize("style", ["log4j", "python_logging", "spring"])
def test_stack_traces_are_part_of_their_record(style: str) -> None:
    trial = proposed(style).trial
    assert trial.system.record is not None
    long = [event for event in trial.matched if event.record.n_lines > 1]
    assert len(long) == sum(step.failed for step in steps())
    assert all(
        ("payment failed" in event.message and "imed out" in event.message + event.record.text) or "TimeoutError" in event.message
        for event in long
    )


def test_sql_over_several_lines_is_one_record() -> None:
    trial = proposed("postgres").trial
    (statement,) = [text for text in trial.by_template if "SELECT" in text]
    assert statement.split() == ["SELECT", "*", "FROM", "orders", "WHERE", "id", "=", "<NUM>;"]


def test_a_refused_request_is_another_template_than_a_served_one() -> None:
    by = proposed("access_log").trial.by_template
    assert {text.split()[-1] for text in by} == {"<NUM>", "SERVER_ERROR"}


def test_words_around_the_line_do_not_matter() -> None:
    """The same lines with every word replaced, and ids of another alphabet: nothing hangs on what things are called."""
    words = {"order": "gizmo", "payment": "zorp", "stock": "blarg", "received": "quux", "shipped": "frob", "com.acme": "net.zap"}
    lines = lines_in("log4j")
    for old, new in words.items():
        lines = [line.replace(old, new) for line in lines]
    ours, theirs = propose(lines, "x", "x-{ds}", DS, False), proposed("log4j")
    assert sessions_of(ours) != sessions_of(theirs)
    assert sorted(len(s) for s in sessions_of(ours)) == sorted(len(s) for s in sessions_of(theirs))


def test_lines_without_ids_become_windows_and_lines_without_times_their_own_sessions() -> None:
    lines = [f"{step.at:%Y-%m-%d %H:%M:%S} {step.level} {step.text}" for step in steps()]
    windows = propose(lines, "x", "x-{ds}", DS, False)
    assert windows.sections["session"]["kind"] == "window"
    assert any("window of time" in note for note in windows.notes)
    bare = propose([step.text for step in steps()], "x", "x-{ds}", DS, False)
    assert bare.sections["session"] == {"kind": "field", "field": "message", "lookback_days": 0}
    assert any("neither ids nor times" in note for note in bare.notes)


def test_the_same_lines_give_the_same_file() -> None:
    assert to_toml(proposed("klog").sections) == to_toml(proposed("klog").sections)


def mixed(rng: random.Random) -> list[str]:
    """Return lines of two styles in some disorder: behind a word, cut, shuffled, or in turns."""
    first, second = (lines_in(style, 12) for style in rng.sample(sorted(STYLES), 2))
    kind = rng.randrange(5)
    if kind == 0:
        return [f"ALERT {line}" for line in first]
    if kind == 1:
        return [*first, *second]
    if kind == 2:
        return [line[rng.randrange(12) :] for line in first]
    if kind == 3:
        return [line[: rng.randrange(5, 80)] for line in first]
    return [line for pair in zip(rng.sample(first, len(first)), second, strict=False) for line in pair]


@pytest.mark.parametrize("seed", range(30))
def test_a_file_is_proposed_for_whatever_lines_stand_together(seed: int) -> None:
    lines = mixed(random.Random(seed))
    found = propose(lines, "shop", "shop-{ds}.log", DS, False, spread=lines)
    assert parse_system(found.toml, "shop.toml").name == "shop"
    assert sum(event.record.n_lines for event in found.trial.events) <= len(lines)


def test_windows_leave_out_a_form_without_times() -> None:
    timed = [f"2026-03-04 10:{n // 60:02d}:{n % 60:02d} INFO cache swept" for n in range(200)]
    bare = [json.dumps({"message": "queue is empty", "level": "info", "worker": "main"})] * 60
    found = propose([line for pair in zip(timed, bare, strict=False) for line in pair] + timed[60:], "shop", "shop-{ds}.log", DS, False)
    assert found.trial.system.session.kind == "window"
    assert found.trial.timed_share == 1 and found.trial.matched_share == pytest.approx(200 / 260)


def test_a_record_of_xml_begins_with_its_element() -> None:
    lines = []
    for n in range(120):
        fields = {
            "date": f"2026-03-04T10:{n // 60:02d}:{n % 60:02d}",
            "level": "INFO",
            "message": f"order o{1000 + n // 3} step {n % 3} is done",
        }
        lines += ["<record>", *(f"  <{name}>{value}</{name}>" for name, value in fields.items()), "</record>"]
    trial = propose(lines, "shop", "shop-{ds}.log", DS, False).trial
    assert (len(trial.events), trial.matched_share, trial.timed_share, trial.n_swallowed) == (120, 1, 1, 0)
    assert [event.record.line for event in trial.events] == list(range(0, 600, 5))
    assert len(trial.by_template) == 1 and len(trial.sessions) == 40


def test_a_refused_request_of_iis_and_squid_is_another_template_than_a_served_one() -> None:
    fields = "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) sc-status time-taken"
    iis = ["#Software: Microsoft Internet Information Services 10.0", "#Version: 1.0", f"#Fields: {fields}"]
    squid = []
    for n in range(100):
        at, status = f"10:{n // 60:02d}:{n % 60:02d}", 500 if n % 9 == 0 else 200
        iis.append(f"2026-03-04 {at} 10.0.0.1 GET /shop/cart/{n % 7} - 443 - 10.0.{n % 5}.9 Mozilla/5.0 {status} {n}")
        squid.append(
            f"{1772600767 + n}.000   {n} 10.0.{n % 5}.9 TCP_{'DENIED/403' if n % 9 == 0 else 'MISS/200'} 99 GET http://a.example.com/"
        )
    for lines, templates in (
        (iis, {"GET <PATH> - SERVER_ERROR": 12, "GET <PATH> - <NUM>": 88}),
        (squid, {"GET http://a.example.com/ TCP_DENIED": 12, "GET http://a.example.com/ TCP_MISS": 88}),
    ):
        trial = propose(lines, "shop", "shop-{ds}.log", DS, False).trial
        assert trial.by_template == templates
        assert "GET" in trial.matched[0].fields["message"] and trial.matched[0].fields["message"].endswith(("500", "TCP_DENIED"))


def test_an_access_log_behind_syslog_is_read_on_other_days() -> None:
    def lines(day: int) -> list[str]:
        request = '"GET /cart HTTP/1.1" 200 17 "-" "curl/8.0"'
        times = [f"10:00:{n:02d}" for n in range(40)]
        return [f"Mar {day:2d} {at} web1 nginx[7]: 192.0.2.3 - - [{day:02d}/Mar/2026:{at} +0100] {request}" for at in times]

    system = propose(lines(23), "shop", "shop-{ds}.log", "2026-03-23", False).trial.system
    for day in (3, 23):
        trial = try_system(lines(day), system, f"2026-03-{day:02d}")
        assert trial.matched_share == trial.timed_share == 1
        assert {event.at.hour for event in trial.matched if event.at} == {9}
        assert {event.fields["message"] for event in trial.matched} == {'"GET /cart HTTP/1.1" 200'}
        assert trial.matched[3].fields["client"] == "192.0.2.3"


def test_the_id_of_an_audit_record_is_its_time() -> None:
    lines = [json.dumps({"ID": f"{1772600767 + n}.843:{30826 + n}", "SYSCALL": {"exe": "/usr/sbin/nft", "pid": n % 9}}) for n in range(60)]
    trial = propose(lines, "shop", "shop-{ds}.log", DS, False).trial
    assert trial.timed_share == 1 and f"{trial.matched[0].at:%H:%M:%S.%f}" == "05:06:07.843000"
