"""Grouping accuracy of templates on loghub's 2k samples: on the message alone, and by the file that `nightlog try` proposes.

The share of lines whose group (the lines with the same template) is exactly the true group (Zhu et al., ICSE-SEIP 2019). The truth is read
from FOLDER (default: ../shared/data/loghub2k). `--verbose` shows the groups that are wrong.
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from nightlog.onboarding.propose import propose
from nightlog.onboarding.trial import masker, mine_messages, parse_events, split_records
from nightlog.systems.spec import DEFAULT_MASKS, Header, Session, System

ROOT = Path(__file__).resolve().parents[2]


def grouping_accuracy(ours: Sequence[str], truth: Sequence[str]) -> tuple[float, dict[str, set[str]]]:
    """Return the share of lines in groups that equal a true group, and for each wrong true group our templates in it."""
    found, true = defaultdict(set), defaultdict(set)
    for number, (mine, theirs) in enumerate(zip(ours, truth, strict=True)):
        found[mine].add(number)
        true[theirs].add(number)
    wrong = {name: {ours[n] for n in lines} for name, lines in true.items() if found[ours[min(lines)]] != lines}
    right = sum(len(lines) for name, lines in true.items() if name not in wrong)
    return right / len(truth), wrong


def on_messages(messages: Sequence[str]) -> list[str]:
    """Return the template of each message."""
    system = System(
        name="x",
        role="target",
        input={"path": "{ds}"},
        header=Header(),
        session=Session(kind="field", field="message"),  # type: ignore[arg-type]
    )
    mask = masker(DEFAULT_MASKS)
    masked = [mask(message) for message in messages]
    templates = mine_messages(masked, system)
    return [templates[message] for message in masked]


def by_proposal(lines: Sequence[str]) -> list[str]:
    """Return the template of each line by the proposed file; a line that is not matched has one of its own."""
    system = propose(lines, "x", "x-{ds}.log", "2026-03-04", False).trial.system
    events = [event for event in parse_events(split_records(lines, system), system, "2026-03-04") if event.matched]
    templates = mine_messages([event.message for event in events], system)
    of_line = {event.record.line: templates[event.message] for event in events}
    return [of_line.get(number, f"unmatched {number}") for number in range(len(lines))]


def main() -> None:
    """Print a row per system and the means."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", nargs="?", type=Path, default=ROOT.parent / "shared" / "data" / "loghub2k")
    arguments.add_argument("--verbose", action="store_true")
    arguments.add_argument("--only", default="")
    given = arguments.parse_args()
    with tarfile.open(given.folder / "loghub2k.tar.xz") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]
    means = Counter[str]()
    names = sorted(name.split("/")[0] for name in files if name.endswith("_2k.log"))
    names = [name for name in names if given.only in name]
    for name in names:
        rows = list(csv.DictReader(io.StringIO(files[f"{name}/{name}_2k.log_structured.csv"].decode("utf-8", "replace"))))
        lines = files[f"{name}/{name}_2k.log"].decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n").split("\n")
        truth = [row["EventId"] for row in rows]
        alone, wrong = grouping_accuracy(on_messages([row["Content"] for row in rows]), truth)
        proposed, wrong_too = grouping_accuracy(by_proposal(lines), truth) if len(lines) == len(rows) else (float("nan"), {})
        means += Counter({"alone": alone, "proposed": proposed})
        print(f"{name:12} message {alone:.3f}  proposed file {proposed:.3f}", flush=True)
        if given.verbose:
            true_text = {row["EventId"]: row["EventTemplate"] for row in rows}
            n_lines = Counter(truth)
            for event in sorted(wrong, key=lambda each: -n_lines[each])[:12]:
                print(f"    {n_lines[event]:5} {true_text[event][:110]}")
                for template in sorted(wrong[event])[:4]:
                    print(f"          {template[:120]}")
            if wrong.keys() != wrong_too.keys():
                for event in sorted(wrong_too.keys() - wrong.keys(), key=lambda each: -n_lines[each])[:6]:
                    print(f"    P {n_lines[event]:5} {true_text[event][:110]}")
                    for template in sorted(wrong_too[event])[:4]:
                        print(f"          {template[:120]}")
    print(f"{'mean':12} message {means['alone'] / len(names):.3f}  proposed file {means['proposed'] / len(names):.3f}")


if __name__ == "__main__":
    main()
