"""The hash of a system's reading rules: everything in its file that determines what its lines are parsed into."""

from __future__ import annotations

import hashlib
import json

from nightlog.systems.spec import System

# Raise it when the parser reads the same lines differently.
READING_VERSION = 2


def reading_hash(system: System) -> str:
    """Return 16 hex digits that change when lines of the system would be parsed into other events.

    Covers the header, its variants, records, timestamps, the rules that find a line's session, masks, and templates. `lookback_days` and
    `settle_minutes` only choose the night that judges a session, and gates, signals and the LLM's settings read no line: none of them
    counts.
    """
    rules = system.model_dump(mode="json", include={"header", "record", "timestamp", "templates"})
    rules["session"] = system.session.model_dump(mode="json", include={"kind", "pattern", "field", "window_minutes"})
    rules["variants"] = [each.model_dump(mode="json") for each in system.variants]
    rules["masks"] = [mask.model_dump(mode="json") for mask in system.all_masks]
    return hashlib.sha256(json.dumps([READING_VERSION, rules], sort_keys=True).encode()).hexdigest()[:16]
