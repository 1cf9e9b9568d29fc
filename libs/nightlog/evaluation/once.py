"""Values that several cells of the benchmark share, computed once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from nightlog.detector.patterns import Patterns

T = TypeVar("T")
KEPT = 64

_kept: dict[str, object] = {}


def once(name: str, seed: int, patterns: Sequence[Patterns], make: Callable[[], T]) -> T:
    """Return what `make` gives for these patterns, their labels where they are a source's, and this seed; it is made the first time.

    `name` says what it is: whatever else it depends on must be in there.
    """
    digest = hashlib.sha256(f"{name}\0{seed}".encode())
    for part in patterns:
        digest.update("\0".join((part.name, *part.ids)).encode())
        for array in (part.vectors, part.sessions, getattr(part, "anomalous", np.zeros(0))):
            digest.update(np.ascontiguousarray(array).tobytes())
    key = digest.hexdigest()
    if key not in _kept:
        while len(_kept) >= KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = make()
    return _kept[key]  # type: ignore[return-value]
