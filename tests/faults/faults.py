"""`make faults`: cause every fault, hold what is left against an undisturbed night, and write the table of docs/reliability.md.

Writes build/faults/results.json after each part. Ends with 1 if one of them did not end as it should.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "night"), str(ROOT / "tests")]

from disk import enter_namespace, troubles  # noqa: E402
from kills import Result, kill_at_any_moment, kill_at_commits, make_world  # noqa: E402
from models import kill_models, kill_promotions, make_models  # noqa: E402
from workers import BULK, COLUMNS, FEED, HEAP, OF_POOL, OF_SPARK, kill_parts  # noqa: E402
from world import Logs  # noqa: E402

OUT = ROOT / "build" / "faults"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by `make faults` -->", "<!-- end of faults -->"
PARTS = ("kills", "disk", "promotion", "teaching", "workers")


def results(part: str, seed: int) -> Iterator[Result]:
    """The faults of a part, each when it is through."""
    match part:
        case "kills":
            world = make_world(OUT / part, {"shop": Logs()})
            yield from kill_at_commits(world)
            yield from kill_at_any_moment(world, 3, seed)
        case "disk" if "FAULTS_NAMESPACE" in os.environ:
            yield from troubles(make_world(OUT / part, {"shop": Logs()}))
        case "disk":
            print("a disk cannot be mounted here: full and read-only disks are left out", flush=True)
        case "promotion":
            yield from kill_promotions(OUT / part)
        case "teaching":
            yield from kill_models(*make_models(OUT / part))
        case "workers":
            yield from kill_parts(make_world(OUT / part / "heap", {"heap": HEAP}, ("ingest", "parse")), OF_POOL)
            yield from kill_parts(make_world(OUT / part / "bulk", {"bulk": BULK}, items_per_call=200), OF_SPARK)
            for each in kill_parts(make_world(OUT / part / "feed", {"feed": FEED}, items_per_call=200), OF_SPARK, ("parse",)):
                yield replace(each, how=f"{each.how}, of JSON lines")
            for each in kill_at_commits(make_world(OUT / part / "columns", {"columns": COLUMNS}), ("parse",), only=" Spark "):
                yield replace(each, how=f"{each.how} of Spark")


def table(found: list[Result]) -> str:
    """A row for each fault: how it was caused, how often, how it ended, and what was lost, doubled or paid twice.

    >>> print(table([Result("a", "b", "1", "the same tables"), Result("a", "b", "2", "the same tables")]).splitlines()[-1])
    | a | b | 2 | the same tables | 0 | 0 | 0 |
    """
    kinds: dict[tuple[str, str], list[Result]] = {}
    for each in found:
        kinds.setdefault((each.fault, each.how), []).append(each)
    rows = ["| fault | how it is caused | times | outcome | rows lost | rows twice | answers paid twice |", "|---|---|---|---|---|---|---|"]
    for (fault, how), same in kinds.items():
        outcome = "; ".join(dict.fromkeys(each.outcome for each in same))
        sums = [sum(getattr(each, name) for each in same) for name in ("lost", "doubled", "asked_again")]
        rows.append(f"| {fault} | {how} | {len(same)} | {outcome} | {' | '.join(map(str, sums))} |")
    return "\n".join(rows)


def write_page(found: list[Result], whole: bool) -> None:
    """Put the table between its marks in docs/reliability.md; unless it is the whole of it, rows of other faults stay as they are."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    new = table(found)
    PAGE.write_text(f"{before}{BEGIN}\n{new if whole else merged(old.strip(), new)}\n{END}{after}", encoding="utf-8")


def merged(old: str, new: str) -> str:
    """The rows of two tables; of the same fault, caused in the same way, that of the new one.

    >>> merged("| a | b | 1 |\\n| c | d | 1 |", "| a | b | 2 |\\n| e | f | 1 |").splitlines()
    ['| a | b | 2 |', '| c | d | 1 |', '| e | f | 1 |']
    """
    rows = {tuple(line.split("|")[1:3]): line for one in (old, new) for line in one.splitlines()}
    return "\n".join(rows.values())


def read_results() -> dict[str, list[Result]]:
    """By part what build/faults/results.json holds."""
    file = OUT / "results.json"
    told = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {part: [Result(**one) for one in told.get(part, [])] for part in PARTS}


def main() -> int:
    """Run the parts, print each result as it comes. Returns 1 if something was lost, doubled, paid twice or not as due."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; what the others came to last is kept")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for part in given.parts.split(","):
        done: list[Result] = []
        for each in results(part, given.seed):
            done.append(each)
            print(f"{time.monotonic() - started:6.0f} s  {each.fault}: {each.point}: {each.outcome} {each.wrong}".rstrip(), flush=True)
        kept = read_results() | {part: done}
        told = {name: [asdict(one) for one in some] for name, some in kept.items()}
        (OUT / "results.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    by_part = read_results()
    found = [one for some in by_part.values() for one in some]
    bad = [each for each in found if "NOT" in each.outcome]
    minutes = (time.monotonic() - started) / 60
    print(f"{len(found)} faults, {minutes:.0f} minutes, {len(bad)} of them not as they should be\n\n{table(found)}")
    if not bad and found:
        write_page(found, whole=all(by_part.values()))
    return int(bool(bad) or not found)


if __name__ == "__main__":
    enter_namespace()
    sys.exit(main())
