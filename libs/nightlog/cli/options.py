"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Ds = Annotated[str, typer.Option("--ds", help="The night's day, YYYY-MM-DD.")]
NightOption = Annotated[str, typer.Option("--ds", help="The night, YYYY-MM-DD; default: the last published one.")]
SystemOption = Annotated[str, typer.Option("--system", help="One system alone.")]
LakeOption = Annotated[Path | None, typer.Option("--lake", help="Folder of the tables (env NIGHTLOG_LAKE; default ./lake).")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the log files (env NIGHTLOG_DATA; default: the sample).")]
Systems = Annotated[str, typer.Option("--systems", help="Names, separated by commas; default: all targets.")]
FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv.")]
Master = Annotated[str | None, typer.Option("--master", help="Spark master (env NIGHTLOG_MASTER; default local[*]).")]
