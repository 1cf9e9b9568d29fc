"""### Nightlog, the small model's retraining

Every Sunday at noon UTC, when no night is running, this trains the small model anew on the labelled systems (`jobs/train.py`).
What the lake lacks of their files is read and parsed first. The model is stored with its hash; the nights after it take it.

**Exit codes**: `0` done · `20` transient: tried three more times, with growing pauses · `30` configuration or permanent, for
instance no labelled system has files: not tried again.

**When the run is red** nothing is lost: nights go on with the model they have. The message at the end of the task's log says
what to mend; then clear the task.

**By hand**: trigger this DAG, with `systems` = `a,b` to train on some systems only. Without a scheduler: `nightlog train`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronDataIntervalTimetable
from nightlog_submit import SYSTEMS, SYSTEMS_PARAM, TASK_DEFAULTS, RunProgram, spark_job

with DAG(
    "nightlog_retrain",
    description="The small model, trained anew on the labelled systems",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * 0", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={"systems": SYSTEMS_PARAM},
    default_args=TASK_DEFAULTS,
    tags=["nightlog"],
):
    RunProgram(task_id="train", command=[*spark_job("train"), SYSTEMS])
