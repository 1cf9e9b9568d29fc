"""What labelled systems teach: their sessions' labels, and their patterns with the share of anomalous sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_help import QUICK
from nightlog.detector.sources import read_source, session_labels
from nightlog.detector.teach import teach
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import EVENTS_TABLE, LABELS, PATTERNS, SESSIONS, TEMPLATES, VECTORS
from nightlog.systems.spec import Input, Labels, Session, System

FIRST, SECOND = "2026-03-03", "2026-03-04"


def make(name: str, **labels: Any) -> System:
    return System(name=name, role="source", input=Input(path="{ds}"), session=Session(kind="field"), labels=Labels(**labels))


BY_FILE, BY_LINE = make("filed", file="truth.csv"), make("lined", pattern=r"(?P<label>\S+) ")


def fill(lake: Lake, name: str) -> None:
    """Two nights: pattern p1 with two sessions a night, p2 with one on the second night; three templates, one of them unused."""
    templates = ["t1", "t2", "t3"]
    lake.append(TEMPLATES, [{"system": name, "template_id": t, "text": f"text {t}"} for t in templates[::-1]])
    vectors = np.eye(3, dtype=np.float32)
    lake.append(
        VECTORS,
        [
            {"system": name, "template_id": t, "encoder": e, "vector": (vectors[n] * s).tolist()}
            for n, t in enumerate(templates)
            for e, s in (("e", 1), ("old", -1))
        ],
    )
    events = {"p1": [{"template_id": "t1", "count": 2}, {"template_id": "t3", "count": 1}], "p2": [{"template_id": "t3", "count": 4}]}
    nights = {FIRST: {"a": "p1", "b": "p1"}, SECOND: {"a": "p1", "c": "p1", "d": "p2", "unlabelled": "p2"}}
    for ds, sessions in nights.items():
        day = {"system": name, "ds": ds}
        lake.append(SESSIONS, [day | {"session_id": s, "pattern_id": p} for s, p in sessions.items()])
        lake.append(PATTERNS, [day | {"pattern_id": p, "events": events[p]} for p in sorted(set(sessions.values()))])


def taught(lake: Lake, system: System, data: Path) -> dict[str, Any]:
    source = read_source(lake, system, data, "e")
    assert source.name == system.name
    assert source.texts == ("text t1", "text t2", "text t3")
    assert np.array_equal(source.vectors, np.eye(3, dtype=np.float32))
    assert dict(zip(source.ids, source.events, strict=True)) == {"p1": ((0, 2), (2, 1)), "p2": ((2, 4),)}
    return {name: (int(n), float(share)) for name, n, share in zip(source.ids, source.sessions, source.anomalous, strict=True)}


def test_labels_of_a_file_hold_for_every_night_of_a_session(lake: Lake, tmp_path: Path) -> None:
    fill(lake, "filed")
    (tmp_path / "truth.csv").write_text("session_id,label\na,1\nb,0\nc,0\nd,1\nnever seen,1\n")
    assert taught(lake, BY_FILE, tmp_path) == {"p1": (4, 0.5), "p2": (1, 1.0)}


def test_a_session_is_anomalous_on_the_night_of_an_anomalous_line(lake: Lake, tmp_path: Path) -> None:
    fill(lake, "lined")
    events, labels = [], []
    lines = [(FIRST, "a", 0), (FIRST, "b", 0), (SECOND, "a", 0), (SECOND, "a", 1), (SECOND, "c", 0), (SECOND, "d", 1), (SECOND, None, 1)]
    for number, (ds, session, label) in enumerate(lines):
        place = {"system": "lined", "ds": ds, "file": f"{ds}.log", "line_no": number}
        events.append(place | {"session_id": session})
        labels.append(place | {"label": label})
    lake.append(EVENTS_TABLE, events)
    lake.append(LABELS, labels[::-1])
    assert taught(lake, BY_LINE, tmp_path) == {"p1": (4, 0.25), "p2": (1, 1.0)}


def test_a_target_never_teaches_whatever_labels_it_has(lake: Lake, tmp_path: Path) -> None:
    target = BY_FILE.model_copy(update={"role": "target"})
    with pytest.raises(ConfigError, match="is not a source"):
        session_labels(lake, target, tmp_path)


def test_a_label_file_that_is_missing_or_lacks_a_column_is_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"truth\.csv: no such file"):
        session_labels(lake, BY_FILE, tmp_path)
    (tmp_path / "truth.csv").write_text("session,label\na,1\n")
    with pytest.raises(ConfigError, match=r"no column session_id; got session, label"):
        session_labels(lake, BY_FILE, tmp_path)


def test_without_any_files_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(ConfigError, match="no labelled system has files"):
        teach(Lake(tmp_path / "lake"), [BY_FILE, BY_LINE], [], tmp_path, "r", None, QUICK, told.append)  # type: ignore[arg-type]
    assert [line.split(":")[0] for line in told] == ["filed", "lined"]
