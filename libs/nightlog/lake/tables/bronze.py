"""Bronze: lines and labels as they were delivered."""

from datetime import datetime
from typing import Annotated, TypedDict

from nightlog.lake.schema import Ds, Int32, LineNo, LogFile, SystemName, TableSpec, table


class LineRow(TypedDict, total=False):
    """A line of a system's log file, as it was delivered."""

    system: SystemName
    ds: Ds
    file: LogFile
    line_no: LineNo
    text: Annotated[str, "the line as delivered, without its label; bytes that are not UTF-8 replaced"]


LINES_TABLE = table(LineRow, "bronze.lines", ("system", "file", "line_no"), retention="bronze")


class LabelRow(TypedDict, total=False):
    """A known label of a line or a session, kept apart from all that models and prompts see."""

    system: SystemName
    ds: Ds
    file: LogFile
    line_no: LineNo
    session_id: Annotated[str, "set where the label belongs to a session, not to a line"]
    label: Annotated[Int32, "1 anomalous, 0 normal"]
    tag: Annotated[str, "the label as delivered"]


LABELS = table(LabelRow, "bronze.labels", ("system", "file", "line_no"), partition=("system",), retention="bronze")


class FileRow(TypedDict, total=False):
    """A log file of a night: what was delivered, and read."""

    system: SystemName
    ds: Ds
    file: LogFile
    host: Annotated[str, "the parts of the path that vary, without endings such as .1 and .gz; empty if none does"]
    n_lines: Annotated[int | None, "its lines; null of a copy"]
    n_bytes: Annotated[int | None, "bytes of these lines, unpacked, without line ends; null of a copy"]
    size: Annotated[int, "bytes of the file as it was delivered, packed or not"]
    modified_at: Annotated[datetime | None, "its last change before it was read, UTC"]
    n_replaced: Annotated[int | None, "lines with bytes that are not UTF-8, which were replaced; null of a copy"]
    n_cut: Annotated[int | None, "lines that were longer than a line may be, and are cut; null of a copy"]
    n_returns: Annotated[int | None, "carriage returns inside of its lines; null of a copy"]
    content: Annotated[str | None, "hash of its lines; null of a copy"]
    copy_of: Annotated[str | None, "the file that was read instead, as this one is a copy or the first part of it; null if it was read"]
    rules: Annotated[str | None, "hash of what decides which lines the file has"]
    run_id: Annotated[str | None, "the run that read the file"]
    run_lines: Annotated[str | None, "hash of the names of the files of bronze.lines that hold the night's lines"]
    run_listed_at: Annotated[datetime | None, "when the file was found, before it was read, UTC; null if it is to be read again"]


FILES = table(FileRow, "bronze.files", ("system", "ds", "file"), partition=(), retention="bronze")


BRONZE: tuple[TableSpec, ...] = (LINES_TABLE, LABELS, FILES)
