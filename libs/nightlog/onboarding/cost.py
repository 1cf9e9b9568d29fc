"""The cost of a new system's first night: questions, calls, tokens and money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nightlog.llm.items import Item
from nightlog.llm.prompt import messages
from nightlog.onboarding.trial import Trial, group_sessions
from nightlog.settings import Settings

CHARACTERS_A_TOKEN = 4.0  # of English text and log templates, about
TOKENS_AN_ANSWER = 60  # label, confidence and one line of reason
SHOWN_CALLS = 5  # requests whose prompts are measured


@dataclass(frozen=True)
class Estimate:
    """A night's first round: `questions` are patterns that nobody has judged yet; later nights ask only about new ones.

    `growth` is the exponent with which questions grow with lines (0: all kinds are seen already, 1: each session is new).
    """

    questions: int
    calls: int
    tokens_in: int
    tokens_out: int
    money: float  # US dollars
    growth: float
    calls_allowed: int


def items_of(trial: Trial) -> list[Item]:
    """The questions of the sample, the most frequent first."""
    return [Item(f"q{number}", events) for number, (events, _) in enumerate(trial.questions.most_common())]


def growth_of(trial: Trial) -> float:
    """Return how questions grow with lines, in [0, 1]: from half of the sample to the whole."""
    half = trial.matched[: len(trial.matched) // 2]
    if not half or not trial.questions:
        return 0.0
    sessions = group_sessions(half, trial.templates).values()
    counted = trial.system.session.kind == "id"
    before = len({session.pattern if counted else tuple(sorted(session.counts)) for session in sessions})
    return min(1.0, max(0.0, math.log2(len(trial.questions) / max(1, before))))


def estimate(trial: Trial, n_lines: int, settings: Settings) -> Estimate:
    """Return what a night of `n_lines` like the sample's would cost in its first round, without a single verdict known before."""
    items, growth = items_of(trial), growth_of(trial)
    questions = round(len(items) * max(1.0, n_lines / max(1, trial.n_lines)) ** growth)
    size = settings.llm_items_per_call
    batches: list[Sequence[Item]] = [batch for n in range(SHOWN_CALLS) if (batch := list(islice(items, n * size, (n + 1) * size)))]
    sent = [sum(len(text) for _, text in messages(trial.system, batch)) / CHARACTERS_A_TOKEN for batch in batches]
    base = sum(len(text) for _, text in messages(trial.system, [])) / CHARACTERS_A_TOKEN
    an_item = (sum(sent) - base * len(sent)) / max(1, sum(map(len, batches)))
    calls = math.ceil(questions / size)
    tokens_in, tokens_out = round(calls * base + questions * an_item), questions * TOKENS_AN_ANSWER
    prices = settings.prices
    money = (tokens_in * prices.input + tokens_out * prices.output) / 1e6
    return Estimate(questions, calls, tokens_in, tokens_out, round(money, 4), round(growth, 2), settings.llm_calls_per_night)
