"""Ops: outcomes, answers of analysts, calls of the LLM, models, and other records of the runs."""

from datetime import datetime
from typing import Annotated, TypedDict

from nightlog.lake.schema import Ds, Int32, Rule, RunId, SystemName, TableSpec, table
from nightlog.outcomes import OutcomeKind, Stage


class AnswerRow(TypedDict, total=False):
    """A statement of an analyst: an answer about a group of questions, a label on a pattern, or a suppression."""

    system: SystemName
    kind: Annotated[str | None, "answer | label | suppression; null is an answer", Rule(values=("answer", "label", "suppression"))]
    about: Annotated[
        str | None, "what it is about: group | pattern | template; null is a group", Rule(values=("group", "pattern", "template"))
    ]
    group: Annotated[str, "id of the group, the pattern or the template that it is about", Rule(required=True)]
    name: Annotated[str | None, "the group's name then, null where it was a single question; the template's text"]
    label: Annotated[
        str | None,
        "normal | anomalous, of a suppression suppressed; null takes an earlier one back",
        Rule(values=("normal", "anomalous", "suppressed")),
    ]
    questions: Annotated[list[str] | None, "the questions that the group had then: they stay answered under any prompt; or the pattern"]
    until: Annotated[str | None, "the last night that a suppression is for, YYYY-MM-DD"]
    session_id: Annotated[str | None, "the session that was pointed at, where it was one"]
    ds: Annotated[str | None, "the night that it was seen in"]
    note: Annotated[str | None, "a remark of the analyst"]
    answered_by: Annotated[str, "the analyst", Rule(required=True)]
    answered_at: Annotated[datetime, "UTC; of several of a kind about the same thing the last counts", Rule(required=True)]


ANSWERS = table(AnswerRow, "ops.answers", ("system", "kind", "about", "group", "answered_at"), partition=())


class LlmCallRow(TypedDict, total=False):
    """A request to the LLM."""

    system: SystemName
    ds: Ds
    run_id: Annotated[RunId, Rule(required=True, severity="warning")]
    mode: Annotated[str, "what it was asked for: generallog | fusionlog"]
    llm: Annotated[str, "provider and model", Rule(required=True, severity="warning")]
    round: Annotated[Int32, "1 or 2", Rule(required=True, values=(1, 2), severity="warning")]
    calls: Annotated[int, "attempts of this request, retries included", Rule(low=0, severity="warning")]
    items: Annotated[int, "questions in the request", Rule(low=0, severity="warning")]
    n_sessions: Annotated[int, "the night's sessions behind questions that no request about this night had asked before"]
    tokens_in: Annotated[
        int,
        "prompt tokens, cached ones included; those expected where an answer broke off or came without a count",
        Rule(low=0, severity="warning"),
    ]
    tokens_cached: Annotated[int, "of these, those that the provider had cached", Rule(low=0, severity="warning")]
    tokens_out: Annotated[int, "completion tokens, in the same way", Rule(low=0, severity="warning")]
    money: Annotated[float, "US dollars, by the prices that were set then", Rule(low=0, severity="warning")]
    seconds: Annotated[float, "since the answer before, waits included; of a batch since it was submitted"]
    trouble: Annotated[str | None, "what went wrong, null where nothing did"]
    at: Annotated[datetime, "when the answer came, UTC", Rule(required=True, severity="warning")]
    unanswered: Annotated[list[str] | None, "ids of the questions that got no verdict; such questions are asked last"]


LLM_CALLS = table(LlmCallRow, "ops.llm_calls", ("run_id", "ds", "system", "round", "at"), partition=())


class LlmBatchRow(TypedDict, total=False):
    """A batch of requests to the LLM, from before it is sent until its answers are collected."""

    batch: Annotated[str, "Nightlog's own name of the batch; the endpoint keeps it in its metadata", Rule(unique=True, severity="warning")]
    system: SystemName
    ds: Annotated[str, "the night that asks"]
    run_id: Annotated[str, "the run that asks", Rule(required=True, severity="warning")]
    status: Annotated[
        str,
        "submitting | open | collected | lost",
        Rule(required=True, values=("submitting", "open", "collected", "lost"), severity="warning"),
    ]
    endpoint: Annotated[str, "host that it was sent to"]
    batch_id: Annotated[str | None, "the endpoint's name of it; null until the endpoint has answered"]
    prompt: Annotated[str, "as in silver.verdicts"]
    llm: Annotated[str, "provider and model"]
    round: Annotated[Int32, "1 or 2", Rule(required=True, values=(1, 2), severity="warning")]
    calls: Annotated[int, "requests in the batch", Rule(low=0, severity="warning")]
    n_sessions: Annotated[int, "the night's sessions behind its questions"]
    tokens_in: Annotated[int, "prompt tokens expected, reserved in the budgets until it is collected", Rule(low=0, severity="warning")]
    tokens_out: Annotated[int, "completion tokens expected", Rule(low=0, severity="warning")]
    money: Annotated[float, "US dollars expected", Rule(low=0, severity="warning")]
    questions: Annotated[list[str], "ids of what it asks"]
    asked: Annotated[str, "JSON: the questions of each request as they were asked; empty once it is collected"]
    trouble: Annotated[str | None, "what went wrong, null where nothing did"]
    submitted_at: Annotated[datetime, "UTC", Rule(required=True, severity="warning")]
    collected_at: Annotated[datetime | None, "UTC; null while it is open"]


LLM_BATCHES = table(LlmBatchRow, "ops.llm_batches", ("batch",), partition=())


class OutcomeRow(TypedDict, total=False):
    """The outcome of a system in a stage of a run."""

    run_id: Annotated[RunId, Rule(required=True, severity="warning")]
    ds: Ds
    system: Annotated[SystemName, Rule(required=True, severity="warning")]
    stage: Annotated[
        str,
        "ingest | parse | embed | route | detect | label | publish | report",
        Rule(required=True, values=tuple(Stage), severity="warning"),
    ]
    outcome: Annotated[
        str, "done | incomplete | no_input | gated | failed | transient", Rule(required=True, values=tuple(OutcomeKind), severity="warning")
    ]
    detail: Annotated[str | None, "the error's message, where there is one"]
    counts: Annotated[dict[str, int] | None, "what the stage counted"]
    seconds: Annotated[float, "wall time", Rule(low=0, severity="warning")]
    versions: Annotated[dict[str, str] | None, "model, prompt and LLM that the run had pinned for the system"]
    at: Annotated[
        datetime,
        "when the stage ended for this system, UTC; always later than the rows that the night had before",
        Rule(required=True, severity="warning"),
    ]


OUTCOMES = table(OutcomeRow, "ops.outcomes", ("run_id", "ds", "system", "stage", "at"), partition=())


class QuarantineRow(TypedDict, total=False):
    """A row that broke a rule and was set aside."""

    system: SystemName
    ds: Ds
    stage: Annotated[str, "the stage that set the row aside", Rule(required=True, values=tuple(Stage), severity="warning")]
    reason: Annotated[str, "the expectation or rule that it broke", Rule(required=True, severity="warning")]
    row: Annotated[str, "the row as JSON; for a line: file, line_no, text"]
    run_id: RunId


QUARANTINE = table(QuarantineRow, "ops.quarantine", ("system", "ds", "stage", "row"), partition=(), retention="bronze")


class OutsideMeasure(TypedDict, total=False):
    """A measure of a night that was outside of what its gate lets through."""

    measure: str
    value: float
    low: float | None
    high: float | None


class ApprovalRow(TypedDict, total=False):
    """A night that a gate had held back and somebody published all the same."""

    ds: Ds
    system: SystemName
    stage: Annotated[str, "the stage whose gate held the night back: parse | publish", Rule(required=True, values=("parse", "publish"))]
    held: Annotated[
        list[OutsideMeasure], "what was outside: the measure (see `gates.hold` of a system), its value, what the gate lets through"
    ]
    new_normal: Annotated[bool, "true: from this night on, nights before it are no history any more"]
    approved_by: Annotated[str, "who approved", Rule(required=True)]
    reason: Annotated[str | None, "why, null where none was given"]
    approved_at: Annotated[datetime, "UTC", Rule(required=True)]
    run_id: Annotated[str, "the run that went on with the night"]


APPROVALS = table(ApprovalRow, "ops.approvals", ("ds", "system", "approved_at"), partition=())


class HandoffRow(TypedDict, total=False):
    """A published night that was handed to somebody outside of the lake, or could not be."""

    ds: Ds
    run_id: RunId
    kind: Annotated[str, "webhook | export | metrics", Rule(required=True, values=("webhook", "export", "metrics"), severity="warning")]
    outcome: Annotated[
        str, "done | held (quiet hours) | skipped (no news) | failed", Rule(required=True, values=("done", "failed"), severity="warning")
    ]
    detail: Annotated[str, "where it went (of a webhook the host alone), or why it did not"]
    content: Annotated[str | None, "hash of the message of a webhook: the same is not sent twice; null for other kinds"]
    at: Annotated[datetime, "UTC", Rule(required=True, severity="warning")]


HANDOFFS = table(HandoffRow, "ops.handoffs", ("run_id", "ds", "kind", "at"), partition=())


class ModelRow(TypedDict, total=False):
    """A version of a small model."""

    version: Annotated[str, "first 16 hex digits of sha256"]
    system: Annotated[str, "the system that it is for alone; empty: what the sources teach, for every system"]
    sha256: Annotated[str, "of the weights file"]
    status: Annotated[
        str,
        "candidate | promoted | retired; a candidate that its gate refused stays one",
        Rule(required=True, values=("candidate", "promoted", "retired")),
    ]
    sources: Annotated[list[str], "systems that taught it"]
    manifest: Annotated[str, "JSON: encoder, tau, threshold, configuration, data versions"]
    metrics: Annotated[dict[str, float], "measured on held-out source sessions"]
    created_at: Annotated[datetime, "UTC"]


MODELS = table(ModelRow, "ops.models", ("version",), partition=())


class PseudoLabelRow(TypedDict, total=False):
    """A label that a distilled model learnt from."""

    system: SystemName
    model: Annotated[str, "the distilled model that learnt it"]
    pattern_id: Annotated[str, "the pattern"]
    question_id: Annotated[str, "the question whose verdict it comes from"]
    probability: Annotated[float, "of an anomaly, as the student learnt it"]
    origin: Annotated[str, "feedback | second round | confident | agreement | unclear"]
    round: Annotated[Int32, "the round of distillation that accepted it"]
    llm_probability: Annotated[float, "of an anomaly, by the LLM or the analyst"]
    small_probability: Annotated[float, "of an anomaly, by the small model before the round"]
    run_id: RunId


PSEUDO_LABELS = table(PseudoLabelRow, "ops.pseudo_labels", ("system", "model", "pattern_id"), partition=())


OPS: tuple[TableSpec, ...] = (ANSWERS, LLM_CALLS, LLM_BATCHES, OUTCOMES, QUARANTINE, APPROVALS, HANDOFFS, MODELS, PSEUDO_LABELS)
