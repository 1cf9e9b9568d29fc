"""`docs/tables.md`: the columns of every table and view, from their specs. `python -m nightlog.reference.dictionary > docs/tables.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from nightlog.lake.query import VIEWS, View
from nightlog.lake.schema import Column, TableSpec, Type
from nightlog.lake.tables import ALL_TABLES

HEAD = """# Tables and views

This page is generated: `python -m nightlog.reference.dictionary > docs/tables.md`.

Every table is a Delta table under the lake's root, at its name with a slash for the dot: `gold/anomalies`. Columns whose names begin with
`run_` describe the run that wrote the row; two runs of one night with the same model, prompt and policy differ in them alone.
Times are UTC.

**Write queries against the views.** Columns of a view are only ever added; tables may change with a version of Nightlog.
"""

USE = """## How to use the views

On the command line, by DuckDB:

```
nightlog query "select ds, count(*) as n from v_anomalies where system = 'shop' group by all order by all"
```

DuckDB, pandas and Polars, without Spark; `query` gives an Arrow table, `connect` a connection of DuckDB that knows all tables and views:

```python duckdb
from nightlog.lake.lake import Lake
from nightlog.lake.query import connect

rows = connect(Lake("lake")).sql("select session_id, unnest(lines).text as line from v_anomalies where score >= 0.9").fetchall()
```

```python pandas
from nightlog.lake.lake import Lake
from nightlog.lake.query import query

nights = query(Lake("lake"), "select ds, system, n_anomalies / n_sessions as share from v_nights where outcome = 'done'").to_pandas()
```

```python polars
import polars
from nightlog.lake.lake import Lake
from nightlog.lake.query import query

verdicts = polars.from_arrow(query(Lake("lake"), "select system, label, confidence, group_name from v_verdicts"))
```

Spark SQL, in a session with Delta (`nightlog.spark.start_spark` makes one):

```python spark
from nightlog.lake.lake import Lake
from nightlog.lake.query import spark_views

spark_views(Lake("lake", spark))
new = spark.sql("select system, template from v_templates where first_ds = '2026-03-04'")
```

Without Nightlog's code, any reader of Delta opens the tables: `DeltaTable("lake/gold/anomalies").to_pyarrow_dataset()` of delta-rs is a
dataset for all three.
"""


def dictionary(tables: Sequence[TableSpec] = ALL_TABLES, views: Sequence[View] = VIEWS) -> str:
    """Return the page, as Markdown."""
    parts = [HEAD, "## Views\n", *(view_section(view) for view in views), USE, "## Tables\n", *(table_section(spec) for spec in tables)]
    return "\n".join(parts)


def table_section(spec: TableSpec) -> str:
    """Return the section of a table: meaning of a row, key, partition, columns."""
    parted = f"partitioned by {names(spec.partition)}" if spec.partition else "not partitioned"
    about = f"A row is {spec.about}; known by {names(spec.key)}; {parted}."
    return f"### `{spec.name}`\n\n{about}\n\n{column_table((column.name, column) for column in spec.columns)}"


def view_section(view: View) -> str:
    """Return the section of a view: meaning of a row, table, columns under the names that stay."""
    fields = {column.name: column for column in view.over.columns}
    about = f"A row is {view.about}; over `{view.over.name}`."
    return f"### `{view.name}`\n\n{about}\n\n{column_table((name, fields[old]) for old, name in view.sources())}"


def column_table(columns: Iterable[tuple[str, Column]]) -> str:
    """Return columns as a Markdown table: name, type, meaning."""
    rows = [f"| `{name}` | `{sql_type(column.type)}` | {cell(column.meaning)} |" for name, column in columns]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows, ""])


def sql_type(kind: Type) -> str:
    """Return a type in the words of SQL.

    >>> sql_type({"type": "array", "elementType": "long", "containsNull": True})
    'array<bigint>'
    """
    if isinstance(kind, str):
        return {"long": "bigint", "integer": "int"}.get(kind, kind)
    if kind["type"] == "array":
        return f"array<{sql_type(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{sql_type(kind['keyType'])},{sql_type(kind['valueType'])}>"
    fields = (f"{field['name']}:{sql_type(field['type'])}" for field in kind["fields"])
    return f"struct<{','.join(fields)}>"


def names(columns: Sequence[str]) -> str:
    """Return column names in a sentence."""
    return ", ".join(f"`{name}`" for name in columns)


def cell(text: str) -> str:
    """Return text for a cell of a Markdown table.

    >>> cell("normal | anomalous")
    'normal \\\\| anomalous'
    """
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(dictionary())
