"""A small model behind llama.cpp's own server, asked by the real client: `make local-llm`. Its answers are poor; their form is checked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from nightlog.doctor import State
from nightlog.doctor.endpoint import endpoint
from nightlog.llm.items import Answer, Comparison, Difference, Item, Verdict
from nightlog.llm.judge import make_judge
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "local-llm"
pytestmark = pytest.mark.local_llm


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """Settings for the server, which runs in an environment of its own."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        pytest.skip("no server: `make local-llm` installs it")
    words = [str(python), str(Path(__file__).with_name("serve.py")), str(FOLDER / "model.gguf"), "6144"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        url = f"{server.stdout.readline().strip()}/v1"
        slow = {"llm_timeout_s": 600, "llm_first_items": 2, "llm_at_once": 1, "llm_temperature": 0}
        yield Settings(OPENAI_BASE_URL=url, llm="openai", llm_model="gemma-3-270m", **slow)
        server.stdin.close()


ITEMS = [
    Item("p-read", (("request <NUM> served in <NUM> ms", 4),)),
    Item("p-lost", (("request <NUM> served in <NUM> ms", 1), ("kernel: I/O error on disk <NUM>, giving up", 2))),
    Item("p-quote", (('config "a\\b" reloaded, änderung übernommen', 1),)),
]


def test_the_model_judges_each_pattern_in_the_form_that_is_asked_for(settings: Settings) -> None:
    answers: list[Answer] = list(make_judge(settings).judge(load_catalog()["dovecot"], ITEMS))
    verdicts = {verdict.id: verdict for answer in answers for verdict in answer.verdicts}
    assert verdicts.keys() == {item.id for item in ITEMS}, [answer.trouble for answer in answers]
    assert all(verdict.label in ("normal", "anomalous", "unclear") and 0 <= verdict.confidence <= 1 for verdict in verdicts.values())
    assert all(answer.trouble is None and answer.tokens_in > 100 and answer.tokens_out > 10 for answer in answers)


def test_the_second_round_has_its_form_too(settings: Settings) -> None:
    change = Difference(added=(("kernel: I/O error on disk <NUM>, giving up", 2),), missing=())
    item = Item("p-lost", ITEMS[1].events, comparison=Comparison(0.01, Verdict("p-lost", "unclear", 0.5, "x"), change, None))
    (answer,) = make_judge(settings).judge(load_catalog()["dovecot"], [item])
    assert [verdict.id for verdict in answer.verdicts] == ["p-lost"], answer.trouble


def test_the_doctor_measures_the_server(settings: Settings) -> None:
    found = list(endpoint(settings, online=True))
    assert any("tokens" in each.what for each in found), found
    assert not [each for each in found if each.state is State.ERROR], found
