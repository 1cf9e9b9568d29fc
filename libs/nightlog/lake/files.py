"""The lake's file system, a local folder or an object store, and its files that are no tables: models and pages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def file_system(place: str) -> tuple[FileSystem, str]:
    """Arrow's file system for an address or a local path, and the path in it."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    return FileSystem.from_uri(place) if "://" in place else (LocalFileSystem(), place)


def write_file(place: str, content: bytes) -> None:
    """Put a file in its place, whole or not at all. Raises OSError."""
    files, path = file_system(place)
    files.create_dir(path.rpartition("/")[0], recursive=True)
    # An object appears when its stream is closed; a file of a folder is written aside and renamed.
    aside = aside_of(path) if files.type_name in ("local", "hdfs") else path
    with files.open_output_stream(aside) as out:
        out.write(content)
    if aside != path:
        put_in_place(files, aside, path)


def put_in_place(files: FileSystem, aside: str, path: str) -> None:
    """Let a whole file that was written aside be the file, in one step."""
    files.move(aside, path)


def aside_of(path: str) -> str:
    """Return the path at which a file is written until it is whole.

    >>> aside_of("/lake/models/1f.safetensors").split(".")[-1]
    'part'
    """
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{os.getpid()}.part"


def read_file(place: str) -> bytes:
    """A whole file. Raises OSError, FileNotFoundError where there is none."""
    files, path = file_system(place)
    with files.open_input_file(path) as opened:
        content: bytes = opened.read()
    return content


def half_written(folder: str) -> list[str]:
    """The files of a local folder that a process which broke off has left aside; an object store has none."""
    return [] if "://" in folder else sorted(str(path) for path in Path(folder).glob(".*.part"))
