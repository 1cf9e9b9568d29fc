"""Which errors of an endpoint pass, how long to wait for that, and how to speak of them without saying too much."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar

from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError
from tenacity import RetryCallState, Retrying, retry_if_exception

from nightlog.llm.redaction import redact

ATTEMPTS = 5
TIMED_OUT_ATTEMPTS = 2  # each takes the whole time-out, and a night has to end
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 60.0
LONGEST_RETRY_AFTER_S = 300.0  # whoever asks for more patience than this is asked again tomorrow
TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})
SMALLER_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation"})
HINTS = {
    401: ": check OPENAI_API_KEY",
    403: ": check OPENAI_API_KEY",
    404: ": check OPENAI_BASE_URL and NIGHTLOG_LLM_MODEL",
    **dict.fromkeys((301, 302, 303, 307, 308), ": no redirect is followed; give OPENAI_BASE_URL the final address"),
}

Consequence = Literal["go on", "ask less", "stop"]
T = TypeVar("T")


def slug(name: object, most: int = 60) -> str:
    """An error code, or the name of a model, fit for a log; nothing where it is something else, such as a key."""
    fits = isinstance(name, str) and len(name) <= most and re.fullmatch(r"[\w./:@+-]+", name, re.ASCII)
    return str(name) if fits and redact(str(name)) == name else ""


def consequence(error: OpenAIError) -> Consequence:
    """What an error that was not, or no longer, retried means for the next request."""
    if not isinstance(error, APIStatusError):
        return "go on" if isinstance(error, APIConnectionError) else "stop"
    code = slug(error.code)
    if {code, slug(error.type)} & QUOTA_CODES or (retry_after(error) or 0) > LONGEST_RETRY_AFTER_S:
        return "stop"
    if error.status_code == 413 or code in SMALLER_CODES:
        return "ask less"
    return "go on" if error.status_code in TRANSIENT_STATUS or error.status_code >= 500 else "stop"


def is_transient(error: BaseException) -> bool:
    """Is the same request worth another attempt?"""
    return isinstance(error, OpenAIError) and consequence(error) == "go on"


def is_refused_for_now(error: BaseException) -> bool:
    """Is it certain that nothing was done, and worth another attempt?"""
    return isinstance(error, APIStatusError) and error.status_code == 429 and is_transient(error)


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
        return f"{host} answered {error.status_code}{' ' + code if code else ''}{HINTS.get(error.status_code, '')}"
    return f"the request to {host} failed ({type(error).__name__})"


class RetryPolicy:
    """Sends a request again as long as its error may pass.

    Args: sleep and rng, for the waits between attempts.
    """

    def __init__(self, sleep: Callable[[float], None], rng: random.Random):
        self._sleep = sleep
        self._rng = rng

    def attempts(
        self,
        attempt: Callable[[], T],
        may_go_on: Callable[[], bool] = lambda: True,
        retry: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """The result of `attempt`, called up to ATTEMPTS times while `retry` says so of its error; where `may_go_on` says no nobody waits
        for another. Raises its last error."""

        def spent(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome is not None else None
            most = TIMED_OUT_ATTEMPTS if isinstance(error, APITimeoutError) else ATTEMPTS
            return state.attempt_number >= most or not may_go_on()

        return Retrying(retry=retry_if_exception(retry), stop=spent, wait=self._wait, sleep=self._sleep, reraise=True)(attempt)

    def _wait(self, state: RetryCallState) -> float:
        """What the server asks for, or a doubling wait; with jitter, so that many clients do not come back together."""
        error = state.outcome.exception() if state.outcome is not None else None
        doubled = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
        asked = retry_after(error)
        return asked + self._rng.uniform(0, 1) if asked is not None else doubled * self._rng.uniform(0.5, 1)
