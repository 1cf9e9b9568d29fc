"""How Spark is set: each profile goes with its master, and Spark knows every key of the configurations that ship with the project."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nightlog.errors import ConfigError
from nightlog.run.entry import local_bytes
from nightlog.settings import Settings
from nightlog.spark import CLUSTER, COMMON, GPU, LOCAL, spark_options

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONF = Path(__file__).parents[1] / "conf"
SHIPPED = sorted(CONF.glob("*.conf"))
# What Spark would fetch first is left to `make cluster-test`.
AT_ONCE = [path for path in SHIPPED if "spark.jars.packages" not in path.read_text()]
# Where Spark's keys are; and keys that end in a name of one's own choice, or are Delta's or Hadoop's.
KEYS_OF = ("deploy.k8s.Config", "deploy.yarn.config.package", "internal.config.package", "internal.config.UI", "internal.config.Python")
KEYS_OF += ("sql.internal.SQLConf", "sql.internal.StaticSQLConf")
BY_PREFIX = ("spark.kubernetes.executor.volumes.", "spark.executor.resource.gpu.", "spark.task.resource.gpu.", "spark.databricks.delta.")
BY_PREFIX += ("spark.hadoop.fs.",)


def properties(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def test_a_master_has_the_profile_that_fits_it() -> None:
    assert spark_options("local[2]", None)["spark.driver.host"] == "127.0.0.1"
    spread = spark_options("spark://node:7077", None, "8g")
    assert "spark.driver.host" not in spread
    assert (spread["spark.driver.memory"], spread["spark.executor.memoryOverhead"]) == ("8g", "3g")
    gpu = spark_options("yarn", "gpu")
    assert gpu["spark.task.resource.gpu.amount"] == "1"
    assert gpu["spark.executor.memory"] == spread["spark.executor.memory"]


@pytest.mark.parametrize("profile", ["cluster", "gpu"])
def test_a_local_master_with_a_profile_for_clusters_is_refused_before_it_hangs(profile: Any) -> None:
    with pytest.raises(ConfigError, match=r"profile .* with master `local\[2\]`"):
        spark_options("local[2]", profile)


def test_the_profile_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Settings().profile, Settings().local_mib) == (None, None)
    monkeypatch.setenv("NIGHTLOG_PROFILE", "gpu")
    monkeypatch.setenv("NIGHTLOG_LOCAL_MIB", "0")
    assert (Settings().profile, Settings().local_mib) == ("gpu", 0)


@pytest.mark.parametrize("options", [COMMON, LOCAL, CLUSTER, GPU, *map(properties, SHIPPED)], ids=min)
def test_spark_knows_each_key_and_can_read_its_value(spark: SparkSession, options: dict[str, str]) -> None:
    """A misspelt key is silently ignored by Spark, and a value of the wrong kind ends the night."""
    jvm: Any = spark.sparkContext._jvm
    for module in KEYS_OF:
        jvm.java.lang.Class.forName(f"org.apache.spark.{module}$")
    conf = jvm.org.apache.spark.SparkConf(False)
    for name, value in options.items():
        conf.set(name, value)
    for name in options:
        entry = jvm.org.apache.spark.internal.config.ConfigEntry.findEntry(name)
        if entry is not None:
            conf.get(entry)
        else:
            assert name == "spark.master" or name.startswith(BY_PREFIX), name


@pytest.mark.parametrize("path", AT_ONCE, ids=lambda path: path.stem)
def test_spark_submit_accepts_a_configuration(spark: SparkSession, path: Path) -> None:
    """As far as spark-submit goes before it speaks to the cluster: arguments read, master and mode chosen, what to run laid out."""
    jvm: Any = spark.sparkContext._jvm
    deploy, scala = jvm.org.apache.spark.deploy, jvm.scala.jdk.javaapi.CollectionConverters
    words = jvm.java.util.ArrayList()
    for word in ["--properties-file", str(path), str(CONF.parent / "jobs" / "parse.py"), "--ds", "2026-03-04"]:
        words.add(word)
    env = getattr(deploy.SparkSubmitArguments, "$lessinit$greater$default$2")().updated("HADOOP_CONF_DIR", str(CONF))
    given = deploy.SparkSubmitArguments(scala.asScala(words).toSeq(), env)
    submit = deploy.SparkSubmit()
    prepared = submit.prepareSubmitEnvironment(given, getattr(submit, "prepareSubmitEnvironment$default$2")())
    assert prepared._4() == "org.apache.spark.deploy.PythonRunner"
    assert list(scala.asJava(prepared._1()))[2:] == ["--ds", "2026-03-04"]
    for name, value in properties(path).items():
        if "/" not in value:
            assert prepared._3().get(name) == value


def test_spark_builds_the_pod_of_an_executor_from_the_configuration_for_kubernetes(spark: SparkSession) -> None:
    """By Spark's own client, up to what it would send to a cluster: image, account, cores, memory, volumes."""
    jvm: Any = spark.sparkContext._jvm
    k8s, profiles = jvm.org.apache.spark.scheduler.cluster.k8s, getattr(jvm.org.apache.spark.resource, "ResourceProfile$")
    conf, none = jvm.org.apache.spark.SparkConf(False), jvm.scala.Option.empty()
    addresses = {"spark.driver.host": "driver", "spark.driver.port": "7078", "spark.app.name": "nightlog", "spark.app.id": "app"}
    for name, value in {**properties(CONF / "kubernetes.conf"), **addresses}.items():
        conf.set(name, value)
    executor = jvm.org.apache.spark.deploy.k8s.KubernetesConf.createExecutorConf(conf, "1", "app", none, 0)
    profile = getattr(profiles, "MODULE$")
    profile.clearDefaultProfile()  # the session's own; Spark makes it again when it is needed
    security = jvm.org.apache.spark.SparkEnv.get().securityManager()
    with closing(jvm.io.fabric8.kubernetes.client.KubernetesClientBuilder().build()) as client:
        built = k8s.KubernetesExecutorBuilder().buildFromFeatures(executor, security, client, profile.getOrCreateDefaultProfile(conf)).pod()
    profile.clearDefaultProfile()
    to_json = jvm.io.fabric8.kubernetes.client.utils.Serialization.asJson
    pod, container = json.loads(to_json(built.pod())), json.loads(to_json(built.container()))
    claims = {each["name"]: each["persistentVolumeClaim"] for each in pod["spec"]["volumes"] if "persistentVolumeClaim" in each}
    assert claims == {
        "data": {"claimName": "nightlog-data", "readOnly": True},
        "lake": {"claimName": "nightlog-lake", "readOnly": False},
    }
    mounts = {each["mountPath"]: each.get("readOnly") for each in container["volumeMounts"]}
    assert (mounts["/data"], mounts["/lake"]) == (True, False)
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "4096Mi"}
    assert (container["image"], pod["spec"]["serviceAccountName"]) == ("REGISTRY/nightlog:0.1.0", "nightlog")


def test_one_machine_works_without_spark_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    here, cluster = (local_bytes(Settings(master=master)) for master in ("local[*]", "yarn"))
    assert (here, cluster) == (math.inf, 256 << 20)
    assert [local_bytes(Settings(master=master, local_mib=1)) for master in ("local[*]", "yarn")] == [1 << 20] * 2
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert local_bytes(Settings(master="local[*]")) == cluster, "what was submitted may go to a cluster"
