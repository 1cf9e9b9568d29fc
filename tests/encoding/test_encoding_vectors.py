"""Template texts and their vectors, by the real encoder."""

from __future__ import annotations

import numpy as np
import pytest
from nightlog.encoding.encoder import DIMENSIONS, ENCODER, embed, plain_text
from nightlog.lake.lake import Lake
from nightlog.lake.tables import TEMPLATES, VECTORS
from nightlog.systems.spec import Input, Session, System

TEXTS = {
    "t-fail": "Connection to <IP> failed: <*>",
    "t-refuse": "Could not connect to <IP>, connection refused",
    "t-delete": "Deleting block <BLK> file <PATH>",
    "t-long": "word " * 900,
    "t-nothing": "<*> <*>",
    "t-empty": "",
    "t-letters": "größe 漢字 🙂",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Receiving block <BLK> src: /<IP>", "Receiving block blk src: / ip"),
        ("BLOCK* NameSystem.addStoredBlock", "BLOCK* Name System.add Stored Block"),
        ("size=<NUM>kB", "size= num k B"),
        ("<*> done <*>", "done"),
        ("<SESSION_ID> closed", "session_id closed"),
        ("  many   blanks ", "many blanks"),
        ("<*>", "empty"),
        ("", "empty"),
    ],
)
def test_the_encoder_reads_words_apart_masks_by_name_and_no_wildcards(template: str, text: str) -> None:
    assert plain_text(template) == text


def add_templates(lake: Lake, texts: dict[str, str], system: str = "app") -> None:
    lake.append(TEMPLATES, [{"system": system, "template_id": name, "text": text, "widened": "<*>"} for name, text in texts.items()])


def vectors(lake: Lake, system: str = "app") -> dict[str, np.ndarray]:
    rows = lake.rows(VECTORS, system=system)
    assert len({row["template_id"] for row in rows}) == len(rows)
    assert {row["encoder"] for row in rows} <= {ENCODER}
    return {row["template_id"]: np.array(row["vector"], dtype=np.float32) for row in rows}


@pytest.mark.slow
def test_each_template_is_embedded_once_by_its_first_text(lake: Lake) -> None:
    system = System(name="app", role="target", input=Input(path="{ds}"), session=Session(kind="field"))
    assert embed(lake, system, "cpu") == {"run_n_embedded": 0}
    assert not lake.exists(VECTORS)

    add_templates(lake, TEXTS)
    add_templates(lake, {"t-other": "of another system"}, "web")
    assert embed(lake, system, "cpu") == {"run_n_embedded": len(TEXTS)}
    found = vectors(lake)
    assert found.keys() == TEXTS.keys()
    assert vectors(lake, "web") == {}
    for name, vector in found.items():
        assert vector.shape == (DIMENSIONS,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4), name
    assert found["t-fail"] @ found["t-refuse"] > 0.5 > found["t-fail"] @ found["t-delete"]
    assert found["t-nothing"] @ found["t-empty"] == pytest.approx(1, abs=1e-4)

    version = lake.table(VECTORS).version()
    assert embed(lake, system, "cpu") == {"run_n_embedded": 0}
    assert lake.table(VECTORS).version() == version

    add_templates(lake, {"t-new": TEXTS["t-fail"], "t-newer": "something else happened"})
    assert embed(lake, system, "cpu") == {"run_n_embedded": 2}
    again = vectors(lake)
    assert again.keys() == TEXTS.keys() | {"t-new", "t-newer"}
    for name in TEXTS:
        assert np.array_equal(again[name], found[name])
    assert again["t-new"] @ found["t-fail"] == pytest.approx(1, abs=1e-4), "a vector does not depend on what else is embedded"
