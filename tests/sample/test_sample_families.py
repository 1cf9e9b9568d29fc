"""The recorded families: each reads without an unparsed line, and its counts are those of the manifest."""

import csv
import gzip
import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from nightlog.sample import FAMILIES, Family, families
from nightlog.systems.catalog import load_catalog

ALL = families()
MANIFEST = json.loads((FAMILIES / "manifest.json").read_text(encoding="utf-8"))


def sessions_of(family: Family, lines: list[str]) -> Counter[str]:
    """Read lines as the family's system file says; return the number of lines of each session."""
    header = re.compile(family.system.header.pattern)
    session = re.compile(family.system.session.pattern or ".+")
    counts: Counter[str] = Counter()
    for line in lines:
        fields = header.fullmatch(line)
        assert fields is not None, line
        counts.update(set(session.findall(fields[family.system.session.field] or "")))
    return counts


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)
def test_the_days_of_a_family_have_the_lines_sessions_and_anomalies_of_the_manifest(family: Family) -> None:
    with family.labels.open(encoding="utf-8", newline="") as file:
        labels = {row["session_id"]: row["label"] for row in csv.DictReader(file)}
    seen: set[str] = set()
    assert len(family.days) == 3
    for day in family.days:
        lines = gzip.decompress(family.log(day).read_bytes()).decode("utf-8").splitlines()
        sessions = sessions_of(family, lines)
        anomalous = sum(labels[session] == "1" for session in sessions)
        assert MANIFEST[family.name]["days"][day] == {"lines": len(lines), "sessions": len(sessions), "anomalous": anomalous}
        assert len(sessions) >= 390
        assert 0.01 <= anomalous / len(sessions) <= 0.06
        seen |= set(sessions)
    assert seen == set(labels)


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)
def test_each_anomalous_session_and_no_other_has_a_fault(family: Family) -> None:
    with family.labels.open(encoding="utf-8", newline="") as file:
        anomalous = {row["session_id"] for row in csv.DictReader(file) if row["label"] == "1"}
    with (FAMILIES / family.name / "truth.csv").open(encoding="utf-8", newline="") as file:
        faults = {row["session_id"]: row["fault"] for row in csv.DictReader(file)}
    assert set(faults) == anomalous
    assert len(set(faults.values())) >= 8


def test_the_families_are_sources_but_not_in_the_catalogue_and_the_wheel_carries_them() -> None:
    assert {family.system.role for family in ALL} == {"source"}
    assert not {family.name for family in ALL} & set(load_catalog())
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["nightlog"]
    package = root / "libs" / "nightlog"
    carried = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in FAMILIES.rglob("*") if path.is_file()}
    assert files <= carried
    assert sum(path.stat().st_size for path in files) < 8_000_000
