"""Which features say something about anomalies: mutual information and a random forest, in PySpark, on the sources alone.

Source: MetaProto, arXiv 2601.14336: mutual information and random-forest scoring in PySpark, the best K = 200.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS = "system string, features array<float>, label int, weight double"


@dataclass(frozen=True)
class Selection:
    """The chosen columns, in their order, and the score of every column in [0, 1]."""

    chosen: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Selector:
    """How features are scored: `keep` of them stay; `bins` of equal weight a system for mutual information; the forest's size."""

    keep: int = 200
    bins: int = 8
    trees: int = 40
    depth: int = 6
    seed: int = 0


def class_weights(bad: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Weights by sessions on a root scale, half of a system's whole for each of its classes; they sum to 1."""
    weight = np.sqrt(sessions.astype(float))
    for members in (bad, ~bad):
        if members.any():
            weight[members] /= weight[members].sum()
    return np.asarray(weight / max(1e-9, float(weight.sum())))


def select_features(spark: SparkSession, parts: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], selector: Selector) -> Selection:
    """Score the columns of the training fold's systems and keep the best.

    Args: parts, for each source (name, features (n, k), bad (n,) bool, sessions (n,)). What is not in there has no influence.
    Returns: the score is the mean of mutual information and importance, each over its largest; ties go to the earlier column.
    """
    width = parts[0][1].shape[1]
    frames = []
    for name, x, bad, sessions in parts:
        # a weight below the rounding of another process's sums would only make ties fall differently
        weight = np.round(class_weights(bad, sessions), 12)
        rows = [row.tolist() for row in np.asarray(x, dtype=np.float32)]
        frames.append(pd.DataFrame({"system": name, "features": rows, "label": bad.astype(np.int32), "weight": weight}))
    data = spark.createDataFrame(pd.concat(frames, ignore_index=True), ROWS).coalesce(1).cache()
    try:
        information = mutual_information(data, selector.bins, width)
        importance = forest_importance(data, selector)
    finally:
        data.unpersist()
    score = (information / max(1e-12, information.max()) + importance / max(1e-12, importance.max())) / 2
    best = np.lexsort((np.arange(width), -np.round(score, 9)))[: selector.keep]
    return Selection(np.sort(best), score)


def mutual_information(data: DataFrame, bins: int, width: int) -> np.ndarray:
    """Mean over systems of the mutual information, in nats, of each feature with the label: (width,).

    A feature is cut into bins of equal weight within its system; equal values share a bin.
    """
    values = data.select("system", "label", "weight", F.posexplode("features").alias("feature", "value"))
    upto = Window.partitionBy("system", "feature").orderBy("value").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    whole = Window.partitionBy("system", "feature")
    position = (F.sum("weight").over(upto) - 1e-9) / F.sum("weight").over(whole)
    binned = values.withColumn("bin", F.least(F.floor(position * bins), F.lit(bins - 1)))
    cells = binned.groupBy("system", "feature", "bin", "label").agg(F.sum("weight").alias("both"))
    joint = (
        cells.withColumn("p_bin", F.sum("both").over(Window.partitionBy("system", "feature", "bin")))
        .withColumn("p_label", F.sum("both").over(Window.partitionBy("system", "feature", "label")))
        .withColumn("p", F.sum("both").over(whole))
    )
    term = F.col("both") / F.col("p") * F.log(F.col("both") * F.col("p") / (F.col("p_bin") * F.col("p_label")))
    by_system = joint.where("both > 0").groupBy("system", "feature").agg(F.sum(term).alias("information"))
    found = by_system.groupBy("feature").agg(F.avg("information").alias("information")).collect()
    information = np.zeros(width)
    for row in found:
        information[row["feature"]] = max(0.0, row["information"])
    return information


def forest_importance(data: DataFrame, selector: Selector) -> np.ndarray:
    """Importance of each feature to a random forest that tells anomalous patterns from normal ones in all systems: (width,), sums to 1."""
    from pyspark.ml.classification import RandomForestClassifier
    from pyspark.ml.functions import array_to_vector

    rows = data.select(array_to_vector(F.col("features")).alias("features"), F.col("label").cast("double").alias("label"), "weight")
    forest = RandomForestClassifier(
        numTrees=selector.trees, maxDepth=selector.depth, weightCol="weight", seed=selector.seed, featureSubsetStrategy="sqrt", maxBins=32
    )
    return np.asarray(forest.fit(rows).featureImportances.toArray())
