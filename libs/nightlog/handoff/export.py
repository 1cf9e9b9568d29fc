"""A night as files for other programs: Parquet with all columns of the views, CSV with those that fit into a cell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.lake.lake import Lake
from nightlog.lake.parts import part_batches
from nightlog.lake.query import VIEWS, View
from nightlog.lake.schema import arrow_schema
from nightlog.sanitize import csv_lines

if TYPE_CHECKING:
    import pyarrow as pa

EXPORTED = {"anomalies": "v_anomalies", "nights": "v_nights"}


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


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to write aside, put in its place once it is whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
