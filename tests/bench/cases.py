"""The cases of the bounds, each run in a process of its own: `cases.py NAME FOLDER`.

A case fails where a system is not done, a count is not what was put in, or what was cut is not said in ops.outcomes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from corpus import DS
from night import add_model, small, stage
from nightlog.encoding.encoder import DIMENSIONS, ENCODER
from nightlog.ingest.splits import MAX_LINE
from nightlog.lake.lake import Lake
from nightlog.lake.runner import LOCAL_BYTES
from nightlog.lake.tables import ANOMALIES, ANSWERS, FINDINGS, MESSAGES, PATTERNS, ROUTES, SESSIONS, TEMPLATES, VECTORS
from nightlog.outcomes import Outcome, Stage
from nightlog.routing.router import SourceTemplates, route
from nightlog.run.entry import local_bytes
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.spark import start_spark
from nightlog.systems.spec import System

EVENTS, DISTINCT, LONG, FILES = 5_000_000, 300_000, 50 << 20, 2_000
OURS, SOURCES, NIGHT_PATTERNS = 200_000, 20_000, 100_000
CALM_LINES = 3_000
ANOMALOUS, NORMAL, SESSION_LINES = 300_000, 30_000, 20
Outcomes = dict[tuple[str, Stage], Outcome]


def line(number: int, session: int, message: str) -> bytes:
    """A line of the day's first half: what begins just before midnight would be the next night's."""
    return f"{DS} {number // 3600 % 12:02d}:{number // 60 % 60:02d}:{number % 60:02d} INFO req-{session} {message}\n".encode()


def write(data: Path, system: str, lines: Iterator[bytes], name: str = f"{DS}.log") -> None:
    path = data / system / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.writelines(lines)


def letters(number: int) -> str:
    """A word of letters for a number: digits would be masked.

    >>> letters(0), letters(27)
    ('aaaaa', 'aaabb')
    """
    return "".join(chr(97 + number // 26**place % 26) for place in range(4, -1, -1))


def tell(name: str, value: object) -> None:
    print(f"@told {name} {value}", flush=True)


def night_of(lake: Lake, data: Path, system: System) -> Outcomes:
    """The night of the system and of a calm one. Each stage has to be done, the calm system with all it has; a night without an LLM may
    leave sessions unjudged."""
    write(data, "calm", (line(n, n // 10, f"step {letters(n % 20)} done") for n in range(CALM_LINES)))
    night = Night(DS, "bounds", [system, small("calm")], lake, Settings(data=data, llm="off", device="cpu"), lambda: datetime.now(UTC))
    found: Outcomes = {}
    for each in Stage:
        stage(each.value)
        found |= {(outcome.system, each): outcome for outcome in night.run_stage(each)}
    wrong = [each for each in found.values() if each.outcome != "done" and (each.stage, each.outcome) != ("publish", "incomplete")]
    assert len(found) == 2 * len(Stage), found
    assert not wrong, wrong
    assert found["calm", Stage.PARSE].counts["n_events"] == CALM_LINES
    assert len(lake.rows(SESSIONS, ["session_id"], system="calm")) == CALM_LINES // 10
    for (name, each), outcome in found.items():
        if outcome.detail and name != "calm":
            tell(f"noted in {each}:", outcome.detail)
    return found


def one_id(lake: Lake, data: Path) -> None:
    """One id that five million events have in common."""
    write(data, "busy", (line(n, 7 if n % 1000 else n, f"tick {letters(n % 3)}") for n in range(EVENTS)))
    found = night_of(lake, data, small("busy"))
    sessions = {row["session_id"]: row["n_events"] for row in lake.rows(SESSIONS, ["session_id", "n_events"], system="busy")}
    assert max(sessions.values()) == EVENTS - EVENTS // 1000 and sum(sessions.values()) == EVENTS
    assert "more than 1,000,000 events" in (found["busy", Stage.PARSE].detail or "")
    shown = [len(row["lines"]) for row in lake.rows(ANOMALIES, ["lines"], system="busy")]
    tell("most lines shown of a session", max(shown, default=0))


def distinct_messages(lake: Lake, data: Path) -> None:
    """So many distinct masked messages that no miner can hold them all apart."""
    words = (f"{letters(n)} {'of ' * (n % 9)}{letters(7 * n % DISTINCT)} now" for n in range(DISTINCT))
    write(data, "many", (line(n, n // 10, text) for n, text in enumerate(words)))
    found = night_of(lake, data, small("many"))
    tell("messages kept", len(lake.rows(MESSAGES, ["message_id"], system="many")))
    assert "records have messages beyond templates.messages = 200,000" in (found["many", Stage.PARSE].detail or "")
    tell("templates", len(lake.rows(TEMPLATES, ["template_id"], system="many")))


def long_line(lake: Lake, data: Path) -> None:
    """One line of 50 MB among others."""
    lines = [line(1, 1, "before"), line(2, 2, "x" * LONG), line(3, 2, "word " * (LONG // 5)), line(4, 3, "after")]
    write(data, "long", iter(lines))
    found = night_of(lake, data, small("long"))
    assert f"2 lines were longer than {MAX_LINE:,} bytes" in (found["long", Stage.INGEST].detail or "")
    assert len(lake.rows(SESSIONS, system="long")) == 3


def tiny_files(lake: Lake, data: Path) -> None:
    """Two thousand files of one line each."""
    for n in range(FILES):
        write(data, "tiny", iter([line(n, n, "one line")]), f"{DS}.log.{n:04d}")
    spec = small("tiny")
    found = night_of(lake, data, spec.model_copy(update={"input": spec.input.model_copy(update={"path": "tiny/{ds}.log.*"})}))
    assert found["tiny", Stage.INGEST].counts["n_files"] == found["tiny", Stage.PARSE].counts["n_events"] == FILES
    tell("files in ops.outcomes", found["tiny", Stage.INGEST].counts["n_files"])


def similarity(lake: Lake, data: Path) -> None:
    """Two hundred thousand templates in a night's patterns, routed by twenty thousand source templates."""
    rng = np.random.default_rng(1)

    def unit(n: int) -> np.ndarray:
        rows = rng.standard_normal((n, DIMENSIONS), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    import pyarrow as pa

    vectors = unit(OURS)
    names = [f"t{n:06d}" for n in range(OURS)]
    columns = {"template_id": names, "system": ["wide"] * OURS, "encoder": [ENCODER] * OURS}
    flat = pa.ListArray.from_arrays(pa.array(np.arange(0, OURS * DIMENSIONS + 1, DIMENSIONS, dtype=np.int32)), pa.array(vectors.ravel()))
    lake.append(VECTORS, pa.table(columns | {"vector": flat}))
    patterns = [
        {"pattern_id": f"p{n:06d}", "events": [{"template_id": names[(2 * n + k) % OURS], "count": 1} for k in range(4)], "n_sessions": 1}
        for n in range(NIGHT_PATTERNS)
    ]
    lake.replace(PATTERNS, patterns, system="wide", ds=DS)
    sources = SourceTemplates(unit(SOURCES), tuple(f"source {n}" for n in range(SOURCES)), ("source",) * SOURCES)
    del vectors, patterns, flat, columns
    stage("route")
    counts = route(lake, small("wide"), DS, sources, 0.5, "bounds", ENCODER)
    assert counts == {"n_proprietary": NIGHT_PATTERNS}
    assert len(lake.rows(ROUTES, ["pattern_id"], system="wide")) == NIGHT_PATTERNS


def most_anomalous(lake: Lake, data: Path) -> None:
    """Three hundred thousand anomalous sessions of twenty lines each and thirty thousand normal ones, by the answers of an analyst."""
    n_sessions = ANOMALOUS + NORMAL
    lost = SESSION_LINES // 2

    def lines() -> Iterator[bytes]:
        for number in range(n_sessions * SESSION_LINES):
            session, step = number // SESSION_LINES, number % SESSION_LINES
            is_normal = session % (n_sessions // NORMAL) == 0
            text = f"step {letters(step % 7)} done" if is_normal or step != lost else f"disk {session} of {letters(session % 50)} is lost"
            yield line(number * 43_000 // (n_sessions * SESSION_LINES), session, text)

    write(data, "broken", lines())
    system = small("broken")
    night = Night(DS, "bounds", [system], lake, Settings(data=data, llm="off", device="cpu"), lambda: datetime.now(UTC))
    for each in Stage:
        if each is Stage.PUBLISH:
            found = lake.rows(PATTERNS, ["question_id", "n_sessions"], system="broken")
            for label in ("normal", "anomalous"):
                questions = [row["question_id"] for row in found if (row["n_sessions"] == NORMAL) == (label == "normal")]
                answer = {"group": label, "label": label, "questions": questions, "answered_by": "kim", "answered_at": datetime.now(UTC)}
                lake.append(ANSWERS, [{"system": "broken"} | answer])
        stage(each.value)
        (outcome,) = night.run_stage(each)
        assert outcome.outcome == "done", outcome
    shown = lake.arrow(ANOMALIES, ["n_events"], system="broken")
    assert len(shown) == ANOMALOUS and sum(row["n_sessions"] for row in lake.rows(FINDINGS, ["n_sessions"])) == ANOMALOUS
    tell("anomalous sessions", len(shown))
    tell("files of gold.anomalies", len(lake.parts(ANOMALIES, system="broken", ds=DS)))


CASES: dict[str, Callable[[Lake, Path], None]] = {
    "one-id": one_id,
    "distinct-messages": distinct_messages,
    "long-line": long_line,
    "tiny-files": tiny_files,
    "similarity": similarity,
    "most-anomalous": most_anomalous,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("folder", type=Path, help="for lake and logs; emptied before and after")
    given = parser.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    is_local = given.case == "most-anomalous"  # a JVM's memory would hide that of the night
    size = local_bytes(Settings()) if is_local else LOCAL_BYTES
    lake = Lake(given.folder / "lake", lambda: start_spark("nightlog bounds"), size)
    try:
        if given.case != "similarity" and not is_local:
            add_model(lake)
        CASES[given.case](lake, given.folder / "data")
    finally:
        lake.close()
        shutil.rmtree(given.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
