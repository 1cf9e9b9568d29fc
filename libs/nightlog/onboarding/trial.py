"""Try a system file on some lines: records, templates, sessions and patterns, by the engine of the night."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa

from nightlog.parsing.events import parse_lines
from nightlog.parsing.records import Joined, flat_column, join_records, without_colours
from nightlog.parsing.shapes import MAX_MESSAGE
from nightlog.parsing.structured import split_fields
from nightlog.systems.spec import Mask, System


@dataclass(frozen=True)
class Record:
    """A record: the number of its first line in the sample (from 0), its text, and the number of its lines."""

    line: int
    text: str
    n_lines: int


@dataclass(frozen=True)
class Event:
    """A record as parsed; `fields` are those of the header, "message" not masked; `at` is None where the time cannot be read."""

    record: Record
    matched: bool
    fields: dict[str, str]
    at: datetime | None
    ids: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Session:
    """A session of the sample: its events (by their place), its templates with counts, and the templates with counts in powers of two."""

    events: tuple[int, ...]
    counts: dict[str, int]

    @cached_property
    def pattern(self) -> tuple[tuple[str, int], ...]:
        """Template and count, rounded down to a power of two, in order."""
        return tuple(sorted((template, 1 << (n.bit_length() - 1)) for template, n in self.counts.items()))


def join_lines(lines: Sequence[str], system: System) -> Joined:
    """Join the lines of records that span lines, as the night does."""
    table = lines_table(lines)
    return join_records(table, system.record) if system.record is not None else Joined(table)


def split_records(lines: Sequence[str], system: System) -> list[Record]:
    """Split lines into records: one per line, unless the system says where records start."""
    return records_of(join_lines(lines, system), len(lines))


def records_of(joined: Joined, n_lines: int) -> list[Record]:
    """Return joined rows as records of a sample of `n_lines` lines."""
    numbers = joined.rows.column("line_no").to_pylist()
    ends = [*numbers[1:], n_lines + 1]
    return [Record(n - 1, text, end - n) for n, text, end in zip(numbers, joined.rows.column("text").to_pylist(), ends, strict=True)]


def parse_events(records: Sequence[Record], system: System, ds: str) -> list[Event]:
    """Parse records as the night does, by the same engine; blank records are left out."""
    table = lines_table([record.text for record in records])
    own: list[dict[str, str] | None] = [None] * len(records)
    timed = [False] * len(records)
    texts = flat_column(table, "text")
    for form in system.forms():
        left = [place for place, fields in enumerate(own) if fields is None]
        columns, matched = split_fields(texts.take(pa.array(left, pa.int64())), form.header, form.header.fields)
        fields = {name: column.to_pylist() for name, column in columns.items()}
        for number, place in enumerate(left):
            if matched[number]:
                own[place] = {name: values[number] or "" for name, values in fields.items()}
                timed[place] = form.timestamp is not None
    rows, parsed = parse_lines(table, system.model_copy(update={"record": None}), ds)
    at_of: dict[int, datetime | None] = {}
    message_of: dict[int, str] = {}
    ids_of: defaultdict[int, list[str]] = defaultdict(list)
    for row in rows.select(["line_no", "at", "session_id", "message_id"]).to_pylist():
        place = row["line_no"] - 1
        at_of[place] = row["at"] if timed[place] else None
        message_of[place] = parsed.messages[row["message_id"]][0]
        ids_of[place] += [row["session_id"]] if row["session_id"] is not None else []
    events = []
    for place, record in enumerate(records):
        named = own[place]
        if place in message_of and named is not None:
            events.append(Event(record, True, named, at_of[place], tuple(ids_of[place]), message_of[place]))
        elif record.text.strip(" "):
            events.append(Event(record, False, {}, None, (), ""))
    return events


def lines_table(lines: Sequence[str]) -> pa.Table:
    """Return lines of a sample as the rows of one file, (file, line_no, text)."""
    numbers = np.arange(1, len(lines) + 1)
    files = pa.array(["sample"] * len(lines), pa.string())
    return without_colours(pa.table({"file": files, "line_no": numbers, "text": pa.array(lines, pa.string())}))


def masker(masks: Sequence[Mask]) -> Callable[[str], str]:
    """The function that puts typed placeholders into a message."""
    compiled = [(re.compile(each.pattern, re.ASCII), each.placeholder) for each in masks]

    def mask(message: str) -> str:
        message = message[:MAX_MESSAGE]
        for pattern, placeholder in compiled:
            message = pattern.sub(placeholder, message)
        return message.strip(" ")

    return mask


def mine_messages(messages: Sequence[str], system: System) -> dict[str, str]:
    """Each distinct masked message's template text, by the project's own miner, as on a system's first night."""
    import pandas as pd

    from nightlog.templates.miner import MessageGroup, mine_group

    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for message in sorted(set(messages)):
        by_length[len(message.split())].append(message)
    nothing = pd.DataFrame({name: [] for name in ("template_id", "widened", "first_message", "ordinal")})
    found: dict[str, str] = {}
    for length, same in by_length.items():
        group = MessageGroup(length, pd.DataFrame({"message_id": range(len(same)), "message": same}), nothing)
        mined = mine_group(group, system.name, system.templates)
        final = dict(zip(mined["template_id"], mined["widened"], strict=True))
        found |= {message: final[template] for message, template in zip(mined["message"], mined["template_id"], strict=True)}
    return found


def group_sessions(events: Sequence[Event], templates: dict[str, str]) -> dict[str, Session]:
    """The sessions of the events, each on all of its events."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        for session_id in event.ids:
            places[session_id].append(place)
    return {
        session_id: Session(tuple(found), dict(Counter(templates[events[place].message] for place in found)))
        for session_id, found in places.items()
    }


@dataclass(frozen=True)
class Trial:
    """A system file and what it makes of a sample.

    `n_swallowed`: lines that were joined to the record before them but do not look like its continuation.
    """

    system: System
    n_lines: int
    n_swallowed: int
    events: list[Event]
    templates: dict[str, str]
    sessions: dict[str, Session]

    @cached_property
    def matched(self) -> list[Event]:
        """The events whose record matches the header."""
        return [event for event in self.events if event.matched]

    @cached_property
    def matched_share(self) -> float:
        """Share of the lines with text whose record matches."""
        return sum(event.record.n_lines for event in self.matched) / max(1, self.n_with_text)

    @cached_property
    def swallowed_share(self) -> float:
        """Share of the lines with text that were swallowed."""
        return self.n_swallowed / max(1, self.n_with_text)

    @cached_property
    def n_with_text(self) -> int:
        """Lines of records with text."""
        return sum(event.record.n_lines for event in self.events)

    @cached_property
    def timed_share(self) -> float:
        """Share of the matching records whose time can be read."""
        return sum(event.at is not None for event in self.matched) / max(1, len(self.matched))

    @cached_property
    def in_session_share(self) -> float:
        """Share of the matching records that belong to a session."""
        return sum(bool(event.ids) for event in self.matched) / max(1, len(self.matched))

    @cached_property
    def by_template(self) -> Counter[str]:
        """Return how many matching records each template has."""
        return Counter(self.templates[event.message] for event in self.matched)

    @cached_property
    def questions(self) -> Counter[tuple[tuple[str, int | None], ...]]:
        """Return what would be asked about the sessions, and how many sessions each question is about: counts where they tell something."""
        counted = self.system.session.kind == "id"
        return Counter(tuple((template, n if counted else None) for template, n in session.pattern) for session in self.sessions.values())

    @cached_property
    def patterns(self) -> Counter[tuple[tuple[str, int], ...]]:
        """The distinct patterns and how many sessions have each."""
        return Counter(session.pattern for session in self.sessions.values())


def try_system(lines: Sequence[str], system: System, ds: str) -> Trial:
    """Parse lines by a system file as on a system's first night."""
    joined = join_lines(lines, system)
    events = parse_events(records_of(joined, len(lines)), system, ds)
    templates = mine_messages([event.message for event in events if event.matched], system)
    n_swallowed = 0 if system.header.kind == "export" else joined.n_swallowed
    return Trial(system, len(lines), n_swallowed, events, templates, group_sessions([e for e in events if e.matched], templates))
