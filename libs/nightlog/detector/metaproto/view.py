"""A system as the network sees it: features of its patterns, put on the system's own scale without any label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nightlog.detector.metaproto.features import features
from nightlog.detector.metaproto.reference import Reference
from nightlog.detector.metaproto.table import NAMES
from nightlog.detector.patterns import Patterns

LIMIT, FLOOR = 5.0, 0.05
STRUCTURAL = 2.0


@dataclass(frozen=True)
class View:
    """Mean and standard deviation of the features over a system's sessions; both (80 + d,)."""

    reference: Reference
    mean: np.ndarray
    spread: np.ndarray

    @staticmethod
    def of(patterns: Patterns) -> View:
        """Return a view scaled by what is usual in these patterns; a feature that hardly varies is not blown up."""
        reference = Reference.of(patterns)
        raw = features(patterns, reference).astype(float)
        mean = (raw * reference.weight[:, None]).sum(axis=0) / reference.total
        spread = np.sqrt((((raw - mean) ** 2) * reference.weight[:, None]).sum(axis=0) / reference.total)
        varied = spread[spread > 0]
        return View(reference, mean, spread + (FLOOR * float(np.median(varied)) if len(varied) else 1.0))

    def over(self, template_ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray) -> View:
        """The same scale over more templates: these stand behind the known ones, and no session of the reference has them."""
        known = self.reference.patterns
        more = replace(
            known,
            template_ids=(*known.template_ids, *template_ids),
            texts=(*known.texts, *texts),
            vectors=np.concatenate([known.vectors, vectors.astype(np.float32).reshape(len(texts), known.vectors.shape[1])]),
        )
        return replace(self, reference=Reference.of(more))

    def see(self, patterns: Patterns) -> np.ndarray:
        """Standardised features (n, 80 + d) float32 of patterns over the same templates, within ±5."""
        raw = features(patterns, self.reference)
        return np.asarray(np.clip((raw - self.mean) / self.spread, -LIMIT, LIMIT), dtype=np.float32)


def scaled(x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The chosen columns: the structural ones stretched to twice their size, and all together weighing what they did before."""
    weight = np.where(chosen < len(NAMES), STRUCTURAL, 1.0)
    return np.ascontiguousarray(x[:, chosen] * (weight / np.sqrt(max(1e-9, float((weight**2).mean())))), dtype=np.float32)
