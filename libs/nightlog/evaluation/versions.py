"""Which code a score came from."""

from __future__ import annotations

import ast
import hashlib
from importlib.resources import files
from pathlib import Path

ROOMS = ("detector", "distillation", "encoding", "evaluation", "llm", "routing", "systems")


def code_version(*modules: str) -> str:
    """Hash of these modules and of all that they import from the rooms that a score depends on: 16 hex digits."""
    package = Path(str(files("nightlog")))
    seen: dict[str, bytes] = {}
    waiting = [module for module in modules if module.startswith("nightlog.")]
    while waiting:
        module = waiting.pop()
        path = package.joinpath(*module.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in seen or not path.is_file() or module.split(".")[1] not in ROOMS:
            continue
        seen[module] = path.read_bytes()
        waiting += imported(seen[module])
    parts = [name.encode() + b"\0" + content for name, content in sorted(seen.items())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def imported(source: bytes) -> list[str]:
    """The modules of nightlog that a module imports, anywhere in it.

    >>> imported(b"def f():\\n    from nightlog.llm import items\\n    import json")
    ['nightlog.llm', 'nightlog.llm.items']
    """
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
    return [name for name in found if name.startswith("nightlog.")]
