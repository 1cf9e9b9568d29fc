"""A published night goes where it is wanted besides the lake: a webhook, files for other programs, metrics. All of it is off by default.

None of it can fail a night: what became of each is a row of ops.handoffs and a line of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from nightlog.lake.lake import Lake
from nightlog.lake.tables import HANDOFFS
from nightlog.settings import HandOff

log = logging.getLogger(__name__)


class Handed(NamedTuple):
    """The place that a night was handed to. `again`: it has the night already, and nothing is recorded. `content`: hash of the message."""

    where: str
    content: str | None = None
    again: bool = False


def hand_off(lake: Lake, ds: str, run_id: str, to: HandOff, now: Callable[[], datetime]) -> list[dict[str, Any]]:
    """Hand a night to all who are set up, each on its own: what one of them raises is noted, and the others go on.

    Returns: the rows of ops.handoffs that were added. Raises nothing.
    """
    rows = []
    for kind, work in steps(lake, ds, to):
        try:
            handed = work()
            if handed.again:
                continue
            result = {"outcome": "done", "detail": handed.where, "content": handed.content}
        except Exception as error:
            log.warning("%s: %s: not handed off: %s: %s", ds, kind, type(error).__name__, error)
            result = {"outcome": "failed", "detail": f"{type(error).__name__}: {error}"[:500], "content": None}
        rows.append({"ds": ds, "run_id": run_id, "kind": kind, "at": now()} | result)
    try:
        if rows:
            lake.append(HANDOFFS, rows)
    except Exception:
        log.exception("%s: what was handed off could not be noted", ds)
    return rows


def steps(lake: Lake, ds: str, to: HandOff) -> list[tuple[str, Callable[[], Handed]]]:
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
        from nightlog.handoff.webhook import post, tell_night

        body, content = tell_night(lake, ds, to.pages_url, to.alerts)
        sent = [row for row in lake.rows(HANDOFFS, ds=ds, kind="webhook") if row["outcome"] == "done"]
        if sent and max(sent, key=lambda row: row["at"])["content"] == content:
            return Handed("", content, again=True)
        assert to.webhook is not None
        return Handed(post(to.webhook.get_secret_value(), body, to.hosts, to.timeout_s), content)

    wanted = (("export", to.exports, export), ("metrics", to.metrics, metrics), ("webhook", to.webhook, webhook))
    return [(kind, work) for kind, setting, work in wanted if setting is not None]
