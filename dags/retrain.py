"""### Nightlog, the small models' retraining

Every Sunday at noon UTC, when no night is running, this trains the small model again on the labelled systems (`jobs/train.py`).
What the lake lacks of their files is read and parsed first. Then what the LLM and the analysts said about each system without labels is
distilled into a model of the system's own (`jobs/retrain.py`), which serves once it passes its gate. Models are stored with their
hash; the nights after it take them.

**Exit codes**: `0` done · `20` transient: tried three more times, with growing pauses · `30` configuration or permanent, for
instance no labelled system has files: not tried again.

**When the run is red** nothing is lost: nights go on with the model they have. The message at the end of the task's log says
what to fix; then clear the task. A system whose own model is refused goes on as it was; the task's log says why.

**Manually**: trigger this DAG, with `systems` = `a,b` to train on some systems only. Without a scheduler: `nightlog train`,
`nightlog retrain`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, CronDataIntervalTimetable
from nightlog_submit import SYSTEMS, SYSTEMS_PARAM, TASK_DEFAULTS, RunProgram, spark_job

with DAG(
    "nightlog_retrain",
    description="The small models, trained again on labelled systems, verdicts and answers",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * 0", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={"systems": SYSTEMS_PARAM},
    default_args=TASK_DEFAULTS,
    tags=["nightlog"],
):
    train = RunProgram(task_id="train", command=[*spark_job("train"), SYSTEMS])
    distil = RunProgram(task_id="distil", command=spark_job("retrain"))

    train >> distil
