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
        """Return the assignment of pairs of message id and template id."""
        found = sorted(rows)
        names = sorted({name for _, name in found})
        numbers = {name: number for number, name in enumerate(names)}
        ids = np.array([number for number, _ in found], dtype=np.int64)
        return cls(ids, np.array([numbers[name] for _, name in found], dtype=np.int64), names)

    def template_of(self, message_ids: np.ndarray) -> np.ndarray:
        """Return the position of each message's template, -1 if it has none."""
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
    ids = counts.column("session_id").combine_chunks().dictionary_encode()
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    names, session = ids.dictionary, np.asarray(ids.indices, dtype=np.int64)
    own = counts.column("own").to_numpy(zero_copy_only=False)
    has_own, is_due, has_template = (np.zeros(len(names), dtype=bool) for _ in range(3))
    has_own[session[own]] = True
    if due is not None and len(due):
        is_due = pc.is_in(names, due).to_numpy(zero_copy_only=False)
    accounted = has_own | is_due
    template = assignment.template_of(counts.column("message_id").to_numpy())
    kept = (template >= 0) & accounted[session]
    has_template[session[kept]] = True
    n_ids, n_due, n_outside = (int(mask.sum()) for mask in (accounted, is_due, accounted & ~has_template))
    if not kept.any():
        empty = SESSIONS.empty_table()
        return Grouped(empty, empty, UNCHANGED.empty_table(), {}, pa.array([], pa.string()), n_ids, n_due, n_outside)
    needed = counts.select(["n", "first_at", "last_at", "own"]).filter(pa.array(kept))
    totals = Totals.of(needed, session[kept], template[kept], len(assignment.template_ids))
    numbers, rows, patterns = session_rows(totals, names, assignment.template_ids)
    waits = np.zeros(len(rows), dtype=bool)
    if window is not None:
        started = np.minimum.reduceat(totals.first, totals.bounds)
        waits = ~is_due[numbers] & (started >= window[0]) & (started < window[1])
    same, judged_ds = np.zeros(len(rows), dtype=bool), np.full(len(rows), None, dtype=object)
    for night, others in (elsewhere or {}).items():
        found = ~same & ~waits & same_rows(rows, others)
        if night < ds:
            found &= ~has_own[numbers]
        same |= found
        judged_ds[found] = night
    is_judged = ~waits & ~same
    judged = rows.filter(pa.array(is_judged))
    has_earlier = np.maximum.reduceat(totals.is_earlier, totals.bounds)
    again = rows.column("session_id").filter(pa.array(is_judged & has_earlier)).combine_chunks()
    sizes = judged.group_by("pattern_id").aggregate([([], "count_all"), ("session_id", "min")]).to_pylist()
    sized = {row["pattern_id"]: Pattern(patterns[row["pattern_id"]], row["count_all"], row["session_id_min"]) for row in sizes}
    unchanged = rows.append_column("judged_ds", pa.array(judged_ds, pa.string())).filter(pa.array(same))
    return Grouped(judged, rows.filter(pa.array(waits)), unchanged, sized, again, n_ids, n_due, n_outside)


@dataclass
class Totals:
    """Events per session and template, in the order of sessions, then of templates: arrays of one row each.

    `session`, `template`: their numbers; `n`: events; `first`, `last`: microseconds since 1970; `is_earlier`: some are of earlier days.
    `bounds`: the row at which each session begins.
    """

    session: np.ndarray
    template: np.ndarray
    n: np.ndarray
    first: np.ndarray
    last: np.ndarray
    is_earlier: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, counts: pa.Table, session: np.ndarray, template: np.ndarray, n_templates: int) -> Totals:
        """Add up the rows of COUNTS. Args: session and template of each row."""
        key = session * max(1, n_templates) + template
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=-1))
        own = counts.column("own").to_numpy(zero_copy_only=False)
        first_rows = order[starts]
        return cls(
            session[first_rows],
            template[first_rows],
            np.add.reduceat(counts.column("n").to_numpy()[order], starts),
            np.minimum.reduceat(micros(counts.column("first_at"), NEVER_FIRST)[order], starts),
            np.maximum.reduceat(micros(counts.column("last_at"), NEVER_LAST)[order], starts),
            np.maximum.reduceat(~own[order], starts),
            np.flatnonzero(np.diff(session[first_rows], prepend=-1)),
        )


def session_rows(
    totals: Totals, names: pa.Array, template_ids: Sequence[str]
) -> tuple[np.ndarray, pa.Table, dict[str, tuple[tuple[str, int], ...]]]:
    """Return the number of each session, its row (SESSIONS), and the patterns by their id. Args: names: session ids by number."""
    bounds = totals.bounds
    which, patterns = distinct_patterns(totals.template, powers_of_two(totals.n), bounds, template_ids)
    numbers = totals.session[bounds]
    rows = pa.table(
        {
            "session_id": names.take(pa.array(numbers)),
            "pattern_id": pa.array(list(patterns), pa.string()).take(pa.array(which)),
            "started_at": times(np.minimum.reduceat(totals.first, bounds), NEVER_FIRST),
            "ended_at": times(np.maximum.reduceat(totals.last, bounds), NEVER_LAST),
            "n_events": np.add.reduceat(totals.n, bounds),
        }
    )
    return numbers, rows, patterns


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
    mix = mix_bits(counts.column("message_id").to_numpy().astype(np.uint64))
    for column in (
        counts.column("bucket").to_numpy(),
        counts.column("n").to_numpy(),
        micros(counts.column("first_at"), NEVER_FIRST),
        micros(counts.column("last_at"), NEVER_LAST),
    ):
        mix = mix_bits(mix + column.astype(np.uint64))
    return int(mix.sum(dtype=np.uint64))


def micros(at: pa.ChunkedArray, never: int) -> np.ndarray:
    """Return times as microseconds since 1970, `never` for null."""
    numbers: np.ndarray = at.cast(pa.int64()).fill_null(never).to_numpy()
    return numbers


def times(at: np.ndarray, never: int) -> pa.Array:
    """Return microseconds since 1970 as times, null for `never`."""
    return pa.array(at, pa.int64(), mask=at == never).cast(AT)


def powers_of_two(counts: np.ndarray) -> np.ndarray:
    """Return the exponent of the greatest power of two in each count, by its bits: logarithms of doubles are not exact.

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
    """Return the number of each session's pattern, and the patterns: pattern_id → (template id, count) in order of the ids.

    Args: template and exponent of the count, one row per template of a session; bounds: the row at which each session begins.
    Sessions are distinguished by 128 bits that are added up over their rows.
    """
    row = (template * 64 + exponent).astype(np.uint64)
    sums = np.stack([np.add.reduceat(mix_bits(row + np.uint64(seed)), bounds) for seed in (0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A)], axis=1)
    _, at, which = np.unique(np.ascontiguousarray(sums).view("V16").ravel(), return_index=True, return_inverse=True)
    ends = np.append(bounds[1:], len(template))
    patterns = {}
    for number in at.tolist():
        rows = range(bounds[number], ends[number])
        events = tuple((names[template[place]], 1 << int(exponent[place])) for place in rows)
        patterns[pattern_id(events)] = events
    return which, patterns


def mix_bits(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of 64 bits with their bits mixed well (splitmix64)."""
    with np.errstate(over="ignore"):
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    last: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return last


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]


def pattern_id(events: Sequence[tuple[str, int]]) -> str:
    """Return the hash of a multiset of templates that is in order.

    >>> pattern_id([("t-a", 1), ("t-b", 2)])
    '2047a7b501c004b7'
    """
    return digest([{"template_id": name, "count": count} for name, count in events])


def question_id(events: Sequence[tuple[str, int]], counted: bool) -> str:
    """Return the id of the question about a pattern: the pattern's id, or, if counts do not matter, the hash of its set of templates."""
    return pattern_id(events) if counted else digest([name for name, _ in events])


def merge_patterns(found: Iterable[Mapping[str, Pattern]]) -> dict[str, Pattern]:
    """Return the patterns of several groups of sessions as of one."""
    whole: dict[str, Pattern] = {}
    for each in found:
        add_patterns(whole, each)
    return whole


def add_patterns(whole: dict[str, Pattern], found: Mapping[str, Pattern]) -> None:
    """Add the patterns of a group of sessions to those of others."""
    for name, pattern in found.items():
        before = whole.setdefault(name, pattern)
        if before is not pattern:
            example = min(before.example_session_id, pattern.example_session_id)
            whole[name] = Pattern(pattern.events, before.n_sessions + pattern.n_sessions, example)
