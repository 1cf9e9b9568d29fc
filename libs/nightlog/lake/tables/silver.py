"""Silver: events, templates, sessions, patterns and verdicts, which the stages of a night derive from lines."""

from __future__ import annotations

from nightlog.lake.schema import (
    BOOLEAN,
    DOUBLE,
    DS,
    FILE,
    FLOAT,
    INT,
    LINE_NO,
    LONG,
    RUN_ID,
    STRING,
    SYSTEM,
    TIME,
    Column,
    TableSpec,
    array,
    mapping,
    struct,
)

EVENTS = array(struct(template_id=STRING, count=LONG))
ASKED = array(struct(template=STRING, count=LONG))

MESSAGES = TableSpec(
    "silver.messages",
    (
        SYSTEM,
        Column("message_id", LONG, "64-bit hash of the masked message"),
        Column("message", STRING, "a distinct masked message"),
        Column("template_id", STRING, "its template, assigned once and permanently"),
        Column("first_ds", STRING, "the night that first parsed it"),
    ),
    ("system", "message_id"),
    ("system",),
    about="a distinct masked message and the template that it belongs to",
)

TEMPLATES = TableSpec(
    "silver.templates",
    (
        SYSTEM,
        Column("template_id", STRING, "hash of the system and the template's first message"),
        Column("text", STRING, "the text at the end of its first night: what vectors, verdicts and evidence are about"),
        Column("widened", STRING, "the text as it is now; it only ever loses words to wildcards"),
        Column("first_message", STRING, "the masked message that founded it"),
        Column("token_count", INT, "words in each of its messages"),
        Column("ordinal", LONG, "order of foundation among the system's templates of this token count"),
        Column("first_ds", STRING, "the night that founded it"),
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
        Column("at", TIME, "when, UTC; null where the line has no readable time stamp"),
        Column("level", STRING, "trace | debug | info | notice | warning | error | critical | fatal; null if the header has none of them"),
        Column("session_id", STRING, "null where the line carries no id"),
        Column("message_id", LONG, "its masked message"),
    ),
    ("system", "file", "line_no", "session_id"),
    retention="silver",
    about="an event: a parsed line in one of the sessions that it belongs to",
)

COUNTS_TABLE = TableSpec(
    "silver.counts",
    (
        SYSTEM,
        DS,
        Column("session_id", STRING, "the session"),
        Column("message_id", LONG, "a masked message in it"),
        Column("n", LONG, "how often, in one part of the day's lines; the parts of a day add up"),
        Column("first_at", TIME, "the first of these events"),
        Column("last_at", TIME, "the last of them"),
        Column("bucket", INT, "0 to 65535, by the session's id; the rows of a file are in its order"),
    ),
    ("system", "ds", "session_id", "message_id"),
    sorted_by="bucket",
    retention="silver",
    about="how often a message stands in a session on one day: what sessions are made from",
)

TEMPLATE_COUNTS = TableSpec(
    "silver.template_counts",
    (
        SYSTEM,
        DS,
        Column("template_id", STRING, "a template"),
        Column("n", LONG, "records of it in the night's own files, in a session or not; each counts once, in whatever sessions it is"),
        Column("level", STRING, "the level that most of them with a level have, as in silver.events; null if none has one"),
    ),
    ("system", "ds", "template_id"),
    retention="silver",
    about="how often a template was logged on one day: what signals are found by",
)

NUMBERS = TableSpec(
    "silver.numbers",
    (
        SYSTEM,
        DS,
        Column("template_id", STRING, "a template with numbers, those that the mask NUM takes out"),
        Column("word", INT, "which of its words holds the number, from 1"),
        Column("nth", INT, "which number of the word it is, from 1"),
        Column("n", LONG, "how many lines had a plain number there: at most 15 digits, one point"),
        Column("low", DOUBLE, "the lowest"),
        Column("low_file", STRING, "where it first was"),
        Column("low_line", LONG, "and in which line"),
        Column("high", DOUBLE, "the highest"),
        Column("high_file", STRING, "where it first was"),
        Column("high_line", LONG, "and in which line"),
    ),
    ("system", "ds", "template_id", "word", "nth"),
    retention="silver",
    about="between which values a number in the lines of a template lay on one day",
)

SESSIONS = TableSpec(
    "silver.sessions",
    (
        SYSTEM,
        DS,
        Column("session_id", STRING, "the session, as the system's ids name it"),
        Column("pattern_id", STRING, "its pattern"),
        Column("started_at", TIME, "first event, look-back days included"),
        Column("ended_at", TIME, "last event of the night"),
        Column("n_events", LONG, "events, look-back days included"),
    ),
    ("system", "ds", "session_id"),
    retention="silver",
    about="a session that is judged on the night: it has events of it, or waited for it",
)

WAITING = TableSpec(
    "silver.waiting",
    (
        SYSTEM,
        Column("ds", STRING, "since which night it waits: the night of its events, YYYY-MM-DD"),
        Column("state", STRING, "waiting | judged"),
        Column("session_id", STRING, "the session; it begins in the last minutes of that night"),
        Column("until", STRING, "the night that judges it at the latest"),
        Column("judged_ds", STRING, "the later night that judged it; null while it waits"),
        Column("pattern_id", STRING, "its pattern by the events up to that night"),
        Column("started_at", TIME, "the first of these events"),
        Column("ended_at", TIME, "the last of them"),
        Column("n_events", LONG, "how many they are"),
    ),
    ("system", "ds", "session_id"),
    ("system", "ds", "state"),
    retention="silver",
    about="a session that a night leaves to a later one, since so far only its first moments have been seen",
)

READINGS = TableSpec(
    "silver.readings",
    (
        SYSTEM,
        Column("ds", STRING, "a day of lines, YYYY-MM-DD"),
        Column("rules", STRING, "hash of the reading rules by which its lines were parsed"),
        Column("content", STRING, "fingerprint of its rows in silver.counts"),
        Column(
            "earlier",
            mapping(STRING, STRING),
            "earlier day → its content when the day's sessions were made; null if never run as a night",
        ),
        Column("n_waiting", LONG, "sessions that it leaves to a later night; null if nobody has looked"),
        RUN_ID,
        Column("run_lines", STRING, "hash of the names of the files of bronze.lines that were parsed"),
    ),
    ("system", "ds"),
    (),
    retention="silver",
    about="how a day's lines were parsed, and which earlier days its sessions were made with",
)

PATTERNS = TableSpec(
    "silver.patterns",
    (
        SYSTEM,
        DS,
        Column("pattern_id", STRING, "hash of the multiset of templates with counts in powers of two"),
        Column("question_id", STRING, "what is asked about it: the pattern itself, or its set of templates where counts tell nothing"),
        Column("events", EVENTS, "templates and counts, a count rounded down to a power of two, in the order of template_id"),
        Column("n_sessions", LONG, "the night's sessions of this pattern"),
        Column("example_session_id", STRING, "the first of them in the order of ids"),
    ),
    ("system", "ds", "pattern_id"),
    retention="silver",
    about="a distinct pattern of the night's sessions",
)

VECTORS = TableSpec(
    "silver.template_vectors",
    (
        SYSTEM,
        Column("template_id", STRING, "the template"),
        Column("encoder", STRING, "name and version of the sentence encoder"),
        Column("vector", array(FLOAT), "unit-norm sentence vector of the template's text"),
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
        Column("pattern_id", STRING, "the pattern"),
        Column("similarity", DOUBLE, "least cosine of its templates to any source template; null if no trained model serves"),
        Column("route", STRING, "general | proprietary"),
        Column(
            "nearest",
            array(struct(template_id=STRING, source=STRING, nearest_source_template=STRING, similarity=DOUBLE)),
            "for each template the most similar source template",
        ),
        Column("model", STRING, "version of the model that serves"),
    ),
    ("system", "ds", "pattern_id"),
    retention="silver",
    about="where the router sent a pattern of the night",
)

SCORES = TableSpec(
    "silver.scores",
    (
        SYSTEM,
        DS,
        Column("pattern_id", STRING, "the pattern"),
        Column("probability", DOUBLE, "probability of an anomaly by the model that serves"),
        Column("weights", array(struct(template_id=STRING, weight=DOUBLE)), "of each template, they sum to 1: attention, or surprise"),
        Column("model", STRING, "version of the model that serves"),
    ),
    ("system", "ds", "pattern_id"),
    retention="silver",
    about="score of a pattern of the night by the model that serves",
)

HISTORY = TableSpec(
    "silver.history",
    (
        SYSTEM,
        DS,
        Column("pattern_id", STRING, "the pattern"),
        Column("score", DOUBLE, "how unlike the system's nights so far it is, times severity"),
        Column("tail", DOUBLE, "-log10 of the share of the reference's sessions with at least this score"),
        Column("probability", DOUBLE, "probability of an anomaly by the history alone"),
        Column("flagged", BOOLEAN, "anomalous by the history alone; null while it is learning"),
        Column("reasons", array(STRING), "reasons in words, the strongest first"),
        Column("reference", STRING, "version of the reference"),
        Column("n_reference", LONG, "sessions in the reference"),
        Column("student", DOUBLE, "probability of an anomaly by the student; null if somebody judged the pattern, or too few are judged"),
        Column("student_reason", STRING, "the student's reason: the most similar judged pattern, and the history's reasons"),
        Column("overruled", BOOLEAN, "the LLM's verdict leaves a doubt on the normal side, and the history outweighs it"),
        Column("is_enough", BOOLEAN, "further answers of the LLM about the night would change next to nothing"),
    ),
    ("system", "ds", "pattern_id"),
    retention="silver",
    about="how unlike the system's own nights a pattern of the night is",
)

VERDICTS = TableSpec(
    "silver.verdicts",
    (
        SYSTEM,
        Column("question_id", STRING, "the judged question, see silver.patterns"),
        Column("prompt", STRING, "hash of the prompts: instructions, policy and schemas"),
        Column("llm", STRING, "provider and model that answered"),
        Column("label", STRING, "normal | anomalous | unclear: the last word, of the second round where there was one"),
        Column("confidence", DOUBLE, "0 to 1, as the LLM gave it"),
        Column("reason", STRING, "one sentence of the LLM"),
        Column("round", INT, "2 where the question was judged side by side with others, else 1"),
        Column("group", STRING, "the LLM's name for what sets the question apart; null where the first verdict stands"),
        Column("group_key", STRING, "hash of the difference to the nearest confidently normal pattern; null in round 1"),
        Column("added", ASKED, "what the question has more than that pattern"),
        Column("missing", ASKED, "what it has less"),
        Column("first_label", STRING, "what the first round said"),
        Column("first_confidence", DOUBLE, "and how sure it was"),
        Column("events", ASKED, "what was asked; counts are null where they tell nothing"),
        Column("ds", STRING, "the night that asked"),
        Column("run_id", STRING, "the run that asked"),
        Column("asked_at", TIME, "when the answer came"),
        Column(
            "served_by",
            STRING,
            "model and fingerprint that the answer itself names; null where it names none, and in groups joined unasked",
        ),
    ),
    ("system", "question_id", "prompt", "llm"),
    (),
    about="what an LLM says of a question, under one prompt",
)

SILVER = (
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
