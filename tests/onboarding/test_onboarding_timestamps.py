"""Time stamps: recognised in any place, and read as they were written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.onboarding.timestamps import form_of, scan
from nightlog.parsing.timestamps import reader
from nightlog.systems.spec import Timestamp

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


def read_all(form: str, texts: list[str]) -> list[datetime | None]:
    """Read stamps as a night does."""
    micros = reader(Timestamp(value="{time}", format=form))(pa.array(texts, pa.string())).to_pylist()
    return [None if each is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=each) for each in micros]


def written(at: datetime, form: str) -> str:
    return str(int(at.timestamp())) if form == "%s" else at.strftime(form)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, deadline=None)
@given(begin=times)
def test_what_is_written_in_a_form_is_read_back(form: str, begin: datetime) -> None:
    # A day of every kind, so that it is known which number is the month.
    moments = [begin + timedelta(hours=7 * n) for n in range(120)]
    texts = [f"[{written(at, form)}] x" for at in moments]
    seen = [scan(text, 1) for text in texts]
    assert all(found and text[found.end :] == "] x" for found, text in zip(seen, texts, strict=True))
    voted = form_of([found for found in seen if found])
    assert voted is not None
    matches = [re.compile(voted[0].pattern).match(text, 1) for text in texts]
    assert read_all(voted[0].format, [found[0] for found in matches if found]) == moments


@pytest.mark.parametrize("text", ["10.251.127.47", "2026-13-01 10:00:00", "99:99:99", "1234567", "v1.2.3 10", "ab:cd:ef", "2026-03-04", ""])
def test_what_is_no_stamp_is_none(text: str) -> None:
    assert scan(text) is None


def test_fractions_may_be_missing_and_zones_are_kept() -> None:
    texts = ["2026-03-04 05:06:07+01:00", "2026-03-04 05:06:07.25+01:00"]
    voted = form_of([found for text in texts if (found := scan(text))])
    assert voted is not None
    assert read_all(voted[0].format, texts) == [
        datetime(2026, 3, 4, 4, 6, 7, tzinfo=UTC),
        datetime(2026, 3, 4, 4, 6, 7, 250_000, tzinfo=UTC),
    ]


# Samples of one file, and the same moments on other days of the month and hours of the day.
OTHER_DAYS = {
    ("Mar 14 15:16:17", "Mar 23 10:11:12"): {"Mar  3 05:06:07": (3, 3, 5), "Mar 3 5:06:07": (3, 3, 5)},
    ("2021-11-19 15:13:11", "2021-11-20 16:13:11"): {"2021-11-09  5:13:11": (11, 9, 5), "2021-11-9 5:13:11": (11, 9, 5)},
    ("Nov 19 2025 15:06:07", "Nov 20 2025 15:06:07"): {"Nov  9 2025 05:06:07": (11, 9, 5)},
    ("03-MAR-2026 15:06:07",): {"3-APR-2026 5:06:07": (4, 3, 5)},
    ("30 May 12:50:13.457", "31 May 12:50:13.457"): {"1 Jun 02:50:13.457": (6, 1, 2)},
    ("Apr-17-13 17:08:36", "Apr-27-13 17:08:36"): {"Apr-07-13 07:08:36": (4, 7, 7)},
    ("2026-03-14 15:06:07 PDT",): {"2026-03-04 05:06:07 CEST": (3, 4, 3), "2026-03-04 05:06:07 UTC": (3, 4, 5)},
    ("2026-03-14 15:06:07Z", "2026-03-14 15:06:07+03:00"): {"2026-03-04 05:06:07+01": (3, 4, 4), "2026-03-04 05:06:07Z": (3, 4, 5)},
    ("Sat Jun 11 02:17:42 2013"[4:], "Sat Jun 21 02:17:42 2013"[4:]): {"Jun  1 02:17:42 2013": (6, 1, 2), "Jun  1 02:17:42.123 2013": None},
}


@pytest.mark.parametrize("sample", OTHER_DAYS)
def test_a_form_reads_other_days_and_hours_than_its_sample(sample: tuple[str, ...]) -> None:
    voted = form_of([found for text in sample if (found := scan(text))])
    assert voted is not None
    for text, expected in OTHER_DAYS[sample].items():
        found = re.fullmatch(voted[0].pattern, text)
        assert (found is not None) == (expected is not None), (text, voted[0])
        if expected is not None:
            form, day = (f"yyyy {voted[0].format}", f"2026 {text}") if voted[0].without == "year" else (voted[0].format, text)
            (at,) = read_all(form, [day])
            assert at is not None and (at.month, at.day, at.hour) == expected, (text, voted[0])
