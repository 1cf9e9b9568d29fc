"""Reading the lake in the morning: rows of the night, and SQL over all tables. No Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nightlog.errors import ConfigError
from nightlog.lake.store import Lake
from nightlog.lake.tables import ALL_TABLES, ANOMALIES, OUTCOMES

if TYPE_CHECKING:
    import pyarrow as pa

VIEWS = {"v_anomalies": "gold.anomalies", "v_nights": "gold.nights"}


def anomalies(lake: Lake, ds: str, system: str | None) -> list[dict[str, Any]]:
    """The night's rows of gold.anomalies, the surest first."""
    equal = {"ds": ds} | ({"system": system} if system else {})
    rows = lake.rows(ANOMALIES, None, **equal)
    return sorted(rows, key=lambda row: (row["system"], -(row["score"] or 0), row["session_id"]))


def query(lake: Lake, sql: str) -> pa.Table:
    """Run SQL by DuckDB over the lake's tables, named as everywhere (`gold.anomalies`), and the views v_anomalies and v_nights.

    The SQL reads the tables and nothing else: no file, no network, no extension, no setting; what it makes is gone with the answer.
    Raises ConfigError with DuckDB's message where the SQL is wrong.
    """
    import duckdb

    closed: dict[str, str | bool | int | float | list[str]] = dict.fromkeys(
        ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"), "false"
    )
    connection = duckdb.connect(config=closed | {"temp_directory": "", "allow_persistent_secrets": "false"})
    for spec in ALL_TABLES:
        if lake.exists(spec):
            schema, name = spec.name.split(".")
            connection.execute(f"create schema if not exists {schema}")
            connection.register(f"_{schema}_{name}", lake.dataset(spec))
            connection.execute(f"create view {spec.name} as select * from _{schema}_{name}")
            for view in (view for view, over in VIEWS.items() if over == spec.name):
                connection.execute(f"create view {view} as select * from {spec.name}")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    try:
        found = connection.sql(sql)
        if found is None:
            raise ConfigError("that is no query: the lake is read only; start with select, with, describe or show")
        return found.to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(f"{error}; tables: {', '.join(spec.name for spec in ALL_TABLES if lake.exists(spec))}") from error


def run_outcomes(lake: Lake, ds: str, run_id: str) -> list[tuple[str, str, str]]:
    """What became of each system of a run: (system, outcome, where and why). A system that did not get to its end has failed."""
    rows = sorted((row for row in lake.rows(OUTCOMES, ds=ds, run_id=run_id)), key=lambda row: row["at"])
    found = []
    for system in sorted({row["system"] for row in rows}):
        last = {row["stage"]: row for row in rows if row["system"] == system}
        bad = next((row for row in last.values() if row["outcome"] != "done"), None)
        if bad is not None:
            found.append((system, bad["outcome"], f"{bad['stage']}: {bad['detail']}"))
        elif "publish" in last:
            found.append((system, "done", f"{dict(last['publish']['counts'])['n_anomalies']} anomalies"))
        else:
            found.append((system, "failed", f"nothing is known of it after stage {list(last)[-1]}: see the log of the stage that followed"))
    return found
