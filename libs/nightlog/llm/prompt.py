"""The prompt: static instructions first, the operators' policy next, the patterns last, as one JSON object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from nightlog.llm.items import Item
from nightlog.llm.redaction import outgoing, outgoing_text
from nightlog.systems.spec import System

PROMPT = "patterns_v1.md"
POLICY = "What the operators of the system want you to know; where it differs from the above, it counts:\n\n"

# Every property is required and no number has bounds: strict mode refuses schemas with optional properties, `minimum` or
# `maximum`. The bounds are checked in answers.py.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdicts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "label": {"type": "string", "enum": ["normal", "anomalous", "unclear"]},
                    "confidence": {"type": "number"},
                    "reason": {"type": "string"},
                },
                "required": ["id", "label", "confidence", "reason"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["verdicts"],
    "additionalProperties": False,
}
RESPONSE_FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "verdicts", "strict": True, "schema": SCHEMA}}


@cache
def instructions() -> str:
    """The text of the versioned prompt file."""
    return (files("nightlog.llm") / "prompts" / PROMPT).read_text(encoding="utf-8").strip()


def prompt_hash(system: System) -> str:
    """What the verdicts of a system depend on besides the model: 16 hex digits over instructions, policy and schema."""
    parts = (instructions(), system.llm.policy.strip(), json.dumps(SCHEMA, sort_keys=True))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def short_ids(items: Sequence[Item]) -> dict[str, Item]:
    """The ids of a request, p1, p2, …, and the items behind them: pattern and template ids never leave."""
    return {f"p{number}": item for number, item in enumerate(items, 1)}


def request_json(system: System, items: Sequence[Item]) -> str:
    """The last message: one JSON object, its templates redacted and without invisible characters."""
    asked = [
        {"id": name, "events": [{"template": outgoing(template), "count": count} for template, count in item.events]}
        for name, item in short_ids(items).items()
    ]
    return json.dumps({"system": system.name, "items": asked}, ensure_ascii=False)


def messages(system: System, items: Sequence[Item]) -> list[tuple[str, str]]:
    """(role, text) of each message of a request, in their order: what never changes comes first, so that providers can cache it."""
    policy = outgoing_text(system.llm.policy).strip()
    return [
        ("system", instructions()),
        *([("system", POLICY + policy)] if policy else []),
        ("user", request_json(system, items)),
    ]
