"""A month of made-up logs with planted changes, and the signals of its nights: found, missed and false ones.

Thirty templates have a rate, a weekly rhythm and a spread of their own, and each night is busier or calmer as a whole. Heartbeats beat
every ten minutes. Rare templates appear at random. From the fifteenth night on, changes are planted.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from nightlog.ingest.ingest import ingest
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS
from nightlog.parsing.parse import parse
from nightlog.signals.find import find_signals, signals
from nightlog.systems.spec import Header, Input, Session, System, Templates, Timestamp

FIRST = "2026-03-02"  # a Monday
QUIET_NIGHTS = 14
WORDS = (
    *("accounts", "backups", "billing", "cache", "catalog", "checkout", "crawler", "delivery", "exports", "feeds", "gateway", "imports"),
    *("invoices", "ledger", "mailer", "mirror", "orders", "payments", "pricing", "profile", "queue", "refunds", "reports", "returns"),
    *("search", "sessions", "shipping", "stock", "tickets", "vouchers"),
)
USERS = ("anna", "bert", "carla", "dora", "emil", "frida")
BEATS = ("watchdog", "replica", "scheduler")
RARE = tuple(f"oddity{letter}" for letter in "abcdefghijklmnopqrst")
KINDS = {
    "more": {"rate"},
    "less": {"rate"},
    "silent": {"silence"},
    "stopped": {"silence"},
    "new": {"new_template"},
    "value": {"value"},
    "wordings": {"variation"},
}
SYSTEM = System(
    name="month",
    role="target",
    input=Input(path="month/{ds}.log"),
    header=Header(pattern=r"(?P<stamp>\S+) (?P<level>INFO|WARN|ERROR) (?:(?P<id>s\d+) )?(?P<message>.*)"),
    timestamp=Timestamp(value="{stamp}", format="yyyy-MM-dd'T'HH:mm:ss'Z'"),
    session=Session(kind="field", field="id"),
    templates=Templates(similarity=0.8),
)


@dataclass(frozen=True)
class Change:
    """A planted change: its kind, one of KINDS, and the word that names its template."""

    kind: str
    word: str


@dataclass
class Night:
    """A night: its changes, its lines, and the words of the templates in it."""

    ds: str
    changes: list[Change] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def log(self, second: int, text: str, has_session: bool = True) -> None:
        """Add a line."""
        stamp = f"{self.ds}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
        self.lines.append(f"{stamp} INFO {f's{len(self.lines)} ' if has_session else ''}{text}")


@dataclass(frozen=True)
class Habit:
    """The usual behaviour of a template: its mean per night, its factor on weekends, its spread, and if it keeps office hours."""

    mean: float
    weekend: float
    spread: float
    office: bool


def month(n_nights: int = 31, seed: int = 1) -> Iterator[Night]:
    """Yield the nights of a month with their lines, at most one change of a template in eight nights."""
    draw = random.Random(seed)
    habits = {}
    for word in WORDS:
        mean, weekend = 10 ** draw.uniform(0.5, 2.4), draw.choice((1, 1, 0.5, 0.1, 0))
        habits[word] = Habit(mean, weekend, draw.uniform(0.05, 0.3), draw.random() < 0.5)
    regular = [word for word, habit in habits.items() if habit.mean >= 60 and habit.weekend >= 0.5]
    left = {
        "more": [word for word, habit in habits.items() if habit.mean >= 20 and habit.weekend >= 0.5],
        "less": regular,
        "silent": [*BEATS, *regular],
        "stopped": [*BEATS],
        "new": [f"novelty{letter}" for letter in "abcdefghijklmnopq"],
        "value": [word for word, habit in habits.items() if habit.mean >= 20 and habit.weekend >= 0.5],
        "wordings": [word for word, habit in habits.items() if habit.mean >= 20 and habit.weekend >= 0.5],
    }
    used = dict[str, int]()  # word → the last night on which it was changed
    once = set[Change]()  # what cannot be new twice
    for number in range(n_nights):
        night = Night((date.fromisoformat(FIRST) + timedelta(days=number)).isoformat())
        if number >= QUIET_NIGHTS:
            for kind in draw.sample(sorted(KINDS), 2):
                words = [word for word in left[kind] if used.get(word, -9) < number - 7 and Change(kind, word) not in once]
                if words:
                    night.changes.append(Change(kind, draw.choice(words)))
                    used[night.changes[-1].word] = number
                    once.update(change for change in night.changes if change.kind in ("new", "value", "wordings"))
        write_night(night, habits, draw)
        yield night


def write_night(night: Night, habits: dict[str, Habit], draw: random.Random) -> None:
    """Add the lines of a night."""
    is_weekend = date.fromisoformat(night.ds).weekday() >= 5
    busy = draw.lognormvariate(0, 0.2)
    planted = {change.word: change.kind for change in night.changes}
    for word, habit in habits.items():
        kind = planted.get(word)
        mean = habit.mean * busy * (habit.weekend if is_weekend else 1) * draw.lognormvariate(0, habit.spread)
        n = round(draw.gauss(mean, mean**0.5)) * {"more": 6, "silent": 0}.get(kind or "", 1) // (6 if kind == "less" else 1)
        for at in range(max(0, n)):
            second = draw.randrange(8 * 3600, 18 * 3600) if habit.office else draw.randrange(86400)
            took = 90_000 if kind == "value" and at == 0 else draw.randrange(2, 900)
            letters = ("bcdfghklm", "aeiou", "nrstv", "aeiou", "bdfk")
            user = "".join(map(draw.choice, letters)) if kind == "wordings" else draw.choice(USERS)
            night.log(second, f"{word} {word}-step {word}-run by person {user} on behalf of {word}-end after {took} {word}-units")
    for beat in BEATS:
        kind = planted.get(beat)
        for second in range(draw.randrange(600), 86400, 600):
            if kind != "silent" and not (kind == "stopped" and second > 9 * 3600):
                night.log(second, f"{beat} is alive, generation {draw.randrange(5)}", has_session=False)
    for word in RARE:
        if draw.random() < 0.05:
            night.log(draw.randrange(86400), f"{word} {word}-met {word}-gone")
    for change in night.changes:
        if change.kind == "new":
            for _ in range(draw.randint(1, 9)):
                night.log(draw.randrange(86400), f"{change.word} {change.word}-happened {change.word}-today")
    night.lines.sort()


@dataclass
class Score:
    """The signals of a month: planted and found changes by kind, and false signals by night."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: dict[str, list[str]] = field(default_factory=dict)

    @property
    def n_false(self) -> int:
        """False signals of all nights."""
        return sum(map(len, self.false.values()))


def run_month(root: Path, n_nights: int = 31, seed: int = 1) -> Score:
    """Ingest and parse each night, find its signals, and compare them with what was planted.

    A new template that no night had before is a true signal, planted or not. Nights that learn count nothing.
    """
    lake, score, seen = Lake(root / "lake"), Score(), set[str]()
    (root / "logs" / "month").mkdir(parents=True)
    for night in month(n_nights, seed):
        (root / "logs" / "month" / f"{night.ds}.log").write_text("\n".join(night.lines) + "\n", encoding="utf-8")
        ingest(lake, SYSTEM, night.ds, root / "logs", "month")
        parse(lake, SYSTEM, night.ds, "month")
        lake.replace(NIGHTS, [{"ds": night.ds, "system": SYSTEM.name, "outcome": "done", "n_events": len(night.lines)}], ds=night.ds)
        failures = find_signals(lake, [SYSTEM], night.ds, "month")
        assert not failures, failures
        rows = [row for row in signals(lake, night.ds) if row["kind"] != "learning"]
        reported = [((row["template"] or "").split(" ")[0], row["kind"]) for row in rows]
        for change in night.changes:
            score.planted[change.kind] += 1
            score.found[change.kind] += any(word == change.word and kind in KINDS[change.kind] for word, kind in reported)
        planted = {change.word for change in night.changes}
        words = {re.sub(r"^s[0-9]+ ", "", line.split(" INFO ")[1]).split(" ")[0] for line in night.lines}
        score.false[night.ds] = [
            f"{kind} {word}: {row['reason']}"
            for (word, kind), row in zip(reported, rows, strict=True)
            if word not in planted and not (kind == "new_template" and word in words - seen)
        ]
        seen |= words
    return score
