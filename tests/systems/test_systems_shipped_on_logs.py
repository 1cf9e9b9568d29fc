"""The shipped system files against the real logs that they were written for."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from nightlog.ingest.discover import find_days, find_files
from nightlog.systems.catalog import load_catalog

pytestmark = pytest.mark.shared
SEEN = 5000


@pytest.mark.parametrize(("name", "with_session"), [("hdfs", 1.0), ("bgl", 1.0), ("openstack", 0.2)])
def test_a_shipped_file_finds_its_logs_and_reads_their_lines(shared: Path, name: str, with_session: float) -> None:
    system, data = load_catalog()[name], shared / "data" / "raw"
    days = find_days(system, data)
    assert days
    files = find_files(system, data, days[0])
    assert files
    header, ids = re.compile(system.header.pattern), re.compile(system.session.pattern or "")
    label = re.compile(system.labels.pattern) if system.labels and system.labels.pattern else None
    counted: Counter[str] = Counter()
    with gzip.open(files[0], "rt", encoding="utf-8", errors="replace") as lines:
        for line in islice(lines, SEEN):
            text = line.rstrip("\n")
            if label is not None:
                text = label.sub("", text, count=1)
            found = header.fullmatch(text)
            counted["lines"] += 1
            counted["matched"] += found is not None
            counted["with session"] += found is not None and bool(ids.search(found[system.session.field]))
    assert counted["matched"] / counted["lines"] > 0.999
    assert counted["with session"] / counted["lines"] >= with_session * 0.999
