"""Build the public session sets from the original distributions of HDFS_v1 and BGL, by the parser and the miner of a night."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightlog.errors import ConfigError, FormatError
from nightlog.evaluation.corpus import BENCHMARKS, ENDING
from nightlog.ingest.ingest import without_labels
from nightlog.onboarding.trial import lines_table, mine_messages
from nightlog.parsing.events import parse_lines
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import System

LINES = 200_000  # at a time
LOGHUB = "https://github.com/logpai/loghub"
DAY = 86_400_000_000
HDFS_LABELS = {"Normal": 0, "Anomaly": 1}
KEYS = ["session_id", "message_id"]


@dataclass(frozen=True)
class Distribution:
    """A public distribution: its archive and its files. `read` builds the sessions of the set `name` from them."""

    name: str
    archive: str
    files: tuple[str, ...]
    read: Callable[[System, tuple[Path, ...]], Parsed]


@dataclass(frozen=True)
class Parsed:
    """Events summed up: `counts` (session_id, message_id, n, first) with `first` in microseconds since 1970, the text of each message, its
    levels with their numbers, and the label of each session, 1 for anomalous."""

    counts: pa.Table
    messages: Mapping[int, str]
    levels: Mapping[int, Mapping[str, int]]
    labels: Mapping[str, int]


def build_sets(folder: Path, out: Path) -> tuple[list[str], list[str]]:
    """Build the session sets whose files are in `folder` or below it, if `out` does not have them yet.

    Returns: the names of the sets, and for each distribution without its files what is missing and where it is published.
    Raises: ConfigError if there is no file of any distribution.
    """
    built, missing = [], []
    for each in DISTRIBUTIONS:
        paths = [find(folder, name) for name in each.files]
        known = [path for path in paths if path is not None]
        if len(known) < len(paths):
            absent = ", ".join(name for name, path in zip(each.files, paths, strict=True) if path is None)
            missing.append(f"{each.name} needs {absent} below {folder}: unpack the distribution {each.archive} of {LOGHUB}")
            continue
        if not (out / f"{each.name}{ENDING}").is_file():
            bench = BENCHMARKS[each.name]
            write_set(out, each.name, bench.family, load_catalog()[bench.family], each.read(load_catalog()[bench.family], tuple(known)))
        built.append(each.name)
    if not built:
        raise ConfigError("; ".join(missing))
    return built, missing


def find(folder: Path, name: str) -> Path | None:
    """Return the file of this name in a folder or below it, packed by gzip or not."""
    return next((path for ending in ("", ".gz") for path in sorted(folder.rglob(name + ending)) if path.is_file()), None)


def chunks(path: Path) -> Iterator[pa.Table]:
    """The lines of a log file as rows (file, line_no, text), some at a time."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", errors="replace", newline="\n") as lines:
        while some := [line.rstrip("\r\n") for line in islice(lines, LINES)]:
            yield lines_table(some)


def read_hdfs(system: System, paths: tuple[Path, ...]) -> Parsed:
    """Read HDFS_v1: a session is a block, labelled in anomaly_label.csv (BlockId, Label: Normal or Anomaly). Raises FormatError."""
    log, labels = paths
    with (gzip.open if labels.suffix == ".gz" else open)(labels, "rt", encoding="utf-8", newline="") as lines:
        try:
            known = {row["BlockId"]: HDFS_LABELS[row["Label"].strip()] for row in csv.DictReader(lines)}
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{labels}: expected the columns BlockId and Label (Normal or Anomaly): {error!r}") from None
    found = Summing()
    for rows in chunks(log):
        found.add(rows, system, None)
    return found.parsed(known)


def read_bgl(system: System, paths: tuple[Path, ...]) -> Parsed:
    """Read BGL: a session is a node's day, anomalous if a line of it is an alert. A line begins with its label, "-" if it is none."""
    assert system.labels is not None
    found, labels = Summing(), defaultdict[str, int](int)
    for whole in chunks(paths[0]):
        rows, tags = without_labels(whole, system.labels)
        for session, label in found.add(rows, system, tags).items():
            labels[session] = max(labels[session], label)
    return found.parsed(labels)


class Summing:
    """Sums up the events of parts of a log."""

    def __init__(self) -> None:
        self._counts: list[pa.Table] = []
        self._levels: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._messages: dict[int, str] = {}

    def add(self, rows: pa.Table, system: System, tags: pa.Table | None) -> dict[str, int]:
        """Parse lines; with `tags` (line_no, label) a session is a day of its id. Returns the labels of sessions, with `tags` alone."""
        events, parsed = parse_lines(rows, system, "1970-01-01")
        events = events.filter(pc.and_(pc.is_valid(events.column("session_id")), pc.is_valid(events.column("at"))))
        first = events.column("at").cast(pa.int64())
        names = events.column("session_id").combine_chunks()
        if tags is not None:
            days = pa.array(first.to_numpy() // DAY * DAY).cast(pa.timestamp("us"))
            names = pc.binary_join_element_wise(names, pc.strftime(days, "%Y-%m-%d"), " ")
        table = pa.table({"session_id": names, "message_id": events.column("message_id"), "first": first})
        self._counts.append(summed(table.append_column("n", pa.array(np.ones(len(table), dtype=np.int64)))))
        self._messages |= {number: text for number, (text, _) in parsed.messages.items()}
        by_level = events.select(["message_id", "level"]).group_by(["message_id", "level"]).aggregate([([], "count_all")])
        for row in by_level.to_pylist():
            self._levels[row["message_id"]][row["level"] or ""] += row["count_all"]
        if tags is None:
            return {}
        labels = pa.table({"session_id": names, "line_no": events.column("line_no")}).join(tags.select(["line_no", "label"]), "line_no")
        worst = labels.group_by("session_id").aggregate([("label", "max")])
        return {row["session_id"]: row["label_max"] or 0 for row in worst.to_pylist()}

    def parsed(self, labels: Mapping[str, int]) -> Parsed:
        """The sums over all parts."""
        return Parsed(summed(pa.concat_tables(self._counts)), self._messages, self._levels, labels)


def summed(counts: pa.Table) -> pa.Table:
    """Add up counts of the same message in the same session."""
    rows = counts.group_by(KEYS).aggregate([("n", "sum"), ("first", "min")])
    return rows.rename_columns({"n_sum": "n", "first_min": "first"}).select([*KEYS, "n", "first"])


def write_set(out: Path, name: str, family: str, system: System, parsed: Parsed) -> None:
    """Write a session set: sessions in order of time, an event's id once for each power of two of its count, and its templates."""
    texts = mine_messages(list(parsed.messages.values()), system)
    ordered = sorted(set(texts.values()))
    number = {text: i for i, text in enumerate(ordered, 1)}
    event_of = {message: number[texts[text]] for message, text in parsed.messages.items()}
    levels: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for message, counts in parsed.levels.items():
        for level, n in counts.items():
            levels[event_of[message]][level] += n
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{family}_templates.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(i, text, max(levels[i].items(), key=lambda item: item[1], default=("", 0))[0]) for text, i in number.items()]
        csv.writer(file).writerows([("event_id", "template", "level"), *rows])
    partial = out / f"{name}.partial"
    with gzip.open(partial, "wt", encoding="utf-8") as lines:
        for session, first, events in sessions_of(parsed.counts, event_of):
            if session in parsed.labels:
                shown = [event for event, n in sorted(events.items()) for _ in range(1 << (n.bit_length() - 1))]
                row = {"system": system.name, "session_id": session, "label": parsed.labels[session], "time": first, "events": shown}
                lines.write(json.dumps(row) + "\n")
    partial.replace(out / f"{name}{ENDING}")


def sessions_of(counts: pa.Table, event_of: Mapping[int, int]) -> Iterator[tuple[str, int, dict[int, int]]]:
    """Return (session, its first time, event → count) of each session, in order of names."""
    rows = counts.sort_by([("session_id", "ascending"), ("message_id", "ascending")])
    last, began, events = None, 0, dict[int, int]()
    for batch in rows.to_batches():
        for session, message, n, first in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if session != last:
                if last is not None:
                    yield last, began, events
                last, began, events = session, first, {}
            event = event_of[message]
            events[event] = events.get(event, 0) + n
            began = min(began, first)
    if last is not None:
        yield last, began, events


DISTRIBUTIONS = (
    Distribution("hdfs_blocks", "HDFS_v1", ("HDFS.log", "anomaly_label.csv"), read_hdfs),
    Distribution("bgl_nodes", "BGL", ("BGL.log",), read_bgl),
)
