"""Reading a night's pages from the lake: sums by SQL, and the raw rows of a few sessions alone. No Spark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nightlog.lake.lake import Lake
from nightlog.lake.parts import part_batches
from nightlog.lake.query import connect
from nightlog.lake.tables import ANOMALIES, EVENTS_TABLE, NIGHTS, OUTCOMES, QUARANTINE, TEMPLATES, TableSpec
from nightlog.llm.budget import cost
from nightlog.llm.items import Events
from nightlog.outcomes import is_published
from nightlog.pages.model import (
    Against,
    Change,
    Finding,
    Line,
    NormalPatterns,
    Session,
    SystemNight,
    SystemOutcome,
    day,
    sample_lines,
    system_outcome,
    telling_templates,
)
from nightlog.signals.find import signals

if TYPE_CHECKING:
    import duckdb

FINDINGS = 200  # findings with all details on a system's page
SESSIONS = 5  # sessions named of each finding
TEMPLATES_SHOWN = 40
TREND_NIGHTS = 14
NORMAL_PATTERNS = 1000  # the night's commonest, for the comparison
LOOK_BACK_DAYS = 31  # no session reaches further back, see `systems.spec.Session`

Rows = list[dict[str, Any]]


class NightReader:
    """Reads one night of a lake; its connection is shared by the night's systems."""

    def __init__(self, lake: Lake, ds: str):
        self.lake = lake
        self.ds = ds
        self.connection: duckdb.DuckDBPyConnection = connect(lake, with_absent=True)
        since = day(ds, 1 - TREND_NIGHTS)
        self.nights = [row for row in lake.rows(NIGHTS) if since <= row["ds"] <= ds]
        self.outcomes = lake.rows(OUTCOMES, ds=ds)
        self.quarantined = lake.rows(QUARANTINE, ["system", "reason"], ds=ds)
        self.costs = cost(lake, ds, ds)
        self.signals = signals(lake, ds)

    def sql(self, text: str, *values: Any) -> Rows:
        """The rows of a query."""
        found: Rows = self.connection.sql(text, params=list(values)).to_arrow_table().to_pylist()
        return found

    def systems(self) -> list[str]:
        """The systems of the night, by name."""
        return sorted({row["system"] for row in self.outcomes} | {row["system"] for row in self.nights if row["ds"] == self.ds})

    def system(self, name: str) -> SystemNight:
        """All that a system's page shows."""
        own = [row for row in self.outcomes if row["system"] == name]
        row = next((row for row in self.nights if (row["system"], row["ds"]) == (name, self.ds)), dict.fromkeys(NIGHTS.names))
        outcome, warnings, stages = (
            system_outcome(own) if own else (SystemOutcome(row.get("outcome") or "failed", "", row.get("detail") or ""), (), ())
        )
        reasons: dict[str, int] = defaultdict(int)
        for aside in self.quarantined:
            if aside["system"] == name:
                reasons[aside["reason"] or ""] += 1
        night = SystemNight(
            self.ds,
            name,
            outcome,
            row,
            warnings,
            trend=self.trend(name),
            quarantined=tuple(sorted(reasons.items())),
            costs=tuple(bill for bill in self.costs if bill["system"] == name),
            stages=stages,
            signals=tuple(each for each in self.signals if each["system"] == name),
        )
        return self.with_anomalies(night) if night.published else night

    def trend(self, name: str) -> tuple[tuple[str, int | None], ...]:
        """Anomalies of the last nights."""
        found = {row["ds"]: row["n_anomalies"] for row in self.nights if row["system"] == name and is_published(row["outcome"])}
        return tuple((ds, found.get(ds)) for ds in (day(self.ds, n) for n in range(1 - TREND_NIGHTS, 1)))

    def with_anomalies(self, night: SystemNight) -> SystemNight:
        """The night with its findings, what is new in it, and its new templates."""
        name = night.system
        self.connection.execute(
            """create or replace temp table tonight as
            select pattern_id, count(*) as n_sessions, max(score) as score, min(decided_by) as decided_by, min(route) as route,
                min(status) as status, min(reason) as reason, min(started_at) as started_at, max(ended_at) as ended_at
            from gold.anomalies where ds = ? and system = ? group by pattern_id""",
            [self.ds, name],
        )
        totals = self.sql(
            "select status as of, sum(n_sessions)::bigint as n from tonight group by all union all "
            "select decided_by, sum(n_sessions)::bigint from tonight group by all"
        )
        counted = self.sql("select count(*) as n_findings, coalesce(sum(n_sessions), 0)::bigint as n_anomalies from tonight")[0]
        texts = {row["template_id"]: row["text"] for row in self.lake.rows(TEMPLATES, ["template_id", "text"], system=name)}
        new, n_new = self.new_templates(name, texts)
        return replace(
            night,
            **counted,
            totals={row["of"]: row["n"] for row in totals},
            findings=tuple(self.findings(name, texts)),
            day_before=self.against(name, day(self.ds, -1)),
            week_before=self.against(name, day(self.ds, -7)),
            templates=new,
            n_templates_new=n_new,
        )

    def against(self, name: str, ds: str) -> Against:
        """Tonight's findings against those of an earlier night."""
        known = any((row["system"], row["ds"]) == (name, ds) and is_published(row["outcome"]) for row in self.nights)
        if not known:
            return Against(ds, False)
        (new,) = self.sql(
            """select count(*) as n_new, coalesce(sum(n_sessions), 0)::bigint as n_new_sessions from tonight
            where pattern_id not in (select pattern_id from gold.anomalies where ds = ? and system = ?)""",
            ds,
            name,
        )
        (gone,) = self.sql(
            """select count(distinct pattern_id) as n_gone from gold.anomalies
            where ds = ? and system = ? and pattern_id not in (select pattern_id from tonight)""",
            ds,
            name,
        )
        return Against(ds, True, **new, **gone)

    def findings(self, name: str, texts: Mapping[str, str]) -> Iterator[Finding]:
        """The first findings, in the order of `rank`."""
        rows = self.sql(
            f"""select * from tonight
            order by status = 'suppressed', status = 'provisional', score * sqrt(n_sessions) desc nulls last, pattern_id limit {FINDINGS}"""
        )
        if not rows:
            return
        shown = [row["pattern_id"] for row in rows]
        nights = self.history(name, shown)
        earlier = {
            ds: {
                row["pattern_id"]
                for row in self.sql("select distinct pattern_id from gold.anomalies where ds = ? and system = ?", ds, name)
            }
            for ds in (day(self.ds, -1), day(self.ds, -7))
        }
        known = {row["ds"] for row in self.nights if row["system"] == name and is_published(row["outcome"])}
        place = "ds = ? and system = ? and pattern_id in (select unnest(?))"
        unlike = self.sql(f"select pattern_id, reasons from silver.history where {place}", self.ds, name, shown)
        reasons = {row["pattern_id"]: tuple(row["reasons"] or ()) for row in unlike}
        sessions = self.sessions(name, shown)
        examples = {pattern: found[0].session_id for pattern, found in sessions.items()}
        changes = self.changes(name, shown, texts)
        raw = {row["session_id"]: row for row in self.stream(ANOMALIES, [self.ds], name, list(examples.values()), ["evidence", "lines"])}
        lines = self.events_by_line(name, sessions)
        for row in rows:
            pattern = row["pattern_id"]
            verdict, change = changes.get(pattern, (None, None))
            example = raw.get(examples[pattern], {})
            evidence = tuple(example.get("evidence") or ())
            marked = telling_templates(evidence, change)
            example_text = example_lines(example.get("lines") or (), lines, marked)
            yield Finding(
                system=name,
                new_since_day=day(self.ds, -1) in known and pattern not in earlier[day(self.ds, -1)],
                new_since_week=day(self.ds, -7) in known and pattern not in earlier[day(self.ds, -7)],
                nights=nights.get(pattern, {}),
                verdict=verdict,
                change=change,
                history=reasons.get(pattern, ()),
                evidence=evidence,
                sessions=tuple(sessions[pattern]),
                n_lines=len(example_text),
                lines=sample_lines(example_text),
                **row,
            )

    def history(self, name: str, patterns: list[str]) -> dict[str, dict[str, int]]:
        """Pattern → its sessions by night, over all nights in the lake, anomalous then or not."""
        rows = self.sql(
            """select pattern_id, ds, max(n)::bigint as n from (
                select pattern_id, ds, n_sessions as n from silver.patterns where system = $1 and pattern_id in (select unnest($2))
                union all
                select pattern_id, ds, count(*) from gold.anomalies where system = $1 and pattern_id in (select unnest($2)) group by all
            ) group by all order by all""",
            name,
            patterns,
        )
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for row in rows:
            found[row["pattern_id"]][row["ds"]] = row["n"]
        return found

    def sessions(self, name: str, patterns: list[str]) -> dict[str, list[Session]]:
        """Pattern → its first sessions of the night."""
        rows = self.sql(
            f"""select pattern_id, session_id, started_at, ended_at, n_events from (
                select *, row_number() over (partition by pattern_id order by started_at nulls last, session_id) as n from (
                    select pattern_id, session_id, started_at, ended_at, n_events from gold.anomalies
                    where ds = ? and system = ? and pattern_id in (select unnest(?)))
            ) where n <= {SESSIONS} order by pattern_id, n""",
            self.ds,
            name,
            patterns,
        )
        found: dict[str, list[Session]] = defaultdict(list)
        for row in rows:
            found[row.pop("pattern_id")].append(Session(**row))
        return found

    def changes(
        self, name: str, patterns: list[str], texts: Mapping[str, str]
    ) -> dict[str, tuple[Mapping[str, Any] | None, Change | None]]:
        """Pattern → the LLM's verdict where there is one, and the difference to the nearest normal pattern."""
        columns = "pattern_id, question_id, events, n_sessions"
        own = self.sql(
            f"select {columns} from silver.patterns where ds = ? and system = ? and pattern_id in (select unnest(?))",
            self.ds,
            name,
            patterns,
        )
        normal = self.sql(
            f"""select {columns} from silver.patterns where ds = ? and system = ? and pattern_id not in (select pattern_id from tonight)
            order by n_sessions desc, pattern_id limit {NORMAL_PATTERNS}""",
            self.ds,
            name,
        )
        references = NormalPatterns([(row["n_sessions"], pattern_events(row, texts)) for row in normal])
        said = self.verdicts(name, [row["question_id"] for row in own])
        found: dict[str, tuple[Mapping[str, Any] | None, Change | None]] = {}
        for row in own:
            verdict = said.get(row["question_id"])
            if verdict is not None and verdict["added"] is not None:
                change: Change | None = Change("llm", verdict_events(verdict["added"]), verdict_events(verdict["missing"]))
            else:
                change = references.nearest(pattern_events(row, texts))
            found[row["pattern_id"]] = verdict, change
        return found

    def verdicts(self, name: str, questions: list[str]) -> dict[str, Mapping[str, Any]]:
        """Question → the verdict that the night was published by, under its prompt and of its LLM."""
        versions = next(row["versions"] or {} for row in self.nights if (row["system"], row["ds"]) == (name, self.ds))
        rows = self.sql(
            """select * from silver.verdicts where system = ? and prompt = ? and (? is null or llm = ?)
            and question_id in (select unnest(?)) order by asked_at, question_id, llm""",
            name,
            versions.get("prompt"),
            versions.get("llm"),
            versions.get("llm"),
            questions,
        )
        return {row["question_id"]: row for row in rows}

    def events_by_line(self, name: str, sessions: Mapping[str, Sequence[Session]]) -> dict[tuple[str, int], tuple[datetime | None, str]]:
        """(file, line_no) → (time, template id) of the lines of the first session of each finding."""
        first = [found[0] for found in sessions.values()]
        began = min((utc(each.started_at).date().isoformat() for each in first if each.started_at is not None), default=self.ds)
        days = [at for at in (day(self.ds, -n) for n in range(LOOK_BACK_DAYS + 1)) if at >= began or at == self.ds]
        columns = ["file", "line_no", "at", "message_id"]
        events = list(self.stream(EVENTS_TABLE, days, name, [each.session_id for each in first], columns))
        messages = sorted({row["message_id"] for row in events if row["message_id"] is not None})
        templates = {
            row["message_id"]: row["template_id"]
            for row in self.sql(
                "select message_id, template_id from silver.messages where system = ? and message_id in (select unnest(?::bigint[]))",
                name,
                messages,
            )
        }
        return {(row["file"], row["line_no"]): (row["at"], templates.get(row["message_id"], "")) for row in events}

    def new_templates(self, name: str, texts: Mapping[str, str]) -> tuple[tuple[Mapping[str, Any], ...], int]:
        """Templates that the night saw first: those in anomalous sessions first, then those in many sessions; and how many there are."""
        rows = self.sql(
            f"""select t.template_id, coalesce(n_sessions, 0) as n_sessions, coalesce(n_anomalous, 0) as n_anomalous, count(*) over () as n
            from silver.templates t left join (
                select event.template_id, sum(p.n_sessions)::bigint as n_sessions,
                    coalesce(sum(p.n_sessions) filter (a.pattern_id is not null), 0)::bigint as n_anomalous
                from (select pattern_id, n_sessions, unnest(events) as event from silver.patterns where ds = $1 and system = $2) p
                left join tonight a using (pattern_id) group by all
            ) u using (template_id)
            where t.system = $2 and t.first_ds = $1 order by n_anomalous desc, n_sessions desc, t.template_id limit {TEMPLATES_SHOWN}""",
            self.ds,
            name,
        )
        n = rows[0]["n"] if rows else 0
        return tuple({**row, "text": texts.get(row["template_id"], "")} for row in rows), n

    def stream(
        self, spec: TableSpec, days: Sequence[str], system: str, sessions: Sequence[str], columns: list[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield rows of some sessions, batch by batch."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(set(sessions)), pa.string())
        for part in self.lake.parts(spec, system=system, ds=list(days)) if sessions else ():
            for batch in part_batches(self.lake.root, spec, part, ["session_id", *columns]):
                yield from batch.filter(pc.is_in(batch["session_id"], wanted)).to_pylist()


def example_lines(
    rows: Sequence[Mapping[str, Any]], events: Mapping[tuple[str, int], tuple[datetime | None, str]], marked: set[str]
) -> list[Line]:
    """Return the raw lines of a session, each with its time and whether it stands out; a line that continues a record stands out with it.

    Args: rows as in gold.anomalies; events: see `NightReader.events_by_line`; marked: ids of the templates that stand out.
    """
    found: list[Line] = []
    for row in rows:
        event = events.get((row["file"], row["line_no"]))
        continues = event is None and bool(found) and found[-1].file == row["file"]
        at, template = event or (None, "")
        found.append(Line(at, row["file"], row["line_no"], row["text"] or "", found[-1].marked if continues else template in marked))
    return found


def utc(at: datetime) -> datetime:
    """A time of the lake in UTC, whatever zone it was read in."""
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


def verdict_events(events: Sequence[Mapping[str, Any]] | None) -> Events:
    """Events as `silver.verdicts` has them."""
    return tuple((row["template"], row["count"]) for row in events or ())


def pattern_events(row: Mapping[str, Any], texts: Mapping[str, str]) -> Events:
    """Events of a row of silver.patterns, by text; counts are None where the pattern's question is its set of templates."""
    counted = row["question_id"] == row["pattern_id"]
    return tuple(
        (texts.get(event["template_id"], event["template_id"]), event["count"] if counted else None) for event in row["events"] or ()
    )


def read_night(lake: Lake, ds: str, failed: Callable[[str, Exception], None]) -> list[SystemNight]:
    """Return the night's systems by name. A system that cannot be read is left out, and given to `failed` with the error."""
    reader = NightReader(lake, ds)
    found = []
    for name in reader.systems():
        try:
            found.append(reader.system(name))
        except Exception as error:
            failed(name, error)
    return found
