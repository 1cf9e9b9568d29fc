"""The proposed files in Spark: a night's parse stage makes of each style what the trial made of it."""

from __future__ import annotations

from functools import reduce

import pytest
from nightlog.onboarding.propose import propose
from nightlog.onboarding.toml import to_toml
from nightlog.onboarding.trial import Event, parse_events, split_records
from nightlog.parsing.lines import parse_lines
from nightlog.systems.catalog import load_catalog, parse_system
from nightlog.systems.spec import System
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
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


def in_spark(spark: SparkSession, system: System, lines: list[str]) -> DataFrame:
    rows = [(DS, "a.log", number, text) for number, text in enumerate(lines, 1)]
    frame = spark.createDataFrame(rows, "ds string, file string, line_no long, text string")
    return parse_lines(frame, system).withColumn("system", F.lit(system.name))


def as_row(event: Event) -> tuple[object, ...]:
    at = event.at.replace(tzinfo=None) if event.at else None
    return event.record.line + 1, at, sorted(event.ids), event.message


def seen(row: Row) -> tuple[object, ...]:
    return row["line_no"], row["at"], sorted(row["session_ids"]), row["message"]


@pytest.mark.slow
def test_a_night_parses_each_style_as_the_trial_did(spark: SparkSession) -> None:
    systems, lines = {}, {}
    for style in STYLES:
        sections = propose(lines_in(style), style, f"{style}-{{ds}}.log", DS, False).sections
        systems[style] = parse_system(to_toml(sections), style)
        part = lines_in(style, 6)
        lines[style] = [*part, *ODD, *part]
    frames = [in_spark(spark, systems[style], lines[style]) for style in STYLES]
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    rows = reduce(DataFrame.unionByName, frames).where("matched").collect()
    for style, system in systems.items():
        timed = system.timestamp is not None
        expected = [as_row(e) for e in parse_events(split_records(lines[style], system), system, DS) if e.matched]
        found = sorted(seen(row) for row in rows if row["system"] == style)
        assert len(expected) >= 40 or style == "journal_export"
        assert found == sorted(expected), style
        assert timed and all(row[1] is not None for row in found if row[0] <= 5), style


def test_openstack_traces_belong_to_the_record_before_them(spark: SparkSession) -> None:
    openstack = load_catalog()["openstack"]
    lines = [
        "<tail of an older record/>",
        "ERROR nova.compute [req-1] [instance: 11111111-2222-3333-4444-555555555555] it failed: Traceback",
        "  File x, line 3",
        "",
        "</domain>",
        " INFO nova.api [-] next",
    ]
    rows = sorted(in_spark(spark, openstack, lines).collect(), key=lambda row: row["line_no"])
    assert [(row["line_no"], row["matched"]) for row in rows] == [(1, False), (2, True), (6, True)]
    assert rows[1]["message"] == "[instance: <UUID>] it failed: Traceback\n  File x, line <NUM>\n</domain>"
    assert rows[1]["session_ids"] == ["11111111-2222-3333-4444-555555555555"]
