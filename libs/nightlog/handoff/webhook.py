"""The request of the webhook: one JSON to an allowed address, tried at most three times, bounded in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from nightlog.errors import ConfigError, TransientError

PAUSES_S = (1.0, 4.0)  # before the second and the third try


def post(url: str, body: dict[str, Any], hosts: str, timeout_s: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """Send JSON, at most three times, and wait for nothing but the status. Returns the host.

    Raises: ConfigError if the address may not be used or the receiver refuses the message, TransientError if no try went through.
    No message holds the address: its path is most often the key.
    """
    host = checked_host(url, hosts)
    for pause in (*PAUSES_S, None):
        status = status_of(url, body, timeout_s)
        if isinstance(status, int) and 200 <= status < 300:
            return host
        if isinstance(status, int) and status < 500 and status != 429:
            why = "redirects are not followed" if 300 <= status < 400 else "it does not take the message"
            raise ConfigError(f"{host} answered {status}, {why}: see NIGHTLOG_WEBHOOK_URL")
        if pause is not None:
            sleep(pause)
    raise TransientError(f"{host} answered {status}" if isinstance(status, int) else f"{host}: {status}")


def checked_host(url: str, hosts: str) -> str:
    """The host of an allowed address. Raises ConfigError."""
    from nightlog.llm.connection import is_listed, is_loopback

    try:
        parts, host = urlsplit(url), (urlsplit(url).hostname or "").lower()
        _ = parts.port
    except ValueError:
        raise ConfigError("NIGHTLOG_WEBHOOK_URL is not an address such as https://host/path") from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise ConfigError("NIGHTLOG_WEBHOOK_URL is not an address such as https://host/path, without user and password")
    if not is_listed(host, hosts):
        raise ConfigError(
            f"NIGHTLOG_WEBHOOK_URL names {host}, and NIGHTLOG_WEBHOOK_HOSTS allows only {hosts}; add it, or correct the address"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(f"NIGHTLOG_WEBHOOK_URL is http:// to {host}: use https://")
    return host


def status_of(url: str, body: dict[str, Any], timeout_s: float) -> int | str:
    """The status of one request, or what went wrong. The whole of it ends after `timeout_s`, however slowly the other side speaks."""
    import httpx2

    from nightlog.llm.connection import is_loopback

    found: list[int | str] = []

    def send() -> None:
        try:
            local = is_loopback(urlsplit(url).hostname or "")
            with (
                httpx2.Client(follow_redirects=False, trust_env=not local, timeout=timeout_s) as client,
                client.stream("POST", url, json=body) as response,
            ):
                found.append(response.status_code)
        except Exception as error:
            found.append(type(error).__name__)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return found[0] if found else f"no answer in {timeout_s:g} s"
