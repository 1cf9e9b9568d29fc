"""Run the evaluation: every mode on every labelled system, as flat records.

Deployment protocol: natural prevalence; the adaptation part is the reference, without labels; figures are of the test part; nothing is
chosen by labels of the target. Paper protocol: the classes of the target are balanced by its labels first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nightlog.detector.patterns import Source
from nightlog.errors import UsageError
from nightlog.evaluation.audit import Audit, audit, shuffled
from nightlog.evaluation.baselines import baselines
from nightlog.evaluation.case import Mode, case_of, outcome_of
from nightlog.evaluation.corpus import Places, labelled_systems
from nightlog.evaluation.general import fitted_threshold
from nightlog.evaluation.judged import Verdicts
from nightlog.evaluation.labelled import Encode, Labelled
from nightlog.evaluation.metrics import Scored, average_precision, family_mean, measure
from nightlog.evaluation.simulate import ALL, STOP, Outcome, Subject, fusionlog, settled_by_llm, with_answers, with_questions
from nightlog.evaluation.simulate import with_verdicts_and_answers as with_both
from nightlog.history.channels import UNLIKENESS
from nightlog.history.general import FILE as GENERAL_MODEL
from nightlog.history.score import combine
from nightlog.systems.catalog import nearest

Protocol = Literal["deployment", "paper"]
PROTOCOLS: tuple[Protocol, ...] = ("deployment", "paper")
Record = dict[str, Any]
Row = tuple[str, Subject, Outcome, float | None]  # mode, the system, its scores, alarms on the system without anomalies

COLD_START = (50, 100, 200, 500, 1000, 2000)
FLAGS = ("f1", "f1_low", "f1_high", "precision", "recall", "false_alarms_per_1000")
LLM = ("generallog", "fusionlog", "llm_only", "llm_two_rounds")
SLOW = ("gru",)  # minutes for each target: left out of a quick run
WITHOUT = "no mode `{}`{}; known: {}"


@dataclass(frozen=True)
class Options:
    """The extent of a run. Empty `targets` and `modes` mean all."""

    targets: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    protocols: tuple[Protocol, ...] = ("deployment",)
    seeds: int = 5
    answers: tuple[int, ...] = (0, 10, 20)
    questions: tuple[int, ...] = (20, 40, 80)
    quick: bool = False

    @staticmethod
    def of(targets: str, modes: str, protocol: str, seeds: int, answers: str, questions: str, quick: bool) -> Options:
        """Read the options of the command line. `quick` is one seed, the deployment protocol, and no slow mode that is not named.

        Raises: UsageError with the known values.
        """
        known = mode_names()
        for name in words(modes):
            if name not in known:
                raise UsageError(WITHOUT.format(name, nearest(name, known), ", ".join(known)))
        if protocol not in (*PROTOCOLS, "both"):
            raise UsageError(f"no protocol `{protocol}`; known: {', '.join(PROTOCOLS)}, both")
        for option, text in (("--answers", answers), ("--questions", questions)):
            if not all(word.isdigit() for word in words(text)):
                raise UsageError(f"{option} {text}: expected numbers separated by commas, such as 0,10,20")
        protocols = tuple(name for name in PROTOCOLS if protocol in (name, "both"))
        chosen = words(modes) or tuple(name for name in known if not (quick and name in SLOW))
        return Options(
            targets=words(targets),
            modes=chosen,
            protocols=("deployment",) if quick else protocols,
            seeds=1 if quick else max(1, seeds),
            answers=tuple(sorted({0, *map(int, words(answers))})),
            questions=tuple(sorted({*map(int, words(questions))} - {0})),
            quick=quick,
        )

    @property
    def left_out(self) -> list[str]:
        """The modes that this run leaves out."""
        return [name for name in mode_names() if name not in self.modes]


def words(text: str) -> tuple[str, ...]:
    """Words separated by commas, each once.

    >>> words("a, b,,a")
    ('a', 'b')
    """
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def mode_names() -> list[str]:
    """The modes, and the three groups `baseline`, `ablation` and `cold_start`."""
    return ["history", *LLM, *source_modes(), "baseline", "ablation", "cold_start"]


def source_modes() -> dict[str, Mode]:
    """The modes that learn from labelled sources."""
    from nightlog.evaluation.learned import METAPROTO_MODES, gru

    return {**METAPROTO_MODES, "gru": gru}


@dataclass
class Evaluation:
    """A run over labelled systems: the `targets`, and the `teachers` that learned modes know, held-out ones left out.

    `verdicts_of` returns an LLM's verdicts on a system, None if there are none. `audits` holds an audit of each target.
    `without_verdicts`: the targets that the modes with an LLM were left out for.
    """

    options: Options
    targets: Sequence[Labelled]
    teachers: Sequence[Labelled]
    verdicts_of: Callable[[Labelled], Verdicts | None]
    encode: Encode
    device: str = "cpu"
    audits: dict[str, Audit] = field(default_factory=dict)
    without_verdicts: list[str] = field(default_factory=list)
    _subjects: dict[str, Subject] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)

    def records(self) -> Iterator[list[Record]]:
        """The records of each target, as they come. Raises GateFailed if the audit finds a leak."""
        for system in self.targets:
            self.audits[system.name] = audit(system, self.sources_of(system))
            found: list[Record] = []
            for protocol in self.options.protocols:
                for seed in range(self.options.seeds):
                    balanced = system.balanced(seed) if protocol == "paper" else system
                    found += self.measured(balanced, protocol, seed)
            yield found

    def measured(self, system: Labelled, protocol: Protocol, seed: int) -> Iterator[Record]:
        """The records of one target and seed. Under the deployment protocol, modes that no chance decides are run with the first seed."""
        subject = self.subject(system) if protocol == "deployment" else Subject.of(system)
        repeated = seed > 0 and protocol == "deployment"
        groups = [self.baselines(subject, seed), self.of_sources(subject, protocol, seed)]
        if not repeated:
            groups += [self.history(subject), self.with_llm(subject), self.ablations(subject)]
        if "cold_start" in self.options.modes and protocol == "deployment":
            groups.append(cold_start(system, seed))
        for group in groups:
            started = time.monotonic()
            for name, subject_of_mode, outcome, clean in group:
                seconds = round(time.monotonic() - started, 3)
                yield from rows(subject_of_mode.system, name, outcome, clean, protocol=protocol, seed=seed, seconds=seconds)
                started = time.monotonic()

    def subject(self, system: Labelled) -> Subject:
        """The system with the history's scores, made once."""
        if system.name not in self._subjects:
            self._subjects[system.name] = Subject.of(system)
        return self._subjects[system.name]

    def source(self, system: Labelled) -> Source:
        """The system as a source of learned modes, made once."""
        if system.name not in self._sources:
            self._sources[system.name] = system.source(self.encode)
        return self._sources[system.name]

    def sources_of(self, system: Labelled) -> list[Labelled]:
        """The labelled systems of other families; held-out ones teach nothing."""
        return [each for each in self.teachers if each.family != system.family and not each.held_out]

    def baselines(self, subject: Subject, seed: int) -> Iterator[Row]:
        """The baselines."""
        if "baseline" in self.options.modes:
            yield from ((name, subject, outcome, None) for name, outcome in baselines(subject, seed))

    def history(self, subject: Subject) -> Iterator[Row]:
        """The history without answers, and with some."""
        if "history" in self.options.modes:
            other = with_answers(subject.without_anomalies, self.options.answers)
            for k, outcome in with_answers(subject, self.options.answers).items():
                yield f"history+{k}answers" if k else "history", subject, outcome, alarms(subject, other[k])

    def with_llm(self, subject: Subject) -> Iterator[Row]:
        """The modes with an LLM, if there are verdicts."""
        chosen = [mode for mode in LLM if mode in self.options.modes]
        verdicts = self.verdicts_of(subject.system) if chosen else None
        if verdicts is None:
            self.without_verdicts += [subject.system.name] if chosen else []
            return
        for number, mode in ((1, "llm_only"), (2, "llm_two_rounds")):
            if mode in chosen:
                yield mode, subject, settled_by_llm(verdicts, number), None
        if "generallog" in chosen:
            names = {step: f"generallog+{step}questions" for step in self.options.questions}
            names |= {STOP: "generallog+stop_rule", ALL: "generallog"}
            other = with_questions(subject.without_anomalies, verdicts, tuple(names))
            for step, outcome in with_questions(subject, verdicts, tuple(names)).items():
                yield names[step], subject, outcome, alarms(subject, other[step])
            for k, outcome in with_both(subject, verdicts, [k for k in self.options.answers if k]).items():
                yield f"generallog+{k}answers", subject, outcome, None
        if "fusionlog" in chosen:
            yield "fusionlog", subject, fusionlog(subject, verdicts), alarms(subject, fusionlog(subject.without_anomalies, verdicts))

    def of_sources(self, subject: Subject, protocol: Protocol, seed: int) -> Iterator[Row]:
        """The modes that learn from sources; with the first seed also with shuffled labels of the sources, which must leave nothing."""
        chosen = {name: mode for name, mode in source_modes().items() if name in self.options.modes}
        if not chosen:
            return
        sources = [self.source(each) for each in self.sources_of(subject.system)]
        lies = [shuffled(source, seed) for source in sources]
        for name, mode in chosen.items():
            for k in self.options.answers if name == "metaproto" and protocol == "deployment" else (0,):
                case = case_of(subject.system, sources, self.encode, seed, k, self.device)
                outcome = outcome_of(mode, case, subject.system, "learned from the sources alone" if not k else "")
                yield f"{name}+{k}answers" if k else name, subject, outcome, None
            if seed == 0 and protocol == "deployment" and not (self.options.quick and name in SLOW):
                case = case_of(subject.system, lies, self.encode, seed, 0, self.device)
                note = "labels of the sources shuffled: must be chance"
                yield f"{name}+shuffled", subject, outcome_of(mode, case, subject.system, note), None

    def ablations(self, subject: Subject) -> Iterator[Row]:
        """The history without one part each, with weights, form or threshold of the other families, and with tonight in its reference."""
        if "ablation" not in self.options.modes:
            return
        for name, score in forms(subject).items():
            yield f"ablation:{name}", subject, Outcome(score, None, note="ranking alone"), None
        others = [self.subject(each) for each in self.sources_of(subject.system)]
        if others:
            form = best_form(others)
            note = f"the form with the best mean average precision on the other families: {form}"
            yield "ablation:form_of_other_families", subject, Outcome(forms(subject)[form], None, note=note), None
            score = learned_weights(subject, others)
            yield "ablation:learned_weights", subject, Outcome(score, score >= 0, note="logistic regression on the other families"), None
            at = fitted_threshold(others)
            flags = [each.suspicion >= at for each in (subject.scored, subject.clean)]
            outcome = Outcome(subject.scored.score, flags[0], threshold=at)
            yield "ablation:threshold_of_other_families", subject, outcome, subject.alarms(flags[1])
        night, other = (Subject.of(each, with_test=True) for each in (subject.system, subject.system.clean()))
        outcome, clean = (Outcome(each.scored.score, each.scored.flagged) for each in (night, other))
        yield "ablation:tonight_in_reference", night, outcome, alarms(subject, clean)


def cold_start(system: Labelled, seed: int) -> Iterator[Row]:
    """The history by the number of sessions in its reference."""
    for size in COLD_START:
        if size <= system.counts[:, 0].sum():
            subject = Subject.of(system.shortened(size, seed))
            yield f"cold_start:{size}sessions", subject, Outcome(subject.scored.score, subject.scored.flagged), None


def alarms(subject: Subject, clean: Outcome) -> float | None:
    """Return alarms per 1,000 sessions of the test part without its anomalies, by the outcome on the system without any."""
    return None if clean.flagged is None else subject.alarms(clean.flagged)


def rows(
    system: Labelled, name: str, outcome: Outcome, clean: float | None, *, protocol: Protocol, seed: int, seconds: float
) -> list[Record]:
    """Return the flat records of a mode on a target: all test sessions, and those whose pattern is not in the adaptation part."""
    flagged = outcome.flagged if outcome.flagged is not None else np.zeros(len(outcome.score), dtype=bool)
    scored = Scored(outcome.score, flagged, system.anomalous, system.normal)
    unknown = dict.fromkeys(FLAGS, None) if outcome.flagged is None else {}
    head: Record = {"target": system.name, "family": system.family, "mode": name, "protocol": protocol, "seed": seed}
    head |= {"split": system.split, "held_out": system.held_out, "scorable": system.is_scorable}
    tail: Record = {"alarms_clean": clean, "llm_items": outcome.asked, "answers": outcome.answers, "threshold": outcome.threshold}
    tail |= {"seconds": seconds, "note": outcome.note, "code": code_version()}
    parts = {"all": scored, "unseen": scored.only(system.unseen)}
    return [head | {"sessions": kind} | measure(part, seed) | unknown | tail for kind, part in parts.items()]


def forms(subject: Subject) -> dict[str, np.ndarray]:
    """Scores by other forms of the history: without one channel each, and with equal weights."""
    scored, severity = subject.scored, np.maximum(subject.scored.words, subject.scored.level)
    found = {"whole": scored.score}
    for i, name in enumerate(UNLIKENESS):
        rest = scored.unlikeness.copy()
        rest[:, i] = 0
        found[f"without_{name}"] = combine(rest, severity)
    return found | {
        "without_words": combine(scored.unlikeness, scored.level),
        "without_level": combine(scored.unlikeness, scored.words),
        "without_severity": combine(scored.unlikeness, 0 * severity),
        "without_unlikeness": severity,
        "equal_weights": scored.unlikeness.mean(axis=1) * (1 + severity),
    }


def best_form(others: Sequence[Subject]) -> str:
    """Return the name of the form with the best average precision, mean over the families of other systems."""
    scores = {other.system.name: forms(other) for other in others}

    def mean(form: str) -> float:
        return family_mean((each.system.family, ranked(each, scores[each.system.name][form])) for each in others)

    return max(scores[others[0].system.name], key=mean)


def ranked(subject: Subject, score: np.ndarray) -> float:
    """Average precision of a score on a system's test part."""
    return average_precision(Scored(score, score > 0, subject.system.anomalous, subject.system.normal))


def learned_weights(subject: Subject, others: Sequence[Subject]) -> np.ndarray:
    """Return log-odds by a logistic regression on the channels, learned from other families, each with the same weight."""
    from sklearn.linear_model import LogisticRegression

    def features(of: Subject) -> np.ndarray:
        return np.column_stack([of.scored.unlikeness, of.scored.words, of.scored.level])

    rows, labels, weights = [], [], []
    for other in others:
        alike = sum(each.system.family == other.system.family for each in others)
        for label, sessions in enumerate((other.system.normal, other.system.anomalous)):
            rows.append(features(other))
            labels.append(np.full(len(sessions), label))
            weights.append(sessions / max(1, sessions.sum()) / alike)
    model = LogisticRegression(max_iter=2000)
    model.fit(np.concatenate(rows), np.concatenate(labels), sample_weight=1000 * np.concatenate(weights))
    return np.asarray(model.decision_function(features(subject)))


def prepare(
    options: Options,
    places: Places,
    verdicts_of: Callable[[Labelled], Verdicts | None],
    encode: Encode,
    device: str = "cpu",
) -> Evaluation:
    """Read the systems of a run. If targets are named, the other systems are read as well, if a mode learns from them."""
    targets = list(labelled_systems(places, options.targets))
    learned = {"ablation", *source_modes()} & set(options.modes)
    teachers = list(labelled_systems(places)) if options.targets and learned else targets
    return Evaluation(options, targets, teachers, verdicts_of, encode, device)


@cache
def code_version() -> str:
    """Return Nightlog's version and a hash of its source text: only records of the same code can be compared."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in (*sorted(root.rglob("*.py")), GENERAL_MODEL):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return f"{version('nightlog')} {digest.hexdigest()[:8]}"


def of_other_code(records: Iterable[Record]) -> dict[str, list[str]]:
    """Return code version → the modes whose records are of it, of all records that this code did not make; "unknown" without a version."""
    found: dict[str, set[str]] = {}
    for record in records:
        if (code := record.get("code", "unknown")) != code_version():
            found.setdefault(code, set()).add(record["mode"])
    return {code: sorted(modes) for code, modes in sorted(found.items())}


def merged(earlier: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Return the records of a run, and those of earlier runs for targets and modes that it leaves out."""
    done = {(record["target"], record["mode"], record["protocol"]) for record in records}
    return list(records) + [each for each in earlier if (each["target"], each["mode"], each["protocol"]) not in done]


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
