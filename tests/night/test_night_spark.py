"""The sample's night by Spark, stage by stage: each table is what the stage's own process writes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, ANSWERS, APPROVALS, HANDOFFS, LABELS, LLM_BATCHES, PSEUDO_LABELS, TableSpec
from nightlog.outcomes import Stage
from nightlog.run.entry import chosen_systems
from nightlog.run.night import Night
from nightlog.settings import Settings
from nights import add_toy_model, comparable_rows, same_values

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DS, SYSTEMS = "2026-03-04", ("dovecot", "postfix", "postgres")
# Tables that such a night does not write.
EMPTY = {LABELS, ANSWERS, LLM_BATCHES, APPROVALS, HANDOFFS, PSEUDO_LABELS}
pytestmark = pytest.mark.slow


def n_jobs(spark: SparkSession) -> int:
    return len(spark.sparkContext.statusTracker().getJobIdsForGroup(None))


def run_stages(lake: Lake, spark: SparkSession) -> dict[Stage, int]:
    """Run the night of the sample's systems. Returns the number of Spark jobs by stage."""
    settings = Settings(llm="recorded", device="cpu")
    night = Night(DS, "run", chosen_systems(settings, ",".join(SYSTEMS)), lake, settings, lambda: datetime.now(UTC))
    jobs = {}
    for stage in Stage:
        before = n_jobs(spark)
        for outcome in night.run_stage(stage):
            assert outcome.outcome == "done", f"{stage} of {outcome.system}: {outcome.detail}"
        jobs[stage] = n_jobs(spark) - before
    return jobs


@pytest.fixture(scope="module")
def lakes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Lake]:
    """The same night on the same model: by this process alone, and by Spark whatever its size."""
    folder = tmp_path_factory.mktemp("by-spark")
    add_toy_model(Lake(folder / "local"), {"held_out_f1": 0.5})
    shutil.copytree(folder / "local", folder / "spark")
    local, spread = Lake(folder / "local", spark), Lake(folder / "spark", spark, local_bytes=0)
    assert sum(run_stages(local, spark).values()) == 0
    jobs = run_stages(spread, spark)
    assert min(jobs[stage] for stage in (Stage.INGEST, Stage.PARSE, Stage.EMBED)) > 0, jobs
    return local, spread


@pytest.mark.parametrize("spec", ALL_TABLES, ids=lambda spec: spec.name)
def test_a_table_is_the_same_by_spark_and_by_one_process(lakes: tuple[Lake, Lake], spec: TableSpec) -> None:
    one, other = (comparable_rows(lake, spec) for lake in lakes)
    assert bool(one) == (spec not in EMPTY)
    assert len(one) == len(other)
    assert [(left, right) for left, right in zip(one, other, strict=True) if not same_values(left, right)] == []
