"""Fit the general model that ships on the recorded families alone: `python -m nightlog.evaluation.general [--write]`.

The threshold has the best mean F1 over the recorded families that train, with at most ALARMS per 1,000 sessions on the same families
without their anomalies, in the median. Weights of channels other than those that ship are used only if they have a better average
precision on the family that is left out in turn. The held-out families, and the public sets where there are any, choose nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nightlog.evaluation.corpus import Places, labelled_systems
from nightlog.evaluation.metrics import Scored, average_precision, family_mean
from nightlog.evaluation.simulate import Subject
from nightlog.history.channels import UNLIKENESS
from nightlog.history.general import FILE, general
from nightlog.sample import families

SAMPLE = ("dovecot", "postfix", "postgres")
GRID = np.round(np.arange(0.6, 1.8, 0.05), 2)
WEIGHTS = (0.4, 0.55, 0.7, 0.85, 1.0)
ALARMS = 30.0


def fitted_threshold(subjects: Sequence[Subject]) -> float:
    """Return the threshold on suspicion that is best on these systems: see the module."""
    families = [subject.system.family for subject in subjects]
    reached = [family_mean(zip(families, (each.f1(each.scored.suspicion >= at) for each in subjects), strict=True)) for at in GRID]
    alarms = np.median([[subject.alarms(subject.clean.suspicion >= at) for at in GRID] for subject in subjects], axis=0)
    return float(GRID[int(np.argmax(np.where(alarms <= ALARMS, reached, -1.0)))])


def precision(subject: Subject, weights: Sequence[float]) -> float:
    """Return the average precision of the score with these weights of channels, in the order of UNLIKENESS."""
    scored = subject.scored
    strongest = (scored.unlikeness * np.asarray(weights)).max(axis=1, initial=0.0)
    score = np.round(strongest * (1 + np.maximum(scored.words, scored.level)) / 2, 9)
    return average_precision(Scored(score, score > 1, subject.system.anomalous, subject.system.normal))


def left_out(subjects: Sequence[Subject]) -> tuple[float, float]:
    """Return the average precision, mean over families left out in turn, of weights fitted on the others and of those that ship."""
    grid = [weights for weights in itertools.product(WEIGHTS, repeat=len(UNLIKENESS)) if max(weights) == max(WEIGHTS)]
    own = np.array([[precision(subject, weights) for weights in grid] for subject in subjects])
    chosen = [own[i, int(np.argmax(np.delete(own, i, axis=0).mean(axis=0)))] for i in range(len(subjects))]
    shipped = [precision(subject, list(general().channels.values())) for subject in subjects]
    return float(np.mean(chosen)), float(np.mean(shipped))


def figures(subjects: Sequence[Subject], threshold: float) -> Mapping[str, Any]:
    """Return what the model reaches on some systems: systems, average precision, F1, and the median of alarms without anomalies."""
    flags = [subject.scored.suspicion >= threshold for subject in subjects]
    precisions = [precision(subject, list(general().channels.values())) for subject in subjects]
    return {
        "systems": [subject.system.name for subject in subjects],
        "average_precision": round(float(np.mean(precisions)), 3),
        "worst_average_precision": round(min(precisions), 3),
        "f1": round(statistics.fmean(subject.f1(flag) for subject, flag in zip(subjects, flags, strict=True)), 3),
        "alarms_per_1000_without_anomalies": round(
            statistics.median(each.alarms(each.clean.suspicion >= threshold) for each in subjects), 1
        ),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, and print the card; write it to the model's file with --write. Returns 1 if the file has another threshold than the fit."""
    shared = os.environ.get("NIGHTLOG_SHARED")
    parser = argparse.ArgumentParser(prog="python -m nightlog.evaluation.general", description="Fit the general model that ships.")
    sessions = Path(shared, "data", "sessions") if shared else None
    parser.add_argument("--sessions", type=Path, default=sessions, help="folder of the public session sets; they are only measured")
    parser.add_argument("--write", action="store_true", help="write threshold and card to the model's file")
    given = parser.parse_args(argv)
    held_out = {family.name for family in families() if family.held_out}
    recorded = {*SAMPLE, *(family.name for family in families())}
    subjects = [Subject.of(system) for system in labelled_systems(Places(given.sessions))]
    blind = [each.system.name for each in subjects if not each.system.is_scorable]
    subjects = [each for each in subjects if each.system.is_scorable]
    train = [each for each in subjects if each.system.name in recorded - held_out]
    threshold, (learnt, shipped) = fitted_threshold(train), left_out(train)
    groups = {
        "fitted_on": train,
        "recorded_but_held_out": [each for each in subjects if each.system.name in held_out],
        "public_sets_never_fitted_on": [each for each in subjects if each.system.name not in recorded],
    }
    card: dict[str, Any] = {name: figures(group, threshold) for name, group in groups.items() if group}
    card |= {
        "left_out_family_average_precision": {"weights_that_ship": round(shipped, 3), "weights_fitted_on_the_others": round(learnt, 3)},
        "not_scorable": blind,
        "limits": general().card.get("limits", []),
    }
    content = json.loads(FILE.read_text(encoding="utf-8")) | ({"threshold": threshold} if given.write else {}) | {"card": card}
    text = json.dumps(content, indent=2) + "\n"
    print(text)
    if given.write:
        FILE.write_text(text, encoding="utf-8")
    return int(threshold != content["threshold"])


if __name__ == "__main__":
    raise SystemExit(main())
