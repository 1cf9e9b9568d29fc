"""From what was recorded to the files of the corpus: a log a day, labels, counts."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from nightlog.systems.spec import System

from recorder.clock import Clock
from recorder.program import Program


@dataclass(frozen=True)
class Row:
    """The counts of one system's day."""

    system: str
    day: date
    n_lines: int
    n_without_session: int
    n_unmatched: int
    n_sessions: int
    n_anomalous: int


@dataclass(frozen=True)
class Corpus:
    """The folder in which the corpus lies."""

    out: Path

    def log(self, system: str, day: date) -> Path:
        """The log of one day."""
        return self.out / "logs" / system / f"{system}-{day}.log.gz"

    def truth(self, system: System) -> Path:
        """The labels, where the system's file says."""
        assert system.labels is not None and system.labels.file is not None
        return self.out / "logs" / system.labels.file


def by_day(clock: Clock, lines: Iterable[tuple[float, str]]) -> dict[date, list[str]]:
    """The lines of each recorded day, in the order in which they were written."""
    days: dict[date, list[str]] = {day: [] for day in clock.days}
    for real, text in lines:
        days[clock.at(real).date()].append(text)
    return days


def sessions_in(system: System, lines: Iterable[str]) -> tuple[set[str], int, int]:
    """(session ids, lines without one, lines that the header does not match), as the system's file reads them."""
    header, session = re.compile(system.header.pattern), re.compile(system.session.pattern or "")
    found: set[str] = set()
    without = unmatched = 0
    for line in lines:
        fields = header.fullmatch(line)
        unmatched += fields is None
        ids = session.findall((fields[system.session.field] or "") if fields else "")
        found.update(ids)
        without += not ids
    return found, without, unmatched


def publish(program: Program, system: System, corpus: Corpus) -> tuple[list[Row], Counter[str]]:
    """Write a program's logs and labels. Returns the counts of each day, and of sessions by kind of fault."""
    clock, broken = program.stage.clock, program.stage.ledger.broken
    days = by_day(clock, program.stamped(program.lines))
    texts = [text for lines in days.values() for text in lines]
    conversations = defaultdict(set)
    for session, conversation in program.conversations(texts):
        conversations[session].add(conversation)
    kinds = {session: sorted(broken[name] for name in names if name in broken) for session, names in conversations.items()}
    rows, everything = [], set()
    for day, lines in days.items():
        ids, without, unmatched = sessions_in(system, lines)
        everything |= ids
        anomalous = sum(bool(kinds.get(session)) for session in ids)
        rows.append(Row(system.name, day, len(lines), without, unmatched, len(ids), anomalous))
        path = corpus.log(system.name, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0))
    truth = corpus.truth(system)
    truth.parent.mkdir(parents=True, exist_ok=True)
    with truth.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("session_id", "label"))
        writer.writerows((session, int(bool(kinds.get(session)))) for session in sorted(everything))
    return rows, Counter(kinds[session][0] for session in everything if kinds.get(session))


def table(rows: Sequence[Row]) -> str:
    """The counts as a Markdown table."""
    head = "| system | day | lines | without session | sessions | anomalous | share |\n|---|---|--:|--:|--:|--:|--:|\n"
    return head + "".join(
        f"| {r.system} | {r.day} | {r.n_lines:,} | {r.n_without_session:,} | {r.n_sessions:,} | {r.n_anomalous} "
        f"| {r.n_anomalous / max(r.n_sessions, 1):.1%} |\n"
        for r in rows
    )
