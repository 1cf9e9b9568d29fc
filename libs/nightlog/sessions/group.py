"""Counts of events → sessions → patterns, by sorting and adding up whole columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

AT = pa.timestamp("us", tz="UTC")
NEVER_FIRST, NEVER_LAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
COUNTS = pa.schema(
    [("session_id", pa.string()), ("message_id", pa.int64()), ("n", pa.int64()), ("first_at", AT), ("last_at", AT), ("own", pa.bool_())]
)
SESSIONS = pa.schema(
    [("session_id", pa.string()), ("pattern_id", pa.string()), ("started_at", AT), ("ended_at", AT), ("n_events", pa.int64())]
)
UNCHANGED = pa.schema([*SESSIONS, ("judged_ds", pa.string())])


@dataclass
class Pattern:
    """A multiset of templates (template id → count, a power of two, in the order of ids), and the sessions that are like it."""

    events: tuple[tuple[str, int], ...]
    n_sessions: int
    example_session_id: str


@dataclass
class Assignment:
    """The template of each message: message ids in order, and for each its position among the template ids, which are in order too."""

    message_ids: np.ndarray
    places: np.ndarray
    template_ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[tuple[int, str]]) -> Assignment:
        """From pairs of message id and template id."""
        found = sorted(rows)
        names = sorted({name for _, name in found})
        numbers = {name: number for number, name in enumerate(names)}
        ids = np.array([number for number, _ in found], dtype=np.int64)
        return cls(ids, np.array([numbers[name] for _, name in found], dtype=np.int64), names)

    def template_of(self, message_ids: np.ndarray) -> np.ndarray:
        """The place of each message's template, -1 where it has none."""
        if not len(self.message_ids):
            return np.full(len(message_ids), -1)
        at = np.minimum(np.searchsorted(self.message_ids, message_ids), len(self.message_ids) - 1)
        return np.where(self.message_ids[at] == message_ids, self.places[at], -1)


@dataclass
class Grouped:
    """The sessions of one night, or of some of its ids, by how the night treats them.

    `judged` and `waiting` (left to a later night) are SESSIONS, one row per session. `unchanged` are those that another night has judged on
    the same events, with that night as `judged_ds`. `again`: ids of judged sessions that have events of earlier days. Counts: `n_ids` of
    all that the night accounts for, `n_due` of those that it takes over, `n_outside` of those without any event that has a template.
    """

    judged: pa.Table
    waiting: pa.Table
    unchanged: pa.Table
    patterns: dict[str, Pattern]
    again: pa.Array
    n_ids: int = 0
    n_due: int = 0
    n_outside: int = 0


def group_sessions(
    counts: pa.Table,
    assignment: Assignment,
    window: tuple[int, int] | None = None,
    due: pa.Array | None = None,
    elsewhere: Mapping[str, pa.Table] | None = None,
    ds: str = "",
) -> Grouped:
    """Group counts into the sessions that a night accounts for: those with events of the night, and those that are due.

    A session that begins within `window` waits, unless it is due: its first moments alone may look like a failure. A session that
    another night has judged on the same events is unchanged. All others are judged. The order of counts has no influence.

    Args:
        counts: COUNTS of the night and of the earlier days that it looks at; a message of a session may occur in several rows.
            `own` marks events of the night.
        window: microseconds since 1970 [from, below) in which a session must begin to wait. None: no session waits.
        due: ids of sessions that the night takes over from earlier nights.
        elsewhere: SESSIONS that other nights have judged, by night. Those of nights before `ds` count if the session has no event of `ds`.
    """
    named = counts.column("session_id").combine_chunks().dictionary_encode()
    named = named.combine_chunks() if isinstance(named, pa.ChunkedArray) else named
    names = named.dictionary
    code = np.asarray(named.indices, dtype=np.int64)
    own_rows = counts.column("own").to_numpy(zero_copy_only=False)
    has_own, is_due = np.zeros(len(names), dtype=bool), np.zeros(len(names), dtype=bool)
    has_own[code[own_rows]] = True
    if due is not None and len(due):
        is_due = pc.is_in(names, due).to_numpy(zero_copy_only=False)
    accounted = has_own | is_due
    template = assignment.template_of(counts.column("message_id").to_numpy())
    keep = (template >= 0) & accounted[code]
    session = code[keep]
    has_template = np.zeros(len(names), dtype=bool)
    has_template[session] = True
    n_ids, n_due, n_outside = (int(mask.sum()) for mask in (accounted, is_due, accounted & ~has_template))
    if not len(session):
        empty = SESSIONS.empty_table()
        return Grouped(empty, empty, UNCHANGED.empty_table(), {}, pa.array([], pa.string()), n_ids, n_due, n_outside)
    width = max(1, len(assignment.template_ids))
    key = session * width + template[keep]
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    n = np.add.reduceat(counts.column("n").to_numpy()[keep][order], starts)
    first = np.minimum.reduceat(micros(counts.column("first_at"), NEVER_FIRST)[keep][order], starts)
    last = np.maximum.reduceat(micros(counts.column("last_at"), NEVER_LAST)[keep][order], starts)
    is_earlier = np.maximum.reduceat(~own_rows[keep][order], starts)
    session, template = key[starts] // width, key[starts] % width

    bounds = np.flatnonzero(np.diff(session, prepend=-1))
    session, started = session[bounds], np.minimum.reduceat(first, bounds)
    exponent = powers_of_two(n)
    which, patterns = distinct_patterns(template, exponent, bounds, assignment.template_ids)
    rows = pa.table(
        {
            "session_id": names.take(pa.array(session)),
            "pattern_id": pa.array(list(patterns), pa.string()).take(pa.array(which)),
            "started_at": times(started, NEVER_FIRST),
            "ended_at": times(np.maximum.reduceat(last, bounds), NEVER_LAST),
            "n_events": np.add.reduceat(n, bounds),
        }
    )
    waits = np.zeros(len(rows), dtype=bool)
    if window is not None:
        waits = ~is_due[session] & (started >= window[0]) & (started < window[1])
    same, judged_ds = np.zeros(len(rows), dtype=bool), np.full(len(rows), None, dtype=object)
    for night, others in (elsewhere or {}).items():
        found = ~same & ~waits & same_rows(rows, others)
        if night < ds:
            found &= ~has_own[session]
        same |= found
        judged_ds[found] = night
    judged = rows.filter(pa.array(~waits & ~same))
    again = rows.column("session_id").filter(pa.array(~waits & ~same & np.maximum.reduceat(is_earlier, bounds)))
    sizes = judged.group_by("pattern_id").aggregate([([], "count_all"), ("session_id", "min")]).to_pylist()
    sized = {row["pattern_id"]: Pattern(patterns[row["pattern_id"]], row["count_all"], row["session_id_min"]) for row in sizes}
    waiting = rows.filter(pa.array(waits))
    unchanged = rows.append_column("judged_ds", pa.array(judged_ds, pa.string())).filter(pa.array(same))
    return Grouped(judged, waiting, unchanged, sized, again.combine_chunks(), n_ids, n_due, n_outside)


def same_rows(rows: pa.Table, others: pa.Table) -> np.ndarray:
    """Return a mask of the rows (SESSIONS) that are among the others, in all of their columns. Both have one row per session."""
    place = pc.index_in(rows.column("session_id"), others.column("session_id").combine_chunks())
    same = pc.is_valid(place)
    for name in SESSIONS.names[1:]:
        mine, other = rows.column(name), others.column(name).take(place)
        equal = pc.fill_null(pc.equal(mine, other), False)
        same = pc.and_(same, pc.or_(equal, pc.and_(pc.is_null(mine), pc.is_null(other))))
    mask: np.ndarray = same.to_numpy()
    return mask


def fingerprint(counts: pa.Table) -> int:
    """Return a sum over rows (bucket, message_id, n, first_at, last_at) of silver.counts, modulo 2**64: their order does not matter."""
    mix = mixed(counts.column("message_id").to_numpy().astype(np.uint64))
    for column in (
        counts.column("bucket").to_numpy(),
        counts.column("n").to_numpy(),
        micros(counts.column("first_at"), NEVER_FIRST),
        micros(counts.column("last_at"), NEVER_LAST),
    ):
        mix = mixed(mix + column.astype(np.uint64))
    return int(mix.sum(dtype=np.uint64))


def micros(at: pa.ChunkedArray, never: int) -> np.ndarray:
    """Times as microseconds since 1970, `never` where there is none."""
    numbers: np.ndarray = at.cast(pa.int64()).fill_null(never).to_numpy()
    return numbers


def times(at: np.ndarray, never: int) -> pa.Array:
    """The reverse of `micros`."""
    return pa.array(at, pa.int64(), mask=at == never).cast(AT)


def powers_of_two(counts: np.ndarray) -> np.ndarray:
    """The exponent of the greatest power of two in each count, by its bits: logarithms of doubles are not exact.

    >>> powers_of_two(np.array([1, 2, 3, 2**62 - 1])).tolist()
    [0, 1, 1, 61]
    """
    left, exponent = counts.astype(np.int64), np.zeros(len(counts), dtype=np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        big = left >= 1 << step
        exponent[big] += step
        left = np.where(big, left >> step, left)
    return exponent


def distinct_patterns(
    template: np.ndarray, exponent: np.ndarray, bounds: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, dict[str, tuple[tuple[str, int], ...]]]:
    """Return which pattern each session has, and the patterns: pattern_id → (template id, count) in order of the ids.

    Args: template and exponent of the count, one row a template of a session; bounds: where each session's rows begin.
    Sessions are distinguished by 128 bits that are added up over their rows.
    """
    row = (template * 64 + exponent).astype(np.uint64)
    sums = np.stack([np.add.reduceat(mixed(row + np.uint64(seed)), bounds) for seed in (0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A)], axis=1)
    _, at, which = np.unique(np.ascontiguousarray(sums).view("V16").ravel(), return_index=True, return_inverse=True)
    ends = np.append(bounds[1:], len(template))
    patterns = {}
    for number in at.tolist():
        rows = range(bounds[number], ends[number])
        events = tuple((names[template[place]], 1 << int(exponent[place])) for place in rows)
        patterns[pattern_id(events)] = events
    return which, patterns


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits with their bits mixed well (splitmix64)."""
    with np.errstate(over="ignore"):
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    last: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return last


def digest(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]


def pattern_id(events: Sequence[tuple[str, int]]) -> str:
    """Hash of a multiset of templates that is in order.

    >>> pattern_id([("t-a", 1), ("t-b", 2)])
    '2047a7b501c004b7'
    """
    return digest([{"template_id": name, "count": count} for name, count in events])


def question_id(events: Sequence[tuple[str, int]], counted: bool) -> str:
    """Return what is asked about a pattern: the pattern, or where counts tell nothing the hash of its set of templates."""
    return pattern_id(events) if counted else digest([name for name, _ in events])


def merged(found: Iterable[Mapping[str, Pattern]]) -> dict[str, Pattern]:
    """The patterns of several groups of sessions as of one."""
    whole: dict[str, Pattern] = {}
    for each in found:
        for name, pattern in each.items():
            before = whole.setdefault(name, pattern)
            if before is not pattern:
                example = min(before.example_session_id, pattern.example_session_id)
                whole[name] = Pattern(pattern.events, before.n_sessions + pattern.n_sessions, example)
    return whole
