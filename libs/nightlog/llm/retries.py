"""Retries: which errors of an endpoint pass, how long to wait, and how to describe an error without its secrets."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar

from httpx2 import ConnectError, ConnectTimeout
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError
from tenacity import RetryCallState, Retrying, retry_if_exception

from nightlog.llm.redaction import redact

ATTEMPTS = 5
TIMED_OUT_ATTEMPTS = 2  # each takes the whole time-out, and a night has to end
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 60.0
LONGEST_RETRY_AFTER_S = 300.0  # an endpoint that asks for a longer wait is not asked again tonight
TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
TIMED_OUT_STATUS = frozenset({504, 524})  # a gateway in front of the server did not wait
UNSUITABLE_STATUS = frozenset({400, 413, 422})  # this request is refused; another one may be accepted
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"})
BODY_HINT = ": check NIGHTLOG_LLM_MODEL, NIGHTLOG_LLM_SCHEMA_BOUNDS, NIGHTLOG_LLM_TEMPERATURE and NIGHTLOG_LLM_BODY"
HINTS = {
    **dict.fromkeys((400, 422), BODY_HINT),
    401: ": check OPENAI_API_KEY",
    403: ": check OPENAI_API_KEY",
    404: ": check OPENAI_BASE_URL and NIGHTLOG_LLM_MODEL",
    413: ": lower NIGHTLOG_LLM_ITEMS_PER_CALL",
    **dict.fromkeys(TIMED_OUT_STATUS, ": a gateway did not wait; raise its time-out, or lower NIGHTLOG_LLM_ITEMS_PER_CALL"),
    **dict.fromkeys((301, 302, 303, 307, 308), ": no redirect is followed; give OPENAI_BASE_URL the final address"),
}
# Codes that say more than their status.
CODE_HINTS = {
    **dict.fromkeys(QUOTA_CODES, ": see the account's quota at the provider"),
    **dict.fromkeys(("context_length_exceeded", "exceed_context_size_error"), ": lower NIGHTLOG_LLM_ITEMS_PER_CALL"),
    **dict.fromkeys(("content_filter", "content_policy_violation"), ""),
}

# For the next request: ask as before, ask about fewer patterns, ask about half of them, ask nothing more tonight.
Consequence = Literal["go on", "ask less", "halve", "stop"]
T = TypeVar("T")


def slug(name: object, most: int = 60) -> str:
    """Return an error code or a model's name if it fits a log, else an empty text, as for a key."""
    fits = isinstance(name, str) and len(name) <= most and re.fullmatch(r"[\w./:@+-]+", name, re.ASCII)
    return str(name) if fits and redact(str(name)) == name else ""


def is_unreachable(error: BaseException) -> bool:
    """Return True if no connection was made at all."""
    return isinstance(error, APIConnectionError) and isinstance(error.__cause__, ConnectError | ConnectTimeout)


def timed_out(error: BaseException) -> bool:
    """Return True if an answer did not come in time, at the server or at a gateway before it."""
    if isinstance(error, APIStatusError):
        return error.status_code in TIMED_OUT_STATUS
    return isinstance(error, APITimeoutError) and not is_unreachable(error)


def consequence(error: OpenAIError) -> Consequence:
    """Return the consequence of an error that was not retried, or no longer."""
    if timed_out(error):
        return "halve"
    if not isinstance(error, APIStatusError):
        return "stop" if is_unreachable(error) or not isinstance(error, APIConnectionError) else "go on"
    if {slug(error.code), slug(error.type)} & QUOTA_CODES or (retry_after(error) or 0) > LONGEST_RETRY_AFTER_S:
        return "stop"
    if error.status_code in UNSUITABLE_STATUS:
        return "ask less"
    return "go on" if error.status_code in TRANSIENT_STATUS or error.status_code >= 500 else "stop"


def is_transient(error: BaseException) -> bool:
    """Return True if the same request is worth another attempt."""
    if isinstance(error, APIConnectionError):
        return True
    return isinstance(error, OpenAIError) and consequence(error) in ("go on", "halve")


def is_worth_repeating(error: BaseException) -> bool:
    """Return True if a question is worth the same attempt again: after a time-out a smaller one is better."""
    return is_transient(error) and not timed_out(error)


def is_refused_for_now(error: BaseException) -> bool:
    """Return True if nothing was done for certain, and another attempt is worth it."""
    return isinstance(error, APIStatusError) and error.status_code == 429 and is_transient(error)


def retry_after(error: BaseException | None) -> float | None:
    """Return the seconds that the server asks to wait, from Retry-After (seconds or a date) or retry-after-ms; None without them."""
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


def describe(error: OpenAIError, host: str, timeout_s: float | None = None) -> str:
    """Describe an error with the setting to check. Never use the provider's own text, which can quote the key or the prompt."""
    if is_unreachable(error):
        return f"no connection to {host}: check OPENAI_BASE_URL"
    if isinstance(error, APITimeoutError):
        return f"{host} did not answer in time" + (f" ({timeout_s:g} s, NIGHTLOG_LLM_TIMEOUT_S)" if timeout_s is not None else "")
    if isinstance(error, APIConnectionError):
        return f"the connection to {host} broke off"
    if isinstance(error, APIStatusError):
        code, kind = slug(error.code), slug(error.type)
        name = code or kind
        hint = CODE_HINTS.get(code, CODE_HINTS.get(kind, HINTS.get(error.status_code, "")))
        return f"{host} answered {error.status_code}{' ' + name if name else ''}{hint}"
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
        """Return the result of `attempt`, called up to ATTEMPTS times while its error passes `retry`.

        Nothing waits for another attempt once `may_go_on` returns False. Raises: the last error.
        """

        def is_last(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome is not None else None
            most = TIMED_OUT_ATTEMPTS if isinstance(error, APITimeoutError) else ATTEMPTS
            return state.attempt_number >= most or not may_go_on()

        return Retrying(retry=retry_if_exception(retry), stop=is_last, wait=self._wait, sleep=self._sleep, reraise=True)(attempt)

    def _wait(self, state: RetryCallState) -> float:
        """Return the wait that the server asks for, or a doubling one, with jitter so that clients do not return together."""
        error = state.outcome.exception() if state.outcome is not None else None
        doubled = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
        asked = retry_after(error)
        return asked + self._rng.uniform(0, 1) if asked is not None else doubled * self._rng.uniform(0.5, 1)
