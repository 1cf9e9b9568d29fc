"""Events → sessions → patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def group_sessions(events: DataFrame, messages: DataFrame, ds: str) -> DataFrame:
    """The sessions that have events on the night `ds`.

    Args: events of the night and its look-back days (ds, session_id, at, message_id); messages (message_id, template_id).
    Returns: (session_id, pattern_id, events array<struct<template_id, count>> in order of template_id with counts in powers of
    two, started_at, ended_at, n_events); one row a session. The order of events and their partitioning have no influence.
    """
    counted = (
        events.where(F.col("session_id").isNotNull())
        .join(F.broadcast(messages.select("message_id", "template_id")), "message_id")
        .groupBy("session_id", "template_id")
        .agg(
            F.count("*").alias("n"),
            F.min("at").alias("first_at"),
            F.max("at").alias("last_at"),
            F.max("ds").alias("last_ds"),
        )
        # Rounded down to a power of two, counted in bits: logarithms of doubles are not exact.
        .withColumn("rounded", F.expr("shiftleft(1L, length(bin(n)) - 1)"))
    )
    return (
        counted.groupBy("session_id")
        .agg(
            F.sort_array(F.collect_list(F.struct("template_id", F.col("rounded").alias("count")))).alias("events"),
            F.min("first_at").alias("started_at"),
            F.max("last_at").alias("ended_at"),
            F.sum("n").alias("n_events"),
            F.max("last_ds").alias("last_ds"),
        )
        .where(F.col("last_ds") == ds)
        .select("session_id", pattern_id(F.col("events")).alias("pattern_id"), "events", "started_at", "ended_at", "n_events")
    )


def pattern_id(events: Column) -> Column:
    """Hash of a multiset of templates that is in order."""
    return F.substring(F.sha2(F.to_json(events), 256), 1, 16)


def group_patterns(sessions: DataFrame) -> DataFrame:
    """The distinct patterns of sessions: (pattern_id, events, n_sessions, example_session_id)."""
    return sessions.groupBy("pattern_id").agg(
        F.first("events").alias("events"), F.count("*").alias("n_sessions"), F.min("session_id").alias("example_session_id")
    )
