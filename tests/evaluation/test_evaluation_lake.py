"""A user's own labelled system is read from the lake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.evaluation.corpus import Places, from_lake, labelled_systems
from nightlog.lake.lake import Lake
from nightlog.lake.tables import EVENTS_TABLE, LABELS, PATTERNS, SESSIONS, TEMPLATE_COUNTS, TEMPLATES
from nightlog.systems.catalog import parse_system

AT = datetime(2026, 3, 1, tzinfo=UTC)
NIGHTS = ("2026-03-01", "2026-03-02", "2026-03-03")
SHOP = """
name = "shop"
role = "source"
[input]
path = "shop-{ds}.log"
[header]
pattern = '(?P<id>\\S+) (?P<message>.*)'
[session]
kind = "field"
field = "id"
[labels]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Lake:
    """Three nights; each has four sessions that run and one that fails, and session s0 comes on every night."""
    lake = Lake(tmp_path / "lake")
    texts = {"t1": "order placed", "t2": "payment failed"}
    row = {"system": "shop", "first_message": "", "token_count": 2, "ordinal": 0, "first_ds": NIGHTS[0]}
    lake.replace(TEMPLATES, [row | {"template_id": name, "text": text, "widened": text} for name, text in texts.items()], system="shop")
    for ds in NIGHTS:
        place = {"system": "shop", "ds": ds}
        events = {"p1": [{"template_id": "t1", "count": 1}], "p2": [{"template_id": "t1", "count": 1}, {"template_id": "t2", "count": 1}]}
        pattern = {"n_sessions": 1, "example_session_id": "s0"}
        lake.replace(
            PATTERNS, [place | pattern | {"pattern_id": n, "question_id": n, "events": each} for n, each in events.items()], **place
        )
        sessions = {"s0": "p1"} | {f"{ds}-{n}": "p2" if n == 3 else "p1" for n in range(4)}
        times = {"started_at": AT, "ended_at": AT, "n_events": 1}
        lake.replace(SESSIONS, [place | times | {"session_id": n, "pattern_id": p} for n, p in sessions.items()], **place)
        lake.replace(TEMPLATE_COUNTS, [place | {"template_id": "t2", "n": 1, "level": "error"}], **place)
        lines = [place | {"file": ds, "line_no": n, "session_id": name} for n, name in enumerate(sessions)]
        lake.replace(EVENTS_TABLE, [line | {"at": AT, "level": None, "message_id": 1} for line in lines], **place)
        tags = [line | {"session_id": None, "label": int(line["line_no"] == 4), "tag": "-"} for line in lines]
        lake.replace(LABELS, tags, **place)
    return lake


def test_labels_of_a_file_hold_for_a_sessions_last_night(shop: Lake, tmp_path: Path) -> None:
    names = ["s0", *(f"{ds}-{n}" for ds in NIGHTS for n in range(4))]
    rows = [f"{name},{int(name.endswith('-3'))}" for name in names[:-4]]  # three of the last night have no label, and one that fails
    (tmp_path / "labels.csv").write_text("\n".join(["session_id,label", *rows]) + "\n")
    system = from_lake(shop, parse_system(SHOP + 'file = "labels.csv"', "shop"), tmp_path)
    assert system.counts.sum(axis=(0, 1)).tolist() == [7, 2] and system.split == "time"
    assert system.counts.sum(axis=(0, 2)).tolist() == [8, 1], "s0 counts on the last night, which is the test part"
    assert system.templates.level == {"payment failed": "error"}


def test_labels_of_lines_hold_for_the_sessions_that_they_are_in(shop: Lake, tmp_path: Path) -> None:
    labels = "pattern = '(?P<label>\\\\S+) '\nnormal = ['-']"
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "shop.toml").write_text(SHOP + labels.replace("\\\\", "\\"))
    (system,) = labelled_systems(Places(lake=tmp_path / "lake", systems=tmp_path / "systems"), ("shop",))
    assert system.counts.sum(axis=(0, 1)).tolist() == [12, 3]
    assert system.counts.sum(axis=(0, 2)).tolist() == [10, 5]
    assert sorted(system.share.tolist()) == [0.0, 1.0]


def test_one_night_or_no_label_is_not_enough(shop: Lake, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("session_id,label\nother,1\n")
    with pytest.raises(ConfigError, match="no session of its 3 nights has a label"):
        from_lake(shop, parse_system(SHOP + 'file = "labels.csv"', "shop"), tmp_path)
    with pytest.raises(ConfigError, match="at least two nights; the lake has 0"):
        from_lake(Lake(tmp_path / "empty"), parse_system(SHOP + 'file = "labels.csv"', "shop"), tmp_path)
