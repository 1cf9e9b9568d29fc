"""HDFS and YARN on this machine: Hadoop's own daemons, one of each, from the JAR of its mini cluster; gone when the block ends.

As a program it resolves the JARs into build/hadoop (`make cluster-test` calls it).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from standalone import HOST, START_S, free_port, process

JARS = Path(__file__).resolve().parents[2] / "build" / "hadoop" / "jars"
# In the version of Spark's own Hadoop client, whose JARs are those of this release; the resource manager needs Bouncy Castle.
HADOOP = "org.apache.hadoop:hadoop-client-minicluster:3.5.0"
BOUNCY_CASTLE = "org.bouncycastle:bcpkix-jdk18on:1.82"
KEPT = ("org.apache.hadoop_hadoop-client-minicluster-*.jar", "org.bouncycastle_*.jar")
JAVA = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
SERVER = "org.apache.hadoop.{}"
NAME_NODE = "hdfs.server.namenode.NameNode"
DATA_NODE = "hdfs.server.datanode.DataNode"
RESOURCE_MANAGER = "yarn.server.resourcemanager.ResourceManager"
NODE_MANAGER = "yarn.server.nodemanager.NodeManager"


@dataclass(frozen=True)
class Hadoop:
    """A running cluster. address: `hdfs://HOST:PORT`. conf: its folder of configuration, for HADOOP_CONF_DIR."""

    address: str
    conf: Path


@contextmanager
def hadoop(folder: Path, with_yarn: bool = True) -> Iterator[Hadoop]:
    """Yield a cluster once its data node, and its node manager if there is one, have registered.

    Logs and data lie in `folder`. Raises RuntimeError if a daemon ends or does not register.
    """
    conf = folder / "conf"
    ports = {name: free_port() for name in ("namenode", "namenode-http", "rm", "scheduler", "tracker", "admin", "rm-http")}
    write_configuration(conf, folder / "data", ports)
    run = ["java", *JAVA, f"-Dhadoop.log.dir={folder}", "-cp", class_path(conf)]
    name_node = [*run, SERVER.format(NAME_NODE)]
    subprocess.run([*name_node, "-format", "-nonInteractive"], check=True, capture_output=True)
    names = [NAME_NODE, DATA_NODE, *([RESOURCE_MANAGER, NODE_MANAGER] if with_yarn else [])]
    with ExitStack() as stack:
        running = [
            stack.enter_context(process([*run, SERVER.format(name)], dict(os.environ), folder / f"{name.rpartition('.')[2]}.log"))
            for name in names
        ]
        deadline = time.monotonic() + START_S
        while not (live_data_nodes(ports["namenode-http"]) and (not with_yarn or live_node_managers(ports["rm-http"]))):
            if time.monotonic() > deadline or any(each.poll() is not None for each in running):
                raise RuntimeError(f"no Hadoop cluster after {START_S:.0f} s: see the logs in {folder}")
            time.sleep(0.3)
        yield Hadoop(f"hdfs://{HOST}:{ports['namenode']}", conf)


def class_path(conf: Path) -> str:
    """Return the class path of the daemons: configuration, Hadoop's client and logging from Spark's JARs, then the servers."""
    import pyspark

    spark = Path(pyspark.__file__).parent / "jars"
    shared = ("hadoop-client-*.jar", "slf4j-api-*.jar", "log4j-*.jar", "jcl-over-slf4j-*.jar", "snappy-java-*.jar")
    return ":".join(map(str, [conf, *(jar for glob in shared for jar in sorted(spark.glob(glob))), *sorted(JARS.glob("*.jar"))]))


def write_configuration(conf: Path, data: Path, ports: dict[str, int]) -> None:
    """Write the files that daemons and clients read. Everything listens on this machine alone, and little memory is given away."""
    sites = {
        "core": {"fs.defaultFS": f"hdfs://{HOST}:{ports['namenode']}", "hadoop.tmp.dir": str(data)},
        "hdfs": {
            "dfs.replication": "1",
            "dfs.namenode.http-address": f"{HOST}:{ports['namenode-http']}",
            "dfs.datanode.hostname": HOST,
            **{f"dfs.datanode.{name}": f"{HOST}:0" for name in ("address", "http.address", "ipc.address")},
        },
        "yarn": {
            "yarn.resourcemanager.hostname": HOST,
            "yarn.resourcemanager.address": f"{HOST}:{ports['rm']}",
            "yarn.resourcemanager.scheduler.address": f"{HOST}:{ports['scheduler']}",
            "yarn.resourcemanager.resource-tracker.address": f"{HOST}:{ports['tracker']}",
            "yarn.resourcemanager.admin.address": f"{HOST}:{ports['admin']}",
            "yarn.resourcemanager.webapp.address": f"{HOST}:{ports['rm-http']}",
            # The default scheduler wants a file of queues.
            "yarn.resourcemanager.scheduler.class": SERVER.format("yarn.server.resourcemanager.scheduler.fifo.FifoScheduler"),
            **{f"yarn.nodemanager.{name}address": f"{HOST}:0" for name in ("", "localizer.", "webapp.", "collector-service.")},
            "yarn.nodemanager.hostname": HOST,
            "yarn.nodemanager.local-dirs": str(data / "containers"),
            "yarn.nodemanager.log-dirs": str(data / "container-logs"),
            "yarn.nodemanager.resource.memory-mb": "6144",
            "yarn.nodemanager.resource.cpu-vcores": "4",
            "yarn.scheduler.minimum-allocation-mb": "256",
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.pmem-check-enabled": "false",
            # A node whose disk is nearly full takes no containers; a developer's disk may be.
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.5",
        },
    }
    conf.mkdir(parents=True)
    for name, values in sites.items():
        rows = "".join(f"<property><name>{key}</name><value>{escape(value)}</value></property>\n" for key, value in values.items())
        (conf / f"{name}-site.xml").write_text(f"<configuration>\n{rows}</configuration>\n", encoding="utf-8")


def live_data_nodes(port: int) -> int:
    """Return the number of data nodes that the name node counts; 0 while it does not answer."""
    with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState") as page:
        return sum(int(bean["NumLiveDataNodes"]) for bean in json.load(page)["beans"])
    return 0


def live_node_managers(port: int) -> int:
    """Return the number of node managers that run; 0 while the resource manager does not answer."""
    with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/ws/v1/cluster/metrics") as page:
        found: int = json.load(page)["clusterMetrics"]["activeNodes"]
        return found
    return 0


if __name__ == "__main__":
    from nightlog.spark_submit import resolve_jars

    resolve_jars(JARS, f"{HADOOP},{BOUNCY_CASTLE}", KEPT)
