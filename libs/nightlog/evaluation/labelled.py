"""A labelled system: its patterns in an adaptation part and a test part. Labels stay in `Labelled.counts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from nightlog.detector.patterns import Patterns, Source
from nightlog.evaluation.metrics import Scored, average_precision
from nightlog.history.channels import Templates
from nightlog.history.reference import EVENTS, Reference
from nightlog.sessions.group import pattern_id, question_id
from nightlog.systems.spec import System

Encode = Callable[[Sequence[str]], np.ndarray]

ADAPTATION, TEST = 0, 1
SCORABLE = 0.5  # average precision with the labels of patterns known


@dataclass(frozen=True)
class Labelled:
    """A labelled system.

    `patterns` has pattern_id, question_id and events; the id of a template is its text. `counts[i, part, label]` are the sessions of
    pattern i in a part (ADAPTATION, TEST) with a label (0 normal, 1 anomalous). `counted`: counts of templates are used. `spec` is what a
    judge reads about the system. A `held_out` system teaches nothing. `split` says how the parts were made.
    """

    name: str
    family: str
    counted: bool
    patterns: pa.Table
    templates: Templates
    counts: np.ndarray
    spec: System | None = None
    held_out: bool = False
    split: str = "hash"

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

    def balanced(self, seed: int) -> Labelled:
        """The system with as many normal as anomalous sessions, by its labels: the papers' protocol. The seed draws the larger class."""
        totals = self.counts.sum(axis=(0, 1))
        larger = int(np.argmax(totals))
        cells = self.counts[:, :, larger].reshape(-1)
        drawn = np.random.default_rng(seed).multivariate_hypergeometric(cells, int(totals.min()), method="marginals")
        counts = self.counts.copy()
        counts[:, :, larger] = drawn.reshape(-1, 2)
        return replace(self, counts=counts)

    def clean(self) -> Labelled:
        """The system without its anomalous sessions."""
        return replace(self, counts=self.counts * np.array([1, 0]))

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

    def part(self, part: int, encode: Encode) -> tuple[Patterns, np.ndarray]:
        """Return the patterns of a part without labels, for models that learn from sources, and their numbers."""
        sessions = self.counts[:, part].sum(axis=1)
        numbers = np.flatnonzero(sessions)
        return self._placed(sessions, encode).take(numbers), numbers

    def source(self, encode: Encode) -> Source:
        """Return all patterns with their labels, for other systems to learn from."""
        whole = self._placed(self.counts.sum(axis=(1, 2)), encode)
        chosen = np.flatnonzero(whole.sessions)
        return Source(**vars(whole.take(chosen)), anomalous=self.share[chosen])

    def _placed(self, sessions: np.ndarray, encode: Encode) -> Patterns:
        events = self.patterns.column("events").to_pylist()
        texts = tuple(sorted({event["template_id"] for pattern in events for event in pattern}))
        rows = {text: row for row, text in enumerate(texts)}
        return Patterns(
            name=self.name,
            vectors=encode(texts),
            texts=texts,
            ids=tuple(self.patterns.column("pattern_id").to_pylist()),
            events=tuple(tuple(sorted((rows[event["template_id"]], event["count"]) for event in pattern)) for pattern in events),
            sessions=sessions,
            counted=self.counted,
            questions=tuple(self.patterns.column("question_id").to_pylist()),
            levels=tuple(self.templates.level.get(text, "") for text in texts),
        )


def labelled_system(
    name: str,
    events: Sequence[Sequence[tuple[str, int]]],
    pattern: np.ndarray,
    is_test: np.ndarray,
    anomalous: np.ndarray,
    *,
    family: str = "",
    counted: bool = True,
    level: Mapping[str, str] | None = None,
    spec: System | None = None,
    held_out: bool = False,
    split: str = "hash",
) -> Labelled:
    """Make a labelled system of sessions.

    Session s has `events[pattern[s]]` (template text, count), is in the test part if `is_test[s]`, and has the label `anomalous[s]`. Counts
    are rounded down to powers of two; without `counted` they are 1.
    """
    rounded = [[(text, 1 << (count.bit_length() - 1) if counted else 1) for text, count in sorted(each)] for each in events]
    ids = [pattern_id(each) for each in rounded]
    distinct = dict(zip(ids, rounded, strict=True))
    ordered = sorted(distinct)
    number = {each: i for i, each in enumerate(ordered)}
    own = np.array([number[each] for each in ids], dtype=np.int64)[pattern]
    counts = np.zeros((len(ordered), 2, 2), dtype=np.int64)
    np.add.at(counts, (own, is_test.astype(int), anomalous.astype(int)), 1)
    rows = [[{"template_id": text, "count": count} for text, count in distinct[each]] for each in ordered]
    questions = [question_id(distinct[each], counted) for each in ordered]
    patterns = pa.table({"pattern_id": ordered, "question_id": questions, "events": pa.array(rows, EVENTS)})
    texts = sorted({text for each in distinct.values() for text, _ in each})
    levels = {text: value for text, value in (level or {}).items() if value}
    templates = Templates({text: text for text in texts}, levels)
    return Labelled(name, family or name, counted, patterns, templates, counts, spec, held_out, split)
