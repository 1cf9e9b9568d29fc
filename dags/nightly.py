"""### Nightlog, every night

At 02:00 UTC this reads yesterday's logs of every system; by morning `gold.anomalies` holds the anomalous sessions, each with
its reason, its evidence and its raw lines. `nightlog anomalies --ds DAY` shows them.

| task | reads | leaves behind |
|---|---|---|
| `ingest` | the day's files of each system | `bronze.lines`, `bronze.labels` |
| `parse` | lines | `silver.messages`, `templates`, `events`, `sessions`, `patterns` |
| `embed` | templates not yet embedded | `silver.template_vectors` |
| `route` | patterns | `silver.routes`: general (the small model judges) or proprietary (the LLM does) |
| `detect` | patterns | `silver.scores`: the small model's probabilities |
| `label` | proprietary patterns not yet judged | `silver.verdicts`. With no LLM to be had the night goes on, its rows say `provisional` |
| `publish` | all of it, through the quality gates | `gold.anomalies`, `gold.nights` |
| `report` | the published night, and what failed | `gold.signals`, the page `reports/DAY/index.html` in the lake, webhook, files, metrics |
| `report_outcomes` | `ops.outcomes` | one line a system in its log; red if one failed |

**One system's failure stops only that system.** Each stage handles all systems; what failed for one of them is a row in
`ops.outcomes`, the later stages skip that system, and `report_outcomes` names it. So a run may be red and the other
systems' anomalies be there, complete.

**Exit codes** of a task's program: `0` done (also if a system has no files and none were due) · `10` a gate stopped a system ·
`20` transient: tried three more times, with growing pauses · `30` configuration, permanent, or files that were due are missing · `40`
incomplete: published, but nobody judged some sessions (the LLM is off, say). `10` and `30` are not tried again; a crash is. After `40`
the run goes on to its end; then `report_outcomes` turns it red.

**A day that is run again with fewer lines** than it published is refused, and keeps what it has. If that is meant, set `fewer_lines`.

**A day that is run again and whose files have not changed** keeps its lines and events; the later stages run as always. With `read_again`
its files are read and parsed all the same.

**When the run is red** read the log of `report_outcomes`, then that of the failed stage: its message says which system, which
file and what to do. Once that is fixed, clear the first failed task *with its downstream tasks*: a stage replaces the day's slices of
its tables, so doing it again doubles nothing. A gate (`10`) means that the day's data looks wrong: see the page and `ops.quarantine`;
`nightlog approve` publishes it all the same. `nightlog doctor` looks at all that a night needs.

**Two runs of one day** do not mix: the one that began later has the day, the earlier one turns red and its log names the other.

**DAGs that follow**: give them `schedule=[Asset("gold.anomalies")]` (or `gold.nights`). `publish` emits both when it ends with `0` or `40`;
the event's `extra` has `ds` and `run_id`. A day that is run again is published again, so take the day from the event, not from the clock.

**A past day**: trigger this DAG with `ds` = that day, and `systems` = `a,b` for some systems only; or
`airflow dags trigger nightlog_nightly --conf '{"ds": "2008-11-10", "systems": "hdfs"}'`. Many days, here the 9th to the 11th:
`airflow backfill create --dag-id nightlog_nightly --from-date 2008-11-09 --to-date 2008-11-12 --max-active-runs 1` (the dates
are those of the logs, the last one is midnight; `--reprocess-behavior completed` for days that were run before; a scheduler must be
running). Without a scheduler, on this machine: `make nightly DS=2008-11-10 SYSTEMS=hdfs`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronDataIntervalTimetable, chain
from nightlog_submit import (
    ANOMALIES,
    DS_PARAM,
    FEWER_LINES,
    FEWER_LINES_PARAM,
    NIGHT,
    NIGHTS,
    READ_AGAIN,
    READ_AGAIN_PARAM,
    SYSTEMS,
    SYSTEMS_PARAM,
    TASK_DEFAULTS,
    ReportOutcomes,
    RunProgram,
    nightlog,
    plain_job,
    spark_job,
)

PROGRAMS = {stage: spark_job(stage) for stage in ("ingest", "parse", "embed", "route", "detect")}
PROGRAMS |= {"label": plain_job("label"), "publish": spark_job("publish"), "report": plain_job("report")}
OPTIONS = {"ingest": [FEWER_LINES, READ_AGAIN], "parse": [READ_AGAIN]}

with DAG(
    "nightlog_nightly",
    description="Yesterday's logs of every system → a table of anomalous sessions",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),  # only bounds how far back a backfill may go
    catchup=False,
    max_active_runs=1,
    params={"ds": DS_PARAM, "systems": SYSTEMS_PARAM, "fewer_lines": FEWER_LINES_PARAM, "read_again": READ_AGAIN_PARAM},
    default_args=TASK_DEFAULTS,
    tags=["nightlog"],
):
    stages = [
        RunProgram(
            task_id=stage,
            command=[*program, *NIGHT, SYSTEMS, *OPTIONS.get(stage, ())],
            outlets=[ANOMALIES, NIGHTS] if stage == "publish" else [],
        )
        for stage, program in PROGRAMS.items()
    ]
    chain(*stages, ReportOutcomes(task_id="report_outcomes", command=[*nightlog("outcomes"), *NIGHT], retries=0))
