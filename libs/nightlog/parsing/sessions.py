"""Events → sessions → patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def for_nights(events: DataFrame, nights: Sequence[str], look_back_days: int) -> DataFrame:
    """Events with the nights on which they count: their own and the `look_back_days` after it, of those that are asked for.

    Returns: events with `night` and `own`, true where the night is the event's day; one row for each night of an event.
    """
    if len(nights) == 1:
        placed = events.withColumn("night", F.lit(nights[0]))
    else:
        wanted = F.array(*map(F.lit, nights))
        last = F.date_add(F.to_date("ds"), look_back_days).cast("string")
        placed = events.withColumn("night", F.explode(F.filter(wanted, lambda night: night.between(F.col("ds"), last))))
    return placed.withColumn("own", F.col("ds") == F.col("night"))


def group_sessions(events: DataFrame, messages: DataFrame, settle_minutes: int = 0, timezone: str = "UTC") -> DataFrame:
    """The sessions that have events on a night, judged on these and on those of its look-back days.

    What began in the last `settle_minutes` before midnight has not been seen whole: it belongs to the next night alone.

    Args: events (night, own, session_id, at, message_id); messages (message_id, template_id); timezone, whose midnight ends a night.
    Returns: (ds the night, session_id, pattern_id, events array<struct<template_id, count>> in order of template_id with counts in
    powers of two, started_at, ended_at, n_events); one row a night and session. The order of events and their partitioning have
    no influence.
    """
    counted = (
        events.where(F.col("session_id").isNotNull())
        .join(F.broadcast(messages.select("message_id", "template_id")), "message_id")
        .groupBy("night", "session_id", "template_id")
        .agg(
            F.count("*").alias("n"),
            F.min("at").alias("first_at"),
            F.max("at").alias("last_at"),
            F.max("own").alias("own"),
        )
        .withColumn("rounded", power_of_two("n"))
    )
    return (
        counted.groupBy(F.col("night").alias("ds"), "session_id")
        .agg(
            F.sort_array(F.collect_list(F.struct("template_id", F.col("rounded").alias("count")))).alias("events"),
            F.min("first_at").alias("started_at"),
            F.max("last_at").alias("ended_at"),
            F.sum("n").alias("n_events"),
            F.max("own").alias("own"),
        )
        .where(is_of_night(settle_minutes, timezone))
        .select("ds", "session_id", pattern_id(F.col("events")).alias("pattern_id"), "events", "started_at", "ended_at", "n_events")
    )


def is_of_night(settle_minutes: int, timezone: str) -> Column:
    """Whether a session (ds, own, started_at) is judged on the night `ds`: it has events of it, or began just before it, and not just
    before its end. Without times only the events count."""
    if not settle_minutes:
        return F.col("own")
    begin, end = (F.to_utc_timestamp(F.date_add("ds", days).cast("timestamp"), timezone) for days in (0, 1))
    settle = F.expr(f"interval {settle_minutes} minutes")
    fresh = F.coalesce(F.col("started_at") >= begin - settle, F.lit(False))
    cut = F.coalesce(F.col("started_at") >= end - settle, F.lit(False))
    return (F.col("own") | fresh) & ~cut


def power_of_two(count: str) -> Column:
    """A count rounded down to a power of two, by its bits: logarithms of doubles are not exact."""
    return F.expr(f"shiftleft(1L, length(bin({count})) - 1)")


def pattern_id(events: Column) -> Column:
    """Hash of a multiset of templates that is in order."""
    return F.substring(F.sha2(F.to_json(events), 256), 1, 16)


def question_id(counted: bool) -> Column:
    """What is asked about a pattern: the pattern, or where counts tell nothing the hash of its set of templates."""
    return F.col("pattern_id") if counted else pattern_id(F.col("events.template_id"))


def group_patterns(sessions: DataFrame, counted: bool) -> DataFrame:
    """The distinct patterns of each night's sessions: (ds, pattern_id, question_id, events, n_sessions, example_session_id).

    Args: counted, whether counts tell something: in a session that is the life of one thing, not in what a node or an hour happened to log.
    """
    patterns = sessions.groupBy("ds", "pattern_id").agg(
        F.first("events").alias("events"), F.count("*").alias("n_sessions"), F.min("session_id").alias("example_session_id")
    )
    return patterns.withColumn("question_id", question_id(counted))
