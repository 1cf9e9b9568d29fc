"""Groups of questions to analysts, in the order in which one answer changes most. Labels are not used."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from nightlog.llm.items import Label, Verdict
from nightlog.llm.rounds import is_uncertain


@dataclass(frozen=True)
class Group:
    """Questions with one decision between them: `id` is what an answer names, `name` what sets them apart, None where nobody named it.

    `label` is the decision now and `probability` that of an anomaly, both by sessions; `weight` is sessions × uncertainty, the number of
    sessions that one would expect to be decided wrongly. `questions` are ids, the most sessions first.
    """

    id: str
    name: str | None
    label: Label
    probability: float
    weight: float
    sessions: int
    questions: tuple[str, ...]


def group_ids(system: str, verdicts: Mapping[str, Verdict], keys: Mapping[str, str]) -> dict[str, str]:
    """Return the id of each verdict's group: the same in every night, as long as the LLM names the group the same.

    What got no name belongs to the one group whose members differ from what is normal in the same way; else to all that differ so and
    have no name; without a key it is a group of its own.

    Args: verdicts by question id; keys, what sets a question apart (see `group_key`), by question id.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for question, verdict in verdicts.items():
        if verdict.group is not None and question in keys:
            names[keys[question]].add(verdict.group)
    found = {}
    for question, verdict in verdicts.items():
        key = keys.get(question)
        alike = names.get(key, set()) if key is not None else set()
        name = verdict.group if verdict.group is not None else min(alike) if len(alike) == 1 else None
        member = ("group", name) if name is not None else ("key", key) if key is not None else ("question", question)
        found[question] = hashlib.sha256("\0".join((system, *member)).encode()).hexdigest()[:8]
    return found


def rank_questions(
    system: str, verdicts: Mapping[str, Verdict], sessions: Mapping[str, int], keys: Mapping[str, str] | None = None
) -> list[Group]:
    """Return the groups of all uncertain verdicts, by falling `weight`, then by id.

    Verdicts beyond doubt are not asked about, nor are questions without sessions.

    Args: verdicts, final ones by question id; sessions by question id; keys, what sets a question apart (see `group_keys`), by question
        id: by these, questions without a name are put together, see `group_ids`.
    """
    ids = group_ids(system, verdicts, keys or {})
    members: dict[str, list[Verdict]] = defaultdict(list)
    for question, verdict in verdicts.items():
        if (verdict.round == 2 or is_uncertain(verdict)) and sessions.get(question, 0) > 0:
            members[ids[question]].append(verdict)
    found = []
    for name, group in members.items():
        group.sort(key=lambda verdict: (-sessions[verdict.id], verdict.id))
        total = sum(sessions[verdict.id] for verdict in group)
        weight = sum(sessions[verdict.id] * min(verdict.probability, 1 - verdict.probability) for verdict in group)
        probability = sum(sessions[verdict.id] * verdict.probability for verdict in group) / total
        title = next((verdict.group for verdict in group if verdict.group is not None), None)
        questions = tuple(verdict.id for verdict in group)
        found.append(Group(name, title, group[0].label, round(probability, 6), round(weight, 6), total, questions))
    return sorted(found, key=lambda group: (-group.weight, group.id))
