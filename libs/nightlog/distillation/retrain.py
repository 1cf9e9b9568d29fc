"""A system's verdicts and answers as a small model of its own: trained, checked by a gate, registered, promoted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np

from nightlog.detector.examples import sequences
from nightlog.detector.manifest import Manifest
from nightlog.detector.meta import Config
from nightlog.detector.network import predict
from nightlog.detector.patterns import Patterns, Source
from nightlog.detector.registry import load, promote, promoted, save
from nightlog.detector.sources import read_patterns, read_source
from nightlog.detector.training import tau_of
from nightlog.distillation.rounds import Distilled, Fusion, distil
from nightlog.errors import ConfigError, NightlogError
from nightlog.feedback.questions import system_answers
from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS, PSEUDO_LABELS, PseudoLabelRow
from nightlog.llm.items import Label, Verdict
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.verdicts import latest_verdicts, stored_verdict
from nightlog.routing.router import is_general
from nightlog.systems.spec import System

ReadSource = Callable[[str, str], Source | None]

COVERED = 0.95  # share of the system's sessions that must have a pseudo-label, or be general, before its own model may serve
FAITHFUL = 0.98  # share of those sessions on which the student must be on its pseudo-label's side
SURE = 0.5


def final_verdicts(lake: Lake, system: System) -> dict[str, Verdict]:
    """Return the verdict in force on each question: the analysts' answer (round 0), else the LLM's; labels, by pattern id."""
    rows = latest_verdicts(lake, system, prompt_hash(system), None)
    found = {question: stored_verdict(row) for question, row in rows.items()}
    for question, answer in system_answers(lake, system, rows).items():
        label: Label = "anomalous" if answer["label"] == "anomalous" else "normal"
        found[question] = Verdict(question, label, 1.0, "answered", 0, answer["name"])
    return found


def distil_systems(
    lake: Lake,
    systems: Iterable[System],
    catalog: Mapping[str, System],
    data: Path,
    now: datetime,
    config: Config,
    tell: Callable[[str], None],
) -> None:
    """Distil the targets among `systems` that may have a model of their own; each source is read once.

    A system whose detector is MetaProto is left alone: the student is a GRU, and promoting it would take the place of the detector that
    its system file names. What analysts answered reaches a MetaProto as its labelled examples, by `nightlog train`.

    A system that fails does not stop the others; the first error is raised when all are through.
    """
    read = cache(lambda name, encoder: read_source(lake, catalog[name], data, encoder) if name in catalog else None)
    failed: list[NightlogError] = []
    for system in systems:
        if system.role == "target" and system.detector == "metaproto":
            tell(f"{system.name}: its detector is MetaProto, which is not distilled: `nightlog train` adapts it")
        elif system.role == "target" and system.collaboration != "generallog":
            try:
                story = distil_system(lake, system, read, f"retrain__{now:%Y%m%dT%H%M%S}", now, config)
            except NightlogError as error:
                failed.append(error)
                story = f"failed: {error}"
            tell(f"{system.name}: {story}")
    if failed:
        raise failed[0]


def distil_system(lake: Lake, system: System, read: ReadSource, run_id: str, now: datetime, config: Config) -> str:
    """Distil one system's verdicts and promote the student if its gate holds. Returns what became of it, in a sentence.

    The gate: no round was undone at once, the pseudo-labels cover nearly all sessions, and the student says the same as they do. What the
    serving student learnt from the same base and verdicts is not done again.

    Args: read, a source by its name and the encoder of its vectors, None where it is not known any more.
    Raises: ConfigError where no general model serves.
    """
    model_of_all = promoted(lake)
    if model_of_all is None:
        raise ConfigError(f"no trained model in the lake {lake.root}, which a student starts from: run `nightlog train` first")
    verdicts = final_verdicts(lake, system)
    if not verdicts or not lake.nights(PATTERNS, system.name):
        return "no verdicts yet, so nothing to distil"
    base = load(model_of_all)
    target = read_patterns(lake, system, base.manifest.vectors_by)
    taught = digest(verdicts, target)
    own = promoted(lake, system.name)
    if own is not None and own.detector != "gru":
        own = None  # left from when the system file named another detector: it does not serve
    if own is not None and load(own).manifest.data == {"base": model_of_all.version, "taught": taught}:
        return f"model {own.version} knows all verdicts already"
    sources = [source for name in base.manifest.sources if (source := read(name, base.manifest.vectors_by)) is not None and len(source.ids)]
    config = replace(config, shape=base.manifest.shape)
    distilled = distil(base.network, sources, target, verdicts, config, Fusion())
    now_serving = load(own) if own is not None else base
    general = is_general(target.vectors, target.events, now_serving.sources.vectors, now_serving.manifest.tau)
    metrics = measures(distilled, target, general)
    known = np.array([row for row, _ in sorted(rows_of(distilled, target))], dtype=np.int64)
    manifest = Manifest(
        encoder=base.manifest.encoder,
        tau=tau_of(sources),
        threshold=SURE,
        foreign_threshold=base.manifest.foreign_threshold,
        foreign=base.manifest.foreign,
        shape=config.shape,
        source_texts=(*base.sources.texts, *(target.texts[row] for row in known)),
        source_systems=(*base.sources.systems, *(system.name for _ in known)),
        sources=base.manifest.sources,
        data={"base": model_of_all.version, "taught": taught},
        system=system.name,
    )
    model = save(lake, distilled.network, np.concatenate([base.sources.vectors, target.vectors[known]]), manifest, metrics, now)
    origin: PseudoLabelRow = {"system": system.name, "model": model.version, "run_id": run_id}
    labels = [cast("PseudoLabelRow", asdict(label)) | origin for label in distilled.labels]
    lake.replace(PSEUDO_LABELS, labels, system=system.name, model=model.version)
    summary = (
        f"{len(distilled.rounds)} rounds, {len(distilled.labels)} pseudo-labels, {metrics['covered']:.1%} of the sessions covered, the "
        f"student agrees on {metrics['faithful']:.1%}, source score {distilled.before:.3f} before, {metrics['source_score']:.3f} after"
    )
    if refused := gate(distilled, metrics):
        return f"model {model.version} does not serve: {refused}; {summary}"
    promote(lake, model.version)
    return f"model {model.version} serves: {summary}"


def gate(distilled: Distilled, metrics: Mapping[str, float]) -> str | None:
    """Why the student may not serve, None where it may."""
    if distilled.rounds and distilled.rounds[0].rolled_back:
        return "its first round cost too much of what the sources taught"
    if metrics["covered"] < COVERED:
        return f"pseudo-labels and general knowledge cover {metrics['covered']:.1%} of the sessions, {COVERED:.0%} are needed"
    if metrics["faithful"] < FAITHFUL:
        return f"it agrees with its pseudo-labels on {metrics['faithful']:.1%} of the sessions, {FAITHFUL:.0%} are needed"
    return None


def measures(distilled: Distilled, target: Patterns, general: np.ndarray) -> dict[str, float]:
    """Return what the gate looks at: `covered` and `faithful` by sessions, in [0, 1], and the rounds' held-out source score.

    Args: general (n patterns,), those that the router takes for general knowledge by the model that serves: nobody is asked about them.
    """
    predicted, _ = predict(distilled.network, sequences(target), target.vectors)
    labels = {label.pattern_id: label.probability for label in distilled.labels}
    known = np.array([name in labels for name in target.ids], dtype=bool)
    wanted = np.array([labels.get(name, 0.0) for name in target.ids])
    same = ((predicted >= SURE) == (wanted >= SURE)) & known
    standing = [each for each in distilled.rounds if not each.rolled_back]
    return {
        "covered": float(target.sessions[known | general].sum() / max(1, target.sessions.sum())),
        "faithful": float(target.sessions[same].sum() / max(1, target.sessions[known].sum())),
        "source_score_before": distilled.before,
        "source_score": standing[-1].source_score if standing else distilled.before,
        "rounds": float(len(distilled.rounds)),
        "pseudo_labels": float(len(distilled.labels)),
    }


def rows_of(distilled: Distilled, target: Patterns) -> set[tuple[int, str]]:
    """The templates that the student has learnt about: (row, text) of those in pseudo-labelled patterns."""
    learnt = {label.pattern_id for label in distilled.labels}
    return {(row, target.texts[row]) for name, events in zip(target.ids, target.events, strict=True) if name in learnt for row, _ in events}


def digest(verdicts: Mapping[str, Verdict], target: Patterns) -> str:
    """Hash of all that a student is taught: the patterns, how often they occur, and the last word on each question."""
    words = sorted((question, verdict.label, verdict.confidence, verdict.round) for question, verdict in verdicts.items())
    content = json.dumps([words, list(target.ids), target.sessions.tolist()])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
