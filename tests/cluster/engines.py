"""The clusters on which the same night is run: Spark standalone with a lake in a folder, and YARN with lake and logs in HDFS."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hadoop import JARS, hadoop
from standalone import standalone

ENGINES = ("standalone", "yarn")


@dataclass(frozen=True)
class Engine:
    """A cluster of two executors. root: of its lake. logs: a folder that is to hold the logs, None for those that ship. conf: options of
    Spark. env: what its clients read."""

    master: str
    root: str
    logs: str | None = None
    conf: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Engine]:
    """Yield a running cluster by its name. Logs, and data other than HDFS' lake, lie in `folder`."""
    if name == "standalone":
        with standalone(folder, Path(sys.executable)) as master:
            yield Engine(master, str(folder / "spread"))
        return
    if not JARS.is_dir():
        pytest.skip("no Hadoop: `make cluster-test` puts it into build/hadoop")
    import pyspark

    conf = {
        "spark.yarn.jars": f"local:{Path(pyspark.__file__).parent}/jars/*",  # every node has them: there is one
        "spark.yarn.am.memory": "512m",
        "spark.executor.instances": "2",
        "spark.executor.memoryOverhead": "1g",
    }
    with hadoop(folder) as cluster:
        yield Engine("yarn", f"{cluster.address}/lake", f"{cluster.address}/logs", conf, {"HADOOP_CONF_DIR": str(cluster.conf)})
