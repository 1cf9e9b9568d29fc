"""Links from a session to its lines in the log viewer of the site: Kibana, Loki, Splunk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from nightlog.pages.read import utc
from nightlog.settings import EVERY_SYSTEM, LINES_URL_FIELD

MARGIN = timedelta(seconds=1)  # before the first event and after the last


def lines_link(
    templates: Mapping[str, str], ds: str, system: str, session: str, started_at: datetime | None, ended_at: datetime | None
) -> str:
    """Return the address of a session's lines, each value percent-encoded; empty if no template is set for the system.

    Args: templates: system → template, EVERY_SYSTEM for all others, as the setting `lines_url` has them. A session without times is looked
    up in its whole night.

    >>> at = datetime(2026, 3, 4, 12, 0, 1)
    >>> lines_link({"*": "https://logs.example.org/?q={session}&from={from}"}, "2026-03-04", "shop", 'a "b"', at, at)
    'https://logs.example.org/?q=a%20%22b%22&from=2026-03-04T12%3A00%3A00.000Z'
    >>> lines_link({"mail": "https://logs.example.org/{to_s}"}, "2026-03-04", "shop", "a", at, at)
    ''
    """
    template = templates.get(system) or templates.get(EVERY_SYSTEM, "")
    midnight = datetime.fromisoformat(ds).replace(tzinfo=UTC)
    first = utc(started_at) - MARGIN if started_at is not None else midnight
    last = utc(ended_at or started_at or midnight) + (MARGIN if started_at is not None else timedelta(days=1))
    values = {"ds": ds, "system": system, "session": session}
    for name, at in (("from", first), ("to", last)):
        values[name] = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
        values[f"{name}_s"] = f"{at.timestamp():.0f}"
        values[f"{name}_ms"] = f"{1000 * at.timestamp():.0f}"
    return re.sub(LINES_URL_FIELD, lambda found: quote(values[found[1]], safe="", errors="replace"), template)
