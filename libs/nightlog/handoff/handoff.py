"""A published night goes to receivers besides the lake: a webhook, files for other programs, metrics. All of them are off by default.

None of them can fail a night: the result of each is a row of ops.handoffs and a line of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from nightlog.errors import NightlogError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import HANDOFFS, HandoffRow
from nightlog.settings import HandOff

log = logging.getLogger(__name__)


class Handed(NamedTuple):
    """The result of one hand-off: done | held | skipped, and where it went, or why not. `content`: hash of a webhook's message.

    `again`: the receiver has the night already, and nothing is recorded.
    """

    detail: str
    content: str | None = None
    outcome: str = "done"
    again: bool = False


def hand_off(lake: Lake, ds: str, run_id: str, to: HandOff, now: Callable[[], datetime]) -> list[HandoffRow]:
    """Hand a night to all receivers that are configured. If one of them raises an error, it is recorded, and the others go on.

    Returns: the rows of ops.handoffs that were added. Raises nothing.
    """
    rows: list[HandoffRow] = []
    for kind, work in steps(lake, ds, to, now):
        try:
            handed = work()
            if handed.again:
                continue
            result: HandoffRow = {"outcome": handed.outcome, "detail": handed.detail, "content": handed.content}
        except Exception as error:
            log.warning("%s: %s: not handed off: %s: %s", ds, kind, type(error).__name__, error)
            result = {"outcome": "failed", "detail": f"{type(error).__name__}: {error}"[:500], "content": None}
        rows.append({"ds": ds, "run_id": run_id, "kind": kind, "at": now()} | result)
    try:
        if rows:
            lake.append(HANDOFFS, rows)
    except Exception:
        log.exception("%s: the results of the hand-off could not be recorded", ds)
    return rows


def steps(lake: Lake, ds: str, to: HandOff, now: Callable[[], datetime]) -> list[tuple[str, Callable[[], Handed]]]:
    """Return the configured steps: kind and function. Imports wait until it is called."""

    def export() -> Handed:
        from nightlog.handoff.export import export_night

        assert to.exports is not None
        return Handed(str(export_night(lake, ds, to.exports)))

    def metrics() -> Handed:
        from nightlog.handoff.metrics import write_metrics

        assert to.metrics is not None
        return Handed(str(write_metrics(lake, to.metrics)))

    def webhook() -> Handed:
        return send_message(lake, ds, to, now())

    wanted = (("export", to.exports, export), ("metrics", to.metrics, metrics), ("webhook", to.webhook, webhook))
    return [(kind, work) for kind, setting, work in wanted if setting is not None]


def send_message(lake: Lake, ds: str, to: HandOff, now: datetime) -> Handed:
    """Send the night's message, unless the receiver has it, nothing in it is news, or the hours are quiet. Raises as `webhook.post`."""
    from nightlog.handoff.message import body, night_message
    from nightlog.handoff.webhook import post
    from nightlog.systems.catalog import load_catalog

    assert to.webhook is not None
    message, content = night_message(lake, ds, to.webhook, load_catalog(to.systems))
    sent = [row for row in lake.rows(HANDOFFS, ds=ds, kind="webhook") if row["outcome"] == "done"]
    if sent and max(sent, key=lambda row: row["at"])["content"] == content:
        return Handed("", content, again=True)
    if to.webhook.when == "news" and not message.is_news:
        return Handed("no new finding, and every system is published and judged", content, "skipped")
    if is_quiet(to.webhook.quiet, now):
        return Handed("quiet hours: `nightlog notify` sends it", content, "held")
    return Handed(post(to.webhook.url.get_secret_value(), body(message, to.webhook.form), to.webhook.hosts, to.webhook.timeout_s), content)


def notify(lake: Lake, ds: str, run_id: str, to: HandOff, now: datetime) -> Handed:
    """Send the night's message now, whatever the hour, and record the result. Raises as `webhook.post`, after it is recorded."""
    assert to.webhook is not None
    row: HandoffRow = {"ds": ds, "run_id": run_id, "kind": "webhook", "at": now}
    try:
        handed = send_message(lake, ds, to._replace(webhook=to.webhook._replace(quiet=None)), now)
    except NightlogError as error:
        lake.append(HANDOFFS, [row | {"outcome": "failed", "detail": f"{type(error).__name__}: {error}"[:500], "content": None}])
        raise
    if not handed.again:
        lake.append(HANDOFFS, [row | {"outcome": handed.outcome, "detail": handed.detail, "content": handed.content}])
    return handed


def is_quiet(quiet: tuple[int, int] | None, now: datetime) -> bool:
    """Return True in the quiet hours; the last minute is not one of them. Args: quiet: minutes of the day; now: UTC.

    >>> night = datetime(2026, 3, 5, 3, 30)
    >>> is_quiet((1320, 420), night), is_quiet((1320, 210), night), is_quiet((60, 240), night), is_quiet(None, night)
    (True, False, True, False)
    """
    if quiet is None:
        return False
    (first, last), minute = quiet, now.hour * 60 + now.minute
    return first <= minute < last if first <= last else minute >= first or minute < last
