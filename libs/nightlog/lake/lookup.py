"""Look sessions, patterns and templates up by the ids and texts that people read. No Spark."""

from __future__ import annotations

from typing import Any, NamedTuple

from nightlog.errors import NotThere, UsageError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MESSAGES, PATTERNS, SESSIONS, TEMPLATES, TableSpec
from nightlog.systems.catalog import nearest

ADVICE = (
    "`nightlog query 'select * from silver.sessions'` has those that were judged; sessions that begin in the last minutes of a day are "
    "judged with the next night"
)


class PatternNight(NamedTuple):
    """A pattern on a night of a system; `session_id` where it was found by one of its sessions."""

    system: str
    ds: str
    pattern_id: str
    session_id: str | None


def find_session(lake: Lake, session_id: str, system: str = "", ds: str = "") -> PatternNight:
    """The session, on its last night where no night is given. Raises: NotThere if there is none, UsageError if several systems have it."""
    found = last_of(lake, SESSIONS, "session_id", session_id, system, ds)
    if not found:
        raise NotThere(f"no session `{session_id}`{searched_place(lake, system, ds)} in {lake.root}: {ADVICE}")
    return PatternNight(found["system"], found["ds"], found["pattern_id"], session_id)


def find_target(lake: Lake, target: str, system: str = "", ds: str = "") -> PatternNight:
    """As `find_session`, of a session or of a pattern. Raises: NotThere, UsageError."""
    if found := last_of(lake, SESSIONS, "session_id", target, system, ds):
        return PatternNight(found["system"], found["ds"], found["pattern_id"], target)
    if found := last_of(lake, PATTERNS, "pattern_id", target, system, ds):
        return PatternNight(found["system"], found["ds"], target, None)
    raise NotThere(f"`{target}` is no session and no pattern{searched_place(lake, system, ds)} in {lake.root}: {ADVICE}")


def template_texts(lake: Lake, system: str) -> dict[str, str]:
    """Return template id → text of all templates of a system."""
    return {row["template_id"]: row["text"] or "" for row in lake.rows(TEMPLATES, ["template_id", "text"], system=system)}


def message_templates(lake: Lake, system: str) -> dict[int, str]:
    """Return message id → template id of all messages of a system."""
    rows = lake.arrow(MESSAGES, ["message_id", "template_id"], system=system)
    return dict(zip(rows.column("message_id").to_pylist(), rows.column("template_id").to_pylist(), strict=True))


def find_template(lake: Lake, system: str, template: str) -> tuple[str, str]:
    """A template of the system, (id, text), by its id, its text, or a part of the text that no other has. Raises: NotThere, UsageError."""
    texts = template_texts(lake, system)
    if template in texts:
        return template, texts[template]
    same = [name for name, text in texts.items() if text == template] or [name for name, text in texts.items() if template in text]
    if len(same) == 1:
        return same[0], texts[same[0]]
    if not same:
        raise NotThere(f"no template of {system} is or contains `{template}`: see `nightlog query 'select * from v_templates'`")
    shown = "; ".join(f"{name} {texts[name][:80]}" for name in sorted(same)[:5])
    raise UsageError(f"{len(same)} templates of {system} contain `{template}`: give the id or more of the text: {shown}")


def last_of(lake: Lake, spec: TableSpec, column: str, value: str, system: str, ds: str) -> dict[str, Any]:
    """The row of the last night that has the value; empty where none has. Raises: UsageError if several systems have it then."""
    import pyarrow.compute as pc

    if not lake.exists(spec):
        return {}
    by_night: dict[str, list[str]] = {}
    for found in lake.table(spec).partitions():
        if system in ("", found["system"]) and ds in ("", found["ds"]):
            by_night.setdefault(found["ds"], []).append(found["system"])
    dataset = lake.dataset(spec)
    for night in sorted(by_night, reverse=True):
        place = (pc.field("ds") == night) & pc.field("system").isin(by_night[night])
        columns = ["system", "ds", "pattern_id"]
        rows = dataset.to_table(columns=columns, filter=place & (pc.field(column).cast("string") == value)).to_pylist()
        if len({row["system"] for row in rows}) > 1:
            names = ", ".join(sorted(row["system"] for row in rows))
            raise UsageError(f"several systems have `{value}` on {night}: name one of them by --system: {names}")
        if rows:
            row: dict[str, Any] = rows[0]
            return row
    return {}


def searched_place(lake: Lake, system: str, ds: str) -> str:
    """Return the place that was searched, in words; for a system that has no session, the name that was probably meant."""
    known = {found["system"] for found in lake.table(SESSIONS).partitions()} if lake.exists(SESSIONS) else set()
    hint = nearest(system, known) if system and system not in known else ""
    return (f" of {system}{hint}" if system else "") + (f" on {ds}" if ds else "")
