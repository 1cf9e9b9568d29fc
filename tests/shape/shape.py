"""Print how a checkout of Nightlog is built: modules, lines, import circles, ways to read and write a table, docstrings, longest function.

    python tests/shape/shape.py [CHECKOUT …]

With several checkouts, their figures stand side by side. Only the source text is read, so any commit can be measured.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SMALL = 60  # lines of a module that is part of another one
QUESTION = re.compile(r"(What|Whether|Where|How|Which|Who|Whose|Whoever)\b")
# A function of the lake writes if it calls one of these, or another that does.
WRITERS = {"write_deltalake", "create_write_transaction", "save", "when_matched_update_all", "write_table", "delete"}
AMBIGUOUS = {*dir(list), *dir(str), *dir(dict)}
ROWS = ("DataFrame", "pa.Table", "Dataset", "list[dict", "list[Part]", "set[str]")


@dataclass(frozen=True)
class Module:
    """A module of the library: its dotted name, its file, its text and its tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def n_lines(self) -> int:
        return len(self.text.splitlines())


Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_modules(checkout: Path) -> list[Module]:
    """Return the modules of the library."""
    root = checkout / "libs"
    found = []
    for path in sorted((root / "nightlog").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found.append(Module(name, path, text, ast.parse(text)))
    return found


def functions(module: Module) -> Iterator[Function]:
    """Yield all functions and methods of a module."""
    return (node for node in ast.walk(module.tree) if isinstance(node, Function))


def imports(module: Module, known: set[str]) -> set[str]:
    """Return the modules of the library that a module imports when it runs, inside functions too, but not for types alone."""
    for_types = {
        id(node)
        for branch in ast.walk(module.tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
            found |= {name for name in (node.module, *(f"{node.module}.{each.name}" for each in node.names)) if name in known}
        elif isinstance(node, ast.Import) and id(node) not in for_types:
            found |= {each.name for each in node.names if each.name in known}
    packages = {name for name in found if any(other.startswith(f"{name}.") for other in found)}
    return found - packages - {module.name}


def circles(modules: Iterable[Module]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    modules = list(modules)
    known = {module.name for module in modules}
    reached = {module.name: imports(module, known) for module in modules}
    changed = True
    while changed:
        changed = False
        for name, seen in reached.items():
            wider = seen.union(*(reached[other] for other in seen)) if seen else seen
            changed |= len(wider) > len(seen)
            reached[name] = wider
    groups = {frozenset(other for other in seen if name in reached[other]) for name, seen in reached.items() if name in seen}
    return sorted(sorted(group) for group in groups)


def called_names(tree: ast.AST) -> set[str]:
    """Return the names of the functions and methods that are called, or bound by `partial`, without their objects."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            bound = node.args[:1] if isinstance(node.func, ast.Name) and node.func.id == "partial" else []
            for each in (node.func, *bound):
                found.add(each.attr if isinstance(each, ast.Attribute) else each.id if isinstance(each, ast.Name) else "")
    return found


def table_ways(modules: list[Module]) -> tuple[list[str], list[str]]:
    """Return the public functions of the lake that read a table and those that write one, as far as other packages call them.

    They take a TableSpec. One writes if it calls a writer of a library, or a function of the lake that does.
    """
    lake = [module for module in modules if module.name.startswith("nightlog.lake")]
    called = {name for module in modules if module not in lake for name in called_names(module.tree)}
    calls: dict[str, set[str]] = {}
    taking: dict[str, Function] = {}
    for module in lake:
        for function in functions(module):
            names = called_names(function) - AMBIGUOUS
            calls.setdefault(function.name, set()).update(names - {function.name})
            if any(argument.annotation is not None and "TableSpec" in ast.unparse(argument.annotation) for argument in function.args.args):
                taking[function.name] = function
    writing = set(WRITERS)
    while more := {name for name, used in calls.items() if used & writing} - writing:
        writing |= more
    reads, writes = [], []
    for name, function in sorted(taking.items()):
        if name.startswith("_") or name not in called:
            continue
        returns = ast.unparse(function.returns) if function.returns is not None else ""
        if name in writing and ("None" in returns or "Part" in returns or "int" in returns):
            writes.append(name)
        elif any(kind in returns for kind in ROWS):
            reads.append(name)
    return reads, writes


def header_readers(modules: list[Module]) -> list[str]:
    """Return the modules outside `systems` that apply a system's header expression themselves: each is a path that parses lines."""
    applies = re.compile(r"header\.(pattern|regex|compiled)|header_pattern|\.header\b[^\n]*\b(match|search|regexp)")
    return [module.name for module in modules if not module.name.startswith("nightlog.systems") and applies.search(module.text)]


def question_docstrings(modules: list[Module]) -> int:
    """Return the number of docstrings that begin with a question word."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = (ast.get_docstring(node) for module in modules for node in ast.walk(module.tree) if isinstance(node, kinds))
    return sum(bool(text and QUESTION.match(text)) for text in texts)


def longest_function(modules: list[Module]) -> str:
    """Return the longest function with its lines."""
    size, name = max(
        ((each.end_lineno or each.lineno) - each.lineno + 1, f"{module.name.removeprefix('nightlog.')}.{each.name}")
        for module in modules
        for each in functions(module)
    )
    return f"{size} ({name})"


def figures(checkout: Path) -> dict[str, str]:
    """Return the figures of a checkout, by their names."""
    modules = read_modules(checkout)
    n_lines = sum(module.n_lines for module in modules)
    names = Counter(module.path.name for module in modules if module.path.name != "__init__.py")
    reads, writes = table_ways(modules)
    found = circles(modules)
    readers = header_readers(modules)
    untyped = sum(len(re.findall(r"dict\[str, Any\]", module.text)) for module in modules)
    return {
        "modules": str(len(modules)),
        "lines": f"{n_lines:,}",
        "mean lines per module": f"{n_lines / len(modules):.0f}",
        f"modules of at most {SMALL} lines (without __init__)": str(
            sum(module.n_lines <= SMALL for module in modules if module.path.name != "__init__.py")
        ),
        "modules of more than 400 lines": str(sum(module.n_lines > 400 for module in modules)),
        "file names used twice or more": str(sum(n > 1 for n in names.values())),
        "import circles": f"{len(found)}" + "".join(f"; {', '.join(name.removeprefix('nightlog.') for name in group)}" for group in found),
        "ways to read a table": f"{len(reads)}: {', '.join(reads)}",
        "ways to write a table": f"{len(writes)}: {', '.join(writes)}",
        "modules that apply a header's expression": f"{len(readers)}: {', '.join(name.removeprefix('nightlog.') for name in readers)}",
        "untyped rows (`dict[str, Any]`)": str(untyped),
        "docstrings that begin with a question word": str(question_docstrings(modules)),
        "longest function, lines": longest_function(modules),
    }


def main(arguments: list[str]) -> int:
    """Print the figures of some checkouts as a Markdown table. Returns 1 if the first one has an import circle."""
    checkouts = [Path(each) for each in arguments] or [Path(__file__).resolve().parents[2]]
    columns = [figures(checkout) for checkout in checkouts]
    print("| |" + "".join(f" {checkout.resolve().name} |" for checkout in checkouts))
    print("|---|" + "---|" * len(checkouts))
    for name in columns[0]:
        print(f"| {name} |" + "".join(f" {column[name]} |" for column in columns))
    return int(not columns[0]["import circles"].startswith("0"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
