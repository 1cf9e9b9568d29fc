"""docs/architecture.md points at files and names that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def file_of(name: str) -> Path | None:
    """The file that the page means: relative to the library, or to the repository."""
    return next((path for folder in (ROOT / "libs" / "nightlog", ROOT) if (path := folder / name).is_file()), None)


def names_in(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Names that statements define, each with the statements of a class."""
    found: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node.body
        for target in node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []:
            found |= {each.id: [] for each in ast.walk(target) if isinstance(each, ast.Name)}
    return found


def is_there(name: str, path: Path) -> bool:
    """Return True if a file defines a name, `Class.method` included."""
    names = names_in(ast.parse(path.read_text(encoding="utf-8")).body)
    for part in name.split("."):
        if part not in names:
            return False
        names = names_in(names[part])
    return True


def test_every_file_and_name_of_the_page_is_there() -> None:
    named = re.findall(r"`([\w/]+\.(?:py|toml|json))(?::([\w.]+))?`", PAGE)
    assert len(named) > 50
    missing = [f"{file}:{name}" for file, name in named if (path := file_of(file)) is None or (name and not is_there(name, path))]
    assert missing == []


def test_every_package_is_on_the_map() -> None:
    picture = PAGE.partition("```\n")[2].partition("```")[0]
    packages = {path.parent.name for path in (ROOT / "libs" / "nightlog").glob("*/__init__.py")}
    assert packages - set(re.findall(r"(\w+)/", picture)) == {"sample"}, "data only"
