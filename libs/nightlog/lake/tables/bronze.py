"""Bronze: lines and labels as they were delivered."""

from __future__ import annotations

from nightlog.lake.schema import DS, FILE, INT, LINE_NO, LONG, RUN_ID, STRING, SYSTEM, TIME, Column, TableSpec

LINES_TABLE = TableSpec(
    "bronze.lines",
    (SYSTEM, DS, FILE, LINE_NO, Column("text", STRING, "the line as delivered, without its label; bytes that are not UTF-8 replaced")),
    ("system", "file", "line_no"),
    retention="bronze",
    about="a line of a system's log file, as it was delivered",
)

LABELS = TableSpec(
    "bronze.labels",
    (
        SYSTEM,
        DS,
        FILE,
        LINE_NO,
        Column("session_id", STRING, "set where the label belongs to a session, not to a line"),
        Column("label", INT, "1 anomalous, 0 normal"),
        Column("tag", STRING, "the label as delivered"),
    ),
    ("system", "file", "line_no"),
    ("system",),
    retention="bronze",
    about="a known label of a line or a session, kept apart from all that models and prompts see",
)

FILES = TableSpec(
    "bronze.files",
    (
        SYSTEM,
        DS,
        FILE,
        Column("host", STRING, "the parts of the path that vary, without endings such as .1 and .gz; empty if none does"),
        Column("n_lines", LONG, "its lines; null of a copy"),
        Column("n_bytes", LONG, "bytes of these lines, unpacked, without line ends; null of a copy"),
        Column("size", LONG, "bytes of the file as it was delivered, packed or not"),
        Column("modified_at", TIME, "its last change before it was read, UTC"),
        Column("content", STRING, "hash of its lines; null of a copy"),
        Column(
            "copy_of",
            STRING,
            "the file that was read instead, as this one is a copy or the first part of it; null if it was read",
        ),
        RUN_ID,
    ),
    ("system", "ds", "file"),
    (),
    "delta-rs",
    retention="bronze",
    about="a log file of a night: what was delivered, and read",
)

BRONZE = (LINES_TABLE, LABELS, FILES)
