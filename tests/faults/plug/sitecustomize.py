"""Kills this process and its group right before or after a table commit, as the environment says.

Python imports this module at its start where the folder stands on PYTHONPATH; so the product itself knows nothing of it.
FAULT_JOURNAL: a file that gets a line a commit, when it begins and when it is made. FAULT_AT: `NUMBER:before` or `NUMBER:after`, from 1.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def install(journal: str, at: str) -> None:
    """Put the plug around all that commits to a table, and around the rename that puts a model's file in its place."""
    import deltalake
    from deltalake.table import TableMerger
    from nightlog.lake import storage
    from pyspark.sql.readwriter import DataFrameWriter

    numbers = itertools.count(1)

    def note(text: str) -> None:
        with open(journal, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text + "\n")

    def around(real: Callable[..., Any], place: Callable[..., object]) -> Callable[..., Any]:
        def commit(*args: Any, **more: Any) -> Any:
            number, where = next(numbers), place(*args)
            note(f"{number} before {where}")
            if at == f"{number}:before":
                os.killpg(os.getpgid(0), signal.SIGKILL)
            made = real(*args, **more)
            note(f"{number} after {where}")
            if at == f"{number}:after":
                os.killpg(os.getpgid(0), signal.SIGKILL)
            return made

        return commit

    table = deltalake.DeltaTable
    created = table.create
    deltalake.write_deltalake = around(deltalake.write_deltalake, lambda path, *_: path)
    table.create = staticmethod(around(created, lambda path, *_: path))  # type: ignore[method-assign]
    table.create_write_transaction = around(table.create_write_transaction, lambda self, *_: self.table_uri)  # type: ignore[method-assign]
    table.delete = around(table.delete, lambda self, *_: self.table_uri)  # type: ignore[method-assign]
    TableMerger.execute = around(TableMerger.execute, lambda self: "merge")  # type: ignore[method-assign]
    DataFrameWriter.save = around(DataFrameWriter.save, lambda self, path=None, *_: f"Spark {path}")  # type: ignore[method-assign]
    move = storage.put_in_place
    put_in_place = around(move, lambda _, aside, path: path)
    storage.put_in_place = lambda of, aside, path: (put_in_place if path.endswith(".safetensors") else move)(of, aside, path)


# Spark's Python workers commit nothing.
if os.environ.get("FAULT_JOURNAL") and "pyspark.daemon" not in sys.orig_argv:
    install(os.environ["FAULT_JOURNAL"], os.environ.get("FAULT_AT", ""))
