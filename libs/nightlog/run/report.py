"""Stage report: signals, pages and hand-off of a night. It changes nothing of what was published, and its failure hides none of it."""

from __future__ import annotations

import logging

from nightlog.errors import first_line
from nightlog.run.context import Context

log = logging.getLogger(__name__)


def report(run: Context) -> dict[str, str]:
    """Find the night's signals, write its pages, then hand it off. Each part is tried, whatever became of the one before.

    Returns: the systems that lack signals or a page, each with the reason. A receiver that cannot be reached is a row of ops.handoffs.
    """
    from nightlog.handoff.handoff import hand_off
    from nightlog.pages.page import write_pages
    from nightlog.signals.night import find_signals

    reasons: dict[str, list[str]] = {}
    names = [system.name for system in run.systems]
    try:
        failed = find_signals(run.lake, run.systems, run.ds, run.run_id)
        reasons = {name: [f"no signals: {reason}"] for name, reason in failed.items()}
    except Exception as error:
        log.exception("%s: no signals", run.ds)
        reasons = {name: [f"no signals: {first_line(error)}"] for name in names}
    try:
        failed = write_pages(run.lake, run.ds).failed
    except Exception as error:
        log.exception("%s: no pages", run.ds)
        failed = dict.fromkeys(names, first_line(error))
    for name, reason in failed.items():
        reasons.setdefault(name, []).append(f"no page: {reason}")
    hand_off(run.lake, run.ds, run.run_id, run.settings.hand_off, run.clock)
    return {name: "; ".join(each) for name, each in reasons.items()}
