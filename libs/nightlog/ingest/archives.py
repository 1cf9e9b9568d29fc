"""Compressed log files (gz, xz, bz2, zst, zip) as one stream of bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

ENDINGS = ("gz", "xz", "bz2", "zst", "zip")
# Errors of a file that cannot be read to its end; those of the file system among them have an errno.
BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, OSError)


def is_packed(path: Path) -> bool:
    """Return whether a file's name says that it is compressed."""
    return path.suffix[1:] in ENDINGS


def unpacked(path: Path, raw: IO[bytes]) -> IO[bytes]:
    """Return the content of a file, opened as `raw`, as a stream whose reads are short only at its end. Raises one of BROKEN."""
    opener = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open, ".zst": unpacked_zst, ".zip": unpacked_zip}.get(path.suffix)
    return cast(IO[bytes], opener(raw)) if opener is not None else raw  # type: ignore[operator]


def unpacked_zst(raw: IO[bytes]) -> IO[bytes]:
    """Return the content of one or several frames of Zstandard."""
    import pyarrow as pa

    return io.BufferedReader(cast(io.RawIOBase, pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")))


def unpacked_zip(raw: IO[bytes]) -> IO[bytes]:
    """Return the members of a zip archive one after the other, in the order of their names. Raises BadZipFile if one is encrypted."""
    archive = zipfile.ZipFile(raw)
    members = sorted((member for member in archive.infolist() if not member.is_dir()), key=lambda member: member.filename)
    for member in members:
        if member.flag_bits & 1:
            raise zipfile.BadZipFile(f"its member {member.filename} is encrypted, and logs are read without a password")
    return io.BufferedReader(Chain(parts_of(archive, members)))


def parts_of(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[bytes]:
    """Yield the content of members in pieces; a member whose last line is open gets a line feed."""
    for number, member in enumerate(members, 1):
        last = b"\n"
        with archive.open(member) as opened:
            while data := opened.read(1 << 20):
                last = data[-1:]
                yield data
        if last != b"\n" and number < len(members):
            yield b"\n"


class Chain(io.RawIOBase):
    """A stream of pieces of bytes, none of them empty."""

    def __init__(self, pieces: Iterator[bytes]):
        self.pieces = pieces
        self.left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return how many, 0 at the end."""
        if not self.left:
            self.left = memoryview(next(self.pieces, b""))
        n = min(len(buffer), len(self.left))
        buffer[:n] = self.left[:n]
        self.left = self.left[n:]
        return n
