"""Pieces of a buffer of bytes as strings, copied by whole pieces instead of byte by byte."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa

BLOCK = 1 << 17  # bytes that are worked on together: they fit into a processor's cache


def windows(data: np.ndarray, length: int) -> np.ndarray:
    """Return the bytes of each window of a length, (n - length + 1,) items that share the buffer's memory."""
    return np.ndarray((max(0, len(data) - length + 1),), dtype=f"V{length}", buffer=data, strides=(1,))


def pieces(data: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> pa.StringArray:
    """Return pieces of a buffer as strings. Pieces of one length are copied together.

    Args: begins, lengths: (n,) where each piece begins, and its number of bytes.
    """
    order = np.argsort(lengths.astype(np.uint16) if lengths.max(initial=0) < 1 << 16 else lengths, kind="stable")
    ordered, begins = lengths[order], begins[order]
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(ordered, out=offsets[1:])
    content = np.empty(offsets[-1], dtype=np.uint8)
    bounds = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1))
    for begin, end in itertools.pairwise(bounds.tolist()):
        if length := int(ordered[begin]):
            content[offsets[begin] : offsets[end]] = windows(data, length)[begins[begin:end]].view(np.uint8)
    found = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(content))
    if len(bounds) <= 2:
        return found
    place = np.empty(len(lengths), dtype=np.int64)
    place[order] = np.arange(len(lengths))
    return found.take(pa.array(place))
