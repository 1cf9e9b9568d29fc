"""Systems in the lake as detectors see them: their patterns, of sources with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from nightlog.detector.patterns import Patterns, Source
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import EVENTS_TABLE, LABELS, PATTERNS, SESSIONS, TEMPLATES, VECTORS
from nightlog.systems.catalog import read_label_file
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def to_pandas(rows: DataFrame) -> pd.DataFrame:
    """Return rows, few enough for one machine, as pandas."""
    return cast("pd.DataFrame", rows.toPandas())


def session_labels(lake: Lake, system: System, data: Path) -> DataFrame:
    """Labels of a source's sessions: (session_id, ds, label 0 | 1); `ds` is null where a label holds for every night.

    A session is anomalous where one of its labelled lines is. Raises ConfigError or FormatError where the label file is not
    there or wrong.
    """
    labels = system.labels
    if system.role != "source" or labels is None:
        raise ConfigError(f"{system.name} is not a source with labels; labels of a target are read by the evaluation alone")
    if labels.file is None:
        lines = lake.read(LABELS, system=system.name).select("file", "line_no", "label")
        events = lake.read(EVENTS_TABLE, system=system.name).where(F.col("session_id").isNotNull())
        return events.join(lines, ["file", "line_no"]).groupBy("session_id", "ds").agg(F.max("label").alias("label"))
    known = read_label_file(data / labels.file, system.name)
    rows = pd.DataFrame({"session_id": list(known), "label": list(known.values())}, dtype=object)
    found = lake.runner.spark.createDataFrame(rows.astype({"label": "int32"}), "session_id string, label int")
    return found.select("session_id", F.lit(None).cast("string").alias("ds"), "label")


def read_source(lake: Lake, system: System, data: Path, encoder: str) -> Source:
    """All labelled patterns of a source, over all its nights in the lake; sessions without a label are left out."""
    labels = session_labels(lake, system, data).withColumnRenamed("ds", "label_ds")
    sessions = lake.read(SESSIONS, system=system.name)
    same = (sessions["session_id"] == labels["session_id"]) & (labels["label_ds"].isNull() | (labels["label_ds"] == sessions["ds"]))
    judged = sessions.join(labels, same).groupBy("pattern_id").agg(F.count("*").alias("n"), F.avg("label").alias("share"))
    patterns = lake.read(PATTERNS, system=system.name).dropDuplicates(["pattern_id"]).select("pattern_id", "question_id", "events")
    found = to_pandas(judged.join(patterns, "pattern_id").orderBy("pattern_id"))
    return Source(**placed(lake, system, encoder, found), anomalous=found["share"].to_numpy(dtype=float))


def read_patterns(lake: Lake, system: System, encoder: str) -> Patterns:
    """All patterns of a system, over all its nights in the lake, with the sessions of all nights together. No label is read."""
    rows = lake.read(PATTERNS, system=system.name)
    found = rows.groupBy("pattern_id").agg(
        F.first("question_id").alias("question_id"), F.first("events").alias("events"), F.sum("n_sessions").alias("n")
    )
    return Patterns(**placed(lake, system, encoder, to_pandas(found.orderBy("pattern_id"))))


def placed(lake: Lake, system: System, encoder: str, found: pd.DataFrame) -> dict[str, Any]:
    """The fields of `Patterns` from patterns (pattern_id, question_id, events, n) and the system's templates in the lake."""
    vectors = lake.read(VECTORS, system=system.name, encoder=encoder).join(
        lake.read(TEMPLATES, system=system.name).select("template_id", "text"), "template_id"
    )
    table = to_pandas(vectors.select("template_id", "text", "vector").orderBy("template_id"))
    numbers = {name: number for number, name in enumerate(table["template_id"])}
    return {
        "name": system.name,
        "vectors": np.stack(table["vector"].to_list()).astype(np.float32) if len(table) else np.zeros((0, 0), dtype=np.float32),
        "texts": tuple(table["text"]),
        "ids": tuple(found["pattern_id"]),
        "events": tuple(tuple((numbers[e["template_id"]], int(e["count"])) for e in pattern) for pattern in found["events"]),
        "sessions": found["n"].to_numpy(dtype=np.int64),
        "counted": system.session.kind == "id",
        "questions": tuple(found["question_id"]),
        "template_ids": tuple(table["template_id"]),
    }
