"""A judge that remembers: across seeds, modes and runs no question of the benchmark is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nightlog.evaluation.journal import read_journal, write_journal
from nightlog.llm.items import Answer, Item, Judge, Verdict
from nightlog.llm.prompt import prompt_hash
from nightlog.systems.spec import System


class RememberingJudge:
    """Wraps a judge; `path` keeps its verdicts as JSON lines.

    A question is what is shown (templates, counts, comparison), to whom and with which prompt; its id does not matter. What is
    remembered counts as asked, without calls and tokens: a mode's cost is the same whether others asked before it or not.
    """

    def __init__(self, judge: Judge, path: Path):
        self.name = judge.name
        self._judge = judge
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        for row in read_journal(path):
            self._known[row["question"]] = row["verdict"]

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`. What is remembered comes first, in one answer."""
        questions = {item.id: self._question(system, item) for item in items}
        known = [item for item in items if questions[item.id] in self._known]
        new = [item for item in items if questions[item.id] not in self._known]
        if known:
            verdicts = tuple(Verdict(item.id, **self._known[questions[item.id]]) for item in known)
            yield Answer(verdicts, 0, 0, 0, tuple(item.id for item in known))
        if not new:
            return
        for answer in self._judge.judge(system, new):
            self._keep({questions[verdict.id]: without_id(asdict(verdict)) for verdict in answer.verdicts if verdict.id in questions})
            yield answer

    def _question(self, system: System, item: Item) -> str:
        shown = without_id(asdict(item))
        if shown["comparison"] is not None:
            shown["comparison"]["first"] = without_id(shown["comparison"]["first"])
        return json.dumps([self.name, system.name, prompt_hash(system), shown], sort_keys=True, ensure_ascii=False)

    def _keep(self, verdicts: dict[str, dict[str, Any]]) -> None:
        self._known |= verdicts
        write_journal(self._path, [{"question": question, "verdict": verdict} for question, verdict in verdicts.items()])


def without_id(row: dict[str, Any]) -> dict[str, Any]:
    """The row without its id."""
    return {name: value for name, value in row.items() if name != "id"}
