"""Read the labelled systems: public session sets, the recorded corpora that ship, and a user's own, from a file or from the lake."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nightlog.errors import ConfigError, FormatError, NotThere
from nightlog.evaluation.labelled import Labelled, labelled_system
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.tables import EVENTS_TABLE, LABELS, PATTERNS, SESSIONS, TEMPLATE_COUNTS
from nightlog.onboarding.trial import try_system
from nightlog.sample import FAMILIES, families
from nightlog.systems.catalog import load_catalog, nearest, parse_system, read_label_file
from nightlog.systems.spec import Session, System

SAMPLE = FAMILIES.parent
ENDING = ".sessions.jsonl.gz"
TEST_SHARE = 1 / 3  # of the sessions, the last ones, if they have times


@dataclass(frozen=True)
class Benchmark:
    """A public session set: file `name`.sessions.jsonl.gz over `family`_templates.csv.

    Sets of one `family` are cut from the same lines, so none of them is a source of the other. `system` is the name that the LLM reads.
    """

    name: str
    family: str
    system: str
    kind: Literal["id", "field", "window"]

    def spec(self) -> System:
        """Return the shipped system file of the family, under the name of the set."""
        shipped = load_catalog().get(self.family)
        if shipped is None:
            return plain_spec(self.system)
        session = Session(kind="window") if self.kind == "window" else shipped.session
        return shipped.model_copy(update={"name": self.system, "role": "target", "session": session})


BENCHMARKS = {
    bench.name: bench
    for bench in (
        Benchmark("hdfs_blocks", "hdfs", "hdfs", "id"),
        Benchmark("bgl_nodes", "bgl", "bgl", "field"),
        Benchmark("openstack_vms", "openstack", "openstack", "id"),
        Benchmark("bgl_hours", "bgl", "bgl_hours", "window"),
        Benchmark("trainticket_traces", "trainticket", "trainticket", "id"),
    )
}
MAIN = ("hdfs_blocks", "bgl_nodes", "openstack_vms")


def sessions_folder(logs: Path, shared: Path | None) -> Path | None:
    """Return the folder of the public session sets: `sessions` in or beside the folder of logs, or `data/sessions` of the shared folder."""
    folders = [logs / "sessions", logs.parent / "sessions", *([shared / "data" / "sessions"] if shared is not None else [])]
    return next((folder for folder in folders if any(folder.glob(f"*{ENDING}"))), None)


@dataclass(frozen=True)
class Places:
    """The places of labelled systems: public session `sets`, the `lake`, its logs and labels under `data`, the user's `systems` files."""

    sets: Path | None = None
    lake: Path | str | None = None
    data: Path = Path()
    systems: Path | None = None


def labelled_systems(places: Places, names: Sequence[str] = ()) -> Iterator[Labelled]:
    """Read all public sets and recorded systems, or those named; a name may be a session file or a system with nights in the lake, too.

    Raises: NotThere with the known names if a name is none of them.
    """
    sessions = places.sets
    sets = {name: bench for name, bench in BENCHMARKS.items() if sessions is not None and (sessions / f"{name}{ENDING}").is_file()}
    recorded = recorded_systems()
    for name in names or (*sets, *recorded):
        if name in sets and sessions is not None:
            yield read_public(sessions, sets[name])
        elif name in recorded:
            yield from_logs(*recorded[name])
        elif Path(name).is_file():
            yield from_file(Path(name))
        elif places.lake is not None and name in (catalog := load_catalog(places.systems)):
            yield from_lake(Lake(places.lake), catalog[name], places.data)
        else:
            known = [*sets, *recorded]
            raise NotThere(
                f"no labelled system `{name}`{nearest(name, known)}; known: {', '.join(known)}; or the path of a session file, or a system "
                "with nights in the lake"
            )


def recorded_systems() -> dict[str, tuple[System, Path, bool]]:
    """Return the recorded systems that ship: name → (system, root of its paths, held out)."""
    files = sorted((SAMPLE / "systems").glob("*.toml"))
    sample = [parse_system(path.read_text(encoding="utf-8"), path.name) for path in files]
    found = {system.name: (system, SAMPLE / "logs", False) for system in sample}
    return found | {each.name: (each.system, FAMILIES, each.held_out) for each in families()}


def read_public(folder: Path, bench: Benchmark) -> Labelled:
    """Read a public session set."""
    texts, level = read_templates(folder / f"{bench.family}_templates.csv")
    counted = bench.kind == "id"
    return from_rows(bench.name, folder / f"{bench.name}{ENDING}", texts, level, family=bench.family, counted=counted, spec=bench.spec())


def from_file(path: Path) -> Labelled:
    """Read a user's session file: JSON lines {"session_id", "label", "events", "time"}, packed by gzip or not.

    `events` are template texts, an object of text → count, or ids of NAME_templates.csv (event_id, template, level) beside the file. `time`
    is optional: ISO text or a number. With times the last third of the sessions is the test part, else half of them by a hash.
    """
    name = re.sub(r"[^a-z0-9_-]", "-", path.name.lower().removesuffix(".gz").removesuffix(".jsonl").removesuffix(".sessions"))
    beside = path.with_name(f"{path.name.partition('.')[0]}_templates.csv")
    texts, level = read_templates(beside) if beside.is_file() else ({}, {})
    return from_rows(name, path, texts, level, family=name, counted=True, spec=plain_spec(name))


def plain_spec(name: str) -> System:
    """Return a system of which nothing but the name is known."""
    header = {"pattern": "(?P<id>)(?P<message>.*)"}
    session = {"kind": "field", "field": "id"}
    fields = {"role": "target", "input": {"path": f"{name}-{{ds}}.log"}, "header": header, "session": session}
    return System.model_validate({"name": name if re.match("[a-z]", name) else f"system-{name}", **fields})


def from_rows(name: str, path: Path, texts: dict[int, str], level: dict[str, str], *, family: str, counted: bool, spec: System) -> Labelled:
    """Read the sessions of a file. Raises FormatError with file and line if a row is not a session."""
    ids: list[str] = []
    labels: list[bool] = []
    numbers: list[int] = []
    times: list[Any] = []
    distinct: dict[Any, int] = {}
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            session, label, events = row["session_id"], row["label"], row["events"]
            if label not in (0, 1):
                raise ValueError(f"label {label!r} is neither 0 nor 1")
            key = tuple(sorted(events.items())) if isinstance(events, dict) else tuple(events)
            if key not in distinct:
                check_events(events, texts)
                distinct[key] = len(distinct)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path}:{number}: not a session (session_id, label 0 | 1, events): {error!r}") from None
        ids.append(str(session))
        labels.append(bool(label))
        numbers.append(distinct[key])
        times.append(row.get("time"))
    if not ids:
        raise FormatError(f"{path}: no session in it")
    if len(set(ids)) < len(ids):
        raise FormatError(f"{path}: session {Counter(ids).most_common(1)[0][0]} occurs twice")
    is_test, split = test_part(ids, times, str(path))
    events = [multiset(key, texts) for key in distinct]
    parts = (np.array(numbers), is_test, np.array(labels))
    return labelled_system(name, events, *parts, family=family, counted=counted, level=level, spec=spec, split=split)


def check_events(events: Any, texts: dict[int, str]) -> None:
    """Raise ValueError if there are no events, a count is none, or an id has no template."""
    if not events:
        raise ValueError("no events")
    if isinstance(events, dict):
        if not all(type(n) is int and n > 0 for n in events.values()):
            raise ValueError("counts must be whole numbers above 0")
    elif unknown := sorted({event for event in events if not isinstance(event, str)} - texts.keys())[:5]:
        raise ValueError(f"events without a template: {unknown}")


def multiset(key: Any, texts: dict[int, str]) -> list[tuple[str, int]]:
    """Return (text, count) of the events of a session."""
    found: Counter[str] = Counter()
    for event in key:
        if isinstance(event, tuple):
            found[event[0]] += event[1]
        else:
            found[event if isinstance(event, str) else texts[event]] += 1
    return list(found.items())


def test_part(ids: Sequence[str], times: Sequence[Any], where: str) -> tuple[np.ndarray, str]:
    """Return a mask of the sessions of the test part, and how it was made: the last third by time, else half of them by a hash of the id.

    Raises: FormatError if only some sessions have times.
    """
    if all(time is None for time in times):
        return ~in_first_half(ids), "hash"
    if any(time is None for time in times) or len({type(time) is str for time in times}) > 1:
        raise FormatError(f"{where}: give all sessions a `time` of one kind, ISO text or number, or none")
    order = sorted(range(len(ids)), key=lambda i: (times[i], ids[i]))
    mask = np.zeros(len(ids), dtype=bool)
    mask[order[len(ids) - round(len(ids) * TEST_SHARE) :]] = True
    return mask, "time"


def in_first_half(names: Sequence[str]) -> np.ndarray:
    """Return a mask of the names that a fixed hash puts into the first of two halves."""
    return np.array([hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < 128 for name in names], dtype=bool)


def read_templates(path: Path) -> tuple[dict[int, str], dict[str, str]]:
    """Return event id → text and text → log level, if the file has the column."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return {int(row["event_id"]): row["template"] for row in rows}, {row["template"]: row.get("level") or "" for row in rows}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; it names the templates of the sessions beside it") from None
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: expected the columns event_id (a number) and template: {error!r}") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file, packed by gzip or not."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            yield from enumerate(lines, 1)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not a text file: {error}") from None


def from_logs(system: System, root: Path, held_out: bool = False) -> Labelled:
    """Parse the recorded logs of a system; the last day is the test part. A session belongs to the day of its first event."""
    assert system.labels is not None and system.labels.file is not None
    lines: list[str] = []
    day: list[int] = []
    files = sorted(root.glob(system.input.path.replace("{ds}", "*")))
    for number, path in enumerate(files):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") as opened:
            own = [line.rstrip("\n") for line in opened]
        lines += own
        day += [number] * len(own)
    trial = try_system(lines, system, files[0].name.removesuffix(".log.gz")[-10:])
    labels = read_label_file(root / system.labels.file, system.name)
    levels: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in trial.matched:
        levels[trial.templates[event.message]][event.fields.get("level", "")] += 1
    names = [name for name in trial.sessions if name in labels]
    last = np.array([day[trial.events[trial.sessions[name].events[0]].record.line] == len(files) - 1 for name in names], dtype=bool)
    return labelled_system(
        system.name,
        [list(trial.sessions[name].counts.items()) for name in names],
        np.arange(len(names)),
        last,
        np.array([labels[name] for name in names], dtype=bool),
        counted=system.session.kind == "id",
        level={text: count.most_common(1)[0][0] for text, count in levels.items()},
        spec=system,
        held_out=held_out,
        split="time",
    )


def from_lake(lake: Lake, system: System, data: Path) -> Labelled:
    """Read a system's nights in the lake; the last third of the nights, at least one, is the test part.

    Labels come from the label file under `data` that the system names, then a session counts on its last night; or from bronze.labels, then
    a session of each night is anomalous if one of its lines is. Sessions without a label are left out.
    Raises: ConfigError without labels, or with fewer than two nights.
    """
    nights = sorted(lake.nights(PATTERNS, system.name))
    if system.labels is None or len(nights) < 2:
        raise ConfigError(f"{system.name}: give its system file [labels], and run at least two nights; the lake has {len(nights)}")
    sessions = lake.rows(SESSIONS, ["session_id", "ds", "pattern_id"], system=system.name)
    labels: dict[Any, bool]
    if system.labels.file is not None:
        labels = {name: label == 1 for name, label in read_label_file(data / system.labels.file, system.name).items()}
        last = {row["session_id"]: row for row in sorted(sessions, key=lambda row: str(row["ds"]))}
        judged = [(row, labels[name]) for name, row in last.items() if name in labels]
    else:
        labels = line_labels(lake, system)
        judged = [(row, labels[row["session_id"], row["ds"]]) for row in sessions if (row["session_id"], row["ds"]) in labels]
    if not judged:
        raise ConfigError(f"{system.name}: no session of its {len(nights)} nights has a label")
    texts = template_texts(lake, system.name)
    patterns = {row["pattern_id"]: row["events"] for row in lake.rows(PATTERNS, ["pattern_id", "events"], system=system.name)}
    place = {name: number for number, name in enumerate(patterns)}
    levels = {row["template_id"]: row["level"] for row in lake.rows(TEMPLATE_COUNTS, ["template_id", "level"], system=system.name)}
    first_test = nights[-max(1, round(len(nights) * TEST_SHARE))]
    return labelled_system(
        system.name,
        [[(texts[event["template_id"]], event["count"]) for event in events] for events in patterns.values()],
        np.array([place[row["pattern_id"]] for row, _ in judged], dtype=np.int64),
        np.array([str(row["ds"]) >= first_test for row, _ in judged], dtype=bool),
        np.array([label for _, label in judged], dtype=bool),
        counted=system.session.kind == "id",
        level={texts[name]: level for name, level in levels.items() if level and name in texts},
        spec=system,
        split="time",
    )


def line_labels(lake: Lake, system: System) -> dict[tuple[str, str], bool]:
    """Return (session id, night) → whether a line of it is labelled anomalous."""
    lines = {
        (row["file"], row["line_no"]): row["label"] == 1 for row in lake.rows(LABELS, ["file", "line_no", "label"], system=system.name)
    }
    found: dict[tuple[str, str], bool] = {}
    for row in lake.rows(EVENTS_TABLE, ["ds", "file", "line_no", "session_id"], system=system.name):
        if row["session_id"] is not None and (row["file"], row["line_no"]) in lines:
            key = (row["session_id"], row["ds"])
            found[key] = found.get(key, False) or lines[row["file"], row["line_no"]]
    return found
