"""From a sample of lines to a system: its record start, header, time, masks and sessions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

from nightlog.onboarding import formats, named_values, sessions, tables
from nightlog.onboarding.columns import SEVERITY
from nightlog.onboarding.days import confirmed, reordered
from nightlog.onboarding.layout import Layout, find_layout, fit, matching
from nightlog.onboarding.timestamps import Form, form_of, key_of, scan
from nightlog.onboarding.toml import to_toml
from nightlog.onboarding.trial import Event, Trial, try_system
from nightlog.parsing.records import CONTINUES
from nightlog.systems.spec import WHOLE_LINE, System

INDUCED = 3000  # lines that a header is found from
HEAD = 100  # characters in which a record's first stamp is looked for
MIXED = 0.5  # of the lines, where a file holds records of several forms
STANDARD_WORDS = ("TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL")
NO_SESSION = ("time", "date", "level", "rest", "data", "message_end")  # fields that make no sessions
ACCESS = ("access-log-vhost", "access-log")
STATUS_MASKS = (("CLIENT_ERROR", "4"), ("SERVER_ERROR", "5"))


@dataclass(frozen=True)
class Split:
    """The way records are split: sections of the system file, the fields that could make sessions, and what was noticed."""

    how: str
    record: dict[str, Any] | None
    header: dict[str, Any]
    timestamp: dict[str, str] | None
    fields: tuple[str, ...]
    masks: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    with_entry: str | None = None  # the pattern with a group `entry` around all that could hold ids
    variants: tuple[dict[str, Any], ...] = ()  # other forms of records in the same lines
    doubtful: bool = False  # day and month may be the other way round
    any_continuation: bool = False  # lines inside of records may look like anything

    @property
    def start(self) -> str | None:
        """The expression of what a record begins with, None if that is not known."""
        if self.record is not None:
            return str(self.record["start"])
        pattern = str(self.header.get("pattern", WHOLE_LINE))
        if "(?P<time>" in pattern:
            return formats.start_of(pattern)
        return {"json": r"\{", "logfmt": r"[\w.@-]+="}.get(str(self.header.get("kind")))


@dataclass(frozen=True)
class Proposal:
    """A system file, proposed as nested sections or given as text, the sample's trial by it, the session candidates, and notes."""

    sections: dict[str, Any]
    trial: Trial
    ranked: tuple[sessions.Score, ...]
    how: str
    notes: tuple[str, ...]
    first: tuple[Event, ...]  # the sample with all fields that were found, those that the proposed file has no use for as well
    text: str = ""

    @property
    def toml(self) -> str:
        """The file's text."""
        return self.text or to_toml(self.sections)


def thin(lines: Sequence[str], n: int = INDUCED) -> list[str]:
    """Lines with text, evenly chosen, at most about `n`."""
    full = [line for line in lines if line.strip()]
    return full[:: max(1, len(full) // n)]


def split_of(lines: Sequence[str], spread: Sequence[str]) -> Split:
    """Return how the lines are split: by a ready format, as a table, by named values, else by the columns that they share."""
    block = lines[: 4 * INDUCED]
    if ready := formats.recognise(block):
        return nested(split_ready(ready), block)
    if table := tables.recognise(thin(lines)):
        return split_ready(formats.Recognised(table, 1.0, False))
    if named := named_values.recognise(block, MIXED):
        return split_named_values(named)
    return nested(split_text(lines, spread), block)


def with_variants(split: Split, lines: Sequence[str], spread: Sequence[str], most: int = 4) -> Split:
    """Add the forms of the lines that neither begin a record of the main form nor look like the continuation of one."""
    start = split.start
    if start is None or not most or split.header.get("kind") == "export":
        return split
    begins = re.compile(start, re.ASCII)
    others = [line for line in lines if line.strip() and not begins.match(line) and not re.match(CONTINUES, line) and line[0] != "#"]
    total = sum(bool(line.strip()) for line in lines)
    if len(others) < max(1, 0.02 * total):
        return split
    form = with_variants(split_of(others, ()), others, (), most - 1)
    if form.timestamp is None and form.header.get("kind", "pattern") == "pattern":
        return split
    starts = [each for each in (start, form.start) if each]
    record = {"start": "|".join(f"(?:{each})" for each in starts)} if (split.record or form.record) and len(starts) == 2 else None
    variant = {"header": bare_header(form.header)} | ({"timestamp": form.timestamp} if form.timestamp else {})
    note = f"mixed formats: {len(others):,} lines have another form ({form.how}), for example: {others[0][:120]}"
    header = bare_header(split.header)
    variants = (variant, *form.variants)
    return replace(split, header=header, record=record, fields=(), with_entry=None, variants=variants, notes=(*split.notes, note))


def bare_header(header: dict[str, Any]) -> dict[str, Any]:
    """The header with the keys that every form has."""
    if "keys" not in header:
        return header
    return header | {"keys": {name: key for name, key in header["keys"].items() if name in ("message", "level", "time")}}


def split_ready(found: formats.Recognised) -> Split:
    """The sections for a ready format."""
    ready = found.ready
    record = {"start": ready.start} if found.spans or ready.lines > 1 else None
    names = tuple(name for name in re.findall(r"\(\?P<(\w+)>", ready.pattern) if name not in NO_SESSION)
    stamp = {"value": ready.value, "format": ready.format} if ready.format else None
    pattern = ready.pattern if found.share == 1 else formats.lenient(ready.pattern)
    status: list[dict[str, Any]] = [{"name": name, "pattern": rf"(?<= ){digit}\d\d$", "word": True} for name, digit in STATUS_MASKS]
    masks = (*status, {"name": "QUERY", "pattern": r'\?[^\s"]*'}) if ready.status else ()
    return Split(ready.name, record, {"pattern": pattern}, stamp, names, masks, any_continuation=ready.lines > 1)


def nested(split: Split, lines: Sequence[str]) -> Split:
    """Look into the messages of a header: for an access log, for named values, and for a whole time stamp if the header's lacks a part."""
    pattern = split.header["pattern"]
    if not pattern.endswith("(?P<message>.*)"):
        return split
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)
    messages = [match["message"] for line in thin(lines) if (match := compiled.fullmatch(line))]
    if len(messages) < 3:
        return split
    taken = set(re.findall(r"\(\?P<(\w+)>", pattern)) - {"message"}
    outer = pattern.removesuffix("(?P<message>.*)")
    incomplete = split.timestamp is None or "{ds" in split.timestamp["value"]
    if inner := formats.recognise(messages, ACCESS):
        own = split_ready(inner)
        inner_pattern = apart(own.header["pattern"], taken - {"time"})
        outer = outer.replace("(?P<time>", "(?P<logged>") if incomplete else outer
        inner_pattern = inner_pattern if incomplete else inner_pattern.replace("(?P<time>", "(?P<requested>")
        stamp = own.timestamp if incomplete else split.timestamp
        names = (*split.fields, *(name for name in own.fields if name not in split.fields))
        return replace(split, header={"pattern": outer + inner_pattern}, timestamp=stamp, fields=names, masks=own.masks, with_entry=None)
    named = named_values.recognise(messages)
    if named and named.pattern == WHOLE_LINE and (named.kind == "json" or named_values.has_message(named.records)):
        inside = split_named_values(named)
        keys = {name: key for name, key in inside.header["keys"].items() if name not in taken or (name == "time" and incomplete)}
        whole_time = incomplete and inside.timestamp is not None and "{ds" not in inside.timestamp["value"]
        if whole_time:
            pattern = pattern.replace("(?P<time>", "(?P<logged>")
        elif "time" in keys:
            del keys["time"]
        stamp = inside.timestamp if whole_time else split.timestamp
        header = {"kind": named.kind, "pattern": pattern, "keys": keys}
        return replace(
            split,
            how=f"{split.how} with {inside.how}",
            header=header,
            timestamp=stamp,
            fields=(*split.fields, *inside.fields),
            with_entry=None,
        )
    seen = [each for message in messages if (each := scan(message.lstrip("[( "), 0))]
    if incomplete and len(seen) >= 0.8 * len(messages) and (voted := form_of(seen)) and not voted[0].without:
        inner_time = rf"[\[( ]*(?P<time>{voted[0].pattern})[\])]?[,:]? *"
        whole = (
            outer.replace("(?P<time>", "(?P<logged>")
            + (inner_time if len(seen) == len(messages) else f"(?:{inner_time})?")
            + "(?P<message>.*)"
        )
        return replace(split, header={"pattern": whole}, timestamp={"value": "{time}", "format": voted[0].format}, with_entry=None)
    return split


def apart(pattern: str, taken: set[str]) -> str:
    """A pattern whose groups do not have names that are taken."""
    return re.sub(r"\(\?P<(\w+)>", lambda group: f"(?P<{group[1]}{'_2' if group[1] in taken else ''}>", pattern)


def with_day(stamp: dict[str, str] | None, without: str) -> dict[str, str] | None:
    """A stamp's section; what the stamp lacks is taken from the night."""
    if stamp is None or not without:
        return stamp
    value, form = {"year": ("{ds_year}", "yyyy"), "day": ("{ds}", "yyyy-MM-dd")}[without]
    return stamp | {"value": f"{value} {stamp['value']}", "format": f"{form} {stamp['format']}"}


def split_named_values(found: named_values.NamedValues) -> Split:
    """The sections for named values. All candidates for sessions are fields of the trial; only the chosen one stays in the file."""
    roles = named_values.roles(found.records)
    keys: dict[str, Any] = {"message": list(roles.message) if len(roles.message) > 1 else roles.message[0]}
    taken = re.findall(r"\(\?P<(\w+)>", found.pattern)
    if roles.level and "level" not in taken:
        keys["level"] = roles.level
    stamp = None
    if roles.time and roles.form and "time" not in taken:
        keys["time"] = roles.time
        stamp = with_day({"value": "{time}", "format": roles.form.format}, roles.form.without)
    stamps = found.before.stamps if found.before else []
    if stamp is None and found.before and stamps:
        stamp = stamp_section(stamps[0].names, stamps[0].form)
    fields = []
    for key in roles.fields:
        name = named_values.name_of(key, [*taken, *keys])
        keys[name] = key
        fields.append(name)
    masks: tuple[dict[str, Any], ...] = ()
    if roles.status and roles.status in roles.message[1:]:
        label = named_values.last_step(roles.status)
        masks = tuple({"name": name, "pattern": rf"(?<=\b{label}=){digit}\d\d\b"} for name, digit in STATUS_MASKS)
    header: dict[str, Any] = {"kind": found.kind, "keys": keys}
    if found.pattern != WHOLE_LINE:
        header["pattern"] = found.pattern
    record = {"start": found.start, "lines": 200} if found.start else None
    what = {"json": "JSON", "logfmt": "logfmt", "export": "journald's export"}[found.kind]
    fields += [name for name in taken if name not in ("message", "level") and not name.startswith("time")]
    return Split(what, record, header, stamp, ("message", *fields), masks)


def starts_of(lines: Sequence[str]) -> tuple[list[bool], bool]:
    """Return which lines begin a record, and whether a stamp tells: those with the form of stamp that most lines have near their
    beginning, at the same place among their words; without stamps, those with a severity among their first words."""
    seen = [head_stamp(line) for line in lines]
    votes = Counter(key for found in seen if found for key in [found])
    total = sum(bool(line.strip()) for line in lines)
    best = votes.most_common(1)[0] if votes else None
    if best and (best[1] >= 0.2 * total or (best[1] >= max(2, 0.002 * total) and best[0][2] == 0 and not best[0][1])):
        alike = {key for key, n in votes.items() if key[:2] == best[0][:2] and n >= 0.001 * total}
        return [found in alike for found in seen], True
    severe = [has_severity(line) for line in lines]
    if sum(severe) >= 0.3 * total:
        return severe, False
    return [bool(line.strip()) for line in lines], False


def head_stamp(line: str) -> tuple[tuple[str, tuple[str, ...]], bool, int] | None:
    """The first stamp near a line's beginning: (its form, whether the line begins with a blank, how many words stand before it)."""
    for at in range(min(HEAD, len(line))):
        if line[at].isdigit() or line[at] in "JFMASOND":
            glued = at > 0 and (line[at - 1].isalnum() or line[at - 1] in "._/-:")
            if glued and not re.match(r"[VTDINWEFCAS]$", line[:at]):
                continue
            if found := scan(line, at):
                return key_of(found), line[0] in " \t", len(line[:at].split())
    return None


def has_severity(line: str) -> bool:
    """Return whether a severity is among a line's first words, and the line does not begin with an indentation."""
    words = re.split(r"[\s\[\]|:,()<>]+", line[:120].strip(), maxsplit=4)[:4]
    return not line.startswith(("  ", "\t")) and any(w.isupper() and len(w) > 2 and SEVERITY.fullmatch(w) for w in words)


def split_text(lines: Sequence[str], spread: Sequence[str]) -> Split:
    """The sections for text: the columns that the first lines of records share."""
    begins, stamped = starts_of(lines)
    firsts = [line for line, begin in zip(lines, begins, strict=True) if begin]
    chosen = thin(firsts)
    layout = fit(find_layout(chosen), chosen)
    if stamped and not layout.stamps:  # stamps of one form at several places: the commonest place first
        place = Counter(head_stamp(line) for line in firsts).most_common(1)[0][0]
        begins = [begin and head_stamp(line) == place for line, begin in zip(lines, begins, strict=True)]
        firsts = [line for line, begin in zip(lines, begins, strict=True) if begin]
        chosen = thin(firsts)
        layout = fit(find_layout(chosen), chosen)
    layout = spelled(layout, chosen) if not stamped else layout
    rare = [line for line in spread if (begin := layout.start()) and re.match(begin, line, re.ASCII)]
    missed = [line for line, ok in zip(rare, matching(rare, layout.pattern), strict=True) if not ok]
    missed += [line for line, ok in zip(firsts, matching(firsts, layout.pattern), strict=True) if not ok]
    layout = fit(layout, [*chosen, *thin(missed, 1000)]) if missed else layout
    record = None
    start = layout.start()
    strangers = sum(not begin and bool(line.strip()) for line, begin in zip(lines, begins, strict=True))
    if start is not None and strangers:
        record = {"start": start}
    pattern, with_entry = layout.pattern, layout.with_entry()
    if head := head_line(lines, begins):
        record = {"start": re.escape(head).replace("\\ ", " ")}
        pattern, with_entry = (rf"{record['start']}\s+{each.removeprefix(' *')}" for each in (pattern, with_entry))
    stamps = layout.stamps
    stamp = stamp_section(stamps[0].names, stamps[0].form) if stamps and stamps[0].form else None
    doubtful = bool(stamps and stamps[0].form and stamps[0].form.doubtful)
    names = tuple(n for n in re.findall(r"\(\?P<(\w+)>", layout.pattern) if not re.fullmatch(r"(?:time\d*(?:_year)?|level\d*)", n))
    return Split("text with columns", record, {"pattern": pattern}, stamp, names, with_entry=with_entry, doubtful=doubtful)


def head_line(lines: Sequence[str], begins: Sequence[bool]) -> str | None:
    """Return the line that stands before nearly each line that begins a record, the first one too, as `<record>` does in XML."""
    before = [lines[n - 1] if n and not begins[n - 1] else "" for n, begin in enumerate(begins) if begin]
    head = before[0] if before else ""
    usual = before.count(head) >= max(3, 0.9 * len(before)) and lines.count(head) <= 1.1 * before.count(head)
    return head if head.strip() and usual and not re.match(CONTINUES, head) else None


def spelled(layout: Layout, lines: Sequence[str]) -> Layout:
    """The layout with the severities spelled out: where no stamp marks a record's beginning, any word would do otherwise."""
    columns = list(layout.columns)
    for number, column in enumerate(columns):
        if column.kind == "level" and "(?P<level>" in column.pattern:
            begin = column.pattern.index("(?P<level>")
            group = column.pattern[begin : formats.end_of_group(column.pattern, begin)]
            found = re.compile("".join(p.pattern for p in columns[:number]) + group, re.ASCII)
            seen = {m["level"] for line in lines if (m := found.match(line)) and SEVERITY.fullmatch(m["level"])}
            words = sorted({*seen, *(STANDARD_WORDS if all(w.isupper() for w in seen) else ())}, key=lambda w: (-len(w), w))
            columns[number] = replace(column, pattern=column.pattern.replace(group, f"(?P<level>{'|'.join(words)})"))
            break
    return Layout(tuple(columns), layout.tail)


def stamp_section(names: Sequence[str], form: Form | None) -> dict[str, str] | None:
    """The section of the time, with its zone where the column behind it names one."""
    if form is None:
        return None
    return with_day({"value": "{" + names[0] + "}", "format": form.format}, form.without)


def zone_of(events: Sequence[Event], pattern: str) -> str | None:
    """The time zone that a column behind the time names in all lines, where it is one that has rules."""
    behind = re.search(r"\(\?P<time>(?:[^()]|\([^()]*\))*\) \(\?P<(\w+)>", pattern)
    if behind is None:
        return None
    values = {e.fields.get(behind[1], "") for e in events}
    if len(values) != 1 or not re.fullmatch(r"[A-Z]{3,4}", only := next(iter(values))) or only in ("UTC", "GMT"):
        return None
    try:
        ZoneInfo(only)
    except (KeyError, ValueError, OSError):
        return None
    return only


def propose(lines: Sequence[str], name: str, path: str, ds: str, delivered: bool, spread: Sequence[str] = ()) -> Proposal:
    """A system for the lines, and what it makes of them.

    Args: path, of the files under the data folder; ds, the night of the trial; delivered, whether the path has no day and the files
    belong to that one night; spread, single lines from all over the files, which show what headers the sample lacks.
    """
    split = with_variants(split_of(lines, spread), lines[: 4 * INDUCED], spread)
    sections: dict[str, Any] = {"name": name, "role": "target", "input": {"path": path} | ({"delivered": ds} if delivered else {})}
    sections |= {"record": split.record} if split.record else {}
    sections |= {"header": split.header} | ({"timestamp": split.timestamp} if split.timestamp else {})
    sections |= {"variants": list(split.variants)} if split.variants else {}
    sections |= {"gates": {"swallowed_share": 1}} if split.any_continuation else {}
    draft = sections | {"session": {"kind": "field", "field": "message"}, "masks": list(split.masks)}
    first = try_system(lines, System.model_validate(draft), ds)
    if split.timestamp and (other := reordered(split.timestamp, first.matched, ds)):
        split = replace(split, timestamp=other, doubtful=False)
        draft, sections = draft | {"timestamp": other}, sections | {"timestamp": other}
        first = try_system(lines, System.model_validate(draft), ds)
    if split.timestamp and (zone := zone_of(first.matched[:2000], split.header.get("pattern", ""))):
        sections["timestamp"] = split.timestamp | {"timezone": zone}
    ranked = sessions.rank(first.matched, first.templates, [*dict.fromkeys(("message", *split.fields))]) if first.matched else []
    session, notes = sessions.session_of(ranked, first)
    if session["kind"] == "window" and split.variants:
        sections["variants"] = [each for each in split.variants if "timestamp" in each]
    if split.with_entry and session["kind"] == "id" and sessions.elsewhere(ranked[0], first):
        session = session | {"field": "entry"}
        sections["header"] = split.header | {"pattern": split.with_entry}
    sections["session"] = session
    if split.header.get("keys"):
        sections["header"] = split.header | {"keys": kept_keys(split.header["keys"], session)}
    masks = [*split.masks, *sessions.own_masks(first, session)]
    sections |= {"masks": masks} if masks else {}
    trial = try_system(lines, System.model_validate(sections), ds)
    if split.doubtful and split.timestamp and (delivered or not confirmed(split.timestamp, first.matched, ds)):
        form = split.timestamp["format"]
        notes.append(f"day and month may be the other way round in {form}: look at a line of which you know the day")
    return Proposal(sections, trial, tuple(ranked), split.how, (*split.notes, *notes), tuple(first.matched))


def kept_keys(keys: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
    """The keys that the night needs."""
    return {name: key for name, key in keys.items() if name in ("message", "level", "time", session.get("field", "message"))}
