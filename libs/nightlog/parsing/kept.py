"""A night whose lines were parsed before, by the same rules, keeps its events and counts when it is run again.

The row of silver.readings decides: it names the lines, the rules, the files that were written from them, and the templates of their
messages. A table that was restored to another version, or lost a file, does not fit the row, and the lines are parsed again. Sessions and
patterns are always grouped again: they depend on other nights as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nightlog.lake.lookup import message_templates
from nightlog.lake.parts import Part, are_there, names_hash, read_part
from nightlog.lake.tables import COUNTS_TABLE, EVENTS_TABLE, LINES_TABLE, NUMBERS, TEMPLATE_COUNTS

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.parsing.readings import Readings
    from nightlog.systems.spec import System

# The tables that hold what was made from the lines of a day alone.
OF_LINES = (EVENTS_TABLE, COUNTS_TABLE, TEMPLATE_COUNTS, NUMBERS)
# Bytes of text that take as long to parse as to read the message id of an event.
ID_BYTES = 4


def note_parsed(lake: Lake, system: System, ds: str, readings: Readings, tally: dict[str, int], messages: str | None) -> None:
    """Note what was made from a day's lines, so that another run can keep it.

    Args:
        tally: the counts of the day.
        messages: `templates_hash` of its messages.
    """
    parts = [part for spec in OF_LINES for part in lake.parts(spec, system=system.name, ds=ds)]
    readings.put(ds, replace(readings.rows[ds], tally=tally, messages=messages, parts=names_hash(parts)))


def kept_tally(lake: Lake, system: System, ds: str, readings: Readings) -> dict[str, int] | None:
    """Return the counts of a night whose events can be kept, None if its lines have to be parsed."""
    row = readings.rows.get(ds)
    if row is None or row.tally is None or ds not in lake.nights(LINES_TABLE, system.name) or readings.outdated([ds]):
        return None
    parts = {spec.name: lake.parts(spec, system=system.name, ds=ds) for spec in OF_LINES}
    if row.parts != names_hash(part for of_table in parts.values() for part in of_table):
        return None
    if not all(are_there(lake.root, spec, parts[spec.name]) for spec in OF_LINES):
        return None
    ids = ids_in(lake, parts[EVENTS_TABLE.name]).tolist()
    if row.messages is None or row.messages != templates_hash(message_templates(lake, system.name), ids):
        return None
    return row.tally


def ids_in(lake: Lake, events: Sequence[Part]) -> np.ndarray:
    """Return the message ids of parts of silver.events, in order, each once."""
    found = lake.runner.run(events, partial(ids_in_part, root=lake.root), ID_BYTES * sum(part.n_rows for part in events))
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))


def ids_in_part(part: Part, root: str) -> np.ndarray:
    """One task: return the message ids of a part of silver.events, in order, each once."""
    return np.unique(read_part(root, EVENTS_TABLE, part.path, ["message_id"]).column("message_id").to_numpy())


def templates_hash(templates: Mapping[int, str], ids: Iterable[int]) -> str | None:
    """Return 16 hex digits of the templates of some messages, None if one of them has none. Args: templates: message id → template id."""
    assigned = [(number, templates.get(number)) for number in sorted(set(ids))]
    if any(name is None for _, name in assigned):
        return None
    return hashlib.sha256(json.dumps(assigned).encode()).hexdigest()[:16]
