"""Ready formats: each parses its own samples, on any day, and is recognised among the others."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from nightlog.onboarding.formats import Ready, ready_formats, recognise
from nightlog.parsing.timestamps import reader
from nightlog.systems.spec import Header, Timestamp


@pytest.mark.parametrize("ready", ready_formats(), ids=lambda ready: ready.name)
def test_a_ready_format_parses_its_samples(ready: Ready) -> None:
    header = Header(pattern=ready.pattern)
    for sample in ready.sample:
        found = re.compile(header.pattern, re.ASCII | re.DOTALL).fullmatch(sample)
        assert found is not None, sample
        assert re.match(ready.start, sample, re.ASCII), ready.start
        assert found["message"].strip()
        value = ready.value.format_map({"ds": "2026-03-04", "ds_year": "2026"} | found.groupdict())
        (at,) = reader(Timestamp(value=ready.value, format=ready.format))(pa.array([value])).to_pylist()
        assert at is not None, (value, ready.format)


@pytest.mark.parametrize("ready", ready_formats(), ids=lambda ready: ready.name)
def test_a_ready_format_is_recognised(ready: Ready) -> None:
    lines = [line for sample in ready.sample for line in sample.split("\n")]
    found = recognise(lines)
    assert found is not None and found.ready.name == ready.name


def test_there_are_many_and_no_name_stands_twice() -> None:
    names = [ready.name for ready in ready_formats()]
    assert len(names) == len(set(names)) >= 40
