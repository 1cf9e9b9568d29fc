"""Training of the small model on the labelled sources' patterns, and what its word is worth on systems that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import average_precision_score

from nightlog.detector.calibration import Calibration, Scored, best_threshold, f1_at, fit_calibration
from nightlog.detector.examples import Examples, held_out
from nightlog.detector.meta import Config, meta_train
from nightlog.detector.network import Network, predict
from nightlog.detector.patterns import Patterns, Source
from nightlog.errors import ConfigError
from nightlog.routing.router import choose_tau

TRUSTED_F1 = 0.5


@dataclass(frozen=True)
class Transfer:
    """The quality of the small model on a system that it never saw: its calibration, the threshold on calibrated probabilities, its mean F1
    over sources held out in turn, and the F1 of "always anomalous" there.

    The threshold is None, and the model flags nothing on a foreign system, if its held-out F1 does not beat "always anomalous" at any
    threshold, or if there is only one source.
    """

    calibration: Calibration
    threshold: float | None
    f1: float
    trivial_f1: float

    @property
    def trusted(self) -> bool:
        """True if the small model may decide general patterns of a system that it never saw, so that nobody is asked about them."""
        return self.threshold is not None and self.f1 >= TRUSTED_F1

    def flags(self, probabilities: np.ndarray) -> np.ndarray:
        """Return which calibrated probabilities (n,) are flagged, (n,) bool."""
        return np.zeros(len(probabilities), dtype=bool) if self.threshold is None else probabilities >= self.threshold


@dataclass(frozen=True)
class Trained:
    """The trained network, what its word is worth elsewhere, and what it reached on source patterns that it had not seen."""

    network: Network
    transfer: Transfer
    metrics: dict[str, float]


def train(sources: Sequence[Source], target: Sequence[Patterns], config: Config) -> Trained:
    """Meta-train on all sources but their held-out patterns, and freeze what its word is worth elsewhere on sources alone.

    Args: target, unlabelled patterns of the systems that the model is for; may be empty.
    Deterministic for given arguments and device. Raises ConfigError where no source has both classes.
    """
    if not any((s.anomalous >= 0.5).any() and (s.anomalous < 0.5).any() for s in sources):
        raise ConfigError("no labelled system has both normal and anomalous sessions: there is nothing to learn from")
    network = fit(sources, target, config)
    examples = Examples.of(sources)
    aside = np.concatenate([held_out(source, config.held_out) for source in sources])
    chosen = np.flatnonzero(aside)
    if not 0 < (examples.targets[chosen] >= 0.5).sum() < len(chosen):
        chosen = np.arange(len(examples.rows))
    probabilities, _ = predict(network, [examples.rows[i] for i in chosen], examples.table)
    scored = (probabilities, examples.targets[chosen], examples.sessions[chosen])
    _, f1 = best_threshold([scored])
    transfer = measure_transfer(sources, config)
    metrics = {
        "held_out_f1": f1,
        "held_out_average_precision": float(average_precision_score(scored[1] >= 0.5, probabilities, sample_weight=scored[2])),
        "held_out_patterns": float(len(chosen)),
        "left_out_source_f1": transfer.f1,
        "left_out_source_f1_always_anomalous": transfer.trivial_f1,
    }
    return Trained(network, transfer, metrics)


def fit(sources: Sequence[Source], target: Sequence[Patterns], config: Config) -> Network:
    """Meta-train on the sources, without their held-out patterns; every source is a task."""
    examples = Examples.of([*sources, *target])
    aside = np.concatenate([held_out(system, config.held_out) for system in (*sources, *target)])
    tasks = [np.flatnonzero((examples.system == number) & ~aside) for number in range(len(sources))]
    tasks = [task for task in tasks if len(task)]
    return meta_train(examples, tasks, np.flatnonzero(examples.system >= len(sources)), config)


def measure_transfer(sources: Sequence[Source], config: Config) -> Transfer:
    """Look at each source in turn as if it were new: train on the others, with this one's patterns as the unlabelled target."""
    scored: list[Scored] = []
    for source in sources:
        others = [other for other in sources if other.name != source.name]
        bad = np.concatenate([other.anomalous >= 0.5 for other in others]) if others else np.zeros(0)
        if 0 < bad.sum() < len(bad) and 0 < (source.anomalous >= 0.5).sum() < len(source.ids):
            network = fit(others, [source.without_labels()], config)
            own = Examples.of([source])
            scored.append((predict(network, own.rows, own.table)[0], own.targets, own.sessions))
    if not scored:
        return Transfer(Calibration(), None, 0.0, 0.0)
    calibration = fit_calibration(scored)
    calibrated = [(calibration.apply(probabilities), truth, sessions) for probabilities, truth, sessions in scored]
    threshold, f1 = best_threshold(calibrated)
    trivial = float(np.mean([f1_at(np.ones(len(p)), truth, sessions, 0.5) for p, truth, sessions in scored]))
    return Transfer(calibration, threshold if f1 > trivial else None, f1, trivial)


def tau_of(sources: Sequence[Source]) -> float:
    """The router's threshold that these sources give, see `choose_tau`."""
    return choose_tau(
        {source.name: source.vectors for source in sources},
        {source.name: [[row for row, _ in events] for events in source.events] for source in sources},
    )


def with_shape(config: Config, dimensions: int) -> Config:
    """The configuration for template vectors of this many dimensions."""
    return replace(config, shape=replace(config.shape, dimensions=dimensions))
