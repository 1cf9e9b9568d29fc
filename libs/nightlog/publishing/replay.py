"""A past verdict derived again from what its row names: the model, prompt and templates of then, and the tables as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from nightlog.detector.registry import Model, load, model_of
from nightlog.errors import ConfigError, NightlogError, NotThere
from nightlog.feedback.store import suppressions
from nightlog.lake.lake import Lake
from nightlog.lake.lookup import template_texts
from nightlog.lake.tables import ANOMALIES, ANSWERS, HISTORY, NIGHTS, PATTERNS, SCORES, SESSIONS, VERDICTS
from nightlog.lake.time_travel import PastLake
from nightlog.outcomes import is_published
from nightlog.publishing.decide import Thresholds, decisions, llm_cause, with_suppressions
from nightlog.publishing.inputs import Judged, learn, texts_hash, verdicts_and_answers
from nightlog.publishing.student import WITHOUT
from nightlog.routing.router import all_proprietary, nearest_sources, read_vectors, route_patterns
from nightlog.systems.spec import System

Result = Literal["same", "different", "cannot"]
Row = dict[str, Any]
CLOSE = 1e-4  # scores of another device or another version of a library may differ in their last digits
COMPARED = ("route", "score", "decided_by", "status", "reason")


@dataclass(frozen=True)
class Replayed:
    """The result of deriving a night's verdicts, or one session's, again.

    `rows`: one for each pattern that was anomalous then or is now: pattern_id, sessions, result, why. `as_now`: tables whose version of
    then is no longer kept, read as they are now.
    """

    system: str
    ds: str
    result: Result
    why: str
    rows: tuple[Row, ...] = ()
    as_now: tuple[str, ...] = ()


def replay(lake: Lake, system: System, ds: str, session_id: str | None = None, device: str = "auto") -> Replayed:
    """Derive a published night, or one of its sessions, again, and hold it against gold.anomalies.

    Nothing is asked and nothing is written. Raises: NotThere if the night was not published.
    """
    night = next((row for row in lake.rows(NIGHTS, system=system.name, ds=ds) if is_published(row["outcome"])), None)
    if night is None or (versions := night["versions"]) is None:
        raise NotThere(f"{system.name} {ds}: this night was not published, so there is no verdict to derive again")
    past = PastLake(lake.root, night["run_at"])
    try:
        model = model_of(lake, versions["model"])
        return compared(lake, past, system, night, model, session_id, device)
    except NightlogError as error:
        return Replayed(system.name, ds, "cannot", str(error))


def compared(
    lake: Lake, past: PastLake, system: System, night: Mapping[str, Any], model: Model, session_id: str | None, device: str
) -> Replayed:
    """The derived verdicts beside the published ones."""
    ds, versions = night["ds"], night["versions"]
    judged = judge_again(past, system, ds, model, device)
    if session_id is not None and session_id not in judged.sessions:
        raise NotThere(f"{system.name} {ds}: no session `{session_id}` in {SESSIONS.name} as it was then")
    if texts_hash(judged.night) != versions["templates"]:
        told = f"the templates' texts are not those of then: hash {texts_hash(judged.night)}, published with {versions['templates']}"
        return Replayed(system.name, ds, "different", told, (), tuple(sorted(past.as_now)))
    verdicts, answers = verdicts_and_answers(past, system, versions["prompt"], versions["llm"])
    if (student := night.get("student")) is None:
        judged.night.history = [row | WITHOUT for row in judged.night.history]
    else:
        learn(past, system, ds, judged.night, verdicts, answers)
        if judged.night.student != student:
            no_longer = f"the student of then is not known any more: {judged.night.student} by what is kept, published with {student}"
            return Replayed(system.name, ds, "cannot", no_longer, (), tuple(sorted(past.as_now)))
    night_rows = (judged.night.patterns, judged.night.routes, judged.night.scores)
    thresholds, no_verdict = Thresholds.of(load(model).manifest), llm_cause(system, versions["llm"])
    found = decisions(*night_rows, verdicts, answers, thresholds, no_verdict, judged.night.history)
    held = suppressions(past.rows(ANSWERS, system=system.name), ds)
    derived = {each.pattern_id: vars(each) for each in with_suppressions(found, judged.night.patterns, held)}
    rows = lake.rows(ANOMALIES, ["session_id", "pattern_id", *COMPARED], system=system.name, ds=ds)
    wanted = judged.sessions[session_id] if session_id is not None else None
    lost = replaced_since(lake, past, system, versions, night["run_at"])
    of_question = {row["pattern_id"]: row["question_id"] for row in judged.night.patterns}
    told_rows = []
    for pattern in sorted({row["pattern_id"] for row in rows} | derived.keys()):
        if wanted in (None, pattern):
            published = [row for row in rows if row["pattern_id"] == pattern]
            sessions = {name for name, own in judged.sessions.items() if own == pattern}
            why = difference(published, derived.get(pattern), sessions)
            result: Result = "same" if why is None else "different"
            if of_question.get(pattern) in lost and why is not None:
                result, why = "cannot", f"its verdict of then was replaced on {lost[of_question[pattern]]:%Y-%m-%d}, and is not kept"
            told_rows.append({"pattern_id": pattern, "sessions": len(published) or len(sessions), "result": result, "why": why})
    return summed_up(system.name, ds, told_rows, session_id, night, past)


def summed_up(system: str, ds: str, rows: Sequence[Row], session_id: str | None, night: Mapping[str, Any], past: PastLake) -> Replayed:
    """The result of all rows, the worst first, in a sentence."""
    different, cannot = ([row for row in rows if row["result"] == each] for each in ("different", "cannot"))
    result: Result = "different" if different else "cannot" if cannot else "same"
    if session_id is not None:
        why = "; ".join(row["why"] for row in rows if row["why"]) or ("anomalous then and now" if rows else "normal then and now")
    else:
        why = f"{len(rows) - len(different) - len(cannot):,} of {len(rows):,} anomalous patterns come out the same"
        why += f", {len(different):,} differ" * bool(different) + f", {len(cannot):,} cannot be told" * bool(cannot)
    versions = night["versions"]
    why += f"; by model {versions['model']}, prompt {versions['prompt']}, LLM {versions['llm']}, templates {versions['templates']}"
    return Replayed(system, ds, result, why, tuple(rows), tuple(sorted(past.as_now)))


@dataclass(frozen=True)
class Again:
    """A night routed and scored again, and the pattern of each of its sessions."""

    night: Judged
    sessions: Mapping[str, str]


def judge_again(past: PastLake, system: System, ds: str, model: Model, device: str) -> Again:
    """Route and score the patterns of then by the model of then. Raises: ModelIntegrityError, ConfigError.

    The history's scores are those that the night stored: its reference was another one then.
    """
    served = load(model)
    of_night = {"system": system.name, "ds": ds}
    patterns = past.rows(PATTERNS, ["pattern_id", "question_id", "events", "n_sessions"], **of_night)
    used = {event["template_id"] for row in patterns for event in row["events"] or ()}
    texts = template_texts(past, system.name)
    sessions = past.arrow(SESSIONS, ["session_id", "pattern_id"], **of_night)
    history = past.rows(HISTORY, None, **of_night)
    shown = {name: text for name, text in texts.items() if name in used}
    of_session = dict(zip(sessions["session_id"].to_pylist(), sessions["pattern_id"].to_pylist(), strict=True))
    if served.manifest.encoder is None:
        scores = past.rows(SCORES, ["pattern_id", "probability", "weights"], **of_night)
        return Again(Judged(patterns, all_proprietary(patterns), scores, shown, history), of_session)
    names, vectors = read_vectors(past, system.name, served.manifest.encoder, used)
    if missing := used - set(names):
        raise ConfigError(f"{len(missing)} templates have no vector of {served.manifest.encoder}: the stage embed makes them")
    routes = route_patterns(patterns, nearest_sources(names, vectors, served.sources), served.manifest.tau)
    from nightlog.detector.scoring import score_patterns

    templates = (names, vectors, tuple(texts[name] for name in names))
    frame = pd.DataFrame(patterns, columns=["pattern_id", "question_id", "events", "n_sessions"])
    scored = score_patterns(frame[["pattern_id", "events"]], model, templates, system.session.kind == "id", device)
    return Again(Judged(patterns, routes, scored.to_dict("records"), shown, history), of_session)


def replaced_since(lake: Lake, past: PastLake, system: System, versions: Row, at: datetime) -> dict[str, datetime]:
    """Question → when its verdict was given again after the night was published, where the one of then is no longer kept."""
    if VERDICTS.name not in past.as_now:
        return {}
    rows = lake.rows(VERDICTS, ["question_id", "llm", "asked_at"], system=system.name, prompt=versions["prompt"])
    return {row["question_id"]: row["asked_at"] for row in rows if row["asked_at"] > at and versions["llm"] in (None, row["llm"])}


def difference(published: Sequence[Mapping[str, Any]], derived: Mapping[str, Any] | None, sessions: set[str]) -> str | None:
    """Return how the derived verdict on a pattern differs from its published rows, None where it does not. Args: sessions, those of the
    pattern.

    >>> row = {"session_id": "s", "route": "general", "score": 0.9, "decided_by": "llm", "status": "open", "reason": "why"}
    >>> difference([row], row | {"score": 0.90001}, {"s"}), difference([row], row | {"score": 0.8}, {"s"})
    (None, 'score 0.9 then, 0.8 now')
    >>> difference([row], None, {"s"}), difference([], row, {"s"})
    ('anomalous then, normal now', 'normal then, anomalous now: why')
    """
    if derived is None:
        return "anomalous then, normal now"
    if not published:
        return f"normal then, anomalous now: {derived['reason']}"
    told = []
    for name in COMPARED:
        then, now = published[0][name], derived[name]
        close = name == "score" and then is not None and now is not None and abs(then - now) <= CLOSE
        if then != now and not close:
            told.append(f"{name} {then} then, {now} now")
    flagged = {row["session_id"] for row in published}
    if flagged != sessions:
        told.append(f"{len(flagged - sessions):,} sessions are gone, {len(sessions - flagged):,} are new")
    return "; ".join(told) or None
