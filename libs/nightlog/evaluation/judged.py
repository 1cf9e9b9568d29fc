"""An LLM's verdicts on the patterns of a labelled system: recorded ones from a file, or those of an endpoint that is asked now."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightlog.errors import ConfigError
from nightlog.evaluation.labelled import Labelled
from nightlog.llm.items import Answer, Item, Judge, Verdict
from nightlog.llm.judge import make_judge
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.rounds import UNCERTAIN, ask_both_rounds, is_uncertain
from nightlog.settings import Settings
from nightlog.systems.spec import System

CALLS = 100_000

Key = tuple[str, frozenset[tuple[str, int]]]
Recorded = Mapping[Key, tuple[float, float | None, str | None]]


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on n patterns: the probability of an anomaly after the `first` round and the `final` one, and the name of each pattern's
    group in the second round, None without a second round. `asked` are the questions of each round."""

    first: np.ndarray
    final: np.ndarray
    group: Sequence[str | None]
    asked: tuple[int, int]


def read_recorded(path: Path) -> Recorded:
    """Read recorded verdicts: (system, set of (template, count or 0)) → probability in the first round, in the second, name of the group.

    Raises: ConfigError if there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"no recorded verdicts at {path}")
    found: dict[Key, tuple[float, float | None, str | None]] = {}
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in sorted(rows, key=lambda row: row.get("round", 1)):
        if row.get("kind") == "event":
            continue
        key = (row["system"], frozenset((event["template"], event.get("count", 0)) for event in row["events"]))
        probability = {"normal": 1 - row["confidence"], "anomalous": row["confidence"]}.get(row["label"], 0.5)
        first = found[key][0] if key in found else probability
        found[key] = (first, probability, row.get("group")) if row.get("round", 1) == 2 else (probability, None, None)
    return found


def recorded_verdicts(system: Labelled, recorded: Recorded) -> Verdicts | None:
    """Return the recorded verdicts on all patterns of a system; None if one of them is missing."""
    first, final, groups = [], [], list[str | None]()
    for events in system.patterns.column("events").to_pylist():
        shown = frozenset((event["template_id"], event["count"] if system.counted else 0) for event in events)
        known = recorded.get((system.spec.name if system.spec is not None else system.name, shown))
        if known is None:
            return None
        probability, second, group = known
        doubtful = UNCERTAIN[0] <= round(probability, 6) <= UNCERTAIN[1]
        first.append(probability)
        final.append(second if second is not None and doubtful else probability)
        groups.append((group or f"alone {len(groups)}") if doubtful else None)
    return Verdicts(np.array(first), np.array(final), groups, (len(first), len({*groups} - {None})))


def ask(judge: Judge, system: Labelled) -> Verdicts:
    """Ask an LLM about all patterns of a system, in two rounds. A pattern without a verdict has probability 0.5."""
    assert system.spec is not None
    items = items_of(system)
    ids = [item.id for item in items]
    sessions = dict(zip(ids, system.counts.sum(axis=(1, 2)).tolist(), strict=True))
    result = ask_both_rounds(judge, system.spec, items, sessions, {})
    first = [result.first.get(name) for name in ids]
    final = [result.verdicts.get(name) for name in ids]
    groups = [
        ((last.group if last is not None else None) or f"alone {i}") if each is not None and is_uncertain(each) else None
        for i, (each, last) in enumerate(zip(first, final, strict=True))
    ]
    probability = [np.array([0.5 if each is None else each.probability for each in row]) for row in (first, final)]
    return Verdicts(probability[0], probability[1], groups, result.items)


def items_of(system: Labelled) -> list[Item]:
    """Return the question about each pattern, without counts if these are not used."""
    columns = [system.patterns.column(name).to_pylist() for name in ("question_id", "events")]
    return [
        Item(name, tuple((event["template_id"], event["count"] if system.counted else None) for event in events))
        for name, events in zip(*columns, strict=True)
    ]


class RememberingJudge:
    """Wraps a judge so that no run asks a question twice; `path` keeps its verdicts as JSON lines.

    A question is what is shown (templates, counts, comparison), the model, and the prompt; its id does not matter. Remembered questions
    count as asked.
    """

    def __init__(self, judge: Judge, path: Path):
        self.name = judge.name
        self._judge = judge
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            try:
                row = json.loads(line)
            except ValueError:  # cut off when a run was stopped
                continue
            self._known[row["question"]] = row["verdict"]

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`. Remembered verdicts come first, in one answer."""
        questions = {item.id: self._question(system, item) for item in items}
        known = [item for item in items if questions[item.id] in self._known]
        new = [item for item in items if questions[item.id] not in self._known]
        if known:
            verdicts = tuple(Verdict(item.id, **self._known[questions[item.id]]) for item in known)
            yield Answer(verdicts, 0, 0, 0, tuple(item.id for item in known))
        for answer in self._judge.judge(system, new) if new else ():
            self._keep({questions[verdict.id]: without_id(asdict(verdict)) for verdict in answer.verdicts if verdict.id in questions})
            yield answer

    def _question(self, system: System, item: Item) -> str:
        shown = without_id(asdict(item))
        if shown["comparison"] is not None:
            shown["comparison"]["first"] = without_id(shown["comparison"]["first"])
        return json.dumps([self.name, system.name, prompt_hash(system), shown], sort_keys=True, ensure_ascii=False)

    def _keep(self, verdicts: dict[str, dict[str, Any]]) -> None:
        self._known |= verdicts
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:  # one write per row; each begins a line of its own, whatever was cut off before
            for question, verdict in verdicts.items():
                file.write(b"\n" + json.dumps({"question": question, "verdict": verdict}, ensure_ascii=False).encode())


def without_id(row: dict[str, Any]) -> dict[str, Any]:
    """The row without its id."""
    return {name: value for name, value in row.items() if name != "id"}


def source_of_verdicts(settings: Settings, recorded: Path | None, *, explicit: bool, folder: Path) -> Callable[[Labelled], Verdicts | None]:
    """Return a function that finds the verdicts on a system: recorded ones, or those of the LLM of the settings.

    A file that was named comes first, then the LLM, then the file that lies where it is expected. The LLM's budget of a night does not
    hold: an evaluation asks about all sessions of a system at once. `folder` keeps its verdicts.
    """
    judge = None if explicit else make_judge(settings.model_copy(update={"llm_calls_per_night": CALLS}))
    if judge is not None:
        remembering = RememberingJudge(judge, folder / "verdicts.jsonl")
        return lambda system: ask(remembering, system)
    if recorded is None or not (explicit or recorded.is_file()):
        return lambda system: None
    known = read_recorded(recorded)
    return lambda system: recorded_verdicts(system, known)
