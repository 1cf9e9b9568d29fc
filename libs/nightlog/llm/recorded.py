"""Verdicts from a file, for the demo and the tests: recorded answers of a large language model about the same templates."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from nightlog.errors import ConfigError
from nightlog.llm.items import Answer, Item, Label, Verdict
from nightlog.llm.prompt import verdict_of
from nightlog.llm.redaction import MASK, outgoing_template
from nightlog.systems.spec import System

Words = tuple[str, ...]
Shape = tuple[tuple[str, int], ...]


class RecordedEvent(BaseModel):
    """A template as it was sent, and its count."""

    template: str
    count: int = Field(1, ge=1)


class Recorded(BaseModel):
    """A line of the file."""

    system: str
    events: list[RecordedEvent]
    label: Label
    confidence: float = Field(ge=0, le=1)
    reason: str
    round: Literal[1, 2] = 1
    group: str | None = None


def normalised(template: str) -> str:
    """Return a template's lower-cased words, without masks and digits, so that small differences in masking do not matter.

    >>> normalised("<IP>:<NUM> Served block <BLK> to /<IP>"), normalised("<*> served block <*> to <*>")
    ('served block to', 'served block to')
    """
    return " ".join(re.findall(r"[^\W\d_]+", re.sub(MASK, " ", outgoing_template(template)).lower()))


def shape(events: Iterable[tuple[str, int | None]]) -> Shape:
    """Return the multiset of (normalised template, log2 of its count, rounded down), sorted."""
    return tuple(sorted((normalised(template), max(1, count or 1).bit_length() - 1) for template, count in events))


def words(pattern: Shape) -> Words:
    """Return the set of normalised templates of a pattern, sorted."""
    return tuple(sorted({template for template, _ in pattern}))


def distance(one: Shape, other: Shape) -> int:
    """Return the distance of the counts of two patterns of the same templates, in powers of two."""
    a, b = Counter[str](), Counter[str]()
    for counter, pattern in ((a, one), (b, other)):
        for template, power in pattern:
            counter[template] += 1 << power
    return sum(abs(a[template].bit_length() - b[template].bit_length()) for template in a | b)


class Rows:
    """The rows of one round."""

    def __init__(self) -> None:
        self.exact: dict[tuple[str, Shape], Recorded] = {}
        self.alike: dict[tuple[str, Words], dict[Shape, Recorded]] = defaultdict(dict)

    def add(self, row: Recorded) -> None:
        """Keep a row, instead of an earlier one on the same pattern."""
        pattern = shape((event.template, event.count) for event in row.events)
        self.exact[row.system, pattern] = row
        self.alike[row.system, words(pattern)][pattern] = row

    def near(self, system: str, pattern: Shape) -> Recorded | None:
        """Return the row of the same set of templates with the nearest counts."""
        alike = self.alike.get((system, words(pattern)))
        return alike[min(alike, key=lambda known: distance(known, pattern))] if alike else None


class RecordedJudge:
    """Answers from a file of JSON lines {"system", "events": [{"template", "count"}], "label", "confidence", "reason"}; those of the
    second round have "round": 2 and "group" besides.

    A pattern gets the verdict of the same templates with the same counts, else of the same set of templates with the nearest
    counts (the earlier line where several are as near), else label unclear with confidence 0. Where two lines say the same
    pattern, the later one counts. In the second round the first verdict stands where none of that round is recorded; a pattern that the
    first round knows exactly is not taken for another. No call is ever made.

    Raises: ConfigError where the file is missing or a line of it is not such a row.
    """

    def __init__(self, path: Path):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"no recorded verdicts at {path} ({error.strerror}); set NIGHTLOG_LLM_RECORDED to a file of them, or NIGHTLOG_LLM=off"
            ) from None
        self.name = f"recorded:{hashlib.sha256(content).hexdigest()[:16]}"
        self._rounds = {1: Rows(), 2: Rows()}
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = Recorded.model_validate_json(line)
            except ValidationError as error:
                fault = error.errors()[0]
                raise ConfigError(f"{path}:{number}: {'.'.join(map(str, fault['loc'])) or 'line'}: {fault['msg']}") from None
            self._rounds[row.round].add(row)

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`. All items in one answer, without calls and tokens."""
        if items:
            yield Answer(tuple(self._verdict(system.name, item) for item in items), 0, 0, 0, tuple(item.id for item in items))

    def _verdict(self, system: str, item: Item) -> Verdict:
        pattern = shape(item.events)
        first, second = self._rounds[1], self._rounds[2]
        if item.comparison is not None:
            row = second.exact.get((system, pattern))
            if row is None and (system, pattern) not in first.exact:
                row = second.near(system, pattern)
        else:
            row = first.exact.get((system, pattern)) or first.near(system, pattern)
        if row is None:
            return verdict_of(item, "unclear", 0.0, "never recorded", None)
        return verdict_of(item, row.label, row.confidence, row.reason, row.group)
