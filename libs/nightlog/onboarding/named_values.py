"""Records of named values (JSON, logfmt, journald's export): how they are recognised, and which keys are what."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightlog.onboarding.columns import SEVERITY
from nightlog.onboarding.layout import Layout, find_layout
from nightlog.onboarding.timestamps import Form, form_of, key_of, scan
from nightlog.parsing.structured import as_text, decoded
from nightlog.systems.spec import WHOLE_LINE

PAIR = re.compile(r'([A-Za-z_@][\w.@/-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)(?=\s|$)')
EXPORTED = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)")
# What loggers usually call these things: a hint, worth less than what the values look like.
NAMES = {
    "message": re.compile(r"(?i)^_?(?:message|msg|log|text|event|body|short_message|description|@m|@mt)$"),
    "level": re.compile(r"(?i)^(?:level|levelname|log[._]?level|severity|severity_?text|lvl|@l|priority)$"),
    "time": re.compile(r"(?i)^(?:@?timestamp|@t|time|ts|t|date|datetime|asctime|event_?time|__realtime_timestamp)$"),
}
# Without a text, what an event is about: its kind, what was done to what, and how it ended.
EVENT = (
    re.compile(r"(?i)^(?:event_?name|event|action|activity|operation|operationname|event_?type|event_?action|kind|syscall)$"),
    re.compile(r"(?i)^(?:(?:http_?|request_?|req_?)?method|verb)$"),
    re.compile(r"(?i)^(?:(?:http_?|request_?|req_?)?(?:uri|url|path|target)|request|resource|object|file_?name|exe|command|cmd_?line)$"),
    re.compile(r"(?i)^(?:(?:http_?|downstream_?|origin_?|response_?|resp_?)?status(?:_?code)?|response_?code|outcome|result)$"),
)
TROUBLE = re.compile(r"(?i)^(?:err|error|exception|exc_info|cause|reason|stack|stack_?trace|status|status_?code|code|outcome|result)$")
# What a label of known truth is usually called.
LABEL_NAME = re.compile(r"(?i)(?:is_?)?(?:labels?|anomal(?:y|ous)|attack|malicious|faulty?|ground_?truth)")
ELEMENT = re.compile(r"<[\w:.-]+ ([^<>]*?)/?>\s*")  # of XML, whose attributes are pairs
AUDIT = re.compile(r"^(\d{10}\.\d{3}):\d+$")  # time and serial number of an audit record
MOSTLY = 0.8
MAX_KEYS = 40
Values = dict[str, str]


@dataclass(frozen=True)
class NamedValues:
    """Records of named values: their kind, the pattern of what stands before them, where a record starts, and the values of a sample."""

    kind: str
    pattern: str
    start: str | None
    records: list[Values]
    rows: float  # share of the lines that are such records
    before: Layout | None = None  # the columns before the values


@dataclass(frozen=True)
class Roles:
    """The roles of keys. `fields` are the others that could make sessions, the more frequent first."""

    message: tuple[str, ...]
    level: str | None
    time: str | None
    form: Form | None
    fields: tuple[str, ...]
    status: str | None  # the key of an HTTP status


def recognise(lines: Sequence[str], least: float = MOSTLY) -> NamedValues | None:
    """Return the kind of named values that at least this share of the lines hold, None for other text."""
    full = [line for line in lines if line.strip()]
    if not full:
        return None
    return as_json(full, least) or as_export(full) or as_logfmt(full, least)


def flat(value: Mapping[str, Any], path: str = "", depth: int = 3) -> Values:
    """The values of an object by key, those of inner objects by path.

    >>> flat({"a.b": 1, "c": {"d": "x"}})
    {'a.b': '1', '$.c.d': 'x'}
    """
    found: Values = {}
    for key, inner in value.items():
        step = f".{key}" if re.fullmatch(r"[\w-]+", key) else f"['{key}']"
        if "'" in key or "]" in key:
            continue
        here = f"{path or '$'}{step}"
        if isinstance(inner, dict) and depth > 1:
            found |= flat(inner, here, depth - 1)
        elif inner is not None:
            found[here if path else key] = as_text(inner)
    return found


def as_json(lines: Sequence[str], least: float = MOSTLY) -> NamedValues | None:
    """JSON objects: one a line, behind a header of text, or over several lines that begin with a brace alone."""
    objects = [(line, decoded(line[at:]), at) for line in lines if (at := line.find("{")) >= 0 and line.rstrip().endswith("}")]
    good = [(line, found, at) for line, found, at in objects if found]
    share = len(good) / len(lines)
    if share >= least:
        before = [line[:at] for line, _, at in good]
        records = [flat(found) for _, found, _ in good]
        if sum(not text.strip() for text in before) >= MOSTLY * len(before):
            return NamedValues("json", WHOLE_LINE, None, records, share)
        layout = find_layout(before)
        head = re.compile(layout.pattern, re.ASCII | re.DOTALL)
        if sum(bool((rest := head.fullmatch(text)) and rest["message"].strip()) for text in before) > (1 - MOSTLY) * len(before):
            return None  # the text before the brace is the message, or a part of it
        pattern = layout.pattern.replace("(?P<message>.*)", "") + r"[^{]*(?P<message>\{.*)"
        return NamedValues("json", pattern, None, records, share, layout)
    alone = [number for number, line in enumerate(lines) if line.rstrip() == "{"]
    if len(alone) < 2:
        return None
    columns = ["\n".join(lines[a:b]).rstrip().rstrip(",") for a, b in zip(alone, [*alone[1:], len(lines)], strict=True)]
    whole = [found for column in columns if (found := decoded(column))]
    covered = len(whole) / len(columns)
    return NamedValues("json", WHOLE_LINE, r"\{", [flat(found) for found in whole], covered) if covered >= MOSTLY else None


def as_export(lines: Sequence[str]) -> NamedValues | None:
    """journald's export: KEY=value, each on a line of its own, and the key that begins a record."""
    pairs = [EXPORTED.fullmatch(line) for line in lines]
    if sum(pair is not None for pair in pairs) < MOSTLY * len(lines):
        return None
    first = next(pair[1] for pair in pairs if pair)
    records: list[Values] = []
    for pair in pairs:
        if pair and pair[1] == first:
            records.append({})
        if pair and records:
            records[-1][pair[1]] = pair[2]
    return NamedValues("export", WHOLE_LINE, f"{first}=", records, 1.0) if len(records) > 1 and len(records[0]) > 2 else None


def as_logfmt(lines: Sequence[str], least: float = MOSTLY) -> NamedValues | None:
    """key=value pairs that make up nearly all of a line, three or more, with a key that most lines share."""
    element = sum(ELEMENT.fullmatch(line) is not None for line in lines) >= MOSTLY * len(lines)
    records = []
    for line in [ELEMENT.sub(r"\1", line) for line in lines] if element else lines:
        pairs = PAIR.findall(line)
        covered = sum(len(key) + 1 + len(value) for key, value in pairs)
        if len(pairs) >= 3 and covered >= 0.85 * (len(line.strip()) - len(pairs) + 1):
            records.append({key: unquoted(value) for key, value in pairs})
    usual = Counter(key for record in records for key in record).most_common(1)
    if len(records) < least * len(lines) or not usual or usual[0][1] < MOSTLY * len(records):
        return None
    pattern = r"<[\w:.-]+ (?P<message>[^<>]*?)/?>\s*" if element else WHOLE_LINE
    return NamedValues("logfmt", pattern, None, records, len(records) / len(lines))


def unquoted(value: str) -> str:
    """A logfmt value as it is meant."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def last_step(key: str) -> str:
    """A key's own name, without the objects around it."""
    return re.split(r"[.\]]", key.removeprefix("$").replace("['", ".").replace("']", ""))[-1]


def name_of(key: str, taken: Sequence[str]) -> str:
    """A field name for a key: a word, lower case, not taken."""
    plain = re.sub(r"\W+", "_", last_step(key) if last_step(key) else key).strip("_").lower() or "field"
    plain = f"f_{plain}" if plain[0].isdigit() else plain
    number = 2
    name = plain
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def roles(records: Sequence[Values]) -> Roles:
    """Return which keys hold message, severity and time: by what their values look like, and by what loggers usually call them."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        for key, value in record.items():
            values[key].append(value)
    n = len(records)
    usual = {key: found for key, found in values.items() if len(found) >= 0.02 * n}

    def hinted(role: str, key: str) -> bool:
        return NAMES[role].match(last_step(key)) is not None or NAMES[role].match(key) is not None

    times = {}
    for key, found in usual.items():
        values_only = [AUDIT.sub(r"\1", value) for value in found]
        seen = [stamp for value in values_only if (stamp := scan(value)) and stamp.end == len(value)]
        if len(seen) >= 0.9 * len(found) and len(found) >= 0.5 * n and (voted := form_of(seen)):
            same = sum(key_of(stamp) == voted[1] for stamp in seen) / len(found)
            times[key] = (hinted("time", key), same, len(set(found)) / len(found), len(found)), voted[0]
    time = max(times, key=lambda key: times[key][0], default=None)
    levels = {
        key: (sum(SEVERITY.fullmatch(v) is not None for v in found) / len(found) + 0.5 * hinted("level", key), len(found))
        for key, found in usual.items()
        if key != time and len(set(found)) <= 12 and all(len(v) <= 16 for v in found)
    }
    level = max(levels, key=lambda key: levels[key], default=None)
    level = level if level is not None and levels[level][0] >= 0.5 else None
    full = {key: sum(bool(v.strip()) for v in found) / n for key, found in usual.items()}
    texts = {
        key: full[key] * (2.0 * hinted("message", key) + min(8, sum(len(v.split()) for v in found) / len(found)) / 4)
        for key, found in usual.items()
        if key not in (time, level) and key not in times
    }
    ranked = sorted(texts, key=lambda key: -texts[key])
    main = ranked[:1]
    named = bool(main) and full[main[0]] >= 0.5 and hinted("message", main[0])
    words = {key: sum(len(v.split()) for v in usual[key]) / len(usual[key]) for key in texts}
    wordy = named or (bool(main) and texts[main[0]] >= 1.2)
    more = [k for k in usual if k not in (*main, time, level) and TROUBLE.match(last_step(k)) and informative(usual[k])]
    events = events_of(usual, n)
    if wordy and not named:  # which of several texts is the message, nobody can tell
        main = [key for key in usual if key in events[:1] or (key in texts and words[key] >= 2 and full[key] >= 0.5)][:4] or main
    if not wordy and events:
        main, more = [], [*events, *(k for k in more if k not in events and not any(p.match(last_step(k)) for p in EVENT))]
    elif not wordy:
        # No text: an event is what its few-valued keys say.
        kinds = [k for k in ranked if k not in main and k not in more and 1 < len(set(usual[k])) <= min(50, 0.2 * len(usual[k]))]
        more = kinds[:6] + more
    status = next((k for k in usual if re.search(r"(?i)status|code", last_step(k)) and is_status(usual[k])), None)
    if status and status not in (*main, *more):
        more.append(status)
    others = [k for k in sorted(usual, key=lambda k: -len(usual[k])) if k not in (*main, time, level)]
    others = [k for k in others if len(set(usual[k])) > 1 or LABEL_NAME.fullmatch(last_step(k))]
    return Roles((*main, *more[:8]), level, time, times[time][1] if time else None, tuple(others[:MAX_KEYS]), status)


def events_of(usual: Mapping[str, Sequence[str]], n: int) -> list[str]:
    """The keys that say what happened: of each role the one that most records have, outer ones first."""
    found = []
    for role in EVENT:
        keys = [key for key, values in usual.items() if role.match(last_step(key)) and sum(bool(v.strip()) for v in values) >= 0.3 * n]
        if keys:
            found.append(max(keys, key=lambda key: (len(usual[key]), -len(key))))
    return found


def has_message(records: Sequence[Values]) -> bool:
    """Return whether nearly all records have a key that loggers call their message."""
    return sum(any(NAMES["message"].match(key) for key in record) for record in records) >= MOSTLY * len(records)


def informative(values: Sequence[str]) -> bool:
    """Return whether a key is worth being part of the message: text, or one of a few values."""
    return len(set(values)) <= 50 or sum(any(c.isalpha() for c in v) for v in values) >= 0.5 * len(values)


def is_status(values: Sequence[str]) -> bool:
    """Return whether values are statuses of HTTP."""
    return sum(re.fullmatch(r"[1-5]\d\d", v) is not None for v in values) >= 0.95 * len(values) and len(set(values)) <= 40
