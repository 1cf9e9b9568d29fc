"""The programs that are recorded, one module or package each; its `ENTRY` is all that the recorder uses."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from recorder.plan import Entry

NAMES = sorted(module.name for module in iter_modules(__path__))


def entry(name: str) -> Entry[Any]:
    """Return the program of this name with its repertoire."""
    found: Entry[Any] = import_module(f"recorder.programs.{name}").ENTRY
    return found
