"""The choice of a judge by the settings. It loads the client of the endpoint only if an endpoint is asked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nightlog.llm.items import Judge
from nightlog.settings import Settings

if TYPE_CHECKING:
    from nightlog.llm.batch import BatchQueue
    from nightlog.llm.budget import Spent


def make_judge(
    settings: Settings,
    *,
    spent: Spent | None = None,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> Judge | None:
    """Return the judge that the settings name, None if the LLM is off.

    Args: spent, the cost of earlier runs, which counts against the budgets; sleep and rng, for the waits between retries.
    Raises: ConfigError if the endpoint's address or key, or the file of recorded verdicts, cannot be right.
    """
    if settings.provider == "recorded":
        from nightlog.llm.recorded import RecordedJudge

        return RecordedJudge(settings.verdicts)
    if settings.provider == "openai":
        from nightlog.llm.budget import Breaker, Budget, Spent, TimeLimit
        from nightlog.llm.chat import ChatJudge
        from nightlog.llm.client import ChatClient, RequestOptions
        from nightlog.llm.connection import connect
        from nightlog.llm.retries import RetryPolicy

        budget = Budget(settings.llm_night, settings.llm_month, spent or Spent())
        retries = RetryPolicy(sleep, rng or random.Random())
        openai = connect(settings)
        options = RequestOptions.of(settings, str(openai.base_url.host))
        return ChatJudge(
            ChatClient(openai, options, budget, retries, settings.prices),
            Breaker(),
            TimeLimit(settings.llm_minutes_per_night),
            items_per_call=settings.llm_items_per_call,
            side_by_side=settings.llm_side_by_side,
            first_items=settings.llm_first_items,
            at_once=settings.llm_at_once,
        )
    return None


def make_batch_queue(settings: Settings, judge: Judge | None) -> BatchQueue | None:
    """Return the queue for batches beside a judge of `make_judge`, with the same budget and breaker; None if no endpoint is asked."""
    if judge is None or settings.provider != "openai":
        return None
    from nightlog.llm.batch import BatchQueue
    from nightlog.llm.batch_api import BatchApi
    from nightlog.llm.chat import ChatJudge

    assert isinstance(judge, ChatJudge)
    client = judge.client
    api = BatchApi(client.openai, client.retries)
    return BatchQueue(api, client, judge.breaker, judge.sizes, settings.llm_price_batch, settings.llm_mode == "batch")
