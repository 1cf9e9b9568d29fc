"""A label file that is wrong is refused with its line; it never makes a session normal by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from nightlog.errors import ConfigError, FormatError, NightlogError
from nightlog.systems.catalog import read_label_file


def test_labels_are_read_by_session(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_bytes("\ufeffsession_id,more,label\r\na,x,1\r\nb,y, 0\r\na,z,1\r\n".encode())
    assert read_label_file(path, "app") == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (b"session,label\na,1\n", ConfigError, "no column session_id; got session, label"),
        (b"", ConfigError, "no column label, session_id"),
        (b"session_id,label\na,1\nb,Anomaly\n", FormatError, r"truth\.csv:3: label `Anomaly` of session `b`; expected 0 or 1"),
        (b"session_id,label\na,1\nb\n", FormatError, r"truth\.csv:3: label ``"),
        (b"session_id,label\n,1\n", FormatError, r"truth\.csv:2"),
        (b"session_id,label\na,1\nb,0\na,0\n", FormatError, r"truth\.csv:4: session `a` is labelled 0 and 1"),
        ("session_id,label\na,1\n".encode("utf-16"), FormatError, "not a CSV file in UTF-8"),
        (b"\x1f\x8b\x08\x00\x80\xff", FormatError, "not a CSV file in UTF-8"),
    ],
)
def test_a_wrong_label_file_is_refused_with_its_line(content: bytes, kind: type[NightlogError], told: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_bytes(content)
    with pytest.raises(kind, match=told):
        read_label_file(path, "app")
    with pytest.raises(ConfigError, match="no such file; the system file of app names it"):
        read_label_file(tmp_path / "none.csv", "app")
