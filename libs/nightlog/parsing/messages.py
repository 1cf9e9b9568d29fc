"""Masked messages: their ids, and the bound on how many distinct ones a system has.

New messages beyond the bound are read as wildcards alone, one for each word, and share a template per number of words. The first ones in
the order of their texts are within it. What is not among the first in one task is not among them in all tasks together, so a task keeps
the first of its own and maps the others itself. The templates of a night do not depend on how its lines are cut into tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import xxhash

from nightlog.lake.tables import MESSAGES
from nightlog.templates.miner import catch_all, is_catch_all, template_id

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.systems.spec import System

# By its id, a message's text and the first night that has it.
Messages = dict[int, tuple[str, str]]

SPARK_SEED = 42


def spark_hash(text: str) -> int:
    """Return what Spark's xxhash64 gives for a string; the id of a masked message."""
    number: int = xxhash.xxh64_intdigest(text.encode(), seed=SPARK_SEED)
    return number - (1 << 64) if number >= 1 << 63 else number


@dataclass(frozen=True)
class MessageCap:
    """The bound on the distinct messages of a system.

    `known`: (n,) int64 ids of its messages so far, in order; `room`: so many new ones may have a text of their own.
    """

    known: np.ndarray
    room: int

    @staticmethod
    def of(lake: Lake, system: System) -> MessageCap:
        """Return the bound of a system as the lake is now."""
        known = np.sort(lake.arrow(MESSAGES, ["message_id"], system=system.name).column("message_id").to_numpy())
        return MessageCap(known, max(0, system.templates.messages - len(known)))

    def beyond(self, messages: Messages) -> list[int]:
        """Return the ids of those new messages that are not among the first `room` of them; no catch-all is one of them."""
        if len(messages) <= self.room:
            return []
        ids = np.fromiter(messages, np.int64, len(messages))
        new = ids[~np.isin(ids, self.known)].tolist()
        texts = sorted((messages[number][0], number) for number in new if not is_catch_all(messages[number][0]))
        return [number for _, number in texts[self.room :]]

    def shorten(self, messages: Messages) -> None:
        """Make wildcards of the texts of messages beyond the bound. Their ids stay: events of several tasks name them."""
        for number in self.beyond(messages):
            text, ds = messages[number]
            messages[number] = catch_all(len(text.split())), ds


def with_ids(rows: pa.Table, to: Mapping[int, int]) -> pa.Table:
    """Return rows with some message ids replaced. Args: to: old id → new id."""
    old = np.sort(np.fromiter(to, np.int64, len(to)))
    new = np.array([to[number] for number in old.tolist()], dtype=np.int64)
    ids = rows.column("message_id").to_numpy()
    at = np.minimum(np.searchsorted(old, ids), len(old) - 1)
    place = rows.column_names.index("message_id")
    return rows.set_column(place, "message_id", pa.array(np.where(old[at] == ids, new[at], ids), pa.int64()))


def catch_all_ids(system: System, messages: Messages, templates: Mapping[int, str]) -> pa.Array:
    """Return the ids of those messages that belong to a catch-all. Args: templates: message id → template id."""
    names: dict[int, str] = {}
    found = []
    for number, (text, _) in messages.items():
        n_words = len(text.split())
        if n_words not in names:
            names[n_words] = template_id(system.name, catch_all(n_words))
        if templates[number] == names[n_words]:
            found.append(number)
    return pa.array(found, pa.int64())
