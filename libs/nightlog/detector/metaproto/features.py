"""The features of a pattern that mean the same in every system: the channels of the history, and a few of its structure.

Source: MetaProto, arXiv 2601.14336, has 80 structural features and a sentence vector; it names none. Sentence vectors are left out: they
say which system a pattern is of, and systems share no template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from nightlog.detector.patterns import Events, Patterns
from nightlog.history.channels import UNLIKENESS, Templates
from nightlog.history.reference import EVENTS, Multisets, Reference
from nightlog.history.score import Scorer

NAMES = (
    *UNLIKENESS,
    "words",
    "level",
    "tail",
    "score",
    "suspicion",
    "templates",
    "events",
    "new_templates",
    "rare_templates",
    "least_channel",
    "mean_channel",
    "severity_in_tail",
)
LONGEST_TAIL, RARE, MOST_NEW, MOST_RARE, LIMIT = 3.5, 0.05, 3, 8, 2.5


@dataclass(frozen=True)
class View:
    """A system's own sessions as the measure of what is usual in it. No label is used."""

    reference: Patterns

    @cached_property
    def scorer(self) -> Scorer:
        """The history detector over these sessions; its templates are named by their ids."""
        patterns = self.reference
        rows = pa.table(
            {
                "pattern_id": list(patterns.ids),
                "question_id": list(patterns.questions),
                "events": self.table(patterns.events),
                "n_sessions": pa.array(patterns.sessions, pa.float64()),
            }
        )
        text = dict(zip(patterns.template_ids, patterns.texts, strict=True))
        level = {name: level for name, level in zip(patterns.template_ids, patterns.levels, strict=False) if level}
        return Scorer(Reference.of_night(rows, patterns.counted), Templates(text, level))

    def table(self, events: tuple[Events, ...]) -> pa.Array:
        """Return events over the reference's templates as the history reads them."""
        names = self.reference.template_ids
        return pa.array([[{"template_id": names[row], "count": count} for row, count in own] for own in events], EVENTS)

    def rows(self, patterns: Patterns) -> Multisets:
        """Return patterns over the same templates as the history reads them."""
        return self.scorer.channels.read(self.table(patterns.events))

    def see(self, patterns: Patterns) -> np.ndarray:
        """Return the features (n, 16) float64 of patterns over the same templates, in the order of NAMES."""
        return features(self.scorer, self.rows(patterns), self.sizes)

    @cached_property
    def sizes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Mean and spread of templates, and of events (by powers of two), over the reference's sessions."""
        known, sessions = self.scorer.channels.known, self.scorer.channels.sessions
        found = []
        for value in (np.diff(known.starts), np.bincount(known.row, weights=known.level, minlength=len(known))):
            mean = float(np.average(value, weights=sessions)) if sessions.sum() else 0.0
            spread = float(np.sqrt(np.average((value - mean) ** 2, weights=sessions))) if sessions.sum() else 1.0
            found.append((mean, spread + 0.05 * abs(mean) + 1e-6))
        return found[0], found[1]


def features(scorer: Scorer, rows: Multisets, sizes: tuple[tuple[float, float], tuple[float, float]]) -> np.ndarray:
    """Return the features (n, 16) of patterns, in the order of NAMES. Args: sizes, see `View.sizes`."""
    scored, channels, n = scorer.score(rows), scorer.channels, len(rows)
    place = channels.place(rows)
    counted = [np.diff(rows.starts), np.bincount(rows.row, weights=rows.level, minlength=n)]
    relative = [np.clip((value - mean) / spread / 2, -LIMIT, LIMIT) for value, (mean, spread) in zip(counted, sizes, strict=True)]
    new = np.bincount(rows.row, weights=place >= len(channels.known.template_ids), minlength=n)
    rare = np.bincount(rows.row, weights=channels.presence[place] < RARE, minlength=n)
    tail = np.minimum(scored.tail, LONGEST_TAIL)
    columns = [scored.words, scored.level, tail, scored.score, scored.suspicion, *relative, np.minimum(new, MOST_NEW)]
    columns += [np.minimum(rare, MOST_RARE) / 4, scored.unlikeness.min(axis=1), scored.unlikeness.mean(axis=1)]
    return np.column_stack([scored.unlikeness, *columns, np.maximum(scored.words, scored.level) * tail])
