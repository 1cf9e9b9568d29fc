"""`make fuzz`: the properties of `properties.py` on random inputs, then random nights of `accounts.py`; figures go to docs/reliability.md.

Each round has a seed of its own, printed as it begins: `python tests/fuzz/fuzz.py --seed SEED --rounds 1` repeats it.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from accounts import Violation, in_order, simulate
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from properties import PROPERTIES

EXAMPLES = 200  # of each property in a round
DOC = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- fuzz -->\n", "<!-- /fuzz -->\n"


def tried(name: str, number: int) -> tuple[int, str | None]:
    """Try a property on the inputs of a seed: how many there were, and the first that broke it, None where none did."""
    n = 0

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def holds(data: DataObject) -> None:
        nonlocal n
        n += 1
        PROPERTIES[name](data)

    try:
        holds()
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        return n, f"{type(error).__name__}: {error}\n{notes}"
    return n, None


def simulated(first: int, minutes: float) -> tuple[Counter[str], list[str]]:
    """Simulate random nights (see `accounts`) for some minutes: seeds from `first` on. Returns the figures, and what does not hold."""
    figures, violations = Counter[str](), list[str]()
    began = time.monotonic()
    while not figures["seeds"] or time.monotonic() - began < 60 * minutes:
        seed_ = first + figures["seeds"]
        figures["seeds"] += 1
        for simulation in (simulate, in_order):
            try:
                figures.update(asdict(simulation(seed_)))
            except Violation as violation:
                violations.append(f"{simulation.__name__}({seed_}): {violation}")
                print(f"VIOLATION {violations[-1]}", flush=True)
    return figures, violations


def accounts_section(figures: Counter[str], violations: Sequence[str], first: int) -> str:
    """Return the figures of `simulated` as Markdown."""
    return (
        f"Random nights: {figures['seeds']:,} seeds from {first} on, {figures['nights']:,} nights, {figures['sessions']:,} sessions "
        f"judged, {figures['waited']:,} left to a later night, {figures['judged_again']:,} judged again, {figures['read_again']:,} days "
        f"read again: {len(violations)} violations. `tests/fuzz/accounts.py` has the accounts.\n"
    )


def section(inputs: Counter[str], broken: Counter[str], seeds: Sequence[int], minutes: float) -> str:
    """The figures as Markdown."""
    head = (
        f"Random inputs by Hypothesis, {minutes:.0f} minutes, {len(seeds)} rounds, seeds {seeds[0]} to {seeds[-1]}: "
        f"{sum(inputs.values()):,} inputs, {sum(broken.values())} broke a property. `make fuzz` writes this table; "
        "`tests/fuzz/properties.py` has the properties, `make test` tries a few inputs of each.\n"
    )
    rows = []
    for name, function in PROPERTIES.items():
        meaning = (function.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
        rows.append(f"| `{name}` | {meaning} | {inputs[name]:,} | {broken[name]} |")
    return "\n".join([head, "| property | what holds | inputs | broken |", "|---|---|---:|---:|", *rows, ""])


def main() -> int:
    """Fuzz until the time is over; returns 1 where a property broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--accounts-minutes", type=float, default=5.0, help="how long random nights are simulated, after the properties")
    parser.add_argument("--rounds", type=int, help="so many rounds instead of minutes")
    parser.add_argument("--seed", type=int, help="the first round's; each later one has the next")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    given_ = parser.parse_args()
    first = given_.seed if given_.seed is not None else random.SystemRandom().randrange(10**9)
    inputs, broken, seeds = Counter[str](), Counter[str](), list[int]()
    began = time.monotonic()
    while len(seeds) < given_.rounds if given_.rounds else time.monotonic() - began < 60 * given_.minutes:
        seeds.append(first + len(seeds))
        print(f"round {len(seeds)}: seed {seeds[-1]}, {sum(inputs.values()):,} inputs so far", flush=True)
        for name in PROPERTIES:
            n, fault = tried(name, seeds[-1])
            inputs[name] += n
            if fault is not None:
                broken[name] += 1
                print(f"BROKEN {name} by seed {seeds[-1]}:\n{fault}", flush=True)
    figures, violations = simulated(first, given_.accounts_minutes)
    told = section(inputs, broken, seeds, (time.monotonic() - began) / 60 - given_.accounts_minutes)
    told = "\n".join([accounts_section(figures, violations, first), told])
    print(told)
    if given_.write:
        whole = DOC.read_text(encoding="utf-8")
        DOC.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: BEGIN + told + END, whole, flags=re.DOTALL), encoding="utf-8")
    return int(bool(broken or violations))


if __name__ == "__main__":
    sys.exit(main())
