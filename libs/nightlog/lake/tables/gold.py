"""Gold: anomalies, findings of the night and its counts, for readers in the morning."""

from __future__ import annotations

from nightlog.lake.schema import BOOLEAN, DOUBLE, DS, LONG, RUN_ID, STRING, SYSTEM, TIME, Column, TableSpec, array, struct

LINES = array(struct(file=STRING, line_no=LONG, text=STRING))
EVIDENCE = array(struct(template=STRING, count=LONG, nearest_source_template=STRING, similarity=DOUBLE, weight=DOUBLE, template_id=STRING))
VERSIONS = struct(model=STRING, prompt=STRING, llm=STRING, encoder=STRING, templates=STRING)
TAU_CURVE = array(struct(tau=DOUBLE, proprietary_share=DOUBLE))

ANOMALIES = TableSpec(
    "gold.anomalies",
    (
        DS,
        SYSTEM,
        Column("session_id", STRING, "the anomalous session"),
        Column("started_at", TIME, "first event, UTC"),
        Column("ended_at", TIME, "last event, UTC"),
        Column("n_events", LONG, "events in the session"),
        Column("score", DOUBLE, "probability of an anomaly, by the judge that decided"),
        Column("decided_by", STRING, "feedback | llm | student | history | small_model"),
        Column("route", STRING, "general | proprietary"),
        Column("status", STRING, "open | suppressed | provisional"),
        Column("reason", STRING, "why, in a sentence"),
        Column("evidence", EVIDENCE, "the session's templates, most telling first"),
        Column(
            "lines",
            LINES,
            "raw lines with those that continue a record, at most 50: the rarest and most severe records first, then the others, in order",
        ),
        Column("pattern_id", STRING, "the session's pattern"),
        Column("versions", VERSIONS, "model, prompt, LLM, encoder, and a hash of the template texts"),
        RUN_ID,
    ),
    ("ds", "system", "session_id"),
    ("ds", "system"),
    retention="gold",
    about="an anomalous session of a night",
)

NIGHTS = TableSpec(
    "gold.nights",
    (
        DS,
        SYSTEM,
        Column("outcome", STRING, "done | incomplete (published too) | no_input | gated | failed | transient"),
        Column("detail", STRING, "the reason, unless the outcome is done"),
        Column("n_files", LONG, "files read, copies not counted"),
        Column("n_hosts", LONG, "hosts that delivered lines: the parts of the files' paths that vary"),
        Column("n_bytes", LONG, "bytes of the lines read, unpacked, without line ends"),
        Column("n_lines", LONG, "lines read: one for each parsed record, n_blank, n_unparsed and n_continuation"),
        Column("n_blank", LONG, "lines without any text"),
        Column("n_continuation", LONG, "lines that continue a record of several lines"),
        Column("n_swallowed", LONG, "of these, lines that do not look like a continuation"),
        Column("n_unparsed", LONG, "lines that do not match the header"),
        Column("n_replaced", LONG, "lines with bytes that are not UTF-8"),
        Column("n_untimed", LONG, "parsed lines whose time stamp cannot be read"),
        Column("n_events", LONG, "events; a line with several ids counts once for each"),
        Column("n_without_session", LONG, "parsed lines that carry no session id"),
        Column("n_sessions", LONG, "sessions judged on the night: with events of it, or that waited for it"),
        Column("n_waiting", LONG, "sessions with events of the night that a later night judges"),
        Column("n_unchanged", LONG, "sessions with events of the night that a later night has judged on the same events"),
        Column("n_judged_again", LONG, "of n_sessions, those that an earlier night has judged on fewer events"),
        Column("n_outside", LONG, "sessions that no rule of the system can judge: none of their events has a template"),
        Column("n_patterns", LONG, "distinct patterns of these sessions"),
        Column("n_templates", LONG, "distinct templates in these patterns"),
        Column("n_proprietary", LONG, "patterns that the router calls proprietary"),
        Column("proprietary_share", DOUBLE, "their share of the sessions"),
        Column("tau", DOUBLE, "the router's threshold; null if nothing is general"),
        Column("tau_curve", TAU_CURVE, "share of sessions with a proprietary pattern at other thresholds"),
        Column("n_anomalies", LONG, "rows in gold.anomalies"),
        Column("n_by_analyst", LONG, "sessions judged by an analyst"),
        Column("n_by_llm", LONG, "sessions judged by the LLM"),
        Column("n_by_model", LONG, "sessions judged by the small model or flagged by the history"),
        Column("n_unjudged", LONG, "sessions that nobody judged: shown as such, never as normal"),
        Column("unjudged_why", STRING, "why nobody judged them, in words; null if there are none"),
        Column("n_provisional", LONG, "sessions whose verdict may change, anomalous or not: the LLM is still to be asked about them"),
        Column("n_by_student", LONG, "sessions judged by the student; this count, n_by_* and n_unjudged sum to n_sessions"),
        Column("student", STRING, "version of the student: its reference and the verdicts and answers it learnt; null if there was none"),
        Column("versions", VERSIONS, "as in gold.anomalies"),
        Column("rules", STRING, "hash of the system's reading rules by which the night was parsed"),
        RUN_ID,
        Column("run_n_templates_new", LONG, "templates that this run founded"),
        Column("run_n_embedded", LONG, "templates that this run embedded"),
        Column("run_llm_calls", LONG, "calls that this run made to the LLM, retries included"),
        Column("run_llm_items", LONG, "patterns that this run asked about"),
        Column("run_llm_tokens_in", LONG, "prompt tokens"),
        Column("run_llm_tokens_out", LONG, "completion tokens"),
        Column("run_llm_failed", LONG, "patterns that stay open because the LLM gave no sound answer, or none at all"),
        Column("run_llm_waiting", LONG, "patterns that wait in a batch"),
        Column("run_llm_trouble", STRING, "what went wrong with the LLM, null where nothing did"),
        Column("run_seconds", DOUBLE, "wall time of this run's stages for the system"),
        Column("run_at", TIME, "when this run published, UTC"),
    ),
    ("ds", "system"),
    (),
    retention="gold",
    about="a night of a system: what was read, found and spent",
)

SIGNALS = TableSpec(
    "gold.signals",
    (
        DS,
        SYSTEM,
        Column(
            "kind",
            STRING,
            "silence | new_template | rate | variation | value; learning: too few nights before to compare with; unavailable: not computed",
        ),
        Column("template_id", STRING, "the template; empty where it is the whole system"),
        Column("template", STRING, "its text"),
        Column("seen", DOUBLE, "tonight: how often it was logged, how many new wordings it had, or the value; of learning, nights seen"),
        Column("usual", DOUBLE, "what is usual on nights alike; of a value the usual bound that is passed"),
        Column("strength", DOUBLE, "to rank by within the kind"),
        Column("reason", STRING, "why, in a sentence"),
        Column("first", BOOLEAN, "whether the system file wants them above the anomalies on the page"),
        RUN_ID,
    ),
    ("ds", "system", "kind", "template_id"),
    ("ds", "system"),
    retention="gold",
    about="something in a night that is unlike the system's nights before, whatever its sessions are like",
)

GOLD = (ANOMALIES, NIGHTS, SIGNALS)
