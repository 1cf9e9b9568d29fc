"""One request to an OpenAI-compatible endpoint: paid from the budget, retried by the class of its error, read without trust."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI, OpenAIError
from pydantic import BaseModel, ValidationError

from nightlog.errors import BudgetExhausted
from nightlog.llm.budget import Budget, Cost
from nightlog.llm.connection import is_listed
from nightlog.llm.retries import Consequence, RetryPolicy, consequence, describe, is_worth_repeating, slug
from nightlog.settings import Prices, Settings

BYTES_A_TOKEN = 3  # of text as it stands in log templates; plain English has four
TOKENS_AN_ITEM = 80  # of an answer, before the first answer has shown more
OPENAI_HOSTS = ".openai.com,.openai.azure.com"
# The default of the largest answer, in tokens: for each request and for each of its items. Models at OpenAI think before they answer.
LARGEST_ANSWER = {True: (8000, 500), False: (1000, 250)}


@dataclass(frozen=True)
class Tokens:
    """Prompt tokens (cached ones included), completion tokens, and the prompt tokens that the provider had cached."""

    input: int = 0
    output: int = 0
    cached: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output, self.cached + other.cached)


@dataclass(frozen=True)
class Reply:
    """The text of an answer as it came. `cut_off`: the provider reports that it is not whole; `served_by`: the model that it names.

    `prompt_seconds` of the `seconds` passed before the answer began; 0 if it was not streamed.
    `tokens` are those that the endpoint counted; for an answer without a count, and for attempts that broke off, those expected.
    """

    text: str
    cut_off: bool
    refused: bool
    calls: int
    tokens: Tokens
    served_by: str | None = None
    seconds: float = 0.0
    prompt_seconds: float = 0.0


@dataclass(frozen=True)
class Failure:
    """No answer: the reason, the calls made, and the consequence for the next request. Never holds a key or a prompt.

    `text` is what the endpoint had streamed before it was stopped.
    """

    trouble: str
    calls: int
    then: Consequence
    tokens: Tokens = Tokens()
    text: str = ""


@dataclass(frozen=True)
class RequestOptions:
    """The settings that shape each request. `is_openai`: the endpoint is OpenAI's own, which names and refuses some fields differently."""

    model: str
    is_openai: bool = False
    stream: bool = True
    schema_bounds: bool = True
    answer_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None

    @staticmethod
    def of(settings: Settings, host: str) -> RequestOptions:
        """Return the options for an endpoint. Streaming and schema bounds are off by default at OpenAI, which may refuse both."""
        is_openai = is_listed(host, OPENAI_HOSTS)
        return RequestOptions(
            model=settings.llm_model,
            is_openai=is_openai,
            stream=settings.llm_stream if settings.llm_stream is not None else not is_openai,
            schema_bounds=settings.llm_schema_bounds if settings.llm_schema_bounds is not None else not is_openai,
            answer_tokens=settings.llm_answer_tokens,
            temperature=settings.llm_temperature,
            extra=settings.llm_extra,
            timeout_s=settings.llm_timeout_s,
        )

    def largest_answer(self, items: int) -> int:
        """Return the largest answer to a request about so many items, in tokens."""
        fixed, each = LARGEST_ANSWER[self.is_openai]
        return self.answer_tokens if self.answer_tokens is not None else fixed + each * items

    def body(self, messages: Sequence[tuple[str, str]], response_format: Mapping[str, Any], items: int) -> dict[str, Any]:
        """Return the JSON body of a request of (role, text) messages about so many items, without the extra fields."""
        limit = "max_completion_tokens" if self.is_openai else "max_tokens"
        return {
            "model": self.model,
            "messages": [{"role": role, "content": text} for role, text in messages],
            "response_format": response_format,
            limit: self.largest_answer(items),
            **({"temperature": self.temperature} if self.temperature is not None else {}),
        }


class Message(BaseModel):
    """The assistant's message, or a part of it. A model that refuses fills `refusal` instead of `content`."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One answer and the reason for its end. A streamed part has `delta` instead of `message`."""

    message: Message = Message()
    delta: Message = Message()
    finish_reason: str | None = None


class PromptDetails(BaseModel):
    """The prompt tokens that the provider had in its cache."""

    cached_tokens: int | None = None


class Usage(BaseModel):
    """Token counts, if the endpoint sends them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None

    @property
    def tokens(self) -> Tokens:
        """Return the counts, none below zero; cached tokens are at most the prompt's."""
        counts = max(0, self.prompt_tokens), max(0, self.completion_tokens)
        cached = (self.prompt_tokens_details or PromptDetails()).cached_tokens or 0
        return Tokens(*counts, min(max(0, cached), counts[0]))


class Completion(BaseModel):
    """The fields of a chat completion that are needed. The `openai` client itself does not validate a response."""

    choices: list[Choice]
    usage: Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None

    @property
    def served_by(self) -> str | None:
        """Return the model that answered, with the fingerprint of its set-up if there is one."""
        return " ".join(filter(None, (slug(self.model, 120), slug(self.system_fingerprint)))) or None

    def reply(self, calls: int, expected: Tokens) -> Reply:
        """Return the answer of the first choice."""
        choice = self.choices[0] if self.choices else Choice()
        return Reply(
            text=choice.message.content or "",
            cut_off=choice.finish_reason == "length",
            refused=choice.message.refusal is not None or choice.finish_reason == "content_filter",
            calls=calls,
            tokens=self.usage.tokens if self.usage is not None else expected,
            served_by=self.served_by,
        )


class StreamedAnswer:
    """Collects the events of a streamed answer; what came so far is kept if the stream is stopped."""

    def __init__(self) -> None:
        self.began_at: float | None = None
        self._parts: list[str] = []
        self._refusal: str | None = None
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._names: tuple[str | None, str | None] = (None, None)

    @property
    def text(self) -> str:
        """Return the text so far."""
        return "".join(self._parts)

    def read(self, lines: Iterable[str]) -> Completion:
        """Read server-sent events until their end. Raises: ValidationError if the first event is no part of a completion."""
        for line in lines:
            data = line.removeprefix("data:").strip()
            if not line.startswith("data:") or not data or data == "[DONE]":
                continue
            try:
                part = Completion.model_validate_json(data)
            except ValidationError:
                if not self._parts:
                    raise
                break  # an error in the middle of the stream: the answer is cut off
            self._usage = part.usage or self._usage
            self._names = (part.model or self._names[0], part.system_fingerprint or self._names[1])
            if part.choices:
                choice = part.choices[0]
                if choice.delta.content:
                    self.began_at = self.began_at if self.began_at is not None else time.monotonic()
                    self._parts.append(choice.delta.content)
                self._refusal = self._refusal if choice.delta.refusal is None else (self._refusal or "") + choice.delta.refusal
                self._finish = choice.finish_reason or self._finish
        message = Message(content=self.text, refusal=self._refusal)
        # A stream that ends without a reason was cut off.
        choice = Choice(message=message, finish_reason=self._finish or "length")
        return Completion(choices=[choice], usage=self._usage, model=self._names[0], system_fingerprint=self._names[1])


class Forecast:
    """Expects the tokens of a request from those before it: answers grow with their items, and some models think before they answer."""

    def __init__(self) -> None:
        self._an_item = float(TOKENS_AN_ITEM)
        self._lock = Lock()

    def expect(self, messages: Sequence[tuple[str, str]], items: int) -> Tokens:
        """Return the expected prompt and completion tokens of a request about so many items."""
        return Tokens(sum(len(text.encode()) for _, text in messages) // BYTES_A_TOKEN + 1, int(self._an_item * items) + 1)

    def learn(self, tokens: Tokens, items: int) -> None:
        """Note the tokens of a request about so many items. Later ones are expected to take as much per item as the largest so far."""
        with self._lock:
            self._an_item = max(self._an_item, tokens.output / max(1, items))


class ChatClient:
    """Sends requests, each attempt reserved in the budget. Safe to share between threads.

    Args: openai, a client without retries; prices, of the model.
    """

    def __init__(self, openai: OpenAI, options: RequestOptions, budget: Budget, retries: RetryPolicy, prices: Prices):
        self.options = options
        self.budget = budget
        self.forecast = Forecast()
        self.openai = openai
        self.retries = retries
        self.host = urlsplit(str(openai.base_url)).hostname or "the endpoint"
        self._prices = prices

    def cost(self, tokens: Tokens) -> Cost:
        """Return the cost of one call with so many tokens."""
        return Cost(1, tokens.input + tokens.output, self._prices.of(tokens.input, tokens.output, tokens.cached))

    def ask(self, messages: Sequence[tuple[str, str]], response_format: Mapping[str, Any], items: int) -> Reply | Failure:
        """Send one request of (role, text) messages about so many items, within the budget. Trouble is returned, never raised."""
        calls, lost = 0, Tokens()
        expected = self.forecast.expect(messages, items)
        reserved = self.cost(expected)
        streamed = StreamedAnswer()
        body = self.options.body(messages, response_format, items)

        def attempt() -> tuple[Completion, float, float]:
            nonlocal calls, lost, streamed
            self.budget.reserve(reserved)
            calls += 1
            streamed = StreamedAnswer()
            began = time.monotonic()
            try:
                completion = self._post(body, streamed)
                return completion, time.monotonic() - began, (streamed.began_at or began) - began
            except APIStatusError:  # an error instead of an answer is not charged
                self.budget.settle(reserved, Cost(1))
                raise
            except OpenAIError:  # an endpoint may charge for an answer that broke off: the reservation stays spent, unless tokens are free
                if self._prices.are_free:
                    self.budget.settle(reserved, Cost(1))
                else:
                    lost += expected
                raise

        try:
            completion, seconds, prompt_seconds = self.retries.attempts(attempt, lambda: self.budget.allows(reserved), is_worth_repeating)
        except BudgetExhausted as error:
            return Failure(str(error), calls, "stop", lost)
        except OpenAIError as error:
            trouble = describe(error, self.host, self.options.timeout_s)
            return Failure(trouble, calls, consequence(error), lost, streamed.text)
        except ValidationError:
            return Failure(f"{self.host} answered something that is no chat completion", calls, "ask less", lost + expected)
        reply = completion.reply(calls, expected)
        self.budget.settle(reserved, self.cost(reply.tokens))
        self.forecast.learn(reply.tokens, items)
        return replace(reply, tokens=reply.tokens + lost, seconds=seconds, prompt_seconds=prompt_seconds)

    def _post(self, body: Mapping[str, Any], streamed: StreamedAnswer) -> Completion:
        """Send a request and read its answer, streamed or whole. Raises: OpenAIError, ValidationError."""
        stream = {"stream": True, "stream_options": {"include_usage": True}} if self.options.stream else {}
        create = cast(Any, self.openai.chat.completions.with_streaming_response.create)
        try:
            with create(**body, **stream, extra_body=dict(self.options.extra) or None) as response:
                if "text/event-stream" in response.headers.get("content-type", ""):
                    return streamed.read(response.iter_lines())
                return Completion.model_validate_json(response.read())
        except httpx2.TimeoutException as error:
            raise APITimeoutError(request=error.request) from error
        except httpx2.TransportError as error:
            raise APIConnectionError(request=error.request) from error
