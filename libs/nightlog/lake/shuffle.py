"""A shuffle on one machine: values of many tasks are kept in a file until all values of a key are needed.

Spark's shuffle does the same on a cluster, see `Runner.run_shuffled`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import IO, NamedTuple, TypeVar

Task = TypeVar("Task")
Value = TypeVar("Value")
Result = TypeVar("Result")

CODEC = "zstd"


class Packed(NamedTuple):
    """Values of one key, pickled and compressed, and the number of bytes when they are not compressed."""

    data: bytes
    size: int


class Place(NamedTuple):
    """The bytes of one `Packed` in the file."""

    offset: int
    length: int
    size: int


class Shuffle(Sequence[tuple[int, list[Packed]]]):
    """A sequence of keys, each with its values, which are read from a file when a key is asked for.

    Args: file: open for writing and reading, empty.
    """

    def __init__(self, n_keys: int, file: IO[bytes]):
        self.places: list[list[Place]] = [[] for _ in range(n_keys)]
        self.file = file

    def add(self, values: dict[int, Packed]) -> None:
        """Add the values of one task, by key."""
        for key, (data, size) in values.items():
            self.places[key].append(Place(self.file.tell(), len(data), size))
            self.file.write(data)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: int) -> tuple[int, list[Packed]]:  # type: ignore[override]  # slices are not needed
        found = []
        for place in self.places[key]:
            self.file.seek(place.offset)
            found.append(Packed(self.file.read(place.length), place.size))
        return key, found


def split_task(task: Task, split: Callable[[Task], Iterable[tuple[int, Value]]]) -> dict[int, Packed]:
    """Cut a task into values with keys. Returns the values of each key."""
    import pyarrow as pa

    values: dict[int, list[Value]] = {}
    for key, value in split(task):
        values.setdefault(key, []).append(value)
    found = {}
    for key in list(values):
        plain = pickle.dumps(values.pop(key), pickle.HIGHEST_PROTOCOL)
        found[key] = Packed(pa.compress(plain, CODEC, asbytes=True), len(plain))
    return found


def work_on_values(given: tuple[int, list[Packed]], work: Callable[[int, Iterable[Value]], Result]) -> Result:
    """Work on a key and all its values."""
    import pyarrow as pa

    key, packed = given
    return work(key, (value for data, size in packed for value in pickle.loads(pa.decompress(data, size, CODEC, asbytes=True))))
