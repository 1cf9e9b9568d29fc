"""Lines that are rows of a table: W3C extended logs and Zeek's, and tables with a delimiter (RFC 4180)."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence

from nightlog.onboarding.columns import SEVERITY
from nightlog.onboarding.formats import Ready
from nightlog.onboarding.timestamps import form_of, scan

MOSTLY = 0.8


def recognise(lines: Sequence[str]) -> Ready | None:
    """Return the format of the table that nearly all lines are rows of, None if there is none."""
    full = [line for line in lines if line.strip()]
    return w3c(full) or table(full)


def w3c(lines: Sequence[str]) -> Ready | None:
    """W3C extended logs and Zeek's: a line `#Fields:` names the columns. What stands from method to query is the message."""
    head = next((line for line in lines if re.match(r"#fields[:\t]", line, re.I)), None)
    if head is None:
        return None
    tabs = "\t" in head
    names = head.split("\t")[1:] if tabs else head.split()[1:]
    column = r"[^\t]*" if tabs else r"[^ ]+"
    plain = [re.sub(r"\W+", "_", name).strip("_").lower() or "column" for name in names]
    plain = [name if name not in plain[:n] else f"{name}_{n + 1}" for n, name in enumerate(plain)]
    if "date" in plain and "time" in plain:
        value, form, times = "{date} {time}", "yyyy-MM-dd H:m:s[.SSS]", {"date", "time"}
    elif "time" in plain:
        value, form, times = "{ds} {time}", "yyyy-MM-dd H:m:s[.SSS]", {"time"}
    elif "ts" in plain:
        value, form, times = "{ts}", "epoch", {"ts"}
    else:
        return None
    first = next((n for n, name in enumerate(plain) if name in ("cs_method", "method")), None)
    if first is None:
        first = max((n for n, name in enumerate(plain) if name in times or name in ("uid", "id_orig_h", "id_resp_p")), default=-1) + 1
        last = len(plain) - 1
    else:
        near = [n for n in range(first, min(first + 4, len(plain))) if n < first + 3 or plain[n] in ("cs_uri_query", "sc_status")]
        last = near[-1]
    if first >= len(plain):
        return None
    end = plain.index("sc_status") if "sc_status" in plain[last + 1 :] else None
    named = ["message_end" if n == end else name if re.match("[a-z]", name) else f"c_{name}" for n, name in enumerate(plain)]
    groups = [f"(?P<{name}>{column})" for name in named]
    gap = r"\t" if tabs else " "
    message = f"(?P<message>{gap.join([column] * (last - first + 1))})"
    pattern = gap.join([*groups[:first], message, *groups[last + 1 :]]) + r"\s*"
    good = sum(re.fullmatch(pattern, line, re.ASCII) is not None for line in lines if not line.startswith("#"))
    status = end is not None or plain[last] == "sc_status"
    return Ready("W3C", pattern, form, value, status=status) if good >= MOSTLY * sum(not line.startswith("#") for line in lines) else None


def table(lines: Sequence[str]) -> Ready | None:
    """A table with a delimiter, as spreadsheets and Windows write: cells in quotes, or a first line of names."""
    tables = []
    for delimiter in ("\t", ";", ","):
        try:
            rows = list(csv.reader(lines, delimiter=delimiter))
        except csv.Error:  # a carriage return within a line, or a cell without an end
            continue
        width, n = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if width < 4 or n < 0.95 * len(lines) or len(rows) != len(lines):
            continue
        header = rows[0] if is_header(rows[0], rows[1:]) else []
        quoted = sum(line.lstrip().startswith('"') for line in lines) >= 0.5 * len(lines)
        if (header or quoted) and (found := columns_of([row for row in rows if len(row) == width], header, lines, delimiter)):
            tables.append((width, found))
    return max(tables, key=lambda each: each[0])[1] if tables else None


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a first row holds names: words, all different, none of which stands in its column again."""
    return (
        len(set(first)) == len(first)
        and all(re.fullmatch(r"[A-Za-z][\w .()/-]*", cell) for cell in first)
        and not any(row[: len(first)] == list(first) for row in rows[:1])
        and not any(scan(cell) for cell in first)
    )


def columns_of(rows: Sequence[Sequence[str]], header: Sequence[str], lines: Sequence[str], delimiter: str) -> Ready | None:
    """The table's pattern: its time is the column that holds stamps, its message the one with the most words."""
    body = rows[1:] if header else rows
    columns = list(zip(*body, strict=True))
    if not body:
        return None
    words = [sum(len(cell.split()) for cell in cells) / len(cells) for cells in columns]
    message = max(range(len(columns)), key=lambda n: words[n])
    times = [n for n, cells in enumerate(columns) if sum((s := scan(c)) is not None and s.end == len(c) for c in cells) >= 0.9 * len(cells)]
    names: list[str] = []
    for n, cells in enumerate(columns):
        name = re.sub(r"\W+", "_", header[n]).strip("_").lower() if header else ""
        name = "message" if n == message else "time" if times[:1] == [n] else name
        level = not header and sum(SEVERITY.fullmatch(c) is not None for c in cells) >= 0.9 * len(cells)
        if n != message and (level or name in ("severity", "loglevel", "log_level")) and "level" not in names:
            name = "level"
        name = name if re.fullmatch(r"[a-z]\w*", name) else f"column{n + 1}"
        names.append(name if name not in names and (name != "message" or n == message) else f"{name}_{n + 1}")
    d = re.escape(delimiter) if delimiter != "\t" else r"\t"
    cells_in_quotes = [quoting(lines[1 if header else 0 :], delimiter, n) for n in range(len(columns))]
    inner = r'[^"]*(?:""[^"]*)*'
    shape = {"always": rf'"(?P<{{}}>{inner})"', "never": rf"(?P<{{}}>[^{d}]*)", "mixed": rf'(?P<{{}}>"{inner}"|[^{d}]*)'}
    pattern = d.join(shape[cells_in_quotes[n]].replace("{}", name) for n, name in enumerate(names))
    form = form_of([s for c in columns[times[0]] if (s := scan(c))]) if times else None
    return Ready("table", pattern, form[0].format if form else "")


def quoting(lines: Sequence[str], delimiter: str, column: int) -> str:
    """Return whether a column's cells stand in quotes: always, never or mixed."""
    cell = rf'(?:"[^"]*(?:""[^"]*)*"|[^{re.escape(delimiter)}]*)'
    before = re.compile(rf"(?:{cell}{re.escape(delimiter)}){{{column}}}(\"?)")
    marks = [bool(found[1]) for line in lines if (found := before.match(line))]
    return "always" if all(marks) else "mixed" if any(marks) else "never"
