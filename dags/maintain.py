"""### Nightlog, the lake's upkeep

Every Sunday at 16:00 UTC, after the retraining and before the night, this keeps the lake small and quick to read (`jobs/maintain.py`).
For each table it

1. **drops nights that are too old**: lines, labels and quarantined rows after `NIGHTLOG_BRONZE_DAYS` (90), events, sessions,
   patterns, routes and scores after `NIGHTLOG_SILVER_DAYS` (180), anomalies and nights after `NIGHTLOG_GOLD_DAYS` (730). A night
   is as old as its day or, where it was run later, as its last run, so a backfill, with the days that it looks back to, is not
   dropped the next Sunday;
2. **puts small files together** (OPTIMIZE) in the tables that every night adds to;
3. **removes files** (VACUUM) that no version of the last `NIGHTLOG_REPLAY_DAYS` (14) needs. So for that long a past night can be derived
   again from the tables as they were; no layer may be kept for less, and Delta allows 7 to 29 days.

**Never dropped**: templates, messages and vectors, verdicts, answers, models and pseudo-labels, costs, outcomes, and all nights of the
systems that teach (`role = "source"`).

**Exit codes**: `0` done · `20` transient: tried three more times, with growing pauses · `30` configuration or permanent, for
instance a layer that is kept for less than the replay days: not tried again.

**When the run is red** no table is broken: each step is one commit. Fix what the last line of the log says and clear the task; what was
done is not done again.

**Manually**: `nightlog maintain --dry-run` says which nights would go; `nightlog maintain` does it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronDataIntervalTimetable
from nightlog_submit import SYSTEMS, SYSTEMS_PARAM, TASK_DEFAULTS, RunProgram, spark_job

with DAG(
    "nightlog_maintain",
    description="Old nights dropped, small files put together, unneeded files removed",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 16 * * 0", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={"systems": SYSTEMS_PARAM},
    default_args=TASK_DEFAULTS,
    tags=["nightlog"],
):
    RunProgram(task_id="maintain", command=[*spark_job("maintain"), SYSTEMS])
