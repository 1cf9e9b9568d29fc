"""Every table, once: columns with their meaning, partition and key.

Columns whose names begin with `run_` describe the run that wrote the row, not the night; two runs of one night with the same
model, prompt and policy differ in them alone. The descriptions go into the Delta tables' schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# Types in the words of Delta's log, which Spark and delta-rs both read: a name, or the parts of a nested type.
Type = str | Mapping[str, Any]
STRING, INT, LONG, FLOAT, DOUBLE, TIME, BOOLEAN = "string", "integer", "long", "float", "double", "timestamp", "boolean"


class Column(NamedTuple):
    """A column: its name, its type, and its meaning."""

    name: str
    type: Type
    meaning: str


def struct(**fields: Type) -> Type:
    """Return the type of a nested record."""
    return {"type": "struct", "fields": [field_json(name, kind) for name, kind in fields.items()]}


def array(element: Type) -> Type:
    """Return the type of a list."""
    return {"type": "array", "elementType": element, "containsNull": True}


def mapping(key: Type, value: Type) -> Type:
    """Return the type of a map."""
    return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}


def field_json(name: str, kind: Type, **metadata: str) -> dict[str, Any]:
    """Return a field as Delta's log describes it."""
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


col = Column
ArrayType, MapType = array, mapping  # names of before, until every branch has the new ones
SYSTEM = col("system", STRING, "name of the system")
DS = col("ds", STRING, "the night's day, YYYY-MM-DD")
FILE = col("file", STRING, "log file, relative to the data folder")
LINE_NO = col("line_no", LONG, "line number in the file, from 1")
RUN_ID = col("run_id", STRING, "the run that wrote the row")
EVENTS = array(struct(template_id=STRING, count=LONG))
LINES = array(struct(file=STRING, line_no=LONG, text=STRING))
EVIDENCE = array(struct(template=STRING, count=LONG, nearest_source_template=STRING, similarity=DOUBLE, weight=DOUBLE, template_id=STRING))
ASKED = array(struct(template=STRING, count=LONG))
VERSIONS = struct(model=STRING, prompt=STRING, llm=STRING, encoder=STRING, templates=STRING)
TAU_CURVE = array(struct(tau=DOUBLE, proprietary_share=DOUBLE))


@dataclass(frozen=True, eq=False)
class TableSpec:
    """One table: `schema.name`, its columns, the key of a row, its partition, and what a row is.

    Columns may be added (nullable ones; fields of nested records too), never changed in type: see nightlog.lake.schema.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ("system", "ds")
    sorted_by: str | None = None
    about: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def json(self) -> dict[str, Any]:
        """The columns as Delta's log describes them."""
        fields = [field_json(column.name, column.type, comment=column.meaning) for column in self.columns]
        return {"type": "struct", "fields": fields}

    @property
    def schema(self) -> Any:
        """Name of before, until every branch has the new one."""
        from nightlog.lake.schema import spark_schema

        return spark_schema(self)

    @property
    def path(self) -> str:
        """The table's folder under the lake's root."""
        return self.name.replace(".", "/")


LINES_TABLE = TableSpec(
    "bronze.lines",
    (SYSTEM, DS, FILE, LINE_NO, col("text", STRING, "the line as delivered, without its label; bytes that are not UTF-8 replaced")),
    ("system", "file", "line_no"),
    about="a line of a system's log file, as it was delivered",
)
LABELS = TableSpec(
    "bronze.labels",
    (
        SYSTEM,
        DS,
        FILE,
        LINE_NO,
        col("session_id", STRING, "set where the label belongs to a session, not to a line"),
        col("label", INT, "1 anomalous, 0 normal"),
        col("tag", STRING, "the label as delivered"),
    ),
    ("system", "file", "line_no"),
    ("system",),
    about="a known label of a line or a session, kept apart from all that models and prompts see",
)
FILES = TableSpec(
    "bronze.files",
    (
        SYSTEM,
        DS,
        FILE,
        col("host", STRING, "the parts of the path that vary, without endings such as .1 and .gz; empty if none does"),
        col("n_lines", LONG, "its lines; null of a copy"),
        col("n_bytes", LONG, "bytes of these lines, unpacked, without line ends; null of a copy"),
        col("size", LONG, "bytes of the file as it was delivered, packed or not"),
        col("modified_at", TIME, "its last change before it was read, UTC"),
        col("content", STRING, "hash of its lines; null of a copy"),
        col(
            "copy_of",
            STRING,
            "the file that was read instead, as this one is a copy or the first part of it; null if it was read",
        ),
        RUN_ID,
    ),
    ("system", "ds", "file"),
    (),
    "delta-rs",
    about="a log file of a night: what was delivered, and read",
)
MESSAGES = TableSpec(
    "silver.messages",
    (
        SYSTEM,
        col("message_id", LONG, "64-bit hash of the masked message"),
        col("message", STRING, "a distinct masked message"),
        col("template_id", STRING, "its template, given once and for ever"),
        col("first_ds", STRING, "the night that first parsed it"),
    ),
    ("system", "message_id"),
    ("system",),
    about="a distinct masked message and the template that it belongs to",
)
TEMPLATES = TableSpec(
    "silver.templates",
    (
        SYSTEM,
        col("template_id", STRING, "hash of the system and the template's first message"),
        col("text", STRING, "the text at the end of its first night: what vectors, verdicts and evidence are about"),
        col("widened", STRING, "the text as it is now; it only ever loses words to wildcards"),
        col("first_message", STRING, "the masked message that founded it"),
        col("token_count", INT, "words in each of its messages"),
        col("ordinal", LONG, "order of foundation among the system's templates of this token count"),
        col("first_ds", STRING, "the night that founded it"),
    ),
    ("system", "template_id"),
    ("system",),
    about="a template of a system",
)
EVENTS_TABLE = TableSpec(
    "silver.events",
    (
        SYSTEM,
        DS,
        FILE,
        LINE_NO,
        col("at", TIME, "when, UTC; null where the line has no readable time stamp"),
        col("level", STRING, "the header's level, where it has one"),
        col("session_id", STRING, "null where the line carries no id"),
        col("message_id", LONG, "its masked message"),
    ),
    ("system", "file", "line_no", "session_id"),
    about="an event: a parsed line in one of the sessions that it belongs to",
)
COUNTS_TABLE = TableSpec(
    "silver.counts",
    (
        SYSTEM,
        DS,
        col("session_id", STRING, "the session"),
        col("message_id", LONG, "a masked message in it"),
        col("n", LONG, "how often, in one part of the day's lines; the parts of a day add up"),
        col("first_at", TIME, "the first of these events"),
        col("last_at", TIME, "the last of them"),
        col("bucket", INT, "0 to 65535, by the session's id; the rows of a file are in its order"),
    ),
    ("system", "ds", "session_id", "message_id"),
    sorted_by="bucket",
    about="how often a message stands in a session on one day: what sessions are made from",
)
TEMPLATE_COUNTS = TableSpec(
    "silver.template_counts",
    (
        SYSTEM,
        DS,
        col("template_id", STRING, "a template"),
        col("n", LONG, "records of it in the night's own files, in a session or not; each counts once, in whatever sessions it is"),
    ),
    ("system", "ds", "template_id"),
    about="how often a template was logged on one day: what signals are found by",
)
NUMBERS = TableSpec(
    "silver.numbers",
    (
        SYSTEM,
        DS,
        col("template_id", STRING, "a template with numbers, those that the mask NUM takes out"),
        col("word", INT, "which of its words holds the number, from 1"),
        col("nth", INT, "which number of the word it is, from 1"),
        col("n", LONG, "how many lines had a plain number there: at most 15 digits, one point"),
        col("low", DOUBLE, "the lowest"),
        col("low_file", STRING, "where it first was"),
        col("low_line", LONG, "and in which line"),
        col("high", DOUBLE, "the highest"),
        col("high_file", STRING, "where it first was"),
        col("high_line", LONG, "and in which line"),
    ),
    ("system", "ds", "template_id", "word", "nth"),
    about="between which values a number in the lines of a template lay on one day",
)
SESSIONS = TableSpec(
    "silver.sessions",
    (
        SYSTEM,
        DS,
        col("session_id", STRING, "the session, as the system's ids name it"),
        col("pattern_id", STRING, "its pattern"),
        col("started_at", TIME, "first event, look-back days included"),
        col("ended_at", TIME, "last event of the night"),
        col("n_events", LONG, "events, look-back days included"),
    ),
    ("system", "ds", "session_id"),
    about="a session that is judged on the night: it has events of it, or waited for it",
)
WAITING = TableSpec(
    "silver.waiting",
    (
        SYSTEM,
        col("ds", STRING, "since which night it waits: the night of its events, YYYY-MM-DD"),
        col("state", STRING, "waiting | judged"),
        col("session_id", STRING, "the session; it begins in the last minutes of that night"),
        col("until", STRING, "the night that judges it at the latest"),
        col("judged_ds", STRING, "the later night that judged it; null while it waits"),
        col("pattern_id", STRING, "its pattern by the events up to that night"),
        col("started_at", TIME, "the first of these events"),
        col("ended_at", TIME, "the last of them"),
        col("n_events", LONG, "how many they are"),
    ),
    ("system", "ds", "session_id"),
    ("system", "ds", "state"),
    about="a session that a night leaves to a later one, since so far only its first moments have been seen",
)
READINGS = TableSpec(
    "silver.readings",
    (
        SYSTEM,
        col("ds", STRING, "a day of lines, YYYY-MM-DD"),
        col("rules", STRING, "hash of the reading rules by which its lines were parsed"),
        col("content", STRING, "fingerprint of its rows in silver.counts"),
        col(
            "earlier",
            mapping(STRING, STRING),
            "earlier day → its content when the day's sessions were made; null if never run as a night",
        ),
        col("n_waiting", LONG, "sessions that it leaves to a later night; null if nobody has looked"),
        RUN_ID,
        col("run_lines", STRING, "hash of the names of the files of bronze.lines that were parsed"),
    ),
    ("system", "ds"),
    (),
    about="how a day's lines were parsed, and which earlier days its sessions were made with",
)
PATTERNS = TableSpec(
    "silver.patterns",
    (
        SYSTEM,
        DS,
        col("pattern_id", STRING, "hash of the multiset of templates with counts in powers of two"),
        col("question_id", STRING, "what is asked about it: the pattern itself, or its set of templates where counts tell nothing"),
        col("events", EVENTS, "templates and counts, a count rounded down to a power of two, in the order of template_id"),
        col("n_sessions", LONG, "the night's sessions of this pattern"),
        col("example_session_id", STRING, "the first of them in the order of ids"),
    ),
    ("system", "ds", "pattern_id"),
    about="a distinct pattern of the night's sessions",
)
VECTORS = TableSpec(
    "silver.template_vectors",
    (
        SYSTEM,
        col("template_id", STRING, "the template"),
        col("encoder", STRING, "name and version of the sentence encoder"),
        col("vector", array(FLOAT), "unit-norm sentence vector of the template's text"),
    ),
    ("system", "template_id", "encoder"),
    ("system",),
    about="a template's sentence vector",
)
ROUTES = TableSpec(
    "silver.routes",
    (
        SYSTEM,
        DS,
        col("pattern_id", STRING, "the pattern"),
        col("similarity", DOUBLE, "least cosine of its templates to any source template"),
        col("route", STRING, "general | proprietary"),
        col(
            "nearest",
            array(struct(template_id=STRING, source=STRING, nearest_source_template=STRING, similarity=DOUBLE)),
            "for each template the most similar source template",
        ),
        col("model", STRING, "version of the model whose source templates and tau were used"),
    ),
    ("system", "ds", "pattern_id"),
    about="where the router sent a pattern of the night",
)
SCORES = TableSpec(
    "silver.scores",
    (
        SYSTEM,
        DS,
        col("pattern_id", STRING, "the pattern"),
        col("probability", DOUBLE, "the small model's probability of an anomaly"),
        col("weights", array(struct(template_id=STRING, weight=DOUBLE)), "of each template, they sum to 1: attention, or surprise"),
        col("model", STRING, "version of the small model"),
    ),
    ("system", "ds", "pattern_id"),
    about="what the small model says of a pattern of the night",
)
VERDICTS = TableSpec(
    "silver.verdicts",
    (
        SYSTEM,
        col("question_id", STRING, "the judged question, see silver.patterns"),
        col("prompt", STRING, "hash of the prompts: instructions, policy and schemas"),
        col("llm", STRING, "provider and model that answered"),
        col("label", STRING, "normal | anomalous | unclear: the last word, of the second round where there was one"),
        col("confidence", DOUBLE, "0 to 1, as the LLM gave it"),
        col("reason", STRING, "one sentence of the LLM"),
        col("round", INT, "2 where the question was judged side by side with others, else 1"),
        col("group", STRING, "the LLM's name for what sets the question apart; null where the first verdict stands"),
        col("group_key", STRING, "hash of the difference to the nearest confidently normal pattern; null in round 1"),
        col("added", ASKED, "what the question has more than that pattern"),
        col("missing", ASKED, "what it has less"),
        col("first_label", STRING, "what the first round said"),
        col("first_confidence", DOUBLE, "and how sure it was"),
        col("events", ASKED, "what was asked; counts are null where they tell nothing"),
        col("ds", STRING, "the night that asked"),
        col("run_id", STRING, "the run that asked"),
        col("asked_at", TIME, "when the answer came"),
        col(
            "served_by",
            STRING,
            "model and fingerprint that the answer itself names; null where it names none, and in groups joined unasked",
        ),
    ),
    ("system", "question_id", "prompt", "llm"),
    (),
    about="what an LLM says of a question, under one prompt",
)
ANSWERS = TableSpec(
    "ops.answers",
    (
        SYSTEM,
        col("kind", STRING, "answer | label | suppression; null is an answer"),
        col("about", STRING, "what it is about: group | pattern | template; null is a group"),
        col("group", STRING, "id of the group, the pattern or the template that it is about"),
        col("name", STRING, "the group's name then, null where it was a single question; the template's text"),
        col("label", STRING, "normal | anomalous, of a suppression suppressed; null takes an earlier one back"),
        col("questions", array(STRING), "the questions that the group had then: they stay answered under any prompt; or the pattern"),
        col("until", STRING, "the last night that a suppression is for, YYYY-MM-DD"),
        col("session_id", STRING, "the session that was pointed at, where it was one"),
        col("ds", STRING, "the night that it was seen in"),
        col("note", STRING, "what was said besides"),
        col("answered_by", STRING, "who said so"),
        col("answered_at", TIME, "UTC; of several of a kind about the same thing the last counts"),
    ),
    ("system", "kind", "about", "group", "answered_at"),
    (),
    about="what an analyst said: an answer about a group of questions, a label on a pattern, or a suppression",
)
LLM_CALLS = TableSpec(
    "ops.llm_calls",
    (
        SYSTEM,
        DS,
        RUN_ID,
        col("mode", STRING, "what it was asked for: generallog | fusionlog"),
        col("llm", STRING, "provider and model"),
        col("round", INT, "1 or 2"),
        col("calls", LONG, "attempts of this request, retries included"),
        col("items", LONG, "questions in the request"),
        col("n_sessions", LONG, "the night's sessions behind questions that no request about this night had asked before"),
        col("tokens_in", LONG, "prompt tokens, cached ones included; those expected where an answer broke off or came without a count"),
        col("tokens_cached", LONG, "of these, those that the provider had cached"),
        col("tokens_out", LONG, "completion tokens, in the same way"),
        col("money", DOUBLE, "US dollars, by the prices that were set then"),
        col("seconds", DOUBLE, "since the answer before, waits included; of a batch since it was submitted"),
        col("trouble", STRING, "what went wrong, null where nothing did"),
        col("at", TIME, "when the answer came, UTC"),
        col("unanswered", array(STRING), "ids of the questions that got no verdict; such questions are asked last"),
    ),
    ("run_id", "ds", "system", "round", "at"),
    (),
    about="a request to the LLM",
)
LLM_BATCHES = TableSpec(
    "ops.llm_batches",
    (
        col("batch", STRING, "Nightlog's own name of the batch; the endpoint keeps it in its metadata"),
        SYSTEM,
        col("ds", STRING, "the night that asks"),
        col("run_id", STRING, "the run that asks"),
        col("status", STRING, "submitting | open | collected | lost"),
        col("endpoint", STRING, "host that it was sent to"),
        col("batch_id", STRING, "the endpoint's name of it; null until the endpoint has told"),
        col("prompt", STRING, "as in silver.verdicts"),
        col("llm", STRING, "provider and model"),
        col("round", INT, "1 or 2"),
        col("calls", LONG, "requests in the batch"),
        col("n_sessions", LONG, "the night's sessions behind its questions"),
        col("tokens_in", LONG, "prompt tokens expected, reserved in the budgets until it is collected"),
        col("tokens_out", LONG, "completion tokens expected"),
        col("money", DOUBLE, "US dollars expected"),
        col("questions", array(STRING), "ids of what it asks"),
        col("asked", STRING, "JSON: the questions of each request as they were asked; empty once it is collected"),
        col("trouble", STRING, "what went wrong, null where nothing did"),
        col("submitted_at", TIME, "UTC"),
        col("collected_at", TIME, "UTC; null while it is open"),
    ),
    ("batch",),
    (),
    about="a batch of requests to the LLM, from before it is sent until its answers are collected",
)
ANOMALIES = TableSpec(
    "gold.anomalies",
    (
        DS,
        SYSTEM,
        col("session_id", STRING, "the anomalous session"),
        col("started_at", TIME, "first event, UTC"),
        col("ended_at", TIME, "last event, UTC"),
        col("n_events", LONG, "events in the session"),
        col("score", DOUBLE, "probability of an anomaly, from whoever decided"),
        col("decided_by", STRING, "small_model | llm | feedback"),
        col("route", STRING, "general | proprietary"),
        col("status", STRING, "open | suppressed | provisional"),
        col("reason", STRING, "why, in a sentence"),
        col("evidence", EVIDENCE, "the session's templates, most telling first"),
        col(
            "lines",
            LINES,
            "raw lines with those that continue a record, at most 50: the rarest and most severe records first, then the others, in order",
        ),
        col("pattern_id", STRING, "the session's pattern"),
        col("versions", VERSIONS, "model, prompt, LLM, encoder, and a hash of the template texts"),
        RUN_ID,
    ),
    ("ds", "system", "session_id"),
    ("ds", "system"),
    about="an anomalous session of a night",
)
NIGHTS = TableSpec(
    "gold.nights",
    (
        DS,
        SYSTEM,
        col("outcome", STRING, "done | incomplete (published too) | no_input | gated | failed | transient"),
        col("detail", STRING, "the reason, unless the outcome is done"),
        col("n_files", LONG, "files read, copies not counted"),
        col("n_hosts", LONG, "hosts that delivered lines: the parts of the files' paths that vary"),
        col("n_bytes", LONG, "bytes of the lines read, unpacked, without line ends"),
        col("n_lines", LONG, "lines read: one for each parsed record, n_blank, n_unparsed and n_continuation"),
        col("n_blank", LONG, "lines without any text"),
        col("n_continuation", LONG, "lines that continue a record of several lines"),
        col("n_swallowed", LONG, "of these, lines that do not look like a continuation"),
        col("n_unparsed", LONG, "lines that do not match the header"),
        col("n_replaced", LONG, "lines with bytes that are not UTF-8"),
        col("n_untimed", LONG, "parsed lines whose time stamp cannot be read"),
        col("n_events", LONG, "events; a line with several ids counts once for each"),
        col("n_without_session", LONG, "parsed lines that carry no session id"),
        col("n_sessions", LONG, "sessions judged on the night: with events of it, or that waited for it"),
        col("n_waiting", LONG, "sessions with events of the night that a later night judges"),
        col("n_unchanged", LONG, "sessions with events of the night that a later night has judged on the same events"),
        col("n_judged_again", LONG, "of n_sessions, those that an earlier night has judged on fewer events"),
        col("n_outside", LONG, "sessions that no rule of the system can judge: none of their events has a template"),
        col("n_patterns", LONG, "distinct patterns of these sessions"),
        col("n_templates", LONG, "distinct templates in these patterns"),
        col("n_proprietary", LONG, "patterns that the router calls proprietary"),
        col("proprietary_share", DOUBLE, "their share of the sessions"),
        col("tau", DOUBLE, "the router's threshold"),
        col("tau_curve", TAU_CURVE, "share of sessions with a proprietary pattern at other thresholds"),
        col("n_anomalies", LONG, "rows in gold.anomalies"),
        col("n_by_analyst", LONG, "sessions judged by an analyst"),
        col("n_by_llm", LONG, "sessions judged by the LLM"),
        col("n_by_model", LONG, "sessions judged by the small model; these four counts sum to n_sessions"),
        col("n_unjudged", LONG, "sessions that nobody judged: shown as such, never as normal"),
        col("unjudged_why", STRING, "why nobody judged them, in words; null if there are none"),
        col("n_provisional", LONG, "sessions whose verdict may change, anomalous or not: the LLM is still to be asked about them"),
        col("versions", VERSIONS, "as in gold.anomalies"),
        col("rules", STRING, "hash of the system's reading rules by which the night was parsed"),
        RUN_ID,
        col("run_n_templates_new", LONG, "templates that this run founded"),
        col("run_n_embedded", LONG, "templates that this run embedded"),
        col("run_llm_calls", LONG, "calls that this run made to the LLM, retries included"),
        col("run_llm_items", LONG, "patterns that this run asked about"),
        col("run_llm_tokens_in", LONG, "prompt tokens"),
        col("run_llm_tokens_out", LONG, "completion tokens"),
        col("run_llm_failed", LONG, "patterns that stay open because the LLM gave no sound answer, or none at all"),
        col("run_llm_waiting", LONG, "patterns that wait in a batch"),
        col("run_llm_trouble", STRING, "what went wrong with the LLM, null where nothing did"),
        col("run_seconds", DOUBLE, "wall time of this run's stages for the system"),
        col("run_at", TIME, "when this run published, UTC"),
    ),
    ("ds", "system"),
    (),
    about="a night of a system: what was read, found and spent",
)
SIGNALS = TableSpec(
    "gold.signals",
    (
        DS,
        SYSTEM,
        col(
            "kind",
            STRING,
            "silence | new_template | rate | variation | value; learning: too few nights before to compare with; unavailable: not computed",
        ),
        col("template_id", STRING, "the template; empty where it is the whole system"),
        col("template", STRING, "its text"),
        col("seen", DOUBLE, "tonight: how often it was logged, how many new wordings it had, or the value; of learning, nights seen"),
        col("usual", DOUBLE, "what is usual on nights alike; of a value the usual bound that is passed"),
        col("strength", DOUBLE, "to rank by within the kind"),
        col("reason", STRING, "why, in a sentence"),
        col("first", BOOLEAN, "whether the system file wants them above the anomalies on the page"),
        RUN_ID,
    ),
    ("ds", "system", "kind", "template_id"),
    ("ds", "system"),
    about="something in a night that is unlike the system's nights before, whatever its sessions are like",
)
OUTCOMES = TableSpec(
    "ops.outcomes",
    (
        RUN_ID,
        DS,
        SYSTEM,
        col("stage", STRING, "ingest | parse | embed | route | detect | label | publish | report"),
        col("outcome", STRING, "done | incomplete | no_input | gated | failed | transient"),
        col("detail", STRING, "the error's message, where there is one"),
        col("counts", mapping(STRING, LONG), "what the stage counted"),
        col("seconds", DOUBLE, "wall time"),
        col("versions", mapping(STRING, STRING), "model, prompt and LLM that the run had pinned for the system"),
        col("at", TIME, "when the stage ended for this system, UTC; always later than the rows that the night had before"),
    ),
    ("run_id", "ds", "system", "stage", "at"),
    (),
    about="what became of a system in a stage of a run",
)
QUARANTINE = TableSpec(
    "ops.quarantine",
    (
        SYSTEM,
        DS,
        col("stage", STRING, "the stage that set the row aside"),
        col("reason", STRING, "the expectation or rule that it broke"),
        col("row", STRING, "the row as JSON; for a line: file, line_no, text"),
        RUN_ID,
    ),
    ("system", "ds", "stage", "row"),
    (),
    about="a row that broke a rule and was set aside",
)
APPROVALS = TableSpec(
    "ops.approvals",
    (
        DS,
        SYSTEM,
        col("stage", STRING, "the stage whose gate held the night back: parse | publish"),
        col(
            "held",
            array(struct(measure=STRING, value=DOUBLE, low=DOUBLE, high=DOUBLE)),
            "what was outside: the measure (see `gates.hold` of a system), its value, what the gate lets through",
        ),
        col("new_normal", BOOLEAN, "true: from this night on, nights before it are no history any more"),
        col("approved_by", STRING, "who approved"),
        col("reason", STRING, "why, null where none was given"),
        col("approved_at", TIME, "UTC"),
        col("run_id", STRING, "the run that went on with the night"),
    ),
    ("ds", "system", "approved_at"),
    (),
    about="a night that a gate had held back and somebody published all the same",
)
HANDOFFS = TableSpec(
    "ops.handoffs",
    (
        DS,
        RUN_ID,
        col("kind", STRING, "webhook | export | metrics"),
        col("outcome", STRING, "done | failed"),
        col("detail", STRING, "where it went (of a webhook the host alone), or why it did not"),
        col("content", STRING, "hash of what a webhook was told: the same is not told twice; null of other kinds"),
        col("at", TIME, "UTC"),
    ),
    ("run_id", "ds", "kind", "at"),
    (),
    about="a published night that was handed to somebody outside of the lake, or could not be",
)
MODELS = TableSpec(
    "ops.models",
    (
        col("version", STRING, "first 16 hex digits of sha256"),
        col("system", STRING, "the system that it is for alone; empty: what the sources teach, for every system"),
        col("sha256", STRING, "of the weights file"),
        col("status", STRING, "candidate | promoted | retired; a candidate that its gate refused stays one"),
        col("sources", array(STRING), "systems that taught it"),
        col("manifest", STRING, "JSON: encoder, tau, threshold, configuration, data versions"),
        col("metrics", mapping(STRING, DOUBLE), "measured on held-out source sessions"),
        col("created_at", TIME, "UTC"),
    ),
    ("version",),
    (),
    about="a version of a small model",
)
PSEUDO_LABELS = TableSpec(
    "ops.pseudo_labels",
    (
        SYSTEM,
        col("model", STRING, "the distilled model that learnt it"),
        col("pattern_id", STRING, "the pattern"),
        col("question_id", STRING, "the question whose verdict it comes from"),
        col("probability", DOUBLE, "of an anomaly, as the student learnt it"),
        col("origin", STRING, "feedback | second round | confident | agreement | unclear"),
        col("round", INT, "the round of distillation that accepted it"),
        col("llm_probability", DOUBLE, "of an anomaly, as the LLM or the analyst said"),
        col("small_probability", DOUBLE, "of an anomaly, as the small model said before the round"),
        RUN_ID,
    ),
    ("system", "model", "pattern_id"),
    (),
    about="a label that a distilled model learnt from",
)

ALL_TABLES = (
    LINES_TABLE,
    LABELS,
    FILES,
    MESSAGES,
    TEMPLATES,
    EVENTS_TABLE,
    COUNTS_TABLE,
    TEMPLATE_COUNTS,
    NUMBERS,
    SESSIONS,
    WAITING,
    READINGS,
    PATTERNS,
    VECTORS,
    ROUTES,
    SCORES,
    VERDICTS,
    ANSWERS,
    LLM_CALLS,
    LLM_BATCHES,
    ANOMALIES,
    NIGHTS,
    SIGNALS,
    OUTCOMES,
    QUARANTINE,
    APPROVALS,
    HANDOFFS,
    MODELS,
    PSEUDO_LABELS,
)
