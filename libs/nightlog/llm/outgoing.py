"""What leaves: every text on its way to the LLM passes here, and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from nightlog.llm.names import without_names
from nightlog.llm.redaction import MAX_READ, MAX_TEMPLATE, redact, visible


@lru_cache(maxsize=100_000)
def outgoing(template: str, names: Collection[str] = ()) -> str:
    """A template as it may leave: visible, redacted, at most MAX_TEMPLATE characters.

    Args: names, the kinds of names that the system's policy takes out besides, hashable.
    """
    return without_names(redact(visible(template[:MAX_READ])), names)[:MAX_TEMPLATE]


def outgoing_text(text: str, names: Collection[str] = ()) -> str:
    """A text of several lines as it may leave: each line visible and redacted."""
    return "\n".join(without_names(redact(visible(line)), names) for line in text.splitlines())
