"""What no file of the program may do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = sorted(path for folder in ("libs", "jobs", "dags") for path in (ROOT / folder).rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "jsonpickle", "joblib", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
# What the process of a stage and its own workers send each other, through pipes and a file without a name: nobody else can write there.
BETWEEN_OWN_PROCESSES = {ROOT / "libs" / "nightlog" / "lake" / name for name in ("pool.py", "shuffle.py")}


def names(tree: ast.AST) -> set[str]:
    """Modules that are imported and built-ins that are called."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(f"{node.func.id}()")
    return found


def test_there_is_a_program() -> None:
    assert len(PROGRAM) > 100


@pytest.mark.parametrize("folder", ["libs", "jobs", "dags"])
def test_nothing_is_pickled_and_no_text_is_run(folder: str) -> None:
    unsafe = UNSAFE_MODULES | {f"{name}()" for name in UNSAFE_CALLS}
    for path in (path for path in PROGRAM if path.is_relative_to(ROOT / folder)):
        allowed = {"pickle"} if path in BETWEEN_OWN_PROCESSES else set[str]()
        assert not names(ast.parse(path.read_text(encoding="utf-8"))) & unsafe - allowed, path


def test_no_shell_reads_a_command() -> None:
    for path in PROGRAM:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                shell = [word.value for word in node.keywords if word.arg == "shell"]
                assert not any(not isinstance(value, ast.Constant) or value.value for value in shell), path
                assert not (isinstance(node.func, ast.Attribute) and node.func.attr in ("system", "popen") and names_os(node.func)), path


def names_os(function: ast.Attribute) -> bool:
    return isinstance(function.value, ast.Name) and function.value.id == "os"


def test_torch_loads_no_objects() -> None:
    for path in PROGRAM:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save"), ("yaml", "load"), ("numpy", "load")}, path
