"""Values of structured records (JSON, logfmt, journald's export) by whole columns.

A structured record becomes a flat line of the wanted values with a separator before each, which is then parsed by shape like any other
text (see `flat_system`). Most records of JSON and logfmt are read by shape instead (`flat_records`). Of the others, JSON is decoded record
by record in C; logfmt and export are cut by arithmetic on the whole buffer of bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.parsing.pieces import pieces
from nightlog.systems.spec import WHOLE_LINE, Header, System

# Before each value of a flat line. In a value it is replaced; in the message, which comes last, it may stand.
SEPARATOR = "\x1f"
REPLACED = "\ufffd"
# Possessive and unrolled, so that no text can make them backtrack.
QUOTED = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
ESCAPED = r"\\(.)"
PAIR = re.compile(rf'(?P<key>[^\s="]+)(?:=(?:{QUOTED}|(?P<bare>\S*)))?|\S+', re.DOTALL)
EXPORT_BINARY = r"(?:\A|\n)[A-Z0-9_]+(?:\n|\z)"
IS_BLANK = np.isin(np.arange(256), (9, 10, 11, 12, 13, 32))
QUOTE, BACKSLASH, EQUALS, FEED = b'"\\=\n'
DECODER = json.JSONDecoder()
EXACT = float(1 << 53)  # a double holds no integer beyond it exactly


def wanted_fields(system: System) -> set[str]:
    """Return the header fields that make an event."""
    wanted = {"message", *({"level"} & set(system.header.fields))}
    wanted |= {system.session.field} if system.session.kind != "window" else set()
    return wanted | (set(re.findall(r"\{(\w+)\}", system.timestamp.value)) - {"ds", "ds_year"} if system.timestamp else set())


def flat_system(system: System) -> System:
    """Return the system whose lines are the flat lines of this one; the system itself if its header is a pattern."""
    if system.header.kind == "pattern":
        return system.model_copy(update={"record": None})
    names = sorted(wanted_fields(system) - {"message"})
    pattern = "".join(f"{SEPARATOR}(?P<{name}>[^{SEPARATOR}]*)" for name in names) + f"{SEPARATOR}(?P<message>.*)"
    return system.model_copy(update={"header": Header(pattern=pattern), "record": None})


def flatten(texts: pa.StringArray, system: System) -> tuple[pa.StringArray, np.ndarray]:
    """Return each record as a flat line, and a mask of the records that have a message; the others keep their text."""
    fields, matched = split_fields(texts, system.header, sorted(wanted_fields(system) - {"message"}))
    message = pc.fill_null(fields.pop("message"), "")
    safe = [pc.replace_substring(column, SEPARATOR, REPLACED) for column in fields.values()]
    flat = pc.binary_join_element_wise("", *safe, message, SEPARATOR)
    return pc.if_else(pa.array(matched), flat, texts), matched


def split_fields(texts: pa.StringArray, header: Header, names: Sequence[str]) -> tuple[dict[str, pa.StringArray], np.ndarray]:
    """Split records into the named fields and `message`, "" where a record lacks one, and a mask of the records that have a message."""
    fields, holds = groups_of(texts, header, [name for name in names if name in header.groups and name != "message"])
    body = fields.pop("message")
    blank = np.asarray(pc.equal(pc.utf8_trim(texts, " "), ""))
    if header.kind == "pattern":
        if "message_end" in fields:
            body = pc.binary_join_element_wise(body, fields.pop("message_end"), " ")
        return fields | {"message": body}, holds & ~blank
    keys = {name: str(header.keys[name]) for name in names if name in header.keys and name != "message"}
    values = VALUES[header.kind](body, list(dict.fromkeys([*header.message_keys, *keys.values()])))
    message = pa.nulls(len(texts), pa.string())
    for number, key in enumerate(header.message_keys):
        part = pc.binary_join_element_wise(message_part(number, key), values[key], "")
        message = pc.coalesce(pc.binary_join_element_wise(message, part, " "), message, part)
    if header.kind == "json":  # an object without these keys is a record all the same
        lacking = pc.is_null(message)
        message = pc.replace_with_mask(message, lacking, pc.if_else(is_object(body.filter(lacking)), "", None))
    matched = np.asarray(pc.is_valid(message)) & holds & ~blank
    fields |= {name: pc.fill_null(values[key], "") for name, key in keys.items()}
    return {name: fields[name] for name in names if name in fields} | {"message": message}, matched


def message_part(number: int, key: str) -> str:
    """Return what stands before a value in the message: nothing before the first one, the key's last part before others.

    >>> message_part(0, "msg"), message_part(1, "$.http.status"), message_part(1, "status")
    ('', 'status=', 'status=')
    """
    return "" if number == 0 else (re.findall(r"[\w.-]+", key.removeprefix("$")) or [key])[-1].rsplit(".", 1)[-1] + "="


def groups_of(texts: pa.StringArray, header: Header, wanted: Sequence[str]) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Split the texts by the header's pattern: the wanted groups and `message`, and a mask of the texts that the whole pattern matches."""
    if header.pattern == WHOLE_LINE:
        return {"message": texts}, np.ones(len(texts), dtype=bool)
    names = [*wanted, "message"]
    try:
        found = pc.extract_regex(texts, rf"(?s)\A(?:{header.pattern})\z")
        return {name: pc.fill_null(pc.struct_field(found, name), "") for name in names}, np.asarray(pc.is_valid(found))
    except pa.ArrowInvalid:
        compiled = re.compile(header.pattern, re.DOTALL | re.ASCII)
    matches = [compiled.fullmatch(text) for text in texts.to_pylist()]
    groups = {name: pa.array([match[name] or "" if match else "" for match in matches], pa.string()) for name in names}
    return groups, np.array([match is not None for match in matches], dtype=bool)


# JSON


def json_values(texts: pa.StringArray, keys: Sequence[str]) -> dict[str, pa.StringArray]:
    """Return the value of each key in each JSON object as text, null where it is missing or null, or the text is no object."""
    paths = [json_path(key) for key in keys]
    columns: list[list[str | None]] = [[] for _ in keys]
    appends = [column.append for column in columns]
    for text in texts.to_pylist():
        found = decoded(text)
        for path, append in zip(paths, appends, strict=True):
            value = found.get(str(path[0])) if len(path) == 1 else at_path(found, path)
            if isinstance(value, float) and abs(value) >= EXACT:  # a long integer, which orjson rounds
                value = at_path(decoded(text, exact=True), path)
            append(None if value is None else as_text(value))
    return {key: pa.array(column, pa.string()) for key, column in zip(keys, columns, strict=True)}


def is_object(texts: pa.StringArray) -> pa.BooleanArray:
    """Return whether each text is a JSON object."""
    return pa.array([bool(decoded(text)) for text in texts.to_pylist()], pa.bool_())


def decoded(text: str | None, exact: bool = False) -> Mapping[str, Any]:
    """Return the JSON object that a text begins with, empty if there is none; a text may go on after it.

    orjson reads nearly all of them; NaN, lone surrogates and text behind the object are left to Python's decoder, which reads long integers
    exactly.
    """
    if not text or "{" not in text:
        return {}
    try:
        found = orjson.loads(text) if not exact else json.loads(text)
    except ValueError:
        try:
            first = DECODER.raw_decode(text.lstrip())[0]
            found = json.loads(json.dumps(first, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError):
            return {}
    return found if isinstance(found, dict) else {}


def as_text(value: Any) -> str:
    """Return a JSON value as text: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace").decode()


def json_path(key: str) -> tuple[str | int, ...]:
    """Return the steps of a key or a path.

    >>> json_path("$.http['status.code'][0]"), json_path("a.b")
    (('http', 'status.code', 0), ('a.b',))
    """
    if not key.startswith("$"):
        return (key,)
    steps = re.findall(r"\.([\w-]+)|\['([^'\]]+)'\]|\[(\d+)\]", key)
    return tuple(int(place) if place else name or quoted for name, quoted, place in steps)


def at_path(value: Any, path: Sequence[str | int]) -> Any:
    """Return the value at the end of a path, None where there is none."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value


# logfmt and export


class Buffer:
    """Texts as one buffer of bytes: `data`, and the byte at which each text starts; the last start is the end."""

    def __init__(self, texts: pa.StringArray):
        _, offsets, data = texts.buffers()
        self.n = len(texts)
        self.starts = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + self.n + 1].astype(np.int64)
        self.data = np.frombuffer(data, np.uint8)[: self.starts[-1]] if data is not None and self.n else np.zeros(0, np.uint8)
        self.begins = np.zeros(len(self.data) + 1, dtype=bool)
        self.begins[self.starts] = True

    def text_of(self, places: np.ndarray) -> np.ndarray:
        """Return the number of the text in which each byte lies."""
        found: np.ndarray = np.searchsorted(self.starts, places, side="right") - 1
        return found

    def is_at(self, places: np.ndarray, word: bytes) -> np.ndarray:
        """Return a mask of the places at which a word stands, not reaching beyond its text."""
        fits = places + len(word) <= self.starts[np.minimum(self.text_of(places) + 1, self.n)]
        found: np.ndarray = fits.copy()
        for offset, byte in enumerate(word):
            found[fits] &= self.data[places[fits] + offset] == byte
        return found


def next_after(places: np.ndarray, ends: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return for each place the first of the ascending `ends` at or after it, at most `otherwise`."""
    at = np.searchsorted(ends, places)
    found: np.ndarray = np.minimum(np.append(ends, np.iinfo(np.int64).max)[at], otherwise)
    return found


def logfmt_values(texts: pa.StringArray, keys: Sequence[str]) -> dict[str, pa.StringArray]:
    """Return the value of each key in each logfmt record, null where it is missing; of several values the first.

    A quoted value begins right after an equals sign; records whose quotes do not fit that are read pair by pair.
    """
    buffer = Buffer(texts)
    data = np.append(buffer.data, 0)
    quotes = unescaped_quotes(data)
    of_text = buffer.text_of(quotes)
    rank = np.arange(len(quotes)) - np.searchsorted(of_text, of_text)
    opens = rank % 2 == 0
    after = quotes + 1
    fits = np.where(opens, data[quotes - 1] == EQUALS, buffer.begins[after] | IS_BLANK[data[after]]) & ~buffer.begins[quotes]
    odd = np.zeros(buffer.n, dtype=bool)
    odd[of_text[~fits]] = True
    odd[np.flatnonzero(np.bincount(of_text, minlength=buffer.n) % 2)] = True
    opening, closing = quotes[opens & ~odd[of_text]], quotes[~opens & ~odd[of_text]]

    blank = IS_BLANK[buffer.data]
    inside = np.zeros(len(buffer.data), dtype=np.int8)
    inside[opening], inside[closing] = 1, -1
    blank &= np.cumsum(inside, dtype=np.int8) == 0
    blanks = np.flatnonzero(blank)
    token = ~blank
    token[1:] &= blank[:-1] | buffer.begins[1:-1]
    tokens = np.flatnonzero(token)

    found = {}
    slow = texts.filter(pa.array(odd)).to_pylist() if odd.any() else []
    pairs = [dict(pairs_of(text)) for text in slow]
    for key in keys:
        word = f"{key}=".encode()
        at = tokens[buffer.is_at(tokens, word)] + len(word)
        end = buffer.starts[buffer.text_of(at - 1) + 1]
        is_quoted = (at < end) & (data[at] == QUOTE) & ~odd[buffer.text_of(at - 1)]
        first = np.where(is_quoted, at + 1, at)
        last = np.where(is_quoted, next_after(first, closing, end), next_after(at, blanks, end))
        values = values_of_texts(buffer, at - 1, first, last, is_quoted)
        if slow:
            values = pc.replace_with_mask(values, pa.array(odd), pa.array([each.get(key) for each in pairs], pa.string()))
        found[key] = values
    return found


def values_of_texts(buffer: Buffer, anchors: np.ndarray, first: np.ndarray, last: np.ndarray, quoted: np.ndarray) -> pa.StringArray:
    """Return for each text its first value without the escapes of quoted ones. Args: anchors, a byte of each value's own text."""
    texts = buffer.text_of(anchors)
    of_text, at = np.unique(texts, return_index=True)
    first, last, quoted = first[at], last[at], quoted[at]
    values = pieces(buffer.data, first, last - first)
    if quoted.any() and (buffer.data == BACKSLASH).any():
        values = pc.if_else(pa.array(quoted), pc.replace_substring_regex(values, rf"(?s){ESCAPED}", r"\1"), values)
    where = np.full(buffer.n, -1, dtype=np.int64)
    where[of_text] = np.arange(len(of_text))
    return values.take(pa.array(where, mask=where < 0))


def unescaped_quotes(data: np.ndarray) -> np.ndarray:
    """Return the places of quotes that an even number of backslashes precedes."""
    quotes: np.ndarray = np.flatnonzero(data == QUOTE)
    if not (data == BACKSLASH).any():
        return quotes
    other = np.maximum.accumulate(np.where(data != BACKSLASH, np.arange(len(data)), -1))
    before = np.where(quotes > 0, other[quotes - 1], -1)
    found: np.ndarray = quotes[(quotes - 1 - before) % 2 == 0]
    return found


def pairs_of(text: str) -> list[tuple[str, str]]:
    """Return the pairs of one logfmt record, the first of a key last, so that it wins in a dict."""
    found = []
    for pair in PAIR.finditer(text):
        if pair["key"] is not None and (pair[2] is not None or pair["bare"] is not None):
            found.append((pair["key"], re.sub(ESCAPED, r"\1", pair[2]) if pair[2] is not None else pair["bare"]))
    return found[::-1]


def export_values(texts: pa.StringArray, keys: Sequence[str]) -> dict[str, pa.StringArray]:
    """Return the value of each key in each record of journald's export format, null where it is missing.

    A value of several lines stands on the lines after its key, behind its length in eight bytes; such records are read one by one.
    """
    buffer = Buffer(texts)
    feeds = np.flatnonzero(buffer.data == FEED)
    lines = np.union1d(buffer.starts[:-1][np.diff(buffer.starts) > 0], feeds[feeds + 1 < len(buffer.data)] + 1)
    binary = np.asarray(pc.match_substring_regex(texts, EXPORT_BINARY))
    slow = texts.filter(pa.array(binary)).to_pylist() if binary.any() else []
    found = {}
    for key in keys:
        word = f"{key}=".encode()
        at = lines[buffer.is_at(lines, word)]
        end = buffer.starts[buffer.text_of(at) + 1]
        first = at + len(word)
        values = values_of_texts(buffer, at, first, next_after(first, feeds, end), np.zeros(len(at), dtype=bool))
        if slow:
            pattern = re.compile(export_pattern(key))
            own = [match[1] if (match := pattern.search(text)) else None for text in slow]
            values = pc.replace_with_mask(values, pa.array(binary), pa.array(own, pa.string()))
        found[key] = values
    return found


def export_pattern(key: str) -> str:
    """Return the pattern of a record in export format that has the key; group 1 is its value."""
    return rf"(?s)(?:^|\n){re.escape(key)}(?:=|\n.{{8}})(.*?)(?=\n[A-Z0-9_]+(?:=|\n.{{8}})|$)"


VALUES: dict[str, Callable[[pa.StringArray, Sequence[str]], dict[str, pa.StringArray]]] = {
    "json": json_values,
    "logfmt": logfmt_values,
    "export": export_values,
}
