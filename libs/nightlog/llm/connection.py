"""The connection to the endpoint: allowed addresses, TLS, and a bound on the time and size of an answer."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from nightlog.errors import ConfigError

if TYPE_CHECKING:
    from openai import OpenAI

    from nightlog.settings import Settings

DEFAULT_URL = "https://api.openai.com/v1"
MAX_ANSWER = 8_000_000  # bytes; an answer about 500 patterns has some 100,000
MAX_FILE = 256_000_000  # bytes of a batch's results; larger ones are not made here
CONNECT_S = 10.0  # for a connection; a server that computes accepts one all the same
FILE_TIMEOUTS = 10  # times the time-out, for the download of a batch's results


def is_loopback(host: str) -> bool:
    """Return True if a host name or address means this machine.

    >>> is_loopback("localhost"), is_loopback("127.0.0.53"), is_loopback("::1"), is_loopback("127.0.0.1.example.org")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_listed(host: str, hosts: str) -> bool:
    """Return True if a host is in a list such as `api.openai.com,.example.org`. An empty list holds every host.

    >>> is_listed("llm.example.org", ".example.org"), is_listed("example.org.evil.net", ".example.org"), is_listed("any", "")
    (True, False, True)
    """
    names = [name.strip().lower() for name in hosts.split(",") if name.strip()]
    return not names or any(host == name or (name.startswith(".") and host.endswith(name)) for name in names)


def checked_url(settings: Settings) -> str:
    """Return the endpoint's address. Raises ConfigError if it is invalid, not allowed, or sends logs in the clear to another machine."""
    url = settings.openai_base_url or DEFAULT_URL
    try:
        parts, host = urlsplit(url), (urlsplit(url).hostname or "").lower()
        _ = parts.port
    except ValueError:
        raise ConfigError("OPENAI_BASE_URL is not an address such as https://host/v1") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("OPENAI_BASE_URL is not an address such as https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("OPENAI_BASE_URL holds a user, a password or a query; give https://host/v1 alone, and the key in OPENAI_API_KEY")
    if not is_listed(host, settings.llm_hosts):
        raise ConfigError(
            f"OPENAI_BASE_URL names {host}, and NIGHTLOG_LLM_HOSTS allows only {settings.llm_hosts}; add it, or correct the address"
        )
    if parts.scheme == "http" and not is_loopback(host) and not settings.llm_plain_http:
        raise ConfigError(
            f"OPENAI_BASE_URL is http:// to {host}: key and templates would cross the network in the clear; "
            "use https://, or NIGHTLOG_LLM_PLAIN_HTTP=true where that network is safe"
        )
    return url


class Bounded(httpx2.SyncByteStream):
    """A body that ends: after so many bytes, or at a moment of the monotonic clock, it fails."""

    def __init__(self, body: httpx2.SyncByteStream, most: int, until: float):
        self._body = body
        self._most = most
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._body:
            size += len(chunk)
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the answer did not end in time")
            if size > self._most:
                raise httpx2.ReadError("the answer is too long")
            yield chunk

    def close(self) -> None:
        self._body.close()


def connect(settings: Settings) -> OpenAI:
    """Return the client for the endpoint of the settings, without retries of its own, without redirects.

    The time-out of the HTTP library starts again with every byte; here the whole answer has to arrive in time.
    Raises: ConfigError if address or key cannot be right; the message never holds the key.
    """
    from openai import OpenAI

    url = checked_url(settings)
    key = settings.openai_api_key.get_secret_value().strip() if settings.openai_api_key is not None else ""
    if not key and not settings.openai_base_url:
        raise ConfigError("the LLM provider is openai, and OPENAI_API_KEY is not set; set it, or NIGHTLOG_LLM=off")
    if not key.isascii() or not key.isprintable():
        raise ConfigError("OPENAI_API_KEY holds characters that no key has; copy it again")
    # These loggers print whole requests and addresses when an application turns on debugging.
    for name in ("openai", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)

    def started(request: httpx2.Request) -> None:
        request.extensions["started"] = time.monotonic()

    def bound(response: httpx2.Response) -> None:
        is_file = response.request.url.path.endswith("/content")
        timeout_s = settings.llm_timeout_s * (FILE_TIMEOUTS if is_file else 1)
        body = response.stream
        assert isinstance(body, httpx2.SyncByteStream)
        response.stream = Bounded(body, MAX_FILE if is_file else MAX_ANSWER, response.request.extensions["started"] + timeout_s)

    timeout = httpx2.Timeout(settings.llm_timeout_s, connect=min(settings.llm_timeout_s, CONNECT_S))
    http = httpx2.Client(
        event_hooks={"request": [started], "response": [bound]},
        follow_redirects=False,  # a redirect would take the request to a host that nobody allowed
        trust_env=not is_loopback(urlsplit(url).hostname or ""),  # what is for this machine goes through no proxy
        timeout=timeout,
    )
    return OpenAI(base_url=url, api_key=key or "none", timeout=timeout, max_retries=0, http_client=http)
