"""The one place that builds a Spark session."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.errors import ConfigError
from nightlog.settings import Profile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JARS = Path(sys.prefix) / "share" / "nightlog" / "jars"

COMMON = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.python.worker.reuse": "true",
}
LOCAL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
}
# Workers that are not the driver's: the work is done by Python processes beside each executor's JVM, so most of its memory is overhead.
CLUSTER = {
    "spark.executor.memory": "1g",
    "spark.executor.memoryOverhead": "3g",
    "spark.executor.cores": "2",
    "spark.excludeOnFailure.enabled": "true",
}
# One GPU an executor, and one task at a time on it: the only place where GPUs are asked for.
GPU = {
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "1",
    "spark.executor.resource.gpu.discoveryScript": str(Path(__file__).parent / "gpus.sh"),
}
PROFILES: dict[Profile, dict[str, str]] = {"local": LOCAL, "cluster": CLUSTER, "gpu": CLUSTER | GPU}


def profile_of(master: str) -> Profile:
    """Return the profile of a master, if none is named.

    >>> profile_of("local[*]"), profile_of("yarn")
    ('local', 'cluster')
    """
    return "local" if re.match(r"local($|\[)", master) else "cluster"


def spark_options(master: str, profile: Profile | None, driver_memory: str = "4g") -> dict[str, str]:
    """Return the options of a session, unless `spark-submit` sets others.

    Raises ConfigError if profile and master do not go together: a local master has no executors that could be given a GPU.
    """
    profile = profile or profile_of(master)
    if profile != "local" and profile_of(master) == "local":
        raise ConfigError(
            f"profile `{profile}` with master `{master}`: there are no executors, and Spark would wait for them forever; "
            "name a cluster's master, or take the profile local"
        )
    return {"spark.master": master, "spark.driver.memory": driver_memory, **COMMON, **PROFILES[profile]}


def delta_jars(folder: Path = JARS) -> str:
    """Return Delta's JARs as `nightlog jars` resolved them. Raises ConfigError if they are missing."""
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise ConfigError(f"no Delta JARs under {folder}; run `nightlog jars`")
    return ",".join(map(str, jars))


def start_spark(app: str, master: str = "local[*]", driver_memory: str = "4g", profile: Profile | None = None) -> SparkSession:
    """Return the session of this process, started if there is none; options of `spark-submit` come first. Raises ConfigError."""
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        # Under spark-submit: before Python is connected to its JVM a SparkConf knows nothing of what was submitted, the master included.
        SparkContext._ensure_initialized()
    master = SparkConf().get("spark.master") or master
    options = {"spark.jars": delta_jars(), **spark_options(master, profile, driver_memory)}
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    conf = SparkConf().setAppName(app)
    for key, value in options.items():
        conf.setIfMissing(key, value)
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
