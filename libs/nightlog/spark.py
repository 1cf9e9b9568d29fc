"""The one place that builds a Spark session."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.errors import ConfigError

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


def delta_jars(folder: Path = JARS) -> str:
    """Delta's JARs as `make setup` resolved them. Raises ConfigError where they are missing."""
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise ConfigError(f"no Delta JARs under {folder}; run `make setup`")
    return ",".join(map(str, jars))


def start_spark(app: str, master: str = "local[*]", driver_memory: str = "4g") -> SparkSession:
    """The session of this process, started if there is none; what `spark-submit` sets goes before what is set here."""
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    submitted = SparkConf()
    master = submitted.get("spark.master") or master
    options = {"spark.master": master, "spark.driver.memory": driver_memory, "spark.jars": delta_jars(), **COMMON}
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        options |= LOCAL
    conf = SparkConf().setAppName(app)
    for key, value in options.items():
        conf.setIfMissing(key, value)
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
