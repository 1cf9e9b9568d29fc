"""Who judges: the interface, and the choice of a judge by the settings."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nightlog.llm.items import Item, Verdict
from nightlog.settings import Settings
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from nightlog.llm.batches import BatchDesk
    from nightlog.llm.budget import Spent


@dataclass(frozen=True)
class Answer:
    """What one request came to.

    `calls` counts attempts, retries included; `asked` are the ids that the request was about, empty where nothing was sent;
    `trouble` says what went wrong, None where every item of the request was answered. `tokens_cached` are those of `tokens_in` that the
    provider had in its cache; `served_by` is the model that the answer itself names.
    """

    verdicts: tuple[Verdict, ...]
    calls: int
    tokens_in: int
    tokens_out: int
    asked: tuple[str, ...] = ()
    trouble: str | None = None
    tokens_cached: int = 0
    round: int = 1
    served_by: str | None = None


class Judge(Protocol):
    """Judges patterns. One judge serves a whole night, so that its budget holds for all systems together."""

    @property
    def name(self) -> str:
        """Provider and model, as in `silver.verdicts.llm`."""

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """One answer a request, each yielded before another request takes its place, so that the caller can store it.

        All items belong to the same round; in the second each has a comparison, and a verdict without a group is the first one again.
        Trouble with the LLM is never raised: it is told in `Answer.trouble`, and items without a verdict stay open.
        """


def make_judge(
    settings: Settings,
    *,
    spent: Spent | None = None,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> Judge | None:
    """The judge that the settings name; None where the LLM is off.

    Args: spent, what earlier runs took off the budgets; sleep and rng, for the waits between retries.
    Raises: ConfigError where the endpoint's address or key, or the file of recorded verdicts, cannot be right.
    """
    if settings.provider == "recorded":
        from nightlog.llm.recorded import RecordedJudge

        return RecordedJudge(settings.verdicts)
    if settings.provider == "openai":
        from nightlog.llm.budget import Breaker, Budget, Spent
        from nightlog.llm.chat import ChatJudge
        from nightlog.llm.client import ChatClient
        from nightlog.llm.connection import connect
        from nightlog.llm.retries import Patience

        budget = Budget(settings.llm_night, settings.llm_month, spent or Spent())
        patience = Patience(sleep, rng or random.Random())
        client = ChatClient(connect(settings), settings.llm_model, budget, patience, settings.prices)
        return ChatJudge(client, Breaker(), settings.llm_items_per_call, settings.llm_side_by_side, settings.llm_at_once)
    return None


def make_desk(settings: Settings, judge: Judge | None) -> BatchDesk | None:
    """The desk for batches beside a judge of `make_judge`, with the same budget and breaker; None where no endpoint is asked."""
    if judge is None or settings.provider != "openai":
        return None
    from nightlog.llm.batch_api import BatchApi
    from nightlog.llm.batches import BatchDesk
    from nightlog.llm.chat import ChatJudge

    assert isinstance(judge, ChatJudge)
    client = judge.client
    api = BatchApi(client.openai, client.patience)
    return BatchDesk(api, client, judge.breaker, judge.sizes, settings.llm_price_batch, settings.llm_mode == "batch")
