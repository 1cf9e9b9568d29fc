"""Template vectors of the benchmark: the nightly job's encoder, in this process, kept from run to run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nightlog.encoding.encoder import DIMENSIONS, ENCODER, make_encoder, plain_text


class KeptVectors:
    """Encodes texts; a file in `folder` keeps what was encoded before. The encoder is loaded when it is first needed."""

    def __init__(self, folder: Path, device: str = "cpu"):
        self._folder = folder
        self._device = device

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, 384) float32 of unit norm, row i that of text i."""
        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        content = "\0".join([ENCODER, *(plain_text(text) for text in texts)])
        path = self._folder / f"vectors-{hashlib.sha256(content.encode()).hexdigest()[:16]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
        vectors = make_encoder(self._device)(np.array(texts, dtype=object)).astype(np.float32)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, vectors)
        partial.replace(path)
        return vectors
