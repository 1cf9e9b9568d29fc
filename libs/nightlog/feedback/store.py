"""The statements of analysts (answers, labels, suppressions): kept once, with their author, taken back by a row of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from nightlog.errors import NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, AnswerRow

Kind = Literal["answer", "label", "suppression"]
About = Literal["group", "pattern", "template"]
Key = tuple[str, Kind, About, str]
SUPPRESSED = "suppressed"


class Statement(TypedDict):
    """A statement as people read it: `holds` if it is in force, else `why` not; `label` with the end of a suppression."""

    at: datetime
    by: str
    system: str
    about: About
    target: str
    what: str | None
    label: str
    note: str | None
    session_id: str | None
    ds: str | None
    holds: bool
    why: str | None


class Remark(TypedDict, total=False):
    """A note of the analyst, the session that was pointed at with its night, and the text of a template."""

    session_id: str | None
    ds: str | None
    note: str | None
    name: str | None


def key_of(row: Mapping[str, Any]) -> Key:
    """Return the key of a row: rows of one key replace each other. Rows of old lakes without a kind are answers about groups."""
    return row["system"], row.get("kind") or "answer", row.get("about") or "group", row["group"]


def in_time(rows: Iterable[AnswerRow]) -> list[AnswerRow]:
    """Return rows in the order in which they were made."""
    return sorted(rows, key=lambda row: (row["answered_at"], row["group"]))


def current_statements(rows: Iterable[AnswerRow]) -> list[AnswerRow]:
    """Return the statements in force, oldest first: the last of each key, unless it took an earlier one back."""
    last = {key_of(row): row for row in in_time(rows)}
    return in_time(row for row in last.values() if row["label"] is not None)


def record(lake: Lake, row: AnswerRow) -> tuple[AnswerRow, bool]:
    """Keep a statement, unless the same one is in force. Returns the row in force, and True if it is new.

    The same: about the same thing, with the same label and end, and with no other note.
    """
    for before in current_statements(lake.rows(ANSWERS, system=row["system"])):
        if key_of(before) == key_of(row):
            same = (before["label"], before.get("until")) == (row["label"], row.get("until"))
            if same and row.get("note") in (None, before.get("note")):
                return before, False
    lake.append(ANSWERS, [row])
    return row, True


def take_back(
    lake: Lake, kind: Kind, about: About, target: str, by: str, now: datetime, system: str = "", note: str | None = None
) -> AnswerRow:
    """Take back the statement about a target; the rows of both stay. Returns the new row. Raises: NotThere without such a statement."""
    for row in current_statements(lake.rows(ANSWERS)):
        if key_of(row)[1:] == (kind, about, target) and system in ("", row["system"]):
            taken_back = row | {"label": None, "answered_by": by, "answered_at": now, "note": note}
            lake.append(ANSWERS, [taken_back])
            return taken_back
    advice = "`nightlog questions --answered` lists those that do" if kind == "answer" else "`nightlog feedback` lists those that do"
    raise NotThere(f"no {kind} about {about} `{target}` stands: {advice}")


def label_row(system: str, pattern_id: str, label: str, by: str, now: datetime, **more: Unpack[Remark]) -> AnswerRow:
    """Return a label on a pattern: `label` normal or anomalous."""
    row = AnswerRow(system=system, kind="label", about="pattern", group=pattern_id, questions=[pattern_id], label=label)
    return {**row, "answered_by": by, "answered_at": now, **more}


def suppression_row(system: str, about: About, target: str, until: str, by: str, now: datetime, **more: Unpack[Remark]) -> AnswerRow:
    """Return a suppression of a pattern or a template up to the night `until`, included."""
    row = AnswerRow(system=system, kind="suppression", about=about, group=target, label=SUPPRESSED, until=until)
    return {**row, "answered_by": by, "answered_at": now, **more}


@dataclass(frozen=True)
class Suppressions:
    """The suppressions of a system on a night: rows by pattern id, and by template id."""

    patterns: Mapping[str, AnswerRow] = field(default_factory=dict)
    templates: Mapping[str, AnswerRow] = field(default_factory=dict)

    def of(self, pattern_id: str, templates: Iterable[str], ordinary: set[str]) -> AnswerRow | None:
        """Return the suppression that hides an anomaly of a pattern, None without one.

        A template's suppression hides an anomaly only where all else in it is suppressed too or `ordinary`, which is what the night's
        normal patterns are made of: so that trouble beside it is still seen.

        >>> rows = Suppressions(templates={"t-noise": {"group": "t-noise"}})
        >>> rows.of("p", ["t-noise", "t-open"], {"t-open"}) is not None, rows.of("p", ["t-noise", "t-lost"], {"t-open"}) is not None
        (True, False)
        """
        if pattern_id in self.patterns:
            return self.patterns[pattern_id]
        own = sorted(set(templates))
        known = [self.templates[name] for name in own if name in self.templates]
        if known and all(name in self.templates or name in ordinary for name in own):
            return known[0]
        return None


def suppressions(rows: Iterable[AnswerRow], ds: str) -> Suppressions:
    """Return the suppressions in force for the night `ds`. Args: rows of ops.answers of one system."""
    found = [row for row in current_statements(rows) if key_of(row)[1] == "suppression" and ds <= (row["until"] or "")]
    by = {about: {row["group"]: row for row in found if row["about"] == about} for about in ("pattern", "template")}
    return Suppressions(by["pattern"], by["template"])


def history(rows: Iterable[AnswerRow], today: str) -> list[Statement]:
    """Return all statements, newest first; a row that took one back is reported with it.

    Args: today, YYYY-MM-DD, by which a suppression may be over.
    """
    after: dict[Key, AnswerRow] = {}
    found: list[Statement] = []
    for row in reversed(in_time(rows)):
        later, after[key_of(row)] = after.get(key_of(row)), row
        if row["label"] is None:
            continue
        why = None
        if later is not None:
            verb = "taken back" if later["label"] is None else "replaced"
            why = f"{verb} by {later['answered_by']} on {later['answered_at']:%Y-%m-%d}"
        elif (until := row.get("until")) and until < today:
            why = f"the night of {until} is over"
        _, _, about, target = key_of(row)
        found.append(
            {
                "at": row["answered_at"],
                "by": row["answered_by"],
                "system": row["system"],
                "about": about,
                "target": target,
                "what": row["name"],
                "label": row["label"] + (f" until {row['until']}" if row.get("until") else ""),
                "note": row.get("note"),
                "session_id": row.get("session_id"),
                "ds": row.get("ds"),
                "holds": why is None,
                "why": why,
            }
        )
    return found


def statement(row: Mapping[str, Any]) -> str:
    """Return a statement in words, as the reason of an anomaly.

    >>> row = {"answered_by": "kim", "answered_at": datetime(2026, 3, 4), "label": "anomalous", "name": "fan stopped", "group": "1f"}
    >>> statement(row)
    'kim answered on 2026-03-04 that this is anomalous: fan stopped (group 1f)'
    >>> statement(row | {"kind": "label", "session_id": "s7", "note": "asked Lee"})
    'kim labelled session s7 anomalous on 2026-03-04, and with it all of its kind: asked Lee'
    """
    day = f"{row['answered_at']:%Y-%m-%d}"
    note = f": {row['note']}" if row.get("note") else ""
    if row.get("kind") == "suppression":
        about = f" (its template {row['name']})" if row["about"] == "template" else ""
        return f"suppressed until {row['until']} by {row['answered_by']} on {day}{about}{note}"
    if row.get("kind") == "label":
        what = f"session {row['session_id']}" if row.get("session_id") else "a pattern"
        return f"{row['answered_by']} labelled {what} {row['label']} on {day}, and with it all of its kind{note}"
    name = f": {row['name']}" if row["name"] else ""
    more = f"; {row['note']}" if row.get("note") else ""
    return f"{row['answered_by']} answered on {day} that this is {row['label']}{name} (group {row['group']}){more}"
