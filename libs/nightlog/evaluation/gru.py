"""The papers' small model as a mode: a GRU on sentence vectors, meta-trained on the sources."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from nightlog.detector.examples import sequences
from nightlog.detector.meta import Config
from nightlog.detector.network import predict
from nightlog.detector.patterns import Source
from nightlog.detector.training import Transfer, fit, measure_transfer, with_shape
from nightlog.evaluation.case import Case, Judgement
from nightlog.evaluation.once import once

LEFT_OUT = 4  # sources on which calibration and threshold are measured, each by a model trained on the others of them


def gru(case: Case) -> Judgement:
    """Train on the sources, with the adaptation part as the unlabelled target; the threshold comes from sources left out in turn."""
    config = with_shape(Config(seed=case.seed, device=case.device), case.adaptation.vectors.shape[1])
    network = once("gru", case.seed, [*case.sources, case.adaptation], lambda: fit(case.sources, [case.adaptation], config))
    found = once("transfer", 0, case.sources, lambda: transfer(case, replace(config, seed=0)))
    probability = found.calibration.apply(predict(network, sequences(case.test), case.test.vectors)[0])
    return Judgement(probability, found.flags(probability), detail={"threshold": found.threshold or 1.0, "left_out_f1": found.f1})


def transfer(case: Case, config: Config) -> Transfer:
    """Measure the transfer between some of the sources; all of them would take an hour. A hash of their names chooses."""
    return measure_transfer(sorted(case.sources, key=order)[:LEFT_OUT], config)


def order(source: Source) -> str:
    """The place of a source in a fixed order that no label has an influence on."""
    return hashlib.sha256(source.name.encode()).hexdigest()
