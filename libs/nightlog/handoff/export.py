"""A night as files for other programs: Parquet with all columns of the views, CSV with those that fit into a cell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.lake.lake import Lake
from nightlog.lake.schema import arrow_schema
from nightlog.lake.views import VIEWS, View
from nightlog.sanitize import csv_lines

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 2048
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
            in_place(place / f"{name}.parquet") as parquet,
            in_place(place / f"{name}.csv") as csv,
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
    """A night's rows of a view, system by system, in the order in which they were published."""
    import pyarrow as pa

    for rows in stream(lake, view, ds):
        columns = [rows[old].cast(schema.field(name).type) for old, name in view.sources()]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def stream(lake: Lake, view: View, ds: str) -> Iterator[pa.RecordBatch]:
    """The rows in the table's own columns. A table with raw lines is read batch by batch: Arrow's scans hold whole files in memory."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as pads
    import pyarrow.parquet as pq

    if "ds" not in view.over.partition:
        yield from lake.arrow(view.over, ds=ds).sort_by("system").to_batches()
        return
    fragments = lake.dataset(view.over).get_fragments(pc.field("ds") == ds) if lake.exists(view.over) else ()
    for part in sorted(fragments, key=lambda part: str(part.path)):
        keys = pads.get_partition_keys(part.partition_expression)
        with pq.ParquetFile(part.path, filesystem=part.filesystem) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                rows = batch
                for name in view.over.partition:
                    rows = rows.append_column(name, pa.repeat(keys[name], len(batch)))
                yield rows


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """A file to write aside, put in its place once it is whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
