"""The header of a model's file, read without loading its tensors or torch."""

from __future__ import annotations

import json
from typing import Any


def manifest_in(content: bytes) -> dict[str, Any]:
    """The manifest in the header of a safetensors file (its length in eight bytes, little-endian, then JSON), `{}` where there is none."""
    length = int.from_bytes(content[:8], "little")
    told: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    found: dict[str, Any] = json.loads(told.get("manifest", "{}"))
    return found
