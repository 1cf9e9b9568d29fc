"""Which sessions are anomalous, why, on what evidence, and their raw lines: the rows of gold.anomalies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from nightlog.detector.calibration import EDGE, Calibration

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

SHOWN_LINES = 50
UNCHANGED = Calibration()
MORE_LIKELY_THAN_NOT = 0.5


def decide(
    patterns: DataFrame,
    routes: DataFrame,
    scores: DataFrame,
    verdicts: DataFrame,
    answers: DataFrame,
    threshold: float,
    foreign_threshold: float,
    foreign: Calibration,
    calibration: Calibration = UNCHANGED,
    llm_allowed: bool = True,
) -> DataFrame:
    """The anomalous patterns, each with who decided, score, status and reason.

    An analyst's answer outranks all. The small model judges general patterns, the LLM's verdict proprietary ones (GeneralLog, arXiv
    2511.05882). Where the LLM has not answered yet the small model stands in and the row is provisional; where it answered "unclear", or
    may not be asked, the small model decides.
    On proprietary patterns the small model's probability is calibrated for, and held to the threshold of, systems that it never saw;
    where the LLM could not tell, it must also find the anomaly more likely than not.

    Args: patterns (pattern_id, question_id); routes (pattern_id, route, similarity); scores (pattern_id, probability); verdicts
    (question_id, label, confidence, reason) and answers (question_id, answer normal | anomalous, told), at most one a question.
    Returns: (pattern_id, route, score in [0, 1], decided_by, status, reason) of the anomalous ones alone.
    """
    judged = (
        patterns.select("pattern_id", "question_id")
        .join(routes.select("pattern_id", "route", "similarity"), "pattern_id")
        .join(scores.select("pattern_id", "probability"), "pattern_id")
        .join(verdicts.select("question_id", "label", "confidence", F.col("reason").alias("said")), "question_id", "left")
        .join(answers.select("question_id", "answer", "told"), "question_id", "left")
        .withColumn(
            "probability",
            F.when(F.col("route") == "general", calibrated("probability", calibration)).otherwise(calibrated("probability", foreign)),
        )
        .withColumn(
            "threshold",
            F.when(F.col("route") == "general", threshold)
            .when(F.col("label") == "unclear", max(foreign_threshold, MORE_LIKELY_THAN_NOT))
            .otherwise(foreign_threshold),
        )
    )
    proprietary = F.col("route") == "proprietary"
    by_analyst = F.col("answer").isNotNull()
    by_llm = proprietary & F.col("label").isin("normal", "anomalous")
    waiting = proprietary & F.col("label").isNull() & ~by_analyst
    by_model = F.col("probability") >= F.col("threshold")
    anomalous = F.when(by_analyst, F.col("answer") == "anomalous").when(by_llm, F.col("label") == "anomalous").otherwise(by_model)
    known = F.when(~proprietary, "it looks like what the labelled systems log")
    unjudged = "the LLM has not judged it yet" if llm_allowed else "the LLM may not be asked about this system"
    small = F.format_string(
        "the small model gives %.2f, threshold %.2f; %s; its least familiar template is %.2f like a source's",
        "probability",
        "threshold",
        known.when(waiting, unjudged).otherwise("the LLM could not tell"),
        "similarity",
    )
    return judged.where(anomalous).select(
        "pattern_id",
        "route",
        F.when(by_analyst, 1.0).when(by_llm, F.col("confidence")).otherwise(F.col("probability")).alias("score"),
        F.when(by_analyst, "feedback").when(by_llm, "llm").otherwise("small_model").alias("decided_by"),
        F.when(waiting & F.lit(llm_allowed), "provisional").otherwise("open").alias("status"),
        F.when(by_analyst, F.col("told")).when(by_llm, F.col("said")).otherwise(small).alias("reason"),
    )


def calibrated(probability: str, by: Calibration) -> Column:
    """A column of raw probabilities as `Calibration.apply` gives them, rounded to 6 digits; what is no probability stays, for the gate."""
    inside = F.greatest(F.lit(EDGE), F.least(F.lit(1 - EDGE), F.col(probability)))
    moved = F.round(1 / (1 + F.exp(-(by.slope * F.log(inside / (1 - inside)) + by.bias))), 6)
    return F.when(F.col(probability).between(0, 1), moved).otherwise(F.col(probability))


def with_evidence(found: DataFrame, events: DataFrame, lines: DataFrame, knowledge: DataFrame) -> DataFrame:
    """Add to each anomalous session its templates, most telling first, and its raw lines.

    Args: found (session_id, pattern_id, …), one row a session; events of the night and its look-back days (session_id, ds, file,
    line_no, at, template_id); lines (ds, file, line_no, text); knowledge (pattern_id, template_id, template,
    nearest_source_template, similarity, weight).
    Returns: found with evidence array<struct> and lines array<struct>. Of a longer session the lines of the most telling
    templates are kept, then put back in order.
    """
    place = ["ds", "file", "line_no"]
    own = events.join(found.select("session_id", "pattern_id"), "session_id").join(
        knowledge.select("pattern_id", "template_id", "weight"), ["pattern_id", "template_id"]
    )
    telling = Window.partitionBy("session_id").orderBy(F.desc("weight"), "template_id", *place)
    shown = own.withColumn("rank", F.row_number().over(telling)).where(F.col("rank") <= SHOWN_LINES)
    raw = (
        shown.join(lines.select(*place, "text"), place)
        .groupBy("session_id")
        .agg(F.sort_array(F.collect_list(F.struct("ds", "at", "file", "line_no", "text"))).alias("sorted"))
        .select("session_id", F.transform("sorted", lambda line: F.struct(line["file"], line["line_no"], line["text"])).alias("lines"))
    )
    counted = own.groupBy("session_id", "pattern_id", "template_id").agg(F.count("*").alias("count"))
    ranked = F.sort_array(
        F.collect_list(
            F.struct(
                (-F.col("weight")).alias("order"),
                "template_id",
                "template",
                "count",
                "nearest_source_template",
                "similarity",
                "weight",
            )
        )
    )
    fields = ("template", "count", "nearest_source_template", "similarity", "weight", "template_id")
    evidence = (
        counted.join(knowledge, ["pattern_id", "template_id"])
        .groupBy("session_id")
        .agg(F.transform(ranked, lambda each: F.struct(*[each[name] for name in fields])).alias("evidence"))
    )
    return found.join(evidence, "session_id", "left").join(raw, "session_id", "left")
