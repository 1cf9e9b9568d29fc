"""LogLead's delta on pairs of logs: each line of a failing run scored against a passing run. In the environment of the peers.

Reads from standard input a JSON list of {"good": [line, …], "bad": [line, …]} and writes a list of {method: [score, …]}, one score per line
of the failing run. `rank_sum` over all four detectors is what LogLead's documentation recommends.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import polars as pl
from loglead.delta import anomaly, distance, masking, scoring
from loglead.enhancers import EventLogEnhancer


def scored(good: list[str], bad: list[str]) -> dict[str, list[float]]:
    """Return the scores of the lines of the failing run by each of LogLead's methods for lines."""
    folders = ["good"] * len(good) + ["bad"] * len(bad)
    frame = pl.DataFrame({"m_message": good + bad, "folder": folders, "file_name": ["run.log"] * len(folders)})
    frame = EventLogEnhancer(frame).mask(regexs=masking.get_pattern("myllari_extended"))
    per_file, frame = anomaly.anomaly_line_content(frame, "bad", comparison_folders=["good"])
    rows = scoring.add_combined_scores(per_file[0][2], scoring.ANOMALY_COLUMNS)
    found: dict[str, Any] = {"rank_sum": rows["rank_sum"].to_list()}
    found |= {name: rows[column].cast(pl.Float64).to_list() for name, (_, column) in anomaly.DETECTORS.items()}
    buckets, _, frame = distance.distance_line_content(frame, "bad", comparison_folders=["good"], measures=["Exact"])
    table = buckets[0][2]
    score = {row["bucket"]: row["target_only"] + row["delta_pct"] / 1000 for row in table.to_dicts()}
    words = frame.filter(pl.col("folder") == "bad").select(pl.col("e_words").list.join(" ")).to_series()
    return found | {"target_only": [score[each] for each in words]}


if __name__ == "__main__":
    json.dump([scored(pair["good"], pair["bad"]) for pair in json.load(sys.stdin)], sys.stdout)
