"""Every table, once: columns with their meaning, partition and key, by layer.

Columns whose names begin with `run_` describe the run that wrote the row, not the night; two runs of one night with the same
model, prompt and policy differ in them alone. The descriptions go into the Delta tables' schemas.
"""

from __future__ import annotations

from nightlog.lake.schema import TableSpec
from nightlog.lake.tables.bronze import BRONZE, FILES, LABELS, LINES_TABLE, FileRow, LabelRow, LineRow
from nightlog.lake.tables.gold import (
    ANOMALIES,
    FINDINGS,
    GOLD,
    INCIDENTS,
    NIGHTS,
    SIGNALS,
    AnomalyRow,
    FindingRow,
    IncidentRow,
    NightRow,
    SignalRow,
)
from nightlog.lake.tables.ops import (
    ANSWERS,
    APPROVALS,
    HANDOFFS,
    LLM_BATCHES,
    LLM_CALLS,
    MODELS,
    OPS,
    OUTCOMES,
    PSEUDO_LABELS,
    QUARANTINE,
    AnswerRow,
    ApprovalRow,
    HandoffRow,
    LlmBatchRow,
    LlmCallRow,
    ModelRow,
    OutcomeRow,
    PseudoLabelRow,
    QuarantineRow,
)
from nightlog.lake.tables.silver import (
    COUNTS_TABLE,
    EVENTS_TABLE,
    HISTORY,
    MESSAGES,
    NUMBERS,
    PATTERNS,
    READINGS,
    ROUTES,
    SCORES,
    SESSIONS,
    SILVER,
    TEMPLATE_COUNTS,
    TEMPLATES,
    VECTORS,
    VERDICTS,
    WAITING,
    CountRow,
    EventRow,
    HistoryRow,
    MessageRow,
    NumberRow,
    PatternRow,
    ReadingRow,
    RouteRow,
    ScoreRow,
    SessionRow,
    TemplateCountRow,
    TemplateRow,
    VectorRow,
    VerdictRow,
    WaitingRow,
)

ALL_TABLES: tuple[TableSpec, ...] = (*BRONZE, *SILVER, *GOLD, *OPS)
