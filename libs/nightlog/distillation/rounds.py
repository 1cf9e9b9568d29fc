"""FusionLog's loop: verdicts are accepted as pseudo-labels, the small model is tuned on them, and a round that costs it general
knowledge is undone.

Source: FusionLog, arXiv 2511.05878: the LLM works in training only. The order of acceptance, the guard and the anchor are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from nightlog.detector.calibration import best_threshold
from nightlog.detector.examples import Examples, held_out
from nightlog.detector.meta import Config, Trainer, class_loss
from nightlog.detector.network import Network, predict
from nightlog.detector.patterns import Patterns, Source
from nightlog.encoding.encoder import one_thread
from nightlog.llm.items import Verdict

Origin = Literal["feedback", "second round", "confident", "agreement", "unclear"]


@dataclass(frozen=True)
class Fusion:
    """The rules by which verdicts become pseudo-labels.

    `confident` and `agreeing` are how far from 0.5 the LLM, or the small model that agrees with it, must be; `unclear` is the
    probability that the student learns where the LLM could not tell: nobody claims an anomaly. `loss` is how much of the held-out source
    score (F1 of the sources, each at its best threshold) a round may cost; one that costs more is tried once more with sources that weigh
    `source_weight_again`.
    """

    rounds: int = 3
    first_steps: int = 300
    steps: int = 100
    batch: int = 64
    source_batch: int = 16
    source_weight: float = 0.3
    source_weight_again: float = 1.0
    learning_rate: float = 3e-3
    confident: float = 0.3
    agreeing: float = 0.2
    unclear: float = 0.35
    loss: float = 0.1
    flips: float = 0.01


@dataclass(frozen=True)
class PseudoLabel:
    """The pseudo-label of a pattern: `probability` of an anomaly, its origin, and the judgements when it was accepted."""

    pattern_id: str
    question_id: str
    probability: float
    origin: Origin
    round: int
    llm_probability: float
    small_probability: float


@dataclass(frozen=True)
class Round:
    """The result of one round: patterns without a pseudo-label before it, accepted ones, the share of pseudo-labelled patterns
    whose side changed in the small model's eyes, the score on held-out source patterns, and whether the round was undone."""

    number: int
    n_candidates: int
    n_accepted: int
    flipped: float
    source_score: float
    rolled_back: bool


@dataclass(frozen=True)
class Distilled:
    """The student, its pseudo-labels, and the story of its rounds; `before` is the held-out source score of the model it began as."""

    network: Network
    labels: tuple[PseudoLabel, ...]
    rounds: tuple[Round, ...]
    before: float


def accept(
    target: Patterns, verdicts: Mapping[str, Verdict], small: np.ndarray, known: Mapping[str, PseudoLabel], number: int, fusion: Fusion
) -> list[PseudoLabel]:
    """The pseudo-labels that round `number` adds: of patterns with a verdict and no pseudo-label yet.

    An analyst's answer counts as it is; then what the LLM decided side by side or with confidence; then what the small model agrees
    with and is sure of. What was unclear teaches that nobody claims an anomaly. The rest stays open.

    Args: verdicts by question, and by pattern where it was labelled, analysts' answers being of round 0; small (n patterns,) the small
        model's probabilities; known by pattern id.
    """
    found = []
    for pattern, question, own in zip(target.ids, target.questions, small, strict=True):
        verdict = verdicts.get(pattern, verdicts.get(question))
        if verdict is None or pattern in known:
            continue
        learnt = verdict.probability
        origin: Origin
        if verdict.round == 0:
            origin = "feedback"
        elif verdict.label == "unclear":
            origin, learnt = "unclear", fusion.unclear
        elif verdict.round == 2:
            origin = "second round"
        elif abs(learnt - 0.5) >= fusion.confident:
            origin = "confident"
        elif (own >= 0.5) == (learnt >= 0.5) and abs(own - 0.5) >= fusion.agreeing:
            origin = "agreement"
        else:
            continue
        found.append(PseudoLabel(pattern, question, learnt, origin, number, verdict.probability, float(own)))
    return found


@one_thread()
def distil(
    base: Network, sources: Sequence[Source], target: Patterns, verdicts: Mapping[str, Verdict], config: Config, fusion: Fusion
) -> Distilled:
    """Teach a model that was trained on the sources what verdicts say of the target.

    Rounds end when fewer than `fusion.flips` of the pseudo-labelled patterns change sides and nothing new was accepted, or when the
    held-out source score falls by more than `fusion.loss`, at a second try too: then the round before stands, with its pseudo-labels.

    Args: base, the small model as meta-trained; target, the system's patterns of the adaptation period; verdicts by question id.
    Returns: a network of its own, `base` is left as it is. Deterministic for given arguments and device.
    """
    examples = Examples.of([*sources, target])
    own = np.flatnonzero(examples.system == len(sources))
    aside = np.concatenate([*(held_out(source, config.held_out) for source in sources), np.zeros(len(own), dtype=bool)])
    taught = np.flatnonzero(~aside & (examples.system < len(sources)))
    trainer = Trainer(replace(config, learning_rate=fusion.learning_rate), examples, deepcopy(base))
    home = [weight.detach().clone() for weight in trainer.network.parameters()]
    labels: dict[str, PseudoLabel] = {}
    rounds: list[Round] = []
    small, _ = predict(base, [examples.rows[i] for i in own], examples.table)
    before = source_score(base, sources, examples, aside)
    standing = (deepcopy(base).cpu().eval(), dict(labels), small)
    for number in range(1, fusion.rounds + 1):
        new = accept(target, verdicts, small, labels, number, fusion)
        judged = [pattern in verdicts or question in verdicts for pattern, question in zip(target.ids, target.questions, strict=True)]
        n_candidates = sum(judged) - len(labels)
        labels |= {label.pattern_id: label for label in new}
        members = np.array([i for i, name in zip(own, target.ids, strict=True) if name in labels], dtype=np.int64)
        if not len(members):
            break
        if number > 1 and not new and rounds[-1].flipped < fusion.flips:
            break
        probability = {name: label.probability for name, label in labels.items()}
        examples.targets[members] = [probability[target.ids[i - own[0]]] for i in members]
        steps, begun = fusion.first_steps if number == 1 else fusion.steps, deepcopy(trainer.network.state_dict())
        for weight in (fusion.source_weight, fusion.source_weight_again):
            trainer.network.load_state_dict(begun)
            tune(trainer, home, members, taught, steps, replace(fusion, source_weight=weight))
            network = deepcopy(trainer.network).cpu().eval()
            score = source_score(network, sources, examples, aside)
            if score >= before - fusion.loss:
                break
        after, _ = predict(network, [examples.rows[i] for i in own], examples.table)
        labelled = members - own[0]
        flipped = float(np.mean((after[labelled] >= 0.5) != (small[labelled] >= 0.5)))
        rolled_back = score < before - fusion.loss
        rounds.append(Round(number, n_candidates, len(new), flipped, score, rolled_back))
        if rolled_back:
            break
        small = after
        standing = (network, dict(labels), small)
    return Distilled(standing[0], tuple(standing[1].values()), tuple(rounds), before)


def tune(trainer: Trainer, home: Sequence[torch.Tensor], members: np.ndarray, taught: np.ndarray, steps: int, fusion: Fusion) -> None:
    """Some steps on pseudo-labels as often as their patterns occur (by the logarithm of sessions, classes as they are: balancing them
    would move every probability), on source labels with both classes alike, and towards `home`, the weights of the meta-trained model. The
    learning rate falls to nothing, so that a round does not end wherever its last batches pushed it."""
    network, examples = trainer.network.train(), trainer.examples
    weights = np.log1p(examples.sessions[members])
    optimizer = torch.optim.Adam(network.parameters(), lr=fusion.learning_rate)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps)
    for _ in range(steps):
        own = trainer.batch(trainer.random.choice(members, size=fusion.batch, p=weights / weights.sum()))
        loss = class_loss(network, trainer.features(own), own[2])
        if len(taught):
            known = trainer.batch(examples.draw(taught, fusion.source_batch, trainer.random))
            loss = loss + fusion.source_weight * class_loss(network, trainer.features(known), known[2])
        pull = sum(((now - then) ** 2).sum() for now, then in zip(network.parameters(), home, strict=True))
        optimizer.zero_grad()
        torch.autograd.backward(loss + trainer.config.anchor * pull)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def source_score(network: Network, sources: Sequence[Source], examples: Examples, aside: np.ndarray) -> float:
    """Mean over sources of the F1 on their held-out patterns, each at its best threshold; 1.0 where there is nothing to hold it to."""
    scores = []
    for number in range(len(sources)):
        chosen = np.flatnonzero(aside & (examples.system == number))
        if len(chosen) and 0 < (examples.targets[chosen] >= 0.5).sum() < len(chosen):
            found, _ = predict(network, [examples.rows[i] for i in chosen], examples.table)
            scores.append(best_threshold([(found, examples.targets[chosen], examples.sessions[chosen])])[1])
    return float(np.mean(scores)) if scores else 1.0
