"""What a system file makes of some lines, as a night's parse stage would, without Spark: records, templates, sessions, patterns."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from nightlog.onboarding.stamps import reader
from nightlog.parsing.lines import MAX_MESSAGE
from nightlog.parsing.structured import ESCAPED, export_pattern, logfmt_pattern, message_part
from nightlog.systems.spec import LONGEST_RECORD, WHOLE_LINE, Header, Mask, System

# Java's \d and \w know ASCII alone, and its header pattern lets "." match line feeds.
FLAGS = re.ASCII | re.DOTALL


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


def split_records(lines: Sequence[str], system: System) -> list[Record]:
    """The records of the lines: one a line, unless the system says where records start."""
    if system.record is None:
        return [Record(number, text, 1) for number, text in enumerate(lines)]
    start, found = re.compile(system.record.start, FLAGS), list[tuple[int, list[str]]]()
    begun = None
    for number, text in enumerate(lines):
        if start.match(text):
            begun = number
            found.append((number, [text]))
        elif begun is not None and number - begun < LONGEST_RECORD:
            found[-1][1].append(text)
        else:
            found.append((number, [text]))
    kept = system.record.lines
    return [Record(number, "\n".join([text for text in texts if text.strip(" ")][:kept]), len(texts)) for number, texts in found]


def pattern_splitter(header: Header) -> Callable[[str], dict[str, str] | None]:
    """The function that takes a text apart by the header's pattern; None where it does not match."""
    whole = re.compile(header.pattern, FLAGS)

    def split(text: str) -> dict[str, str] | None:
        found = whole.fullmatch(text)
        return {name: value or "" for name, value in found.groupdict().items()} if found else None

    return split


def splitter(header: Header) -> Callable[[str], dict[str, str] | None]:
    """The function that takes a record's text apart into the header's fields; None where it does not match."""
    by_pattern = pattern_splitter(header)
    if header.kind == "pattern":
        return by_pattern
    every = [*header.message_keys, *(key for key in header.keys.values() if isinstance(key, str))]
    values_of = value_reader(header.kind, every)

    def split(text: str) -> dict[str, str] | None:
        apart = {"message": text} if header.pattern == WHOLE_LINE else by_pattern(text)
        if apart is None:
            return None
        values = values_of(apart["message"])
        parts = [message_part(n, key) + values[key] for n, key in enumerate(header.message_keys) if key in values]
        named = {name: values.get(key, "") for name, key in header.keys.items() if isinstance(key, str)}
        return apart | named | {"message": " ".join(parts)} if parts else None

    return split


def value_reader(kind: str, keys: Sequence[str]) -> Callable[[str], dict[str, str]]:
    """The function that finds the values of the keys in a text; what is not there is left out."""
    if kind == "json":
        return lambda text: json_values(text, keys)
    patterns = {key: re.compile(logfmt_pattern(key) if kind == "logfmt" else export_pattern(key), FLAGS) for key in keys}

    def read(text: str) -> dict[str, str]:
        found = {key: match for key, pattern in patterns.items() if (match := pattern.search(text))}
        if kind == "export":
            return {key: match[1] for key, match in found.items()}
        return {key: re.sub(ESCAPED, r"\1", match[1], flags=re.S) if match[1] else match[2] or "" for key, match in found.items()}

    return read


def json_values(text: str, keys: Sequence[str]) -> dict[str, str]:
    """The values of keys and paths in a JSON object, numbers as they are written; nothing where the text is not an object."""
    whole = json_object(text)
    found = {}
    for key in keys:
        value: Any = whole
        steps = re.findall(r"\.([\w-]+)|\['([^'\]]+)'\]|\[(\d+)\]", key) if key.startswith("$") else [(key, "", "")]
        for name, quoted, index in steps:
            if index:
                value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
            else:
                value = value.get(name or quoted) if isinstance(value, dict) else None
        if value is not None:
            found[key] = as_text(value)
    return found


DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def json_object(text: str, alone: bool = False) -> dict[str, Any]:
    """The JSON object that a text begins with, numbers as they are written; empty where there is none.

    Args: alone, whether nothing may follow it; Spark does not mind what does.
    """
    bare = text.strip()
    try:
        found, end = DECODER.raw_decode(bare)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and (end == len(bare) or not alone) else {}


def as_text(value: Any) -> str:
    """A JSON value as it becomes a field: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def masker(masks: Sequence[Mask]) -> Callable[[str], str]:
    """The function that puts typed placeholders into a message."""
    compiled = [(re.compile(each.pattern, re.ASCII), each.placeholder) for each in masks]

    def mask(message: str) -> str:
        message = message[:MAX_MESSAGE]
        for pattern, placeholder in compiled:
            message = pattern.sub(placeholder, message)
        return message.strip(" ")

    return mask


def id_finder(system: System) -> Callable[[dict[str, str], datetime | None], tuple[str, ...]]:
    """The function that finds the ids of a record's sessions."""
    session = system.session
    if session.kind == "id":
        pattern = re.compile(session.pattern or "", re.ASCII)
        group = min(1, pattern.groups)
        return lambda fields, _: tuple(dict.fromkeys(m[group] for m in pattern.finditer(fields[session.field]) if m[group]))
    if session.kind == "field":
        return lambda fields, _: (fields[session.field].strip(" "),) if fields[session.field].strip(" ") else ()
    width = session.window_minutes * 60
    return lambda _, at: (str(int(at.timestamp()) // width * width),) if at is not None else ()


def parse_events(records: Sequence[Record], system: System, ds: str) -> list[Event]:
    """The records as a night would parse them; blank ones are left out."""
    split, mask, find = splitter(system.header), masker(system.all_masks), id_finder(system)
    stamp, read = system.timestamp, reader(system.timestamp.format) if system.timestamp else None
    masked: dict[str, str] = {}
    events = []
    for record in records:
        if not record.text.strip(" "):
            continue
        fields = split(record.text)
        if fields is None:
            events.append(Event(record, False, {}, None, (), ""))
            continue
        at = None
        if stamp is not None and read is not None:
            value = stamp.value.format_map({"ds": ds, "ds_year": ds[:4]} | fields)
            at = read(re.sub(" +", " ", value) if " " in stamp.value or stamp.value.count("{") > 1 else value)
        message = fields["message"]
        if message not in masked:
            masked[message] = mask(message)
        events.append(Event(record, True, fields, at, find(fields, at), masked[message]))
    return events


def mine_messages(messages: Sequence[str], system: System) -> dict[str, str]:
    """Each distinct masked message's template text, by the project's own miner, as on a system's first night."""
    import pandas as pd

    from nightlog.templates.miner import mine

    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for message in sorted(set(messages)):
        by_length[len(message.split())].append(message)
    nothing = pd.DataFrame({name: [] for name in ("template_id", "widened", "first_message", "ordinal")})
    found: dict[str, str] = {}
    for length, same in by_length.items():
        mined = mine(system.name, system.templates)((length,), pd.DataFrame({"message_id": range(len(same)), "message": same}), nothing)
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
    """A system file and what it makes of a sample."""

    system: System
    n_lines: int
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
        total = sum(event.record.n_lines for event in self.events)
        return sum(event.record.n_lines for event in self.matched) / max(1, total)

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
        """How many matching records each template has."""
        return Counter(self.templates[event.message] for event in self.matched)

    @cached_property
    def questions(self) -> Counter[tuple[tuple[str, int | None], ...]]:
        """What would be asked about the sessions, and how many sessions each question is about: counts where they tell something."""
        counted = self.system.session.kind == "id"
        return Counter(tuple((template, n if counted else None) for template, n in session.pattern) for session in self.sessions.values())

    @cached_property
    def patterns(self) -> Counter[tuple[tuple[str, int], ...]]:
        """The distinct patterns and how many sessions have each."""
        return Counter(session.pattern for session in self.sessions.values())


def try_system(lines: Sequence[str], system: System, ds: str) -> Trial:
    """Parse lines by a system file as on a system's first night."""
    events = parse_events(split_records(lines, system), system, ds)
    templates = mine_messages([event.message for event in events if event.matched], system)
    return Trial(system, len(lines), events, templates, group_sessions([e for e in events if e.matched], templates))
