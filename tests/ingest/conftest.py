"""Fixtures of the tests of ingest."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NOBODY = 65534


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[[Callable[[], Any]], Any]:
    """Call a function in a process of a user without rights; it returns what the function returned or raised."""

    def call(work: Callable[[], Any]) -> Any:
        opened = [folder for folder in (tmp_path, *tmp_path.parents) if not folder.stat().st_mode & 0o001]
        modes = [folder.stat().st_mode for folder in opened]
        for folder, mode in zip(opened, modes, strict=True):
            folder.chmod(mode | 0o055)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                found = work()
            except Exception as error:
                found = error
            os.write(write, pickle.dumps(found))
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as result:
            told = result.read()
        os.waitpid(child, 0)
        for folder, mode in zip(opened, modes, strict=True):
            folder.chmod(mode)
        return pickle.loads(told)

    return call
