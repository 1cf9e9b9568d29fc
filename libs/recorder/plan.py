"""When what happens: a working day's rhythm, ordinary sessions by weight, incidents by day."""

from __future__ import annotations

import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from recorder.clock import Clock
from recorder.program import Program

P = TypeVar("P", bound=Program)
Act = Callable[[P, random.Random], None]

# How busy each hour of the day is, from midnight on; quiet nights, a dip at lunch, jobs at midnight.
RHYTHM = (4, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 9, 11, 13, 13, 12, 10, 7, 6, 5, 4, 3, 4)
DAY = 86400.0


@dataclass(frozen=True)
class Entry(Generic[P]):
    """A program and what can happen to it.

    `ordinary` maps acts to weights, `faults` maps acts to their numbers on each day. `per_day` is the number of ordinary acts a day,
    `speed` the recorded seconds in a real one. A held-out family never trains a model.
    """

    program: type[P]
    ordinary: Mapping[Act[P], float]
    faults: Mapping[Act[P], Sequence[int]]
    per_day: int = 1000
    speed: float = 400.0
    held_out: bool = False


@dataclass(frozen=True)
class Moment(Generic[P]):
    """One act at one time (recorded seconds since the first midnight)."""

    at: float
    act: Act[P]
    is_fault: bool
    seed: int


def moment_of_day(rng: random.Random) -> float:
    """A second of the day, likelier in busy hours."""
    (hour,) = rng.choices(range(24), RHYTHM)
    return hour * 3600 + rng.uniform(0, 3600)


def plan(entry: Entry[P], n_days: int, per_day: int, rng: random.Random) -> list[Moment[P]]:
    """All moments of the recording in order. The last half hour of the last day is left for things to end."""
    acts, weights = list(entry.ordinary), list(entry.ordinary.values())
    moments = []
    for day in range(n_days):
        busy = int(per_day * rng.uniform(0.93, 1.07))
        wanted = [(act, False) for act in rng.choices(acts, weights, k=busy)]
        wanted += [(act, True) for act, counts in entry.faults.items() for _ in range(counts[day % len(counts)])]
        for act, is_fault in wanted:
            at = day * DAY + min(moment_of_day(rng), DAY - 1800 if day == n_days - 1 else DAY)
            moments.append(Moment(at, act, is_fault, rng.getrandbits(32)))
    return sorted(moments, key=lambda moment: moment.at)


def drive(moments: Sequence[Moment[P]], program: P, clock: Clock, workers: int = 48) -> int:
    """Let everything happen at its time. Faults come one at a time.

    Returns the number of acts that went otherwise than meant (their reasons are printed).
    """
    surprises: Counter[str] = Counter()

    def perform(moment: Moment[P]) -> None:
        rng = random.Random(moment.seed)
        try:
            if moment.is_fault:
                moment.act(program, rng)
            else:
                with program.stage.gate.ordinary():
                    moment.act(program, rng)
        except Exception:  # an act that fails must not end the recording: it is printed and counted
            last = " | ".join(traceback.format_exc().strip().splitlines()[-5:])
            surprises[f"{moment.act.__name__}: {last}"] += 1

    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as faults:
        for moment in moments:
            clock.wait_until(moment.at)
            (faults if moment.is_fault else pool).submit(perform, moment)
    for what, n in surprises.most_common(20):
        print(f"{program.name}: {n} times {what}", file=sys.stderr)
    return surprises.total()
