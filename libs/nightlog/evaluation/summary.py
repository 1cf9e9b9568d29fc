"""Flat records, summed up over seeds and targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nightlog.evaluation.corpus import BENCHMARKS, MAIN

Record = dict[str, Any]
ORDER = ("generallog", "fusionlog", "small_model", "metaproto", "llm_only")


@dataclass(frozen=True)
class Stat:
    """A measure over seeds: mean, standard deviation (0 for one run), number of runs."""

    mean: float
    sd: float
    n: int

    @staticmethod
    def of(values: Iterable[float | None]) -> Stat | None:
        """None where no run has a value."""
        known = [value for value in values if value is not None]
        return Stat(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else 0.0, len(known)) if known else None


@dataclass(frozen=True)
class Line:
    """A mode's measure by target, its mean over the main targets and the worst of them; None where one of them was not run."""

    mode: str
    by_target: dict[str, Stat]
    mean: float | None
    worst: float | None


def rank(mode: str) -> tuple[int, int, str]:
    """Modes in the order of the papers, the same with answers behind them, others by name."""
    base, _, rest = mode.partition("+")
    return (ORDER.index(base) if base in ORDER else len(ORDER), int("".join(filter(str.isdigit, rest)) or 0), mode)


def is_baseline(mode: str) -> bool:
    """Is it beside the modes, not one of them?"""
    return mode.startswith("baseline:")


def is_control(mode: str) -> bool:
    """Is it the negative control of a mode?"""
    return mode.endswith("+shuffled")


def chosen(records: Iterable[Record], protocol: str, sessions: str = "all") -> list[Record]:
    """The records of one protocol and kind of sessions."""
    return [record for record in records if record["protocol"] == protocol and record["sessions"] == sessions]


def targets_of(records: Iterable[Record]) -> list[str]:
    """The targets that occur, in the order of the benchmark."""
    found = {record["target"] for record in records}
    return [name for name in BENCHMARKS if name in found]


def modes_of(records: Iterable[Record]) -> list[str]:
    """The modes that occur (no baselines, no controls), ranked."""
    return sorted({r["mode"] for r in records if not is_baseline(r["mode"]) and not is_control(r["mode"])}, key=rank)


def baselines_of(records: Iterable[Record]) -> list[str]:
    """The baselines that occur, as they come."""
    return list(dict.fromkeys(record["mode"] for record in records if is_baseline(record["mode"])))


def stat(records: Iterable[Record], target: str, mode: str, measure: str) -> Stat | None:
    """A measure of a mode on a target, over the seeds."""
    return Stat.of(record[measure] for record in records if record["target"] == target and record["mode"] == mode)


def line(records: Sequence[Record], mode: str, measure: str = "f1") -> Line:
    """A mode's measure on all targets."""
    found = {target: stat(records, target, mode, measure) for target in targets_of(records)}
    known = {target: value for target, value in found.items() if value is not None}
    main = [known[target].mean for target in MAIN if target in known]
    whole = len(main) == len(MAIN)
    return Line(mode, known, statistics.fmean(main) if whole else None, min(main) if whole else None)


def overview(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row a protocol and mode: mean F1 of all test sessions by target, mean and worst of the main targets."""
    rows = []
    for protocol in dict.fromkeys(record["protocol"] for record in records):
        own = chosen(records, protocol)
        controls = sorted({record["mode"] for record in own if is_control(record["mode"])})
        for mode in [*modes_of(own), *controls, *baselines_of(own)]:
            found = line(own, mode)
            scores = {target: found.by_target[target].mean if target in found.by_target else None for target in targets_of(own)}
            scores |= {"mean": found.mean, "worst": found.worst}
            named = {name: round(value, 4) if value is not None else None for name, value in scores.items()}
            rows.append({"protocol": protocol, "mode": mode} | named)
    return rows
