"""Time stamps: recognised in any place, and read as they were written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.onboarding.stamps import form_of, reader, scan

FORMS = [
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y/%m/%d %H:%M:%S",
    "%Y.%m.%d %H:%M:%S,%f",
    "%d/%b/%Y:%H:%M:%S +0000",
    "%d %b %Y %H:%M:%S",
    "%b %d, %Y %I:%M:%S %p",
    "%Y%m%d %H%M%S",
    "%Y%m%dT%H%M%SZ",
    "%Y-%m-%d-%H.%M.%S.%f",
    "%y/%m/%d %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%d.%m.%Y %H:%M:%S",
    "%s",
]
times = st.datetimes(datetime(2001, 9, 10), datetime(2037, 12, 31), timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))


def written(at: datetime, form: str) -> str:
    return str(int(at.timestamp())) if form == "%s" else at.strftime(form)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30)
@given(begin=times)
def test_what_is_written_in_a_form_is_read_back(form: str, begin: datetime) -> None:
    # A day of every kind, so that it is known which number is the month.
    moments = [begin + timedelta(hours=7 * n) for n in range(120)]
    texts = [f"[{written(at, form)}] x" for at in moments]
    seen = [scan(text, 1) for text in texts]
    assert all(found and text[found.end :] == "] x" for found, text in zip(seen, texts, strict=True))
    voted = form_of([found for found in seen if found])
    assert voted is not None
    read, pattern = reader(voted[0].format), re.compile(voted[0].pattern)
    for at, text in zip(moments, texts, strict=True):
        found = pattern.match(text, 1)
        assert found and read(re.sub(" +", " ", found[0])) == at


@pytest.mark.parametrize("text", ["10.251.127.47", "2026-13-01 10:00:00", "99:99:99", "1234567", "v1.2.3 10", "ab:cd:ef", "2026-03-04", ""])
def test_what_is_no_stamp_is_none(text: str) -> None:
    assert scan(text) is None


def test_fractions_may_be_missing_and_zones_are_kept() -> None:
    texts = ["2026-03-04 05:06:07+01:00", "2026-03-04 05:06:07.25+01:00"]
    voted = form_of([found for text in texts if (found := scan(text))])
    assert voted is not None
    assert [reader(voted[0].format)(text) for text in texts] == [
        datetime(2026, 3, 4, 4, 6, 7, tzinfo=UTC),
        datetime(2026, 3, 4, 4, 6, 7, 250_000, tzinfo=UTC),
    ]
