"""Nights as files for other programs: Parquet with all columns of the views, CSV with those that fit into a cell, a DuckDB database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.parts import part_batches
from nightlog.lake.query import VIEWS, View, connect, view_sql
from nightlog.lake.schema import TableSpec, arrow_schema
from nightlog.lake.tables import GOLD
from nightlog.sanitize import csv_lines

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

EXPORTED = {"anomalies": "v_anomalies", "nights": "v_nights"}
DUCKDB_MARK = slice(8, 12), b"DUCK"  # place and bytes in the file's header


def export_night(lake: Lake, ds: str, folder: Path) -> Path:
    """Write `<folder>/<ds>/`: anomalies and nights, each as .parquet and .csv, each file put in its place whole. Returns the folder.

    Rows are copied batch by batch. The CSV lacks nested columns (evidence, raw lines, versions), and text that a spreadsheet would take for
    a formula begins with an apostrophe there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = folder / ds
    place.mkdir(parents=True, exist_ok=True)
    for name, view_name in EXPORTED.items():
        view = next(view for view in VIEWS if view.name == view_name)
        schema = schema_of(view)
        narrow = [field.name for field in schema if not pa.types.is_nested(field.type)]
        with (
            atomic_file(place / f"{name}.parquet") as parquet,
            atomic_file(place / f"{name}.csv") as csv,
            pq.ParquetWriter(parquet, schema) as out,
            csv.open("w", encoding="utf-8", newline="") as text,
        ):
            text.write(csv_lines([], narrow))
            for batch in batches(lake, view, ds, schema):
                out.write_batch(batch)
                text.write(csv_lines(batch.select(narrow).to_pylist()))
    return place


def schema_of(view: View) -> pa.Schema:
    """A view's columns in Arrow's types."""
    import pyarrow as pa

    table = arrow_schema(view.over)
    return pa.schema([pa.field(name, table.field(old).type) for old, name in view.sources()])


def batches(lake: Lake, view: View, ds: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield a night's rows of a view, system by system, in the order in which they were published."""
    import pyarrow as pa

    sources = [old for old, _ in view.sources()]
    if "ds" in view.over.partition:
        found = (batch for part in lake.parts(view.over, ds=ds) for batch in part_batches(lake.root, view.over, part, sources))
    else:
        found = iter(lake.arrow(view.over, ds=ds).sort_by("system").select(sources).to_batches())
    for rows in found:
        columns = [rows[old].cast(schema.field(name).type) for old, name in view.sources()]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def export_duckdb(lake: Lake, file: Path, since: str = "", until: str = "9999", system: str = "", more: Sequence[TableSpec] = ()) -> Path:
    """Write a DuckDB database with the gold tables, their views, and the meaning of each column, put in its place whole. Returns the path.

    A table that the lake lacks is empty. Args: since, until: first and last night; system: its name, empty for all; more: tables
    partitioned by night that are written, too. Raises ConfigError if the file exists and is no DuckDB database.
    """
    import duckdb

    if file.exists() and not is_duckdb(file):
        raise ConfigError(f"{file}: exists and is no DuckDB database; give another name, or remove it")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as aside:
        try:
            with connect(lake, with_absent=True) as source, duckdb.connect(str(aside)) as target:
                for spec in (*GOLD, *more):
                    copy_table(source, target, spec, since, until, system)
        finally:
            aside.with_name(f"{aside.name}.wal").unlink(missing_ok=True)
    return file


def copy_table(
    source: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection, spec: TableSpec, since: str, until: str, system: str
) -> None:
    """Copy a table's rows of some nights batch by batch, and make its views."""
    names = ", ".join(f'"{name}"' for name in spec.names)
    conditions, values = ["ds between ? and ?"], [since, until]
    if system and "system" in spec.names:
        conditions, values = [*conditions, "system = ?"], [*values, system]
    rows = source.sql(f"select {names} from {spec.name} where {' and '.join(conditions)}", params=values)
    target.execute(f"create schema if not exists {spec.name.split('.')[0]}")
    target.register("rows", rows.to_arrow_reader())
    target.execute(f"create table {spec.name} as select * from rows")
    target.unregister("rows")
    target.execute(f"comment on table {spec.name} is {quoted(spec.about)}")
    for column in spec.columns:
        target.execute(f'comment on column {spec.name}."{column.name}" is {quoted(column.meaning)}')
    for view in VIEWS:
        if view.over is spec:
            target.execute(f"create view {view.name} as {view_sql(view)}")


def is_duckdb(file: Path) -> bool:
    """Return True if a file is a DuckDB database, by its header."""
    place, mark = DUCKDB_MARK
    with file.open("rb") as content:
        return content.read(place.stop)[place] == mark


def quoted(text: str) -> str:
    """Return text as a literal of SQL.

    >>> quoted("the night's day")
    "'the night''s day'"
    """
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to write aside, put in its place once it is whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
