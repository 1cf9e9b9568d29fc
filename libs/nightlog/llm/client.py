"""One request to an OpenAI-compatible endpoint: sent, retried by the class of its error, read without trust."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI, OpenAIError
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from nightlog.errors import BudgetExhausted, ConfigError
from nightlog.llm.budget import Budget

if TYPE_CHECKING:
    from nightlog.settings import Settings

ATTEMPTS = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 60.0
LONGEST_RETRY_AFTER_S = 300.0  # whoever asks for more patience than this is asked again tomorrow
TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})
SMALLER_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation"})

Consequence = Literal["go on", "ask less", "stop"]


@dataclass(frozen=True)
class Reply:
    """An answer's text as it came; `cut_off` where the provider says that it is not whole."""

    text: str
    cut_off: bool
    refused: bool
    calls: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int


@dataclass(frozen=True)
class Failure:
    """No answer: why, after how many calls, and whether the next request can do better. Never holds a key or a prompt."""

    trouble: str
    calls: int
    then: Consequence


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
    def cached_tokens(self) -> int:
        """Those of the prompt's tokens that were cached; 0 where nothing is said of it."""
        return (self.prompt_tokens_details or PromptDetails()).cached_tokens or 0


class Completion(BaseModel):
    """The part of a chat completion that is needed. The `openai` client itself does not validate what it hands on."""

    choices: list[Choice]
    usage: Usage | None = None


def connect(settings: Settings) -> OpenAI:
    """The client for the endpoint of the settings, without retries of its own.

    Raises: ConfigError where address or key cannot be right; the message never holds the key.
    """
    url = settings.openai_base_url or None
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ConfigError("OPENAI_BASE_URL is not an address such as https://host/v1")
    key = settings.openai_api_key.get_secret_value().strip() if settings.openai_api_key is not None else ""
    if not key and url is None:
        raise ConfigError("the LLM provider is openai, and OPENAI_API_KEY is not set; set it, or NIGHTLOG_LLM=off")
    if not key.isascii() or not key.isprintable():
        raise ConfigError("OPENAI_API_KEY holds characters that no key has; copy it again")
    # These loggers print whole requests and addresses when an application turns on debugging.
    for name in ("openai", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return OpenAI(base_url=url, api_key=key or "none", timeout=settings.llm_timeout_s, max_retries=0)


def slug(code: object) -> str:
    """An error code fit for a log, or nothing."""
    return str(code) if isinstance(code, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", code) else ""


def consequence(error: OpenAIError) -> Consequence:
    """What an error that was not, or no longer, retried means for the next request."""
    if not isinstance(error, APIStatusError):
        return "go on" if isinstance(error, APIConnectionError) else "stop"
    if {error.code, error.type} & QUOTA_CODES or (retry_after(error) or 0) > LONGEST_RETRY_AFTER_S:
        return "stop"
    if error.status_code == 413 or error.code in SMALLER_CODES:
        return "ask less"
    return "go on" if error.status_code in TRANSIENT_STATUS or error.status_code >= 500 else "stop"


def is_transient(error: BaseException) -> bool:
    """Is the same request worth another attempt?"""
    return isinstance(error, OpenAIError) and consequence(error) == "go on"


def retry_after(error: BaseException | None) -> float | None:
    """Seconds that the server asks to wait, by Retry-After (seconds or a date) or retry-after-ms; None where it says nothing."""
    if not isinstance(error, APIStatusError):
        return None
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if re.fullmatch(r"\d{1,12}(\.\d*)?", value := headers.get(name, "")):
            return float(value) / unit
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError):
        return None


def describe(error: OpenAIError, host: str) -> str:
    """An error in words that may be shown: never the provider's own text, which can quote the key or the prompt."""
    if isinstance(error, APITimeoutError):
        return f"{host} did not answer in time"
    if isinstance(error, APIConnectionError):
        return f"no connection to {host}"
    if isinstance(error, APIStatusError):
        code = slug(error.code) or slug(error.type)
        hint = {401: ": check OPENAI_API_KEY", 403: ": check OPENAI_API_KEY", 404: ": check OPENAI_BASE_URL and NIGHTLOG_LLM_MODEL"}
        return f"{host} answered {error.status_code}{' ' + code if code else ''}{hint.get(error.status_code, '')}"
    return f"the request to {host} failed ({type(error).__name__})"


class ChatClient:
    """Sends requests one at a time, each attempt reserved in the budget.

    Args: openai, a client without retries; sleep and rng, for the waits between attempts.
    """

    def __init__(self, openai: OpenAI, model: str, budget: Budget, sleep: Callable[[float], None], rng: random.Random):
        self.model = model
        self.budget = budget
        self._openai = openai
        self._sleep = sleep
        self._rng = rng
        self._host = urlsplit(str(openai.base_url)).hostname or "the endpoint"

    def ask(self, messages: Sequence[tuple[str, str]], response_format: Mapping[str, Any]) -> Reply | Failure:
        """Send one request of (role, text) messages; at most ATTEMPTS attempts, within the budget. Never raises for trouble."""
        calls = 0

        def attempt() -> str:
            nonlocal calls
            self.budget.reserve()
            calls += 1
            return self._post(messages, response_format)

        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=lambda state: stop_after_attempt(ATTEMPTS)(state) or self.budget.left == 0,
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            body = retrying(attempt)
        except BudgetExhausted as error:
            return Failure(str(error), calls, "stop")
        except OpenAIError as error:
            return Failure(describe(error, self._host), calls, consequence(error))
        try:
            completion = Completion.model_validate_json(body)
        except ValidationError:
            return Failure(f"{self._host} answered something that is no chat completion", calls, "ask less")
        choice = completion.choices[0] if completion.choices else Choice(message=Message())
        usage = completion.usage or Usage()
        return Reply(
            text=choice.message.content or "",
            cut_off=choice.finish_reason == "length",
            refused=choice.message.refusal is not None or choice.finish_reason == "content_filter",
            calls=calls,
            tokens_in=usage.prompt_tokens,
            tokens_out=usage.completion_tokens,
            tokens_cached=usage.cached_tokens,
        )

    def _post(self, messages: Sequence[tuple[str, str]], response_format: Mapping[str, Any]) -> str:
        response = self._openai.chat.completions.with_raw_response.create(
            model=self.model,
            messages=cast(Any, [{"role": role, "content": text} for role, text in messages]),
            response_format=cast(Any, response_format),
        )
        return response.http_response.text

    def _wait(self, state: RetryCallState) -> float:
        """What the server asks for, or a doubling wait; with jitter, so that many clients do not come back together."""
        error = state.outcome.exception() if state.outcome is not None else None
        doubled = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
        asked = retry_after(error)
        return asked + self._rng.uniform(0, 1) if asked is not None else doubled * self._rng.uniform(0.5, 1)
