"""The examples in the docstrings hold."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import nightlog


def test_every_example_in_a_docstring_holds() -> None:
    names = [found.name for found in pkgutil.walk_packages(nightlog.__path__, "nightlog.")]
    results = {name: doctest.testmod(importlib.import_module(name)) for name in names}
    assert {name: result.failed for name, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) >= 10
