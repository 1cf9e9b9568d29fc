"""Signals of a month with planted changes: `python tests/bench/month.py [--nights N] [--seeds N]`. Prints found and false ones."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from planted_month import KINDS, QUIET_NIGHTS, run_month


def main() -> None:
    """Run the months and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split(":")[0])
    parser.add_argument("--nights", type=int, default=31)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    planted, found, false, n_nights = Counter[str](), Counter[str](), list[str](), 0
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            score = run_month(Path(folder), options.nights, seed)
        planted, found = planted + score.planted, found + score.found
        false += [f"{ds} {each}" for ds, signals in score.false.items() for each in signals]
        n_nights += options.nights
    print("| change | planted | found |\n|---|--:|--:|")
    for kind in KINDS:
        print(f"| {kind} | {planted[kind]} | {found[kind]} |")
    for each in false:
        print(f"false: {each}")
    n_found, n_false = found.total(), len(false)
    precision = n_found / (n_found + n_false) if n_found + n_false else 1.0
    print(f"\n{n_found} of {planted.total()} changes found; {n_false} false signals in {n_nights} nights", end="")
    print(f" ({n_false / n_nights:.2f} a night, changes are planted from night {QUIET_NIGHTS + 1} on); precision {precision:.2f}")


if __name__ == "__main__":
    main()
