"""Silver: events, templates, sessions, patterns and verdicts, which the stages of a night derive from lines."""

from datetime import datetime
from typing import Annotated, Literal, TypedDict

from nightlog.lake.schema import Ds, Float32, Int32, LineNo, LogFile, RunId, SystemName, TableSpec, table


class MessageRow(TypedDict, total=False):
    """A distinct masked message and the template that it belongs to."""

    system: SystemName
    message_id: Annotated[int, "64-bit hash of the masked message"]
    message: Annotated[str, "a distinct masked message"]
    template_id: Annotated[str, "its template, assigned once and permanently"]
    first_ds: Annotated[str, "the night that first parsed it"]


MESSAGES = table(MessageRow, "silver.messages", ("system", "message_id"), partition=("system",))


class TemplateRow(TypedDict, total=False):
    """A template of a system."""

    system: SystemName
    template_id: Annotated[str, "hash of the system and the template's first message"]
    text: Annotated[str, "the text at the end of its first night: what vectors, verdicts and evidence are about"]
    widened: Annotated[str, "the text as it is now; it only ever loses words to wildcards"]
    first_message: Annotated[str, "the masked message that founded it"]
    token_count: Annotated[Int32, "words in each of its messages"]
    ordinal: Annotated[int, "order of foundation among the system's templates of this token count"]
    first_ds: Annotated[str, "the night that founded it"]


TEMPLATES = table(TemplateRow, "silver.templates", ("system", "template_id"), partition=("system",))


class EventRow(TypedDict, total=False):
    """An event: a parsed line in one of the sessions that it belongs to."""

    system: SystemName
    ds: Ds
    file: LogFile
    line_no: LineNo
    at: Annotated[datetime | None, "when, UTC; null where the line has no readable time stamp"]
    level: Annotated[str | None, "trace | debug | info | notice | warning | error | critical | fatal; null if the header has none of them"]
    session_id: Annotated[str | None, "null where the line carries no id"]
    message_id: Annotated[int, "its masked message"]


EVENTS_TABLE = table(EventRow, "silver.events", ("system", "file", "line_no", "session_id"), retention="silver")


class CountRow(TypedDict, total=False):
    """The count of a message in a session on one day; sessions are made from these."""

    system: SystemName
    ds: Ds
    session_id: Annotated[str, "the session"]
    message_id: Annotated[int, "a masked message in it"]
    n: Annotated[int, "how often, in one part of the day's lines; the parts of a day add up"]
    first_at: Annotated[datetime, "the first of these events"]
    last_at: Annotated[datetime, "the last of them"]
    bucket: Annotated[Int32, "0 to 65535, by the session's id; the rows of a file are in its order"]


COUNTS_TABLE = table(
    CountRow,
    "silver.counts",
    ("system", "ds", "session_id", "message_id"),
    partition=("system", "ds"),
    sorted_by="bucket",
    retention="silver",
)


class TemplateCountRow(TypedDict, total=False):
    """The count of a template on one day; signals are found by these."""

    system: SystemName
    ds: Ds
    template_id: Annotated[str, "a template"]
    n: Annotated[int, "records of it in the night's own files, in a session or not; each counts once, in whatever sessions it is"]
    level: Annotated[str | None, "the level that most of them with a level have, as in silver.events; null if none has one"]
    last_at: Annotated[datetime | None, "when it was last logged on that day, UTC; null if no record has a time of the day"]


TEMPLATE_COUNTS = table(TemplateCountRow, "silver.template_counts", ("system", "ds", "template_id"), retention="silver")


class NumberRow(TypedDict, total=False):
    """The lowest and the highest value of a number in the lines of a template on one day."""

    system: SystemName
    ds: Ds
    template_id: Annotated[str, "a template with numbers, those that the mask NUM takes out"]
    word: Annotated[Int32, "which of its words holds the number, from 1"]
    nth: Annotated[Int32, "which number of the word it is, from 1"]
    n: Annotated[int, "how many lines had a plain number there: at most 15 digits, one point"]
    low: Annotated[float, "the lowest"]
    low_file: Annotated[str, "where it first was"]
    low_line: Annotated[int, "and in which line"]
    high: Annotated[float, "the highest"]
    high_file: Annotated[str, "where it first was"]
    high_line: Annotated[int, "and in which line"]


NUMBERS = table(NumberRow, "silver.numbers", ("system", "ds", "template_id", "word", "nth"), retention="silver")


class SessionRow(TypedDict, total=False):
    """A session that is judged on the night: it has events of it, or waited for it."""

    system: SystemName
    ds: Ds
    session_id: Annotated[str, "the session, as the system's ids name it"]
    pattern_id: Annotated[str, "its pattern"]
    started_at: Annotated[datetime, "first event, look-back days included"]
    ended_at: Annotated[datetime, "last event of the night"]
    n_events: Annotated[int, "events, look-back days included"]


SESSIONS = table(SessionRow, "silver.sessions", ("system", "ds", "session_id"), retention="silver")


class WaitingRow(TypedDict, total=False):
    """A session that a night leaves to a later one, since so far only its first moments have been seen."""

    system: SystemName
    ds: Annotated[str, "since which night it waits: the night of its events, YYYY-MM-DD"]
    state: Annotated[str, "waiting | judged"]
    session_id: Annotated[str, "the session; it begins in the last minutes of that night"]
    until: Annotated[str, "the night that judges it at the latest"]
    judged_ds: Annotated[str | None, "the later night that judged it; null while it waits"]
    pattern_id: Annotated[str, "its pattern by the events up to that night"]
    started_at: Annotated[datetime, "the first of these events"]
    ended_at: Annotated[datetime, "the last of them"]
    n_events: Annotated[int, "how many they are"]


WAITING = table(WaitingRow, "silver.waiting", ("system", "ds", "session_id"), partition=("system", "ds", "state"), retention="silver")


class ReadingRow(TypedDict, total=False):
    """The reading of a day: the rules that parsed its lines, and the earlier days that its sessions were made with."""

    system: SystemName
    ds: Annotated[str, "a day of lines, YYYY-MM-DD"]
    rules: Annotated[str, "hash of the reading rules by which its lines were parsed"]
    content: Annotated[str, "fingerprint of its rows in silver.counts"]
    earlier: Annotated[dict[str, str] | None, "earlier day → its content when the day's sessions were made; null if never run as a night"]
    n_waiting: Annotated[int | None, "sessions that it leaves to a later night; null if nobody has looked"]
    run_id: RunId
    run_lines: Annotated[str, "hash of the names of the files of bronze.lines that were parsed"]
    run_parts: Annotated[str | None, "hash of the names of the files that were made from them, in silver.events, counts and others"]
    run_messages: Annotated[str | None, "hash of the templates of its messages when it was parsed"]
    run_tally: Annotated[dict[str, int] | None, "counts of its lines by what they were parsed into; null if days were parsed together"]


READINGS = table(ReadingRow, "silver.readings", ("system", "ds"), partition=(), retention="silver")


class PatternEvent(TypedDict, total=False):
    """A template of a pattern, and its count."""

    template_id: str
    count: int


class PatternRow(TypedDict, total=False):
    """A distinct pattern of the night's sessions."""

    system: SystemName
    ds: Ds
    pattern_id: Annotated[str, "hash of the multiset of templates with counts in powers of two"]
    question_id: Annotated[str, "what is asked about it: the pattern itself, or its set of templates where counts tell nothing"]
    events: Annotated[list[PatternEvent], "templates and counts, a count rounded down to a power of two, in the order of template_id"]
    n_sessions: Annotated[int, "the night's sessions of this pattern"]
    example_session_id: Annotated[str, "the first of them in the order of ids"]


PATTERNS = table(PatternRow, "silver.patterns", ("system", "ds", "pattern_id"), retention="silver")


class VectorRow(TypedDict, total=False):
    """A template's sentence vector."""

    system: SystemName
    template_id: Annotated[str, "the template"]
    encoder: Annotated[str, "name and version of the sentence encoder"]
    vector: Annotated[list[Float32], "unit-norm sentence vector of the template's text"]


VECTORS = table(VectorRow, "silver.template_vectors", ("system", "template_id", "encoder"), partition=("system",))


class NearestTemplate(TypedDict, total=False):
    """A template and the most similar template of the sources."""

    template_id: str
    source: str | None
    nearest_source_template: str | None
    similarity: float | None


class RouteRow(TypedDict, total=False):
    """The route of a pattern of the night."""

    system: SystemName
    ds: Ds
    pattern_id: Annotated[str, "the pattern"]
    similarity: Annotated[float | None, "least cosine of its templates to any source template; null if no trained model serves"]
    route: Annotated[str, "general | proprietary"]
    nearest: Annotated[list[NearestTemplate], "for each template the most similar source template"]
    model: Annotated[str, "version of the model that serves"]


ROUTES = table(RouteRow, "silver.routes", ("system", "ds", "pattern_id"), retention="silver")


class TemplateWeight(TypedDict, total=False):
    """The weight of a template in a score."""

    template_id: str
    weight: float


class ScoreRow(TypedDict, total=False):
    """Score of a pattern of the night by the model that serves."""

    system: SystemName
    ds: Ds
    pattern_id: Annotated[str, "the pattern"]
    probability: Annotated[float, "probability of an anomaly by the model that serves"]
    weights: Annotated[list[TemplateWeight], "of each template, they sum to 1: attention, or surprise"]
    model: Annotated[str, "version of the model that serves"]


SCORES = table(ScoreRow, "silver.scores", ("system", "ds", "pattern_id"), retention="silver")


class HistoryRow(TypedDict, total=False):
    """The score of a pattern of the night by the history: how unlike the system's own nights it is."""

    system: SystemName
    ds: Ds
    pattern_id: Annotated[str, "the pattern"]
    score: Annotated[float, "how unlike the system's nights so far it is, times severity"]
    tail: Annotated[float, "-log10 of the share of the reference's sessions with at least this score"]
    probability: Annotated[float, "probability of an anomaly by the history alone"]
    flagged: Annotated[bool | None, "anomalous by the history alone; null while it is learning"]
    reasons: Annotated[list[str], "reasons in words, the strongest first"]
    reference: Annotated[str, "version of the reference"]
    n_reference: Annotated[int, "sessions in the reference"]
    student: Annotated[float | None, "probability of an anomaly by the student; null if somebody judged the pattern, or too few are judged"]
    student_reason: Annotated[str | None, "the student's reason: the most similar judged pattern, and the history's reasons"]
    overruled: Annotated[bool | None, "the LLM's verdict leaves a doubt on the normal side, and the history outweighs it"]
    is_enough: Annotated[bool | None, "further answers of the LLM about the night would change next to nothing"]


HISTORY = table(HistoryRow, "silver.history", ("system", "ds", "pattern_id"), retention="silver")


class AskedEvent(TypedDict, total=False):
    """A template and its count, as an LLM was asked about it; null if counts are meaningless."""

    template: str
    count: int | None


class VerdictRow(TypedDict, total=False):
    """The verdict of an LLM on a question, under one prompt."""

    system: SystemName
    question_id: Annotated[str, "the judged question, see silver.patterns"]
    prompt: Annotated[str, "hash of the prompts: instructions, policy and schemas"]
    llm: Annotated[str, "provider and model that answered"]
    label: Annotated[Literal["normal", "anomalous", "unclear"], "normal | anomalous | unclear: of the second round if there was one"]
    confidence: Annotated[float, "0 to 1, as the LLM gave it"]
    reason: Annotated[str, "one sentence of the LLM"]
    round: Annotated[Int32, "2 where the question was judged side by side with others, else 1"]
    group: Annotated[str | None, "the LLM's name for what sets the question apart; null where the first verdict stands"]
    group_key: Annotated[str | None, "hash of the difference to the nearest confidently normal pattern; null in round 1"]
    added: Annotated[list[AskedEvent] | None, "what the question has more than that pattern"]
    missing: Annotated[list[AskedEvent] | None, "what it has less"]
    first_label: Annotated[str, "label of the first round"]
    first_confidence: Annotated[float, "and its confidence"]
    events: Annotated[list[AskedEvent] | None, "what was asked; counts are null where they tell nothing"]
    ds: Annotated[str, "the night that asked"]
    run_id: Annotated[str, "the run that asked"]
    asked_at: Annotated[datetime, "when the answer came"]
    served_by: Annotated[
        str | None, "model and fingerprint that the answer itself names; null where it names none, and in groups joined unasked"
    ]


VERDICTS = table(VerdictRow, "silver.verdicts", ("system", "question_id", "prompt", "llm"), partition=())


SILVER: tuple[TableSpec, ...] = (
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
    HISTORY,
    VERDICTS,
)
