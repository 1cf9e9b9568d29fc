"""The small world in which faults are caused: a system's logs, an LLM that answers the same at any time, and what a lake holds."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_stub import Stub, asked, verdict_on
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ALL_TABLES, TableSpec
from nightlog.outcomes import Stage

DAYS = ("2026-03-03", "2026-03-04")
DS = DAYS[-1]
STAGES = tuple(stage.value for stage in Stage)
# Columns that tell of the run, not of the night.
OF_THE_RUN = ("run_id", "asked_at", "at", "seconds")

STEPS = (
    "request accepted from 10.0.0.{n}",
    "user {n} signed in",
    "cart {n} saved",
    "payment of {n} cents taken",
    "order {n} shipped in parcel {n}",
)
ODD = ("odd delay of {n} ms at the gateway", "odd retry number {n} of the mailer", "odd clock skew of {n} s")
BROKEN = ("disk broken at sector {n}", "payment broken with code {n} by the bank", "parcel {n} broken and sent back")
# Long enough that a few thousand sessions are worth a Spark job.
TAIL = " by the worker that holds the lease of this shard of the store in the second data centre"
HEADER = r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<level>INFO|WARN|ERROR) (?P<id>s\d+) (?P<message>.*)"


def text_line(ds: str, second: int, level: str, session: str, message: str) -> str:
    return f"{ds} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} {level} {session} {message}"


def json_line(ds: str, second: int, level: str, session: str, message: str) -> str:
    return json.dumps({"time": text_line(ds, second, "", "", "")[:19], "level": level, "id": session, "msg": message})


def day_of_logs(ds: str, sessions: int, line: Callable[[str, int, str, str, str], str] = text_line, tails: int = 1) -> list[str]:
    """A day's lines; a session in ten is odd or broken, each kind in its turn, so that a day of 30 sessions has them all.

    Args: tails: TAIL is at the end of each line so many times.
    """
    chance = random.Random(ds)
    rows = []
    for number in range(sessions):
        start = 60 + number * 80_000 // sessions
        session = f"s{ds.replace('-', '')}{number}"
        steps = [(step, "INFO") for step in STEPS[: chance.randint(2, len(STEPS))] for _ in range(chance.choice((1, 1, 2, 4)))]
        if number % 10 == 3:
            steps.insert(chance.randrange(len(steps)), (ODD[number // 10 % len(ODD)], "WARN"))
        if number % 10 == 7:
            steps.append((BROKEN[number // 10 % len(BROKEN)], "ERROR"))
        rows += [
            (start + 3 * n, line(ds, start + 3 * n, level, session, text.format(n=chance.randint(1, 99)) + TAIL * tails))
            for n, (text, level) in enumerate(steps)
        ]
    return [text for _, text in sorted(rows, key=lambda row: row[0])]


@dataclass(frozen=True)
class Logs:
    """The logs of a system: sessions per day, the kind of its header, on which days, how its files end, and how long its lines are (see
    `day_of_logs`). Kind `columns` is JSON with a time format that Spark alone reads, so that its columns do all of the parsing."""

    sessions: int = 60
    kind: str = "pattern"
    days: tuple[str, ...] = DAYS
    ending: str = ".log.gz"
    role: str = "target"
    tails: int = 1


def add_system(folder: Path, name: str, logs: Logs) -> None:
    """A system's file under `systems`, and its logs under `data`."""
    keys = 'kind = "json"\nkeys = { time = "time", level = "level", id = "id", message = "msg" }'
    header = f"pattern = '{HEADER}'" if logs.kind == "pattern" else keys
    form = "yyyy-MM-dd HH:mm:ss[.SSS]" if logs.kind == "columns" else "yyyy-MM-dd HH:mm:ss"
    (folder / "systems").mkdir(parents=True, exist_ok=True)
    (folder / "systems" / f"{name}.toml").write_text(
        f'name = "{name}"\nrole = "{logs.role}"\n[input]\npath = "{name}/{{ds}}{logs.ending}"\n'
        f"[header]\n{header}\n"
        f'[timestamp]\nvalue = "{{time}}"\nformat = "{form}"\n[session]\nkind = "field"\nfield = "id"\n'
        + (f'[labels]\nfile = "{name}/labels.csv"\n' if logs.role == "source" else ""),
        encoding="utf-8",
    )
    labels = ["session_id,label"]
    for ds in logs.days:
        path = folder / "data" / name / f"{ds}{logs.ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = day_of_logs(ds, logs.sessions, text_line if logs.kind == "pattern" else json_line, logs.tails)
        broken = {text.split()[3] for text in lines if "broken" in text} if logs.role == "source" else set()
        labels += [f"{session},{int(session in broken)}" for session in dict.fromkeys(text.split()[3] for text in lines)]
        written = "".join(f"{text}\n" for text in lines).encode()
        path.write_bytes(gzip.compress(written) if path.suffix == ".gz" else written)
    if logs.role == "source":
        (folder / "data" / name / "labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")


def answer(body: dict[str, Any]) -> str:
    """The LLM's answer: normal, anomalous where something broke; unsure of what is odd, until it sees it side by side."""
    sent = json.loads(body["messages"][-1]["content"])
    verdicts = []
    for item in sent["items"]:
        odd = next((event["template"] for event in item["events"] if event["template"].startswith("odd")), None)
        if sent.get("round") == 2:
            verdicts.append(
                verdict_on(item, label="anomalous" if odd and "clock" in odd else "normal", confidence=0.8, group=odd, reason="again")
            )
        else:
            verdicts.append(verdict_on(item, confidence=0.95 if odd is None else 0.6))
    return json.dumps({"verdicts": verdicts})


class CountingLLM(Stub):
    """The endpoint, which knows how often it was asked what."""

    def __init__(self) -> None:
        super().__init__()
        self.reactions = [answer]

    def questions(self, since: int = 0) -> Counter[str]:
        """How often each question of each round was asked, in the requests from this number on."""
        return Counter(key for body in self.requests[since:] for key in questions_of(body))


def questions_of(body: dict[str, Any]) -> list[str]:
    sent = json.loads(body["messages"][-1]["content"])
    return [question(sent["system"], sent.get("round", 1), item["events"]) for item in asked(body)]


def question(system: str, number: int, events: list[dict[str, Any]]) -> str:
    """The name of what is asked about a system in a round."""
    told = sorted((event["template"], event.get("count") or 1) for event in events)
    return hashlib.sha256(json.dumps([system, number, told]).encode()).hexdigest()[:16]


def stored_questions(lake: Lake) -> set[str]:
    """What the lake holds an answer to."""
    from nightlog.lake.tables import VERDICTS

    return {question(row["system"], number, row["events"]) for row in lake.rows(VERDICTS) for number in range(1, row["round"] + 1)}


def content(lake: Lake, spec: TableSpec) -> Counter[str]:
    """A table's rows without what tells of the run, as hashes, each with how often it stands there."""
    rows = ({key: value for key, value in row.items() if key not in OF_THE_RUN and not key.startswith("run_")} for row in lake.rows(spec))
    return Counter(hashlib.sha256(json.dumps(row, default=str, sort_keys=True).encode()).hexdigest() for row in rows)


def snapshot(lake: Lake) -> dict[str, Counter[str]]:
    """The content of all bronze, silver and gold tables."""
    return {spec.name: content(lake, spec) for spec in ALL_TABLES if spec.name.split(".")[0] in ("bronze", "silver", "gold")}


def repeated_keys(lake: Lake) -> int:
    """Rows beyond the first of their key, over all silver and gold tables but the counts, of which a day's parts add up."""
    n = 0
    for spec in ALL_TABLES:
        if spec.name.split(".")[0] in ("silver", "gold") and spec.name != "silver.counts" and lake.exists(spec):
            keys = Counter(tuple(str(row[key]) for key in spec.key) for row in lake.rows(spec, list(spec.key)))
            n += sum(keys.values()) - len(keys)
    return n


def difference(wanted: dict[str, Counter[str]], found: dict[str, Counter[str]]) -> tuple[int, int]:
    """(rows lost, rows too many) of all tables."""
    lost = sum((wanted[name] - found[name]).total() for name in wanted)
    return lost, sum((found[name] - wanted[name]).total() for name in wanted)
