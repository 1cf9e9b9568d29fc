"""One request to an OpenAI-compatible endpoint: paid from the budget, retried by the class of its error, read without trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

from openai import APIStatusError, OpenAI, OpenAIError
from pydantic import BaseModel, ValidationError

from nightlog.errors import BudgetExhausted
from nightlog.llm.budget import Budget, Cost
from nightlog.llm.retries import Consequence, RetryPolicy, consequence, describe, slug
from nightlog.settings import Prices

BYTES_A_TOKEN = 3  # of text as it stands in log templates; plain English has four
TOKENS_AN_ITEM = 80  # of an answer, before the first answer has shown more


@dataclass(frozen=True)
class Tokens:
    """Prompt tokens (cached ones included), completion tokens, and those of the prompt that were cached."""

    input: int = 0
    output: int = 0
    cached: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output, self.cached + other.cached)


@dataclass(frozen=True)
class Reply:
    """An answer's text as it came; `cut_off` where the provider says that it is not whole, `served_by` the model that it names.

    `tokens` are those that the endpoint counted; for an answer without a count, and for attempts that broke off, those expected.
    """

    text: str
    cut_off: bool
    refused: bool
    calls: int
    tokens: Tokens
    served_by: str | None = None


@dataclass(frozen=True)
class Failure:
    """No answer: why, after how many calls, and whether the next request can do better. Never holds a key or a prompt."""

    trouble: str
    calls: int
    then: Consequence
    tokens: Tokens = Tokens()


class Message(BaseModel):
    """What the assistant said; `refusal` in its place where it would not."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One answer, and why it ended there."""

    message: Message
    finish_reason: str | None = None


class PromptDetails(BaseModel):
    """How much of the prompt the provider had in its cache."""

    cached_tokens: int | None = None


class Usage(BaseModel):
    """Tokens, where the endpoint counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None

    @property
    def tokens(self) -> Tokens:
        """All of them; nothing is cached where nothing is said of it, and never more than there is."""
        found = max(0, self.prompt_tokens), max(0, self.completion_tokens)
        cached = (self.prompt_tokens_details or PromptDetails()).cached_tokens or 0
        return Tokens(*found, min(max(0, cached), found[0]))


class Completion(BaseModel):
    """The part of a chat completion that is needed. The `openai` client itself does not validate what it hands on."""

    choices: list[Choice]
    usage: Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None

    @property
    def served_by(self) -> str | None:
        """The model that answered, with the fingerprint of its set-up where there is one."""
        return " ".join(filter(None, (slug(self.model, 120), slug(self.system_fingerprint)))) or None

    def reply(self, calls: int, expected: Tokens) -> Reply:
        """The answer of the first choice."""
        choice = self.choices[0] if self.choices else Choice(message=Message())
        return Reply(
            text=choice.message.content or "",
            cut_off=choice.finish_reason == "length",
            refused=choice.message.refusal is not None or choice.finish_reason == "content_filter",
            calls=calls,
            tokens=self.usage.tokens if self.usage is not None else expected,
            served_by=self.served_by,
        )


class Forecast:
    """What a request will take, learnt from those before it: answers grow with their items, and some models think before they answer."""

    def __init__(self) -> None:
        self._an_item = float(TOKENS_AN_ITEM)
        self._lock = Lock()

    def expect(self, messages: Sequence[tuple[str, str]], items: int) -> Tokens:
        """Prompt and completion tokens of a request about so many items."""
        return Tokens(sum(len(text.encode()) for _, text in messages) // BYTES_A_TOKEN + 1, int(self._an_item * items) + 1)

    def learn(self, tokens: Tokens, items: int) -> None:
        """What a request about so many items did take. Later ones are expected to take as much an item as the dearest so far."""
        with self._lock:
            self._an_item = max(self._an_item, tokens.output / max(1, items))


class ChatClient:
    """Sends requests, each attempt reserved in the budget. Safe to share between threads.

    Args: openai, a client without retries; prices, of the model.
    """

    def __init__(self, openai: OpenAI, model: str, budget: Budget, retries: RetryPolicy, prices: Prices):
        self.model = model
        self.budget = budget
        self.forecast = Forecast()
        self.openai = openai
        self.retries = retries
        self._prices = prices
        self._host = urlsplit(str(openai.base_url)).hostname or "the endpoint"

    def cost(self, tokens: Tokens) -> Cost:
        """What one call with so many tokens costs."""
        return Cost(1, tokens.input + tokens.output, self._prices.of(tokens.input, tokens.output, tokens.cached))

    def ask(self, messages: Sequence[tuple[str, str]], response_format: Mapping[str, Any], items: int) -> Reply | Failure:
        """Send one request of (role, text) messages about so many items, within the budget. Never raises for trouble."""
        calls, lost = 0, Tokens()
        expected = self.forecast.expect(messages, items)
        reserved = self.cost(expected)

        def attempt() -> str:
            nonlocal calls, lost
            self.budget.reserve(reserved)
            calls += 1
            try:
                return self._post(messages, response_format)
            except APIStatusError:  # an error instead of an answer is not charged
                self.budget.settle(reserved, Cost(1))
                raise
            except OpenAIError:  # whoever breaks off may charge all the same: what was reserved stays spent
                lost += expected
                raise

        try:
            body = self.retries.attempts(attempt, lambda: self.budget.allows(reserved))
        except BudgetExhausted as error:
            return Failure(str(error), calls, "stop", lost)
        except OpenAIError as error:
            return Failure(describe(error, self._host), calls, consequence(error), lost)
        try:
            reply = Completion.model_validate_json(body).reply(calls, expected)
        except ValidationError:
            return Failure(f"{self._host} answered something that is no chat completion", calls, "ask less", lost + expected)
        self.budget.settle(reserved, self.cost(reply.tokens))
        self.forecast.learn(reply.tokens, items)
        return replace(reply, tokens=reply.tokens + lost)

    def _post(self, messages: Sequence[tuple[str, str]], response_format: Mapping[str, Any]) -> str:
        response = self.openai.chat.completions.with_raw_response.create(
            model=self.model,
            messages=cast(Any, [{"role": role, "content": text} for role, text in messages]),
            response_format=cast(Any, response_format),
        )
        return response.http_response.text
