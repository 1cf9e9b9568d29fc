"""Labelled systems as history detectors see them: patterns with log levels, in an adaptation part and a test part.

Systems: the session sets of the benchmark, TrainTicket, the sample's three programs, and recorded families under `sample/families`, parsed
in this process. Labels stay in `Labelled.counts`.
"""

from __future__ import annotations

import gzip
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from nightlog.evaluation.corpus import BENCHMARKS, Benchmark, read_corpus
from nightlog.evaluation.metrics import Scored, average_precision
from nightlog.evaluation.protocols import in_first_half
from nightlog.history.channels import Templates
from nightlog.history.reference import EVENTS, Reference
from nightlog.onboarding.trial import try_system
from nightlog.sessions.group import pattern_id, question_id
from nightlog.systems.catalog import read_label_file
from nightlog.systems.spec import System

TRAINTICKET = Benchmark("trainticket_traces", "trainticket", "trainticket", "id", main=False)
SAMPLE = Path(__file__).parents[1] / "sample"
ADAPTATION, TEST = 0, 1
SCORABLE = 0.5  # average precision with the labels of patterns known


@dataclass(frozen=True)
class Labelled:
    """A labelled system. `patterns` has pattern_id, question_id and events; `counts[i, part, label]` are the sessions of pattern i in a
    part (ADAPTATION, TEST) with a label (0 normal, 1 anomalous)."""

    name: str
    family: str
    counted: bool
    patterns: pa.Table
    templates: Templates
    counts: np.ndarray

    def reference(self, with_test: bool = False) -> Reference:
        """The adaptation part, without labels; `with_test` adds the test part as a night that is scored."""
        sessions = self.counts.sum(axis=2)
        parts = [self.patterns.append_column("n_sessions", pa.array(sessions[:, part])) for part in (ADAPTATION, TEST)]
        past, tonight = (Reference.of_night(part, self.counted, str(number)) for number, part in enumerate(parts))
        return past.including(tonight) if with_test else past

    def shortened(self, n_sessions: int, seed: int = 0) -> Labelled:
        """The system with at most so many sessions in its adaptation part, drawn at random."""
        cells = self.counts[:, ADAPTATION].reshape(-1)
        size = min(n_sessions, int(cells.sum()))
        drawn = np.random.default_rng(seed).multivariate_hypergeometric(cells, size, method="marginals")
        counts = self.counts.copy()
        counts[:, ADAPTATION] = drawn.reshape(-1, 2)
        return replace(self, counts=counts)

    def clean(self) -> Labelled:
        """The system without its anomalous sessions."""
        return replace(self, counts=self.counts * np.array([1, 0]))

    def swapped(self) -> Labelled:
        """The system with its two parts exchanged."""
        return replace(self, counts=self.counts[:, ::-1])

    @property
    def share(self) -> np.ndarray:
        """Share of anomalous sessions by pattern, over both parts: the best score that patterns allow."""
        total = self.counts.sum(axis=1)
        return np.asarray(total[:, 1] / np.maximum(1, total.sum(axis=1)))

    @property
    def is_scorable(self) -> bool:
        """The patterns tell normal and anomalous sessions apart."""
        return average_precision(Scored(self.share, self.share > 0.5, self.anomalous, self.normal)) >= SCORABLE

    @property
    def normal(self) -> np.ndarray:
        """Normal sessions of the test part, by pattern."""
        return np.asarray(self.counts[:, TEST, 0])

    @property
    def anomalous(self) -> np.ndarray:
        """Anomalous sessions of the test part, by pattern."""
        return np.asarray(self.counts[:, TEST, 1])

    @property
    def unseen(self) -> np.ndarray:
        """A mask of the patterns that do not occur in the adaptation part."""
        return np.asarray(self.counts[:, ADAPTATION].sum(axis=1) == 0)


def labelled_systems(sessions: Path | None, names: Sequence[str] = ()) -> Iterator[Labelled]:
    """Read all labelled systems that are there, or those named.

    Args: sessions, the folder of the session sets; None leaves these out.
    """
    for bench in (*BENCHMARKS.values(), TRAINTICKET) if sessions is not None else ():
        assert sessions is not None
        if (not names or bench.name in names) and (sessions / f"{bench.name}.sessions.jsonl.gz").is_file():
            yield from_sessions(sessions, bench)
    shipped = [(path, SAMPLE / "logs") for path in sorted((SAMPLE / "systems").glob("*.toml"))]
    recorded = [(path, SAMPLE / "families") for path in sorted((SAMPLE / "families").glob("*/system.toml"))]
    for path, root in (*shipped, *recorded):
        system = System.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        if (not names or system.name in names) and system.labels is not None and system.labels.file and days_of(system, root):
            yield from_logs(system, root)


def from_sessions(folder: Path, bench: Benchmark) -> Labelled:
    """Read a set of session sequences, split by a hash of the session's id as the benchmark does: they have no times and no levels."""
    corpus = read_corpus(folder, bench, lambda texts: np.zeros((len(texts), 1), dtype=np.float32))
    texts = corpus.patterns.texts
    events = [[(texts[row], count if bench.counted else 1) for row, count in pattern] for pattern in corpus.patterns.events]
    first = in_first_half(corpus.session_ids)
    return table_of(bench.name, bench.family, bench.counted, events, dict.fromkeys(texts, ""), corpus.pattern, ~first, corpus.anomalous)


def days_of(system: System, root: Path) -> list[Path]:
    """The log files of a recorded system, in order."""
    return sorted(root.glob(system.input.path.replace("{ds}", "*")))


def from_logs(system: System, root: Path) -> Labelled:
    """Parse the recorded logs of a system; the last day is the test part. A session belongs to the day of its first event."""
    assert system.labels is not None and system.labels.file is not None
    lines: list[str] = []
    day: list[int] = []
    files = days_of(system, root)
    for number, path in enumerate(files):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") as opened:
            own = [line.rstrip("\n") for line in opened]
        lines += own
        day += [number] * len(own)
    trial = try_system(lines, system, files[0].name.removesuffix(".log.gz")[-10:])
    labels = read_label_file(root / system.labels.file, system.name)
    levels: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in trial.matched:
        levels[trial.templates[event.message]][event.fields.get("level", "")] += 1
    level = {text: count.most_common(1)[0][0] for text, count in levels.items()}
    names = [name for name in trial.sessions if name in labels]
    counted = system.session.kind == "id"
    events = [list(trial.sessions[name].pattern) for name in names]
    last = np.array([day[trial.events[trial.sessions[name].events[0]].record.line] == len(files) - 1 for name in names], dtype=bool)
    anomalous = np.array([labels[name] for name in names], dtype=bool)
    return table_of(system.name, system.name, counted, events, level, np.arange(len(names)), last, anomalous)


def table_of(
    name: str,
    family: str,
    counted: bool,
    events: Sequence[Sequence[tuple[str, int]]],
    level: dict[str, str],
    pattern: np.ndarray,
    is_test: np.ndarray,
    anomalous: np.ndarray,
) -> Labelled:
    """Make distinct patterns of events by text; session s has `events[pattern[s]]`. A template's id is its text."""
    events = [[(text, count if counted else 1) for text, count in sorted(each)] for each in events]
    ids = [pattern_id(each) for each in events]
    distinct = dict(zip(ids, events, strict=True))
    ordered = sorted(distinct)
    number = {each: i for i, each in enumerate(ordered)}
    own = np.array([number[each] for each in ids])[pattern]
    counts = np.zeros((len(ordered), 2, 2), dtype=np.int64)
    np.add.at(counts, (own, is_test.astype(int), anomalous.astype(int)), 1)
    rows = [[{"template_id": text, "count": count} for text, count in distinct[each]] for each in ordered]
    questions = [question_id(distinct[each], counted) for each in ordered]
    patterns = pa.table({"pattern_id": ordered, "question_id": questions, "events": pa.array(rows, EVENTS)})
    templates = Templates({text: text for text in level}, {text: value for text, value in level.items() if value})
    return Labelled(name, family, counted, patterns, templates, counts)
