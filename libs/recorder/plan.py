"""When what happens: a working day's rhythm, ordinary sessions by weight, incidents by day."""

from __future__ import annotations

import random
import sys
import traceback
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
class Repertoire(Generic[P]):
    """What can happen to a program: ordinary acts with their weights, faults with their numbers on each day."""

    ordinary: Mapping[Act[P], float]
    faults: Mapping[Act[P], Sequence[int]]


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


def plan(repertoire: Repertoire[P], n_days: int, per_day: int, rng: random.Random) -> list[Moment[P]]:
    """All moments of the recording in order. The last half hour of the last day is left for things to end."""
    acts, weights = list(repertoire.ordinary), list(repertoire.ordinary.values())
    moments = []
    for day in range(n_days):
        busy = int(per_day * rng.uniform(0.93, 1.07))
        wanted = [(act, False) for act in rng.choices(acts, weights, k=busy)]
        wanted += [(act, True) for act, counts in repertoire.faults.items() for _ in range(counts[day % len(counts)])]
        for act, is_fault in wanted:
            at = day * DAY + min(moment_of_day(rng), DAY - 1800 if day == n_days - 1 else DAY)
            moments.append(Moment(at, act, is_fault, rng.getrandbits(32)))
    return sorted(moments, key=lambda moment: moment.at)


def drive(moments: Sequence[Moment[P]], program: P, clock: Clock, workers: int = 48) -> int:
    """Let everything happen at its time. Faults come one at a time.

    Returns how many acts went otherwise than meant (each is printed).
    """
    surprises = 0

    def perform(moment: Moment[P]) -> None:
        nonlocal surprises
        rng = random.Random(moment.seed)
        try:
            if moment.is_fault:
                moment.act(program, rng)
            else:
                with program.stage.gate.ordinary():
                    moment.act(program, rng)
        except Exception:
            surprises += 1
            last = traceback.format_exc().strip().splitlines()
            print(f"{program.name}: {moment.act.__name__}: {' | '.join(last[-3:])}", file=sys.stderr)

    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as faults:
        for moment in moments:
            clock.wait_until(moment.at)
            (faults if moment.is_fault else pool).submit(perform, moment)
    return surprises
