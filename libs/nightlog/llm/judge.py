"""Who judges: the interface, and the choice of a judge by the settings."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nightlog.llm.items import Item, Verdict
from nightlog.settings import Settings
from nightlog.systems.spec import System


@dataclass(frozen=True)
class Answer:
    """What one request came to.

    `calls` counts attempts, retries included; `asked` are the ids that the request was about, empty where nothing was sent;
    `trouble` says what went wrong, None where every item of the request was answered. `tokens_cached` are those of `tokens_in` that the
    provider had in its cache.
    """

    verdicts: tuple[Verdict, ...]
    calls: int
    tokens_in: int
    tokens_out: int
    asked: tuple[str, ...] = ()
    trouble: str | None = None
    tokens_cached: int = 0
    round: int = 1


class Judge(Protocol):
    """Judges patterns. One judge serves a whole night, so that its budget holds for all systems together."""

    @property
    def name(self) -> str:
        """Provider and model, as in `silver.verdicts.llm`."""

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """One answer a request, each yielded before the next request is made, so that the caller can store it.

        All items belong to the same round; in the second each has a comparison, and a verdict without a group is the first one again.
        Trouble with the LLM is never raised: it is told in `Answer.trouble`, and items without a verdict stay open.
        """


def make_judge(
    settings: Settings,
    *,
    spent: int = 0,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> Judge | None:
    """The judge that the settings name; None where the LLM is off.

    Args: spent, calls that earlier runs of the same night made, taken off its budget; sleep and rng, for the waits between retries.
    Raises: ConfigError where the endpoint's address or key, or the file of recorded verdicts, cannot be right.
    """
    if settings.provider == "recorded":
        from nightlog.llm.recorded import RecordedJudge

        return RecordedJudge(settings.verdicts)
    if settings.provider == "openai":
        from nightlog.llm.budget import Breaker, Budget
        from nightlog.llm.chat import ChatJudge
        from nightlog.llm.client import ChatClient, connect

        budget = Budget(settings.llm_calls_per_night, spent)
        client = ChatClient(connect(settings), settings.llm_model, budget, sleep=sleep, rng=rng or random.Random())
        return ChatJudge(client, Breaker(), settings.llm_items_per_call, settings.llm_side_by_side)
    return None
