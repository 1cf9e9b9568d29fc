"""Count the real log files that `nightlog try` reads correctly: FOLDER/corpus has the files, FOLDER/truth.jsonl the truth about each.

Fields of the truth, per file: `first_at`, `last_at` (ISO times, or lists of them; `--MM-DDT…` has no year, `T…` no day) of the records that
begin in `first_line`, `last_line`; `record_starts` (the first lines), `n_records`, `optional_lines` (may be records); `message_first`,
`level_first` (texts, or lists of them), `message_has`, `message_lacks`; `refused` (no log). Times count within a second, messages without
colours and runs of blanks. `second`: the same proposal must read the first lines as if written on other days; they are the files of a
folder `second`, or else rewritten here.

A file is good if all of its fields but `second` are right. FOLDER is ../shared/data/formats by default. `--verbose` prints what is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nightlog.errors import NightlogError
from nightlog.onboarding.report import report_of
from nightlog.onboarding.trial import Event, Trial, try_system
from nightlog.settings import Settings
from nightlog.systems.spec import System

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("times", "records", "message", "level", "second")
FIRST_RECORDS = 20
SECOND_DAYS = {"d3": (3, (5, 7, 9)), "d23": (23, (15, 47, 39))}
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"


def as_list(value: Any) -> list[Any]:
    """Return a value of the truth as the list of all that is right."""
    return value if isinstance(value, list) else [value]


def is_time(at: datetime | None, right: Any) -> bool:
    """Return whether a time is one of the right ones; only what they state is compared."""
    return at is not None and any(apart(at, text) <= timedelta(seconds=1) for text in as_list(right) if text)


def apart(at: datetime, text: str) -> timedelta:
    """Return how far a time is from a time of the truth."""
    if text.startswith("T"):
        clock = datetime.fromisoformat("2024-01-02" + text).astimezone(UTC)
        return min(abs(at - datetime.combine(at.date() + timedelta(days=n), clock.timetz())) for n in (-1, 0, 1))
    years = (at.year - 1, at.year, at.year + 1) if text.startswith("--") else (None,)
    return min(abs(at - datetime.fromisoformat(text if year is None else f"{year}{text[1:]}")) for year in years)


def plain(text: str) -> str:
    """Return a text without colours, with single blanks."""
    return " ".join(re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", text).split())


def is_message(found: str, truth: dict[str, Any]) -> bool:
    """Return whether a message is the right one, or has what it must have."""
    text = plain(found)
    if truth["message_first"] is None:
        has, lacks = truth.get("message_has", []), truth.get("message_lacks", [])
        return all(bare(each) in bare(text) for each in has) and not any(each in text for each in lacks)
    for right in map(plain, as_list(truth["message_first"])):
        more = text[len(right) :]
        if text == right or (text.startswith(right) and truth.get("message_more_lines")):
            return True
        if text.startswith(right) and truth.get("message_more") and re.match(r" \S+?=", more):
            return True
    return False


def bare(text: str) -> str:
    """Return a text with marks as blanks, except those of paths and numbers."""
    return re.sub(r"[^\w/.?=&%:-]+", " ", text).strip()


def events_of(trial: Trial) -> dict[int, Event]:
    """Return the matched events by the line they begin in, from 1."""
    return {event.record.line + 1: event for event in trial.matched}


def scores_of(trial: Trial, truth: dict[str, Any]) -> dict[str, bool]:
    """Return which fields of a file are right; a field without truth is left out."""
    events, optional = events_of(trial), set(truth.get("optional_lines") or ())
    starts = [line for line in events if line not in optional]
    first = events.get(truth["record_starts"][0])
    right = {"records": len(starts) == truth["n_records"] and starts[:FIRST_RECORDS] == truth["record_starts"][:FIRST_RECORDS]}
    if truth["first_at"] is not None:
        ends = ((events.get(truth[f"{end}_line"]), truth[f"{end}_at"]) for end in ("first", "last"))
        right["times"] = all(event is not None and is_time(event.at, at) for event, at in ends)
    if truth["message_first"] is not None or truth.get("message_has"):
        right["message"] = first is not None and is_message(first.fields.get("message", ""), truth)
    if truth["level_first"] is not None:
        levels = [level.lower() for level in as_list(truth["level_first"])]
        right["level"] = first is not None and first.fields.get("level", "").strip().lower() in levels
    return right


def of_day(line: str, day: int, clock: tuple[int, int, int]) -> str:
    """Return a line as if written on another day of its month, with the usual forms of stamps in their own style."""
    hour, minute, second = clock

    def named(found: re.Match[str]) -> str:
        blanks, digits = found[2], found[3]
        padded = f"{day:02d}" if digits[0] == "0" else f"{day:2d}" if len(blanks + digits) == 3 else str(day)
        return f"{found[1]} {padded}"

    def timed(found: re.Match[str]) -> str:
        half = found[2] and found[2][:-2] + ("PM" if hour >= 12 else "AM")
        shown = f"{hour % 12 if half else hour:02d}"
        return f"{shown if len(found[1]) == 2 else shown.lstrip('0')}:{minute:02d}:{second:02d}{half or ''}"

    line = re.sub(r"\b((?:19|20)\d\d([-/.])\d\d\2)\d\d(?!\d)", rf"\g<1>{day:02d}", line)
    line = re.sub(r"(?<!\d)(20\d\d\d\d)\d\d(?=[T :-]\d)", rf"\g<1>{day:02d}", line)
    line = re.sub(rf"\b((?:{MONTHS})[a-z]*)( +)(\d{{1,2}})(?=[ ,])", named, line)
    line = re.sub(rf"(?<!\d)\d\d([-/ ](?:{MONTHS})\b)", rf"{day:02d}\1", line)
    return re.sub(r"(?<![\d:.])(\d{1,2}):\d\d:\d\d(?![\d:])( ?[AP]M)?", timed, line)


def reads_second_day(system: System, lines: Sequence[str], truth: dict[str, Any], folder: Path, ds: str) -> bool:
    """Return whether a system reads the lines of other days as well as those that it was proposed for."""
    before = try_system(lines[:200], system, ds)
    for day, at in truth["second"].items():
        if folder.is_dir():
            text = (folder / f"{Path(truth['file']).stem}.{day}.log").read_text(encoding="utf-8", errors="replace")
            after = try_system(text.splitlines(), system, ds)
        else:
            after = try_system([of_day(line, *SECOND_DAYS[day]) for line in lines[:200]], system, ds)
        if after.matched_share < before.matched_share - 0.005 or after.timed_share < before.timed_share - 0.005 or not before.timed_share:
            return False
        event = events_of(after).get(truth["first_line"])
        if folder.is_dir() and at is not None and not (event is not None and is_time(event.at, at)):
            return False
    return True


def tried(path: Path, name: str) -> tuple[Trial, dict[str, Any]]:
    """Return what the proposed file makes of all lines of a file, and the report. Raises NightlogError if nothing is proposed."""
    found, trial = report_of([path], name, 20_000, Settings())
    lines = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
    return try_system(lines, trial.system, found["ds"]), found


def score(path: Path, truth: dict[str, Any], second: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    """Try a file. Returns which fields are right, and the report."""
    name = re.sub(r"[^a-z0-9-]", "-", path.stem.lower())
    try:
        trial, found = tried(path, name)
    except NightlogError as error:
        fields = ["records"] if truth.get("refused") else ["times", "records", "message", "level"]
        return dict.fromkeys(fields, bool(truth.get("refused"))), {"findings": [str(error)]}
    if truth.get("refused"):
        return {"records": False}, found
    right = scores_of(trial, truth)
    if truth.get("second"):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        right["second"] = reads_second_day(trial.system, lines, truth, second, found["ds"])
    return right, found


def summary(rows: Iterable[dict[str, bool]]) -> str:
    """Return the shares of files whose fields are right."""
    seen, right, good, n = Counter[str](), Counter[str](), 0, 0
    for row in rows:
        seen.update(row.keys())
        right.update(name for name, is_right in row.items() if is_right)
        n += 1
        good += all(is_right for name, is_right in row.items() if name != "second")
    shares = [f"{name} {right[name] / seen[name]:.0%}" if seen[name] else f"{name} not measured" for name in FIELDS]
    return f"good {good / max(1, n):.0%} ({n}), {', '.join(shares)}"


def main() -> None:
    """Print a line per file that is not good, and the shares."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", type=Path, default=ROOT.parent / "shared" / "data" / "formats")
    arguments.add_argument("--verbose", action="store_true", help="print the findings, too")
    given = arguments.parse_args()
    if not (given.folder / "truth.jsonl").is_file():
        sys.exit(f"{given.folder}: no truth.jsonl and no folder corpus; the files are not part of the repository, give their folder")
    rows: dict[str, list[dict[str, bool]]] = {}
    silent = []
    for text in (given.folder / "truth.jsonl").read_text(encoding="utf-8").splitlines():
        truth = json.loads(text)
        if truth.get("unscored"):
            continue
        right, found = score(given.folder / "corpus" / truth["file"], truth, given.folder / "second")
        rows.setdefault(truth["kind"], []).append(right)
        if not right.get("times", True) and not any("time" in each or "stamp" in each for each in found["findings"]):
            silent.append(truth["file"])
        if wrong := [name for name in FIELDS if not right.get(name, True)]:
            print(f"{truth['file']:36} wrong: {', '.join(wrong)}", flush=True)
            for finding in found["findings"] if given.verbose else ():
                print(f"      {finding[:160]}")
    for kind, of_kind in rows.items():
        print(f"{kind}: {summary(of_kind)}")
    print(f"wrong times without a finding about them: {', '.join(silent) or 'none'}")
    print(summary(row for of_kind in rows.values() for row in of_kind))


if __name__ == "__main__":
    main()
