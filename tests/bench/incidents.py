"""Incidents of the sample's nights against its injected faults: `python tests/bench/incidents.py [--lake DIR] [--systems …]`.

Runs the three nights of dovecot, by its recorded LLM, and of the recorded families, by their history alone, into one lake; a lake that has
them already is only read. Then it prints for each night and fault how many of its sessions are in findings, and in which incidents they
are; and the incidents that hold two faults. The truth is read here alone.

A fault is **found** if one of its sessions is in a finding, and **whole** if all its sessions that were found are in one incident. The
systems were recorded apart from each other, so an incident over two of them is a false one. Faults with the same pattern cannot be
distinguished by any join.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nightlog.lake.lake import Lake
from nightlog.lake.query import incidents
from nightlog.lake.tables import ANOMALIES, FINDINGS, NIGHTS, SESSIONS
from nightlog.outcomes import Stage
from nightlog.publishing.incidents import write_incidents
from nightlog.run.night import Night
from nightlog.sample import FAMILIES, families
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog

DEMO = "dovecot"
SIDE_EFFECT = "side effect of another fault"
TRUTH = FAMILIES.parent / "truth" / "dovecot_faults.csv"


@dataclass(frozen=True)
class FaultNight:
    """One fault of one night: its sessions, those in findings, and the incidents and findings that they are in."""

    system: str
    ds: str
    fault: str
    n_sessions: int
    n_found: int
    incidents: tuple[str, ...]
    findings: frozenset[str]


def faults_of(system: str) -> dict[str, str]:
    """Return session id → fault, of the sessions that a fault broke."""
    path = TRUTH if system == DEMO else FAMILIES / system / "truth.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {row["session_id"]: row["fault"] for row in csv.DictReader(file)}


def run_nights(lake: Lake, names: Iterable[str]) -> None:
    """Run the nights of these systems that the lake lacks, day by day."""
    there = {(row["ds"], row["system"]) for row in lake.rows(NIGHTS)}
    recorded = {family.name: family for family in families()}
    days = next(iter(recorded.values())).days
    with tempfile.TemporaryDirectory() as empty:
        for ds in days:
            for name in names:
                if (ds, name) in there:
                    continue
                if name == DEMO:
                    system, settings = load_catalog()[DEMO], Settings(llm="recorded", device="cpu")
                else:
                    system = recorded[name].system.model_copy(update={"role": "target", "labels": None})
                    settings = Settings(llm="off", device="cpu", data=FAMILIES, systems=Path(empty))
                night = Night(ds, f"incidents {ds}", [system], lake, settings, lambda: datetime.now(UTC))
                for stage in Stage.REPORT.before:
                    for outcome in night.run_stage(stage):
                        if outcome.outcome not in ("done", "incomplete"):
                            raise SystemExit(f"{name} {ds} {stage}: {outcome.detail}")
            write_incidents(lake, ds, f"incidents {ds}")


def ledger_of(lake: Lake, ds: str, truth: Mapping[str, Mapping[str, str]]) -> dict[str, Counter[str]]:
    """Return system → fault → its sessions of the night. Args: truth: system → session id → fault."""
    found = {}
    for system, faults in truth.items():
        names = [row["session_id"] for row in lake.rows(SESSIONS, ["session_id"], system=system, ds=ds)]
        found[system] = Counter(faults[name] for name in names if faults.get(name, SIDE_EFFECT) != SIDE_EFFECT)
    return found


def fault_nights(lake: Lake, ds: str, truth: Mapping[str, Mapping[str, str]], ledger: Mapping[str, Counter[str]]) -> list[FaultNight]:
    """Return the faults of a night, by system and fault."""
    incident_of = {row["finding_id"]: incident["incident_id"] for incident in incidents(lake, ds) for row in incident["findings"]}
    finding_of = {(row["system"], row["pattern_id"]): row["finding_id"] for row in lake.rows(FINDINGS, ds=ds)}
    found: dict[tuple[str, str], list[str]] = defaultdict(list)  # findings, one per session
    for row in lake.rows(ANOMALIES, ["system", "session_id", "pattern_id"], ds=ds):
        fault = truth.get(row["system"], {}).get(row["session_id"])
        if fault is not None:
            found[row["system"], fault].append(finding_of[row["system"], row["pattern_id"]])

    def incidents_of(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({incident_of[name] for name in names}))

    return [
        FaultNight(system, ds, fault, n, len(own := found[system, fault]), incidents_of(own), frozenset(own))
        for system, faults in sorted(ledger.items())
        for fault, n in sorted(faults.items())
    ]


def main() -> None:
    """Print the table and its sums."""
    parser = argparse.ArgumentParser(description=str(__doc__).split(":")[0])
    parser.add_argument("--lake", type=Path, help="folder of the lake; default: a temporary one")
    parser.add_argument("--systems", nargs="+", default=[DEMO, *(family.name for family in families())])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(options.lake or folder)
        run_nights(lake, options.systems)
        report(lake, options.systems)


def report(lake: Lake, systems: list[str]) -> None:
    """Print what `main` prints, of a lake with all nights."""
    truth = {system: faults_of(system) for system in systems}
    rows: list[FaultNight] = []
    n_over_systems = n_incidents = 0
    for ds in sorted({row["ds"] for row in lake.rows(NIGHTS)}):
        rows += fault_nights(lake, ds, truth, ledger_of(lake, ds, truth))
        own = incidents(lake, ds)
        n_incidents += len(own)
        n_over_systems += sum(len(each["systems"]) > 1 for each in own)
    print("| system | night | fault | sessions | found | incidents |\n|---|---|---|--:|--:|---|")
    for each in rows:
        named = ", ".join(each.incidents) or "–"
        print(f"| {each.system} | {each.ds} | {each.fault} | {each.n_sessions} | {each.n_found} | {named} |")
    for label, chosen in (("the demo", {DEMO}), ("the families", set(systems) - {DEMO})):
        own_rows = [each for each in rows if each.system in chosen and each.n_found]
        whole = [each for each in own_rows if len(each.incidents) == 1]
        held: dict[tuple[str, str], set[FaultNight]] = defaultdict(set)
        for each in own_rows:
            for name in each.incidents:
                held[each.ds, name].add(each)
        mixed = {place: faults for place, faults in held.items() if len(faults) > 1}
        if own_rows:
            print(f"\n{label}: {len(whole)} of {len(own_rows)} faults found are whole ({len(whole) / len(own_rows):.0%}); ", end="")
            print(f"{len(held)} incidents hold faults, {len(mixed)} of them two or more")
        for (ds, name), faults in sorted(mixed.items()):
            pairs = itertools.combinations(sorted(faults, key=lambda each: each.fault), 2)
            alike = [f"{one.fault} = {other.fault}" for one, other in pairs if one.findings & other.findings]
            same = f" (the same pattern: {', '.join(alike)})" if alike else ""
            print(f"  {ds} {name}: {'; '.join(sorted(each.fault for each in faults))}{same}")
    print(f"\n{n_incidents} incidents in all; over several systems, though these were recorded apart: {n_over_systems}")


if __name__ == "__main__":
    main()
