"""The rules of bronze.lines and of the tables of ops: broken rows are counted, and any non-zero count is a breach.

bronze.labels has no rule here: nothing but the evaluation reads labels, and it refuses wrong ones with their line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from nightlog.lake.lake import Lake
from nightlog.lake.parts import Part, count_nulls, read_part
from nightlog.lake.tables import ANSWERS, APPROVALS, HANDOFFS, LINES_TABLE, LLM_BATCHES, LLM_CALLS, MODELS, OUTCOMES, QUARANTINE, TableSpec
from nightlog.quality.gates import Breach, broken_rules, check_sums, stop_on_critical

# Bytes of text that take as long to read as a line's number.
NUMBER_BYTES = 4
LINES = {
    "lines_other_than_were_read": "critical",
    "lines_without_file_number_or_text": "critical",
    "files_not_numbered_from_1_on": "critical",
}


class FileSums(NamedTuple):
    """The line numbers of a file in one part: how many, the least, the greatest and their sum."""

    file: str
    n: int
    first: int
    last: int
    total: int


class PartSums(NamedTuple):
    """The files of a part of bronze.lines, and its rows with a null in one of the columns."""

    files: list[FileSums]
    n_null: int


def sums_of(rows: pa.Table, n_null: int = 0) -> PartSums:
    """Return the sums of a part. Args: rows: its file and line_no."""
    asked = ("count", "min", "max", "sum")
    found = rows.group_by("file").aggregate([("line_no", name) for name in asked]).to_pylist()
    return PartSums([FileSums(row["file"], *(row[f"line_no_{name}"] or 0 for name in asked)) for row in found], n_null)


def sum_part(part: Part, root: str) -> PartSums:
    """One task: return the sums of a part of bronze.lines."""
    n_null = count_nulls(root, LINES_TABLE, part.path, ["file", "line_no", "text"])
    return sums_of(read_part(root, LINES_TABLE, part.path, ["file", "line_no"]), n_null)


def line_faults(parts: Iterable[PartSums], n_read: int) -> dict[str, int]:
    """Return the faults in a night's lines, by the names in LINES.

    Args: parts: the sums of each part of the slice; n_read: the lines that were read from the files.
    """
    files: dict[str, list[FileSums]] = {}
    wrong = n_lines = n_null = 0
    for part in parts:
        n_null += part.n_null
        for sums in part.files:
            files.setdefault(sums.file, []).append(sums)
    for found in files.values():
        n = sum(each.n for each in found)
        n_lines += n
        ends = min(each.first for each in found), max(each.last for each in found), sum(each.total for each in found)
        wrong += ends != (1, n, n * (n + 1) // 2)
    return {
        "lines_other_than_were_read": abs(n_lines - n_read),
        "lines_without_file_number_or_text": n_null,
        "files_not_numbered_from_1_on": wrong,
    }


def check_lines(lake: Lake, system: str, ds: str, n_read: int) -> None:
    """The gate on lines that were written: each line that was read is there, once. Raises GateFailed.

    Args: n_read: the lines that were read from the night's files.
    """
    parts = lake.parts(LINES_TABLE, system=system, ds=ds)
    sums = lake.runner.run(parts, partial(sum_part, root=lake.root), NUMBER_BYTES * sum(part.n_rows for part in parts))
    faults = check_sums(line_faults(sums, n_read), LINES)
    stop_on_critical(system, ds, faults, f"Run the night again: it replaces its slice of {LINES_TABLE.name}")


def not_json(rows: pa.Table) -> pa.Array:
    """Return a mask of the rows that were set aside and are not a JSON object."""
    return pa.array([not is_object(text) for text in rows.column("row").to_pylist()], pa.bool_())


def is_object(text: str | None) -> bool:
    """Return True if a text is a JSON object.

    >>> is_object("{}"), is_object("[]"), is_object(None)
    (True, False, False)
    """
    try:
        return isinstance(json.loads(text or ""), dict)
    except ValueError:
        return False


def other_digest(rows: pa.Table) -> pa.Array:
    """Return a mask of the models whose version is not the beginning of their digest."""
    pairs = zip(rows.column("sha256").to_pylist(), rows.column("version").to_pylist(), strict=True)
    return pa.array([not re.fullmatch(r"[0-9a-f]{64}", digest or "") or digest[:16] != version for digest, version in pairs], pa.bool_())


def serving_twice(rows: pa.Table) -> pa.Array:
    """Return a mask of the models that serve a system beside another one."""
    promoted = [status == "promoted" for status in rows.column("status").to_pylist()]
    systems = rows.column("system").to_pylist()
    serving = Counter(system for system, serves in zip(systems, promoted, strict=True) if serves)
    return pa.array([serves and serving[system] > 1 for system, serves in zip(systems, promoted, strict=True)], pa.bool_())


def repeated_outcomes(rows: pa.Table) -> pa.Array:
    """Return a mask of the outcomes that are there more than once."""
    keys = list(zip(*(rows.column(name).to_pylist() for name in OUTCOMES.key), strict=True))
    known = Counter(keys)
    return pa.array([known[key] > 1 for key in keys], pa.bool_())


class RowRule(NamedTuple):
    """A rule that spans several columns or rows, or needs more than a bound: a mask of the rows that break it."""

    text: str
    broken: Callable[[pa.Table], pa.Array]
    severity: str


# Critical is what decides about sessions, or lets a night through: a wrong row of it would decide wrongly on every night.
ROW_RULES = {
    OUTCOMES.name: (RowRule("place, expected each run, system, stage and time once", repeated_outcomes, "warning"),),
    QUARANTINE.name: (RowRule("row, expected a JSON object", not_json, "warning"),),
    MODELS.name: (
        RowRule("sha256, expected one that begins with the version", other_digest, "critical"),
        RowRule("status, expected one promoted model per system", serving_twice, "critical"),
    ),
}
OF_THE_NIGHT = (OUTCOMES, LLM_CALLS, QUARANTINE, APPROVALS, HANDOFFS)
OF_ALL_NIGHTS = (LLM_BATCHES, ANSWERS, MODELS)


def unsound_rows(spec: TableSpec, rows: pa.Table) -> dict[str, list[Breach]]:
    """Return system → the rules of a table that its rows break; rows of no system are under ``""``."""
    broken: list[tuple[str, pa.Array, str]] = [
        (f"{column.name}, expected {rule.expected}", mask, rule.severity) for column, rule, mask in broken_rules(spec, rows)
    ]
    broken += [(rule.text, rule.broken(rows), rule.severity) for rule in ROW_RULES.get(spec.name, ())]
    systems = rows.column("system").to_pylist() if "system" in rows.column_names else [None] * len(rows)
    found: dict[str, list[Breach]] = {}
    for text, mask, severity in broken:
        for system, n in Counter(system or "" for system, is_broken in zip(systems, mask.to_pylist(), strict=True) if is_broken).items():
            found.setdefault(system, []).append(Breach(severity, f"{spec.name}: {n:,} {'row' if n == 1 else 'rows'} with a wrong {text}"))
    return found


def unsound_ops(lake: Lake, ds: str) -> dict[str, list[Breach]]:
    """Return system → breaches in the tables of ops that decide its night or report it; under ``""`` those of every system."""
    found: dict[str, list[Breach]] = {}
    for spec in (*OF_THE_NIGHT, *OF_ALL_NIGHTS):
        columns = [column.name for column in spec.columns if isinstance(column.type, str) and column.name != "asked"]
        rows = lake.arrow(spec, columns, **({"ds": ds} if spec in OF_THE_NIGHT else {}))
        for system, breaches in unsound_rows(spec, rows).items():
            found.setdefault(system, []).extend(breaches)
    return found
