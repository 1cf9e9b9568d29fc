"""The input of detectors: the patterns of a system, and for a source their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

Events = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Patterns:
    """A system's patterns, without labels.

    `vectors` (n templates, d) float32, unit norm, and `texts` are its templates; pattern i is named `ids[i]`, has `events[i]`, pairs of
    template row and count (a power of two), and `sessions[i]` sessions. `counted` says whether counts tell something: they do in a
    session that is the life of one thing (a block, a request), not in what a node or an hour happened to log. `questions[i]` is the id
    of what is asked about pattern i: where counts tell nothing, all patterns of one set of templates are one question.
    `template_ids` are the templates' ids in the lake; where none are given, their texts stand for them. `levels` are the templates' usual
    log levels; empty if they are not known.
    """

    name: str
    vectors: np.ndarray
    texts: tuple[str, ...]
    ids: tuple[str, ...]
    events: tuple[Events, ...]
    sessions: np.ndarray
    counted: bool = True
    questions: tuple[str, ...] = ()
    template_ids: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.questions:
            object.__setattr__(self, "questions", self.ids)
        if not self.template_ids:
            object.__setattr__(self, "template_ids", self.texts)

    def take(self, chosen: Sequence[int] | np.ndarray) -> Patterns:
        """The patterns with these numbers; the templates stay."""
        numbers = np.asarray(chosen, dtype=np.int64)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in numbers),
            events=tuple(self.events[i] for i in numbers),
            questions=tuple(self.questions[i] for i in numbers),
            sessions=self.sessions[numbers],
        )


@dataclass(frozen=True)
class Source(Patterns):
    """A labelled system's patterns: of the sessions of pattern i the share `anomalous[i]` is anomalous."""

    anomalous: np.ndarray = field(kw_only=True)

    def without_labels(self) -> Patterns:
        """The patterns alone."""
        return Patterns(**{each.name: getattr(self, each.name) for each in fields(Patterns)})

    def take(self, chosen: Sequence[int] | np.ndarray) -> Source:
        """The patterns with these numbers, and their labels."""
        taken = super().take(chosen)
        assert isinstance(taken, Source)
        return replace(taken, anomalous=self.anomalous[np.asarray(chosen, dtype=np.int64)])
