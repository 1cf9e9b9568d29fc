"""Ops: outcomes, answers of analysts, calls of the LLM, models, and other records of the runs."""

from __future__ import annotations

from nightlog.lake.schema import (
    BOOLEAN,
    DOUBLE,
    DS,
    INT,
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

ANSWERS = TableSpec(
    "ops.answers",
    (
        SYSTEM,
        Column("kind", STRING, "answer | label | suppression; null is an answer"),
        Column("about", STRING, "what it is about: group | pattern | template; null is a group"),
        Column("group", STRING, "id of the group, the pattern or the template that it is about"),
        Column("name", STRING, "the group's name then, null where it was a single question; the template's text"),
        Column("label", STRING, "normal | anomalous, of a suppression suppressed; null takes an earlier one back"),
        Column("questions", array(STRING), "the questions that the group had then: they stay answered under any prompt; or the pattern"),
        Column("until", STRING, "the last night that a suppression is for, YYYY-MM-DD"),
        Column("session_id", STRING, "the session that was pointed at, where it was one"),
        Column("ds", STRING, "the night that it was seen in"),
        Column("note", STRING, "what was said besides"),
        Column("answered_by", STRING, "who said so"),
        Column("answered_at", TIME, "UTC; of several of a kind about the same thing the last counts"),
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
        Column("mode", STRING, "what it was asked for: generallog | fusionlog"),
        Column("llm", STRING, "provider and model"),
        Column("round", INT, "1 or 2"),
        Column("calls", LONG, "attempts of this request, retries included"),
        Column("items", LONG, "questions in the request"),
        Column("n_sessions", LONG, "the night's sessions behind questions that no request about this night had asked before"),
        Column("tokens_in", LONG, "prompt tokens, cached ones included; those expected where an answer broke off or came without a count"),
        Column("tokens_cached", LONG, "of these, those that the provider had cached"),
        Column("tokens_out", LONG, "completion tokens, in the same way"),
        Column("money", DOUBLE, "US dollars, by the prices that were set then"),
        Column("seconds", DOUBLE, "since the answer before, waits included; of a batch since it was submitted"),
        Column("trouble", STRING, "what went wrong, null where nothing did"),
        Column("at", TIME, "when the answer came, UTC"),
        Column("unanswered", array(STRING), "ids of the questions that got no verdict; such questions are asked last"),
    ),
    ("run_id", "ds", "system", "round", "at"),
    (),
    about="a request to the LLM",
)

LLM_BATCHES = TableSpec(
    "ops.llm_batches",
    (
        Column("batch", STRING, "Nightlog's own name of the batch; the endpoint keeps it in its metadata"),
        SYSTEM,
        Column("ds", STRING, "the night that asks"),
        Column("run_id", STRING, "the run that asks"),
        Column("status", STRING, "submitting | open | collected | lost"),
        Column("endpoint", STRING, "host that it was sent to"),
        Column("batch_id", STRING, "the endpoint's name of it; null until the endpoint has answered"),
        Column("prompt", STRING, "as in silver.verdicts"),
        Column("llm", STRING, "provider and model"),
        Column("round", INT, "1 or 2"),
        Column("calls", LONG, "requests in the batch"),
        Column("n_sessions", LONG, "the night's sessions behind its questions"),
        Column("tokens_in", LONG, "prompt tokens expected, reserved in the budgets until it is collected"),
        Column("tokens_out", LONG, "completion tokens expected"),
        Column("money", DOUBLE, "US dollars expected"),
        Column("questions", array(STRING), "ids of what it asks"),
        Column("asked", STRING, "JSON: the questions of each request as they were asked; empty once it is collected"),
        Column("trouble", STRING, "what went wrong, null where nothing did"),
        Column("submitted_at", TIME, "UTC"),
        Column("collected_at", TIME, "UTC; null while it is open"),
    ),
    ("batch",),
    (),
    about="a batch of requests to the LLM, from before it is sent until its answers are collected",
)

OUTCOMES = TableSpec(
    "ops.outcomes",
    (
        RUN_ID,
        DS,
        SYSTEM,
        Column("stage", STRING, "ingest | parse | embed | route | detect | label | publish | report"),
        Column("outcome", STRING, "done | incomplete | no_input | gated | failed | transient"),
        Column("detail", STRING, "the error's message, where there is one"),
        Column("counts", mapping(STRING, LONG), "what the stage counted"),
        Column("seconds", DOUBLE, "wall time"),
        Column("versions", mapping(STRING, STRING), "model, prompt and LLM that the run had pinned for the system"),
        Column("at", TIME, "when the stage ended for this system, UTC; always later than the rows that the night had before"),
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
        Column("stage", STRING, "the stage that set the row aside"),
        Column("reason", STRING, "the expectation or rule that it broke"),
        Column("row", STRING, "the row as JSON; for a line: file, line_no, text"),
        RUN_ID,
    ),
    ("system", "ds", "stage", "row"),
    (),
    retention="bronze",
    about="a row that broke a rule and was set aside",
)

APPROVALS = TableSpec(
    "ops.approvals",
    (
        DS,
        SYSTEM,
        Column("stage", STRING, "the stage whose gate held the night back: parse | publish"),
        Column(
            "held",
            array(struct(measure=STRING, value=DOUBLE, low=DOUBLE, high=DOUBLE)),
            "what was outside: the measure (see `gates.hold` of a system), its value, what the gate lets through",
        ),
        Column("new_normal", BOOLEAN, "true: from this night on, nights before it are no history any more"),
        Column("approved_by", STRING, "who approved"),
        Column("reason", STRING, "why, null where none was given"),
        Column("approved_at", TIME, "UTC"),
        Column("run_id", STRING, "the run that went on with the night"),
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
        Column("kind", STRING, "webhook | export | metrics"),
        Column("outcome", STRING, "done | failed"),
        Column("detail", STRING, "where it went (of a webhook the host alone), or why it did not"),
        Column("content", STRING, "hash of the message of a webhook: the same is not sent twice; null for other kinds"),
        Column("at", TIME, "UTC"),
    ),
    ("run_id", "ds", "kind", "at"),
    (),
    about="a published night that was handed to somebody outside of the lake, or could not be",
)

MODELS = TableSpec(
    "ops.models",
    (
        Column("version", STRING, "first 16 hex digits of sha256"),
        Column("system", STRING, "the system that it is for alone; empty: what the sources teach, for every system"),
        Column("sha256", STRING, "of the weights file"),
        Column("status", STRING, "candidate | promoted | retired; a candidate that its gate refused stays one"),
        Column("sources", array(STRING), "systems that taught it"),
        Column("manifest", STRING, "JSON: encoder, tau, threshold, configuration, data versions"),
        Column("metrics", mapping(STRING, DOUBLE), "measured on held-out source sessions"),
        Column("created_at", TIME, "UTC"),
    ),
    ("version",),
    (),
    about="a version of a small model",
)

PSEUDO_LABELS = TableSpec(
    "ops.pseudo_labels",
    (
        SYSTEM,
        Column("model", STRING, "the distilled model that learnt it"),
        Column("pattern_id", STRING, "the pattern"),
        Column("question_id", STRING, "the question whose verdict it comes from"),
        Column("probability", DOUBLE, "of an anomaly, as the student learnt it"),
        Column("origin", STRING, "feedback | second round | confident | agreement | unclear"),
        Column("round", INT, "the round of distillation that accepted it"),
        Column("llm_probability", DOUBLE, "of an anomaly, as the LLM or the analyst said"),
        Column("small_probability", DOUBLE, "of an anomaly, as the small model said before the round"),
        RUN_ID,
    ),
    ("system", "model", "pattern_id"),
    (),
    about="a label that a distilled model learnt from",
)

OPS = (ANSWERS, LLM_CALLS, LLM_BATCHES, OUTCOMES, QUARANTINE, APPROVALS, HANDOFFS, MODELS, PSEUDO_LABELS)
