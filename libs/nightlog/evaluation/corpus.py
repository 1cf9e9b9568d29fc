"""The labelled systems of the benchmark, read from complete session sequences. Labels stay in `Corpus.anomalous`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from nightlog.detector.patterns import Events, Patterns, Source, template_set_id
from nightlog.errors import ConfigError, FormatError
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import Session, System

Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Benchmark:
    """A labelled system: file `name`.sessions.jsonl.gz over `family`_templates.csv.

    Systems of one `family` are cut from the same lines, so they are never source and target of each other. `main` systems are sources
    by default; `system` is the name that the LLM is told.
    """

    name: str
    family: str
    system: str
    kind: Literal["id", "field", "window"]
    main: bool = True

    @property
    def counted(self) -> bool:
        """Do counts tell something? In the life of one thing they do, in what a node or an hour happened to log they do not."""
        return self.kind == "id"

    def spec(self) -> System:
        """Return what a judge has to know of it: the shipped system file, under the name of the benchmark and as a target."""
        shipped = load_catalog()[self.family]
        session = Session(kind="window") if self.kind == "window" else shipped.session
        return shipped.model_copy(update={"name": self.system, "role": "target", "session": session})


BENCHMARKS = {
    bench.name: bench
    for bench in (
        Benchmark("hdfs_blocks", "hdfs", "hdfs", "id"),
        Benchmark("bgl_nodes", "bgl", "bgl", "field"),
        Benchmark("openstack_vms", "openstack", "openstack", "id"),
        Benchmark("bgl_hours", "bgl", "bgl_hours", "window", main=False),
    )
}
MAIN = tuple(bench.name for bench in BENCHMARKS.values() if bench.main)


def sources_of(target: str) -> tuple[str, ...]:
    """The main systems of the other families.

    >>> sources_of("bgl_hours")
    ('hdfs_blocks', 'openstack_vms')
    """
    return tuple(name for name in MAIN if BENCHMARKS[name].family != BENCHMARKS[target].family)


@dataclass(frozen=True)
class Corpus:
    """A benchmark system with its labels.

    Session s, named `session_ids[s]` (in order), has the label `anomalous[s]` and the exact count vector `counts[vector[s]]` over
    `patterns.texts`; count vector v belongs to pattern `pattern_of[v]`. `patterns` are those of all sessions.
    """

    bench: Benchmark
    patterns: Patterns
    session_ids: tuple[str, ...]
    anomalous: np.ndarray
    vector: np.ndarray
    counts: np.ndarray
    pattern_of: np.ndarray

    @cached_property
    def pattern(self) -> np.ndarray:
        """The pattern of each session."""
        return self.pattern_of[self.vector]  # type: ignore[no-any-return]

    def source(self) -> Source:
        """All patterns with their labels, for other systems to learn from."""
        n = np.bincount(self.pattern, minlength=len(self.patterns.ids))
        anomalous = np.bincount(self.pattern, weights=self.anomalous, minlength=len(n)) / np.maximum(n, 1)
        return Source(**vars(self.patterns), anomalous=anomalous)


def sessions_folder(logs: Path) -> Path:
    """The folder `sessions` in or beside the folder of log files. Raises ConfigError where there is none."""
    for folder in (logs / "sessions", logs.parent / "sessions"):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"no folder `sessions` in or beside {logs}: the benchmark reads <system>.sessions.jsonl.gz and <system>_templates.csv there; "
        "set NIGHTLOG_DATA or --data to the folder that holds it"
    )


def read_corpus(folder: Path, bench: Benchmark, encode: Encode) -> Corpus:
    """Read a system; the order of its sessions and templates, and its event ids, have no influence.

    Args: encode, texts → (n, d) float32 of unit norm.
    Raises: ConfigError where a file is missing, FormatError with file and line where it is not what it claims to be.
    """
    names = read_templates(folder / f"{bench.family}_templates.csv")
    ids, labels, numbers, sequences = read_sessions(folder / f"{bench.name}.sessions.jsonl.gz", names)
    texts = tuple(sorted({names[event] for sequence in sequences for event in sequence}))
    rows = {text: row for row, text in enumerate(texts)}
    row_of = {event: rows[text] for event, text in names.items() if text in rows}
    raw = np.zeros((len(sequences), len(texts)), dtype=np.int64)
    for number, sequence in enumerate(sequences):
        for event, count in Counter(sequence).items():
            raw[number, row_of[event]] += count
    counts, vector = np.unique(raw, axis=0, return_inverse=True)
    rounded = [rounded_events(row) for row in counts]
    pattern_ids = [pattern_id(events, texts) for events in rounded]
    events_of = dict(zip(pattern_ids, rounded, strict=True))
    ordered = sorted(events_of)
    place = {name: number for number, name in enumerate(ordered)}
    pattern_of = np.array([place[name] for name in pattern_ids], dtype=np.int64)
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    vector = vector.reshape(-1)[np.array(numbers, dtype=np.int64)][order]
    questions = () if bench.counted else tuple(template_set_id(texts[row] for row, _ in events_of[name]) for name in ordered)
    patterns = Patterns(
        name=bench.name,
        vectors=encode(texts),
        texts=texts,
        ids=tuple(ordered),
        events=tuple(events_of[name] for name in ordered),
        sessions=np.bincount(pattern_of[vector], minlength=len(ordered)),
        counted=bench.counted,
        questions=questions,
    )
    return Corpus(bench, patterns, tuple(ids[s] for s in order), np.array(labels, dtype=bool)[order], vector, counts, pattern_of)


def read_templates(path: Path) -> dict[int, str]:
    """Event id → text."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return {int(row["event_id"]): row["template"] for row in csv.DictReader(lines)}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; it names the templates of the sessions beside it") from None
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: expected the columns event_id (a number) and template: {error!r}") from None


def read_sessions(path: Path, known: dict[int, str]) -> tuple[list[str], list[bool], list[int], list[tuple[int, ...]]]:
    """Ids and labels of the sessions, the number of each one's sequence, and the distinct sequences."""
    ids: list[str] = []
    labels: list[bool] = []
    numbers: list[int] = []
    sequences: dict[tuple[int, ...], int] = {}
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            name, label, sequence = row["session_id"], row["label"], tuple(row["events"])
            if label not in (0, 1):
                raise ValueError(f"label {label!r} is neither 0 nor 1")
            if sequence not in sequences:
                if not sequence or not known.keys() >= set(sequence):
                    raise ValueError(f"no events, or events without a template: {sorted(set(sequence) - known.keys())[:5]}")
                sequences[sequence] = len(sequences)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path}:{number}: not a session (session_id, label 0 | 1, events): {error!r}") from None
        ids.append(str(name))
        labels.append(bool(label))
        numbers.append(sequences[sequence])
    if not ids:
        raise FormatError(f"{path}: no session in it")
    if len(set(ids)) < len(ids):
        twice = next(name for name, n in Counter(ids).items() if n > 1)
        raise FormatError(f"{path}: session {twice} occurs twice")
    return ids, labels, numbers, list(sequences)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a gzip file."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from enumerate(lines, 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; without it its system cannot be target or source") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not a gzip file of text: {error}") from None


def rounded_events(counts: np.ndarray) -> Events:
    """(template row, count rounded down to a power of two), in order of the rows.

    >>> rounded_events(np.array([0, 5, 1]))
    ((1, 4), (2, 1))
    """
    return tuple((int(row), 1 << (int(counts[row]).bit_length() - 1)) for row in np.flatnonzero(counts))


def pattern_id(events: Events, texts: Sequence[str]) -> str:
    """Hash of texts and counts: the same pattern has the same id in every system."""
    return hashlib.sha256(json.dumps([(texts[row], count) for row, count in events]).encode()).hexdigest()[:16]
