"""Reading a night's pages from the lake: sums by SQL, and the raw rows of a few sessions alone. No Spark."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.parts import Part, open_part, part_batches, read_group, schema_of
from nightlog.lake.query import connect
from nightlog.lake.tables import ANOMALIES, EVENTS_TABLE, INCIDENTS, NIGHTS, OUTCOMES, QUARANTINE
from nightlog.llm.budget import cost
from nightlog.outcomes import is_published
from nightlog.pages.model import (
    Finding,
    Incident,
    Line,
    Session,
    SystemNight,
    SystemOutcome,
    day,
    novelty,
    sample_lines,
    system_outcome,
)
from nightlog.signals.find import signals

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FINDINGS_SHOWN = 200  # findings with all details on a system's page
SESSIONS = 5  # sessions named of each finding
TEMPLATES_SHOWN = 40
TREND_NIGHTS = 14
EVENT_BYTES = 8  # of text take as long as one event to look through
LOOK_BACK_DAYS = 31  # no session reaches further back, see `systems.spec.Session`

Rows = list[dict[str, Any]]


class NightReader:
    """Reads one night of a lake; its connection is shared by the night's systems."""

    def __init__(self, lake: Lake, ds: str):
        self.lake = lake
        self.ds = ds
        self.connection: duckdb.DuckDBPyConnection = connect(lake, with_absent=True)
        self.nights = [row for row in lake.rows(NIGHTS, ["ds", "system", "outcome", "n_anomalies"]) if row["ds"] <= ds]
        self.tonight = {row["system"]: row for row in lake.rows(NIGHTS, ds=ds)}
        self.incident_of = {name: row for row in lake.rows(INCIDENTS, ds=ds) for name in row["finding_ids"]}
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
        return sorted({row["system"] for row in self.outcomes} | self.tonight.keys())

    def system(self, name: str) -> SystemNight:
        """All that a system's page shows."""
        own = [row for row in self.outcomes if row["system"] == name]
        row = self.tonight.get(name, dict.fromkeys(NIGHTS.names))
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
        return self.with_findings(night) if night.published else night

    def trend(self, name: str) -> tuple[tuple[str, int | None], ...]:
        """Anomalies of the last nights."""
        found = {row["ds"]: row["n_anomalies"] for row in self.nights if row["system"] == name and is_published(row["outcome"])}
        return tuple((ds, found.get(ds)) for ds in (day(self.ds, n) for n in range(1 - TREND_NIGHTS, 1)))

    def with_findings(self, night: SystemNight) -> SystemNight:
        """Return the night with its findings, what is new in it, and its new templates."""
        place = [self.ds, night.system]
        counts = self.sql(
            """select status, decided_by, count(*)::bigint as n_findings, count(*) filter (is_new)::bigint as n_new,
                sum(n_sessions)::bigint as n_sessions from gold.findings where ds = ? and system = ? group by all""",
            *place,
        )
        totals = Counter[str]()
        for row in counts:
            totals += Counter({row["status"]: row["n_sessions"], row["decided_by"]: row["n_sessions"]})
        hours = self.sql("select hours from gold.findings where ds = ? and system = ? and hours is not null", *place)
        texts = template_texts(self.lake, night.system)
        new, n_new = self.new_templates(night.system, texts)
        before = max((ds for ds in self.published_nights(night.system) if ds < self.ds), default=None)
        return replace(
            night,
            n_findings=sum(row["n_findings"] for row in counts),
            n_anomalies=night.night.get("n_anomalies") or 0,
            n_new=sum(row["n_new"] for row in counts),
            totals=totals,
            findings=tuple(self.findings(night.system)),
            night_before=before,
            n_gone=0 if before is None else self.gone(night.system, before),
            hours=tuple(map(sum, zip(*(row["hours"] for row in hours), strict=True))),
            templates=new,
            n_templates_new=n_new,
        )

    def published_nights(self, name: str) -> list[str]:
        """Return the published nights of a system."""
        return [row["ds"] for row in self.nights if row["system"] == name and is_published(row["outcome"])]

    def gone(self, name: str, before: str) -> int:
        """Return how many findings of an earlier night do not occur tonight."""
        (row,) = self.sql(
            """select count(*) as n from gold.findings where ds = $1 and system = $3
            and finding_id not in (select finding_id from gold.findings where ds = $2 and system = $3)""",
            before,
            self.ds,
            name,
        )
        return int(row["n"])

    def findings(self, name: str) -> Iterator[Finding]:
        """The first findings, by rank."""
        rows = self.sql(f"select * from gold.findings where ds = ? and system = ? order by rank limit {FINDINGS_SHOWN}", self.ds, name)
        if not rows:
            return
        shown = [row["pattern_id"] for row in rows]
        place = "ds = ? and system = ? and pattern_id in (select unnest(?))"
        unlike = self.sql(f"select pattern_id, reasons from silver.history where {place}", self.ds, name, shown)
        reasons = {row["pattern_id"]: tuple(row["reasons"] or ()) for row in unlike}
        questions = self.sql(f"select pattern_id, question_id from silver.patterns where {place}", self.ds, name, shown)
        verdicts = self.verdicts(name, {row["pattern_id"]: row["question_id"] for row in questions})
        sessions = self.sessions(name, shown)
        examples = {pattern: found[0].session_id for pattern, found in sessions.items()}
        raw = {row["session_id"]: row for row in self.anomalies(name, list(examples.values()))}
        shown_lines = {line["line_no"] for row in raw.values() for line in row["lines"] or ()}
        events = self.events_by_line(name, [found[0] for found in sessions.values()], shown_lines)
        nights = self.published_nights(name)
        for row in rows:
            pattern = row["pattern_id"]
            example = raw.get(examples.get(pattern, ""), {})
            marked = {each["template_id"] for each in row["telling"] or () if each["change"] == "more"}
            records = example_records(example.get("lines") or (), events, marked)
            lines = in_time(records)
            yield Finding(
                row,
                novelty(row, nights),
                self.incident_of.get(row["finding_id"]),
                verdicts.get(pattern),
                reasons.get(pattern, ()),
                tuple(example.get("evidence") or ()),
                tuple(sessions.get(pattern, ())),
                len(lines),
                sample_lines(lines),
                next((record[0] for record in records if record[0].marked), None),
            )

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

    def verdicts(self, name: str, questions: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
        """Return the verdicts that the night was published by, under its prompt and of its LLM: pattern → row of silver.verdicts.

        Args: questions: pattern → its question.
        """
        versions = self.tonight[name]["versions"] or {}
        rows = self.sql(
            """select * from silver.verdicts where system = ? and prompt = ? and (? is null or llm = ?)
            and question_id in (select unnest(?)) order by asked_at, question_id, llm""",
            name,
            versions.get("prompt"),
            versions.get("llm"),
            versions.get("llm"),
            list(questions.values()),
        )
        by_question = {row["question_id"]: row for row in rows}
        return {pattern: by_question[question] for pattern, question in questions.items() if question in by_question}

    def events_by_line(
        self, name: str, sessions: Sequence[Session], numbers: Collection[int]
    ) -> dict[tuple[str, int], tuple[datetime | None, str]]:
        """(file, line_no) → (time, template id) of the lines of some sessions that have one of the numbers."""
        began = min((utc(each.started_at).date().isoformat() for each in sessions if each.started_at is not None), default=self.ds)
        days = [at for at in (day(self.ds, -n) for n in range(LOOK_BACK_DAYS + 1)) if at >= began or at == self.ds]
        parts = self.lake.parts(EVENTS_TABLE, system=name, ds=days) if numbers else []
        work = partial(session_events, root=self.lake.root, sessions=[each.session_id for each in sessions], numbers=sorted(numbers))
        found = self.lake.runner.run(parts, work, EVENT_BYTES * sum(part.n_rows for part in parts))
        events = [row for of_part in found for row in of_part.to_pylist()]
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
                left join (select pattern_id from gold.findings where ds = $1 and system = $2) a using (pattern_id) group by all
            ) u using (template_id)
            where t.system = $2 and t.first_ds = $1 order by n_anomalous desc, n_sessions desc, t.template_id limit {TEMPLATES_SHOWN}""",
            self.ds,
            name,
        )
        n = rows[0]["n"] if rows else 0
        return tuple({**row, "text": texts.get(row["template_id"], "")} for row in rows), n

    def anomalies(self, system: str, sessions: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield session_id, evidence and lines of some anomalous sessions, batch by batch."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(set(sessions)), pa.string())
        for part in self.lake.parts(ANOMALIES, system=system, ds=self.ds) if sessions else ():
            for batch in part_batches(self.lake.root, ANOMALIES, part, ["session_id", "evidence", "lines"]):
                yield from batch.filter(pc.is_in(batch["session_id"], wanted)).to_pylist()


def session_events(part: Part, root: str, sessions: Sequence[str], numbers: Sequence[int]) -> pa.Table:
    """One task: return the events (file, line_no, at, message_id) of some sessions in a part of silver.events, on lines of some numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["file", "line_no", "at", "message_id"]
    found = [pa.schema([schema_of(EVENTS_TABLE).field(name) for name in columns]).empty_table()]
    with open_part(root, EVENTS_TABLE, part.path) as file:
        for group in range(file.num_row_groups):
            key = read_group(file, EVENTS_TABLE, group, ["session_id", "line_no"])
            wanted = pc.is_in(key.column("line_no"), pa.array(numbers, pa.int64()))
            own = pc.and_(wanted, pc.is_in(key.column("session_id"), pa.array(sessions, pa.string())))
            if pc.any(own).as_py():
                found.append(read_group(file, EVENTS_TABLE, group, columns).filter(own))
    return pa.concat_tables(found)


def example_records(
    rows: Sequence[Mapping[str, Any]], events: Mapping[tuple[str, int], tuple[datetime | None, str]], telling: set[str]
) -> list[list[Line]]:
    """Return the raw lines of a session by record, as they were published; a line that continues a record stands out with it.

    Args: rows as in gold.anomalies; events: see `NightReader.events_by_line`; telling: ids of the templates that stand out.
    """
    records: list[list[Line]] = []
    for row in rows:
        event = events.get((row["file"], row["line_no"]))
        continues = event is None and bool(records) and records[-1][-1].file == row["file"]
        at, template = event or (None, "")
        marked = records[-1][-1].marked if continues else template in telling
        line = Line(at, row["file"], row["line_no"], row["text"] or "", marked)
        if continues:
            records[-1].append(line)
        else:
            records.append([line])
    return records


def in_time(records: Sequence[Sequence[Line]]) -> list[Line]:
    """Return the lines of records in the order of time; as they are if a record has none."""
    if any(record[0].at is None for record in records):
        return [line for record in records for line in record]
    ordered = sorted(records, key=lambda record: (record[0].at, record[0].file, record[0].line_no))
    return [line for record in ordered for line in record]


def utc(at: datetime) -> datetime:
    """A time of the lake in UTC, whatever zone it was read in."""
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


def read_incidents(lake: Lake, ds: str, nights: Sequence[SystemNight], limit: int) -> tuple[list[Incident], int, int]:
    """Return the first incidents of the night by rank, with the findings that the systems' pages show; how many there are, and are new."""
    by_id = {finding.row["finding_id"]: finding for night in nights for finding in night.findings}
    rows = sorted(lake.rows(INCIDENTS, ds=ds), key=lambda row: row["rank"])
    found = [Incident(row, tuple(by_id[name] for name in row["finding_ids"] if name in by_id)) for row in rows[:limit]]
    return found, len(rows), sum(bool(row["is_new"]) for row in rows)


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
