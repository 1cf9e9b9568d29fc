"""From what was recorded to the files of the corpus: a log a day, labels, counts."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import defaultdict
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
    """The folder of a corpus: the paths in the systems' files are relative to it."""

    folder: Path

    def log(self, system: System, day: date) -> Path:
        """Return the log of one day."""
        return self.folder / system.input.path.format(ds=day)

    def labels(self, system: System) -> Path:
        """Return the labels."""
        assert system.labels is not None and system.labels.file is not None
        return self.folder / system.labels.file


def by_day(clock: Clock, lines: Iterable[tuple[float, str]]) -> dict[date, list[str]]:
    """The lines of each recorded day, in the order in which they were written."""
    days: dict[date, list[str]] = {day: [] for day in clock.days}
    for real, text in lines:
        days[clock.at(real).date()].append(text)
    return days


def sessions_in(system: System, lines: Iterable[str]) -> tuple[set[str], int, int]:
    """Return (session ids, lines without one, lines that the header does not match), as the system's file reads them."""
    header, session = re.compile(system.header.pattern), re.compile(system.session.pattern or ".+")
    found: set[str] = set()
    without = unmatched = 0
    for line in lines:
        fields = header.fullmatch(line)
        unmatched += fields is None
        ids = session.findall((fields[system.session.field] or "") if fields else "")
        found.update(ids)
        without += not ids
    return found, without, unmatched


@dataclass(frozen=True)
class Published:
    """The counts of each day, the kind of fault of each anomalous session, and the broken conversations without a line."""

    days: list[Row]
    faults: dict[str, str]
    n_silent: int


def publish(program: Program, system: System, corpus: Corpus) -> Published:
    """Write a program's logs and labels."""
    clock, broken = program.stage.clock, program.stage.ledger.broken
    days = by_day(clock, program.stamped(program.lines))
    texts = [text for lines in days.values() for text in lines]
    conversations = defaultdict(set)
    for session, conversation in program.conversations(texts):
        conversations[session].add(conversation)
    kinds = {session: sorted(broken[name] for name in names if name in broken) for session, names in conversations.items()}
    n_silent = len(set(broken) - {name for names in conversations.values() for name in names})
    rows, everything = [], set()
    for day, lines in days.items():
        ids, without, unmatched = sessions_in(system, lines)
        everything |= ids
        anomalous = sum(bool(kinds.get(session)) for session in ids)
        rows.append(Row(system.name, day, len(lines), without, unmatched, len(ids), anomalous))
        path = corpus.log(system, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0))
    faults = {session: kinds[session][0] for session in sorted(everything) if kinds.get(session)}
    labels = corpus.labels(system)
    labels.parent.mkdir(parents=True, exist_ok=True)
    write_csv(labels, ("session_id", "label"), ((session, int(session in faults)) for session in sorted(everything)))
    return Published(rows, faults, n_silent)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a heading."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def describe_family(folder: Path, held_out: bool, version: str, result: Published) -> None:
    """Write a family's truth (the fault of each anomalous session) and its part of the manifest."""
    name = result.days[0].system
    write_csv(folder / name / "truth.csv", ("session_id", "fault"), result.faults.items())
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    manifest[name] = {
        "version": version,
        "held_out": held_out,
        "days": {str(row.day): {"lines": row.n_lines, "sessions": row.n_sessions, "anomalous": row.n_anomalous} for row in result.days},
    }
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def table(rows: Sequence[Row]) -> str:
    """The counts as a Markdown table."""
    head = "| system | day | lines | without session | sessions | anomalous | share |\n|---|---|--:|--:|--:|--:|--:|\n"
    return head + "".join(
        f"| {r.system} | {r.day} | {r.n_lines:,} | {r.n_without_session:,} | {r.n_sessions:,} | {r.n_anomalous} "
        f"| {r.n_anomalous / max(r.n_sessions, 1):.1%} |\n"
        for r in rows
    )
